from uuid import uuid4

import pytest

from libs.common.ids import bridge_message_id, callback_data, read_callback


def test_callback_data_names_message_attempt_and_organisation_and_can_be_read_again() -> None:
    message_id = uuid4()
    told = callback_data("acme", message_id, 2)
    assert told.startswith(f"{message_id}:2:")
    read = read_callback(told)
    assert read is not None
    assert read[:2] == (message_id, 2)
    assert read.is_of("acme")
    assert "acme" not in told


def test_two_organisations_with_one_intent_id_have_callbacks_of_their_own() -> None:
    message_id = uuid4()
    of_acme = read_callback(callback_data("acme", message_id, 1))
    assert of_acme is not None
    assert not of_acme.is_of("bravo")
    assert callback_data("acme", message_id, 1) != callback_data("bravo", message_id, 1)


@pytest.mark.parametrize(
    "told", [None, "", "m1:1", "order-4711", "{id}", "{id}:0", "{id}:1", "{id}:1:", "{id}:1:short"]
)
def test_what_another_system_put_there_is_nobodys_callback(told: str | None) -> None:
    assert read_callback(told and told.format(id=uuid4())) is None


def test_a_bridge_has_one_id_of_its_own_per_intent() -> None:
    one, two = uuid4(), uuid4()
    assert bridge_message_id(one) == bridge_message_id(one)
    assert len({one, two, bridge_message_id(one), bridge_message_id(two)}) == 4
