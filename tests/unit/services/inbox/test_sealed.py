"""What a browser keeps while somebody signs in is ours, for its purpose, for a while."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.bridge.portal_keys import PurposeKeys
from services.inbox.sealed import LIFE, Seal

NOW = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
SEAL, OTHER = (Seal(PurposeKeys([key * 32], "sign-ins")) for key in (b"k", b"o"))
VALUE = {"state": "s", "org_ids": ["acme", "straße"], "name": None}


def test_it_is_read_as_it_was_written_until_its_end() -> None:
    sealed = SEAL.close("attempt", VALUE, NOW)
    assert SEAL.open("attempt", sealed, NOW + LIFE - timedelta(seconds=1)) == VALUE
    assert SEAL.open("attempt", sealed, NOW + LIFE) is None


def test_it_is_none_for_another_purpose_and_under_another_key() -> None:
    sealed = SEAL.close("attempt", VALUE, NOW)
    assert SEAL.open("choice", sealed, NOW) is None
    assert OTHER.open("attempt", sealed, NOW) is None


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_changed_character_counts(at: int, bit: int) -> None:
    sealed = SEAL.close("attempt", VALUE, NOW).encode()
    place = at % len(sealed)
    changed = sealed[:place] + bytes([sealed[place] ^ (1 << bit)]) + sealed[place + 1 :]
    assert SEAL.open("attempt", changed.decode("latin-1"), NOW) in (None, VALUE if changed == sealed else None)


@pytest.mark.parametrize("text", [None, "", ".", "x", "a.b", "é.x", "x" * 5000])
def test_anything_else_is_none(text: str | None) -> None:
    assert SEAL.open("attempt", text, NOW) is None
