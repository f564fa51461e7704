"""What a customer may write: any text of 1 to 4,096 characters, without control characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.pages.writing import as_written, fault_of, form_id

TEXTS = st.text(alphabet=st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=200)


@given(text=TEXTS)
def test_any_text_of_letters_and_signs_may_be_sent(text: str) -> None:
    assert fault_of(text) is None
    assert fault_of(f"\n{text}\n\t") is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x" * 4096, None),
        ("x" * 4097, "too_long"),
        ("", "empty"),
        (" \n\t\u200b\ufeff", "empty"),
        ("\u00ad\u2066", "empty"),
        ("a\x00", "characters"),
        ("a\x1b[2J", "characters"),
        ("a\x85", "characters"),
        ("a\u202eb", None),
    ],
)
def test_the_limits(text: str, fault: str | None) -> None:
    assert fault_of(text) == fault


def test_a_line_end_is_one_character() -> None:
    assert as_written("a\r\nb\rc\nd") == "a\nb\nc\nd"


@pytest.mark.parametrize(
    ("raw", "found"), [("f-1_A", "f-1_A"), ("", None), (None, None), ("a b", None), ("x" * 65, None)]
)
def test_the_id_of_a_form(raw: str | None, found: str | None) -> None:
    assert form_id(raw) == found
