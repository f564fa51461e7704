from hypothesis import given
from hypothesis import strategies as st

from libs.common.printable import printable


def test_what_is_seen_stays_as_it_is() -> None:
    assert printable("Müller & Söhne, 12 € (☎ 日本)") == "Müller & Söhne, 12 € (☎ 日本)"


def test_what_moves_a_terminal_or_turns_text_around_does_neither() -> None:
    assert printable("a\x1b]0;owned\x07b\x9b31m") == "a\ufffd]0;owned\ufffdb\ufffd31m"
    assert printable("acme\u202emoc.live\u2066\u200b\ufeff") == "acmemoc.live"
    assert printable("one\ntwo\r\tthree\u2028four\xa0five") == "one two  three four five"


@given(st.text(st.characters(codec=None)))
def test_the_outcome_is_one_line_that_can_be_printed_and_encoded(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode()
