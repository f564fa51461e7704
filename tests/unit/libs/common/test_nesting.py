"""Depth of JSON, counted without recursion, in values and in texts alike."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.common.nesting import is_deeper, text_is_deeper

TEXT = st.text(alphabet='[]{}"\\ab\n')
JSON = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max((depth(one) for one in value), default=0) if isinstance(value, list) else 0


@given(JSON, st.integers(0, 8))
def test_a_value_and_its_text_are_deeper_than_what_they_are_nested_in(value: Any, levels: int) -> None:
    expected = depth(value) > levels
    assert is_deeper(value, levels) == expected
    assert text_is_deeper(json.dumps(value).encode(), levels) == expected


@given(TEXT)
def test_what_is_no_json_has_a_depth_too(text: str) -> None:
    assert text_is_deeper(text.encode(), 0) in (True, False)


def test_a_text_without_an_end_is_gone_through_once() -> None:
    assert not text_is_deeper(b'["' + b'\\"[' * 500_000, 300)
    assert text_is_deeper(b"[" * 1_000_000, 300)
