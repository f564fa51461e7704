import json

from hypothesis import given
from hypothesis import strategies as st

from libs.common.sanitize import sanitize

ANY_TEXT = st.text(st.characters(codec=None))  # lone surrogates included
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner),
)


@given(ANY_JSON)
def test_whatever_came_in_can_be_written_as_utf8_without_nul(value: object) -> None:
    written = json.dumps(sanitize(value), ensure_ascii=False).encode()
    assert b"\\u0000" not in written


@given(ANY_JSON)
def test_what_is_storable_already_stays_as_it_is(value: object) -> None:
    once = sanitize(value)
    assert sanitize(once) == once


def test_an_emoji_is_no_lone_surrogate() -> None:
    assert sanitize({"a": ["🚗", "x\x00y", "\ud83d"]}) == {"a": ["🚗", "x\ufffdy", "\ufffd"]}
