"""A cursor comes back to the one list that it was written for."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.bridge.portal_keys import PurposeKeys
from services.inbox.cursors import MOST, Cursors

CURSORS = Cursors(PurposeKeys([b"k" * 32], "cursors"))
scopes = st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=1, max_size=6)
places = st.lists(st.one_of(st.booleans(), st.integers(0, 2**63 - 1), st.text(max_size=40)), max_size=3)


@given(scope=scopes, place=places)
def test_a_cursor_names_its_place(scope: list[str | None], place: list[int | str]) -> None:
    cursor = CURSORS.write(scope, place)
    assert CURSORS.read(scope, cursor) == place
    assert len(cursor) <= MOST
    assert cursor.replace("-", "").replace("_", "").isalnum()


def test_a_time_comes_back_as_its_text() -> None:
    at = datetime(2026, 11, 26, 10, tzinfo=UTC)
    assert CURSORS.read(["acme"], CURSORS.write(["acme"], [at])) == [at.isoformat()]


@given(one=scopes, other=scopes, place=places)
def test_it_is_no_cursor_of_another_list(
    one: list[str | None], other: list[str | None], place: list[int | str]
) -> None:
    if one == other:
        return
    with pytest.raises(ValueError, match="cursor"):
        CURSORS.read(other, CURSORS.write(one, place))


@given(st.one_of(st.text(max_size=600), st.binary(max_size=100).map(lambda raw: raw.hex())))
def test_nothing_else_is_a_cursor(raw: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        CURSORS.read(["acme"], raw)


def test_another_key_makes_another_cursor() -> None:
    other = Cursors(PurposeKeys([b"o" * 32], "cursors"))
    with pytest.raises(ValueError, match="cursor"):
        other.read(["acme"], CURSORS.write(["acme"], [1]))
