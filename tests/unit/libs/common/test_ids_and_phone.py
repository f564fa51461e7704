from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.ids import bridge_message_id, callback_data
from libs.common.phone import digits, from_wa_id, normalise


def test_callback_data_names_message_and_attempt() -> None:
    message_id = uuid4()
    assert callback_data(message_id, 2) == f"{message_id}:2"


def test_a_bridge_has_one_id_of_its_own_per_intent() -> None:
    one, two = uuid4(), uuid4()
    assert bridge_message_id(one) == bridge_message_id(one)
    assert len({one, two, bridge_message_id(one), bridge_message_id(two)}) == 4


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("+447700900999", "+447700900999"),
        ("+44 7700 900-999", "+447700900999"),
        ("0044 (7700) 900999", "+447700900999"),
        ("+44 (0)7700 900999", "+447700900999"),
        ("(0)7700 900999", None),
        ("07700900999", None),
        ("+0447700900999", None),
        ("+٤٤٧٧٠٠٩٠٠٩٩٩", None),
        ("", None),
        (None, None),
        (447700900999, None),
    ],
)
def test_only_international_numbers_are_phones(raw: object, found: str | None) -> None:
    assert normalise(raw) == found


def test_a_wa_id_is_a_phone_without_the_plus_and_a_bsuid_is_none() -> None:
    assert from_wa_id("447700900999") == "+447700900999"
    assert from_wa_id("GB.13491208655302741918") is None
    assert digits("+44 7700 900999") == "447700900999"


@given(st.text())
def test_any_text_is_a_phone_or_none(raw: str) -> None:
    found = normalise(raw)
    assert found is None or normalise(found) == found
