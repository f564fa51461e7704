import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.pages.entries import MAX_LINES, MAX_SHOWN, entry_of, pieces, safe_link
from tests.support.portal_pages import KINDS

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("text", "caption", "filename", "link", "latitude", "longitude", "contacts", "interactive", "reply", "emoji")


@pytest.mark.parametrize("content", KINDS, ids=lambda content: content["kind"])
def test_every_kind_has_words(content: dict[str, object]) -> None:
    entry = entry_of(content)
    assert entry.label or entry.text
    assert "secret" not in repr(entry)


@given(
    st.sampled_from([content["kind"] for content in KINDS]) | JSON,
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5),
)
def test_no_content_is_too_odd_to_be_shown(kind: object, fields: dict[str, object]) -> None:
    entry = entry_of({"kind": kind, **fields})
    assert entry.label or entry.text or kind in {"text", "button"}


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://acme.example/x",
        "//acme.example",
        "https://",
        "https://kim@acme.example/",
        "https://acme.example@evil.example/",
        "https://acme.example/\u202egpj.exe",
        "https://acme.example/ x",
        'https://acme.example/"x',
        "https://[::1",
        "https://acme.example/" + "x" * 3_000,
        7,
        None,
    ],
)
def test_what_is_no_plain_web_address_is_no_link(address: object) -> None:
    assert safe_link(address) is None


def test_a_link_in_a_text_ends_before_the_sentence_does() -> None:
    found = list(pieces("See https://acme.example/a?b=c, (http://acme.example/d). Bye"))
    assert [piece.text for piece in found if piece.is_link] == ["https://acme.example/a?b=c", "http://acme.example/d"]


@given(st.text() | st.lists(st.sampled_from(["https://a.example/", " ", ".", "http://", "@", "x"])).map("".join))
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    found = list(pieces(text))
    assert "".join(piece.text for piece in found) == text
    assert all(piece.text.lower().startswith(("http://", "https://")) for piece in found if piece.is_link)


def test_a_long_text_and_many_cards_are_cut() -> None:
    assert len(entry_of({"kind": "text", "text": "x" * 100_000}).text or "") == MAX_SHOWN + 1
    card = {"name": {"formatted_name": "Kim"}}
    assert len(entry_of({"kind": "contacts", "contacts": [card] * 257}).options) == MAX_LINES
