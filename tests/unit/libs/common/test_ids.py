from uuid import uuid4

from libs.common.ids import bridge_message_id, callback_data


def test_callback_data_names_message_and_attempt() -> None:
    message_id = uuid4()
    assert callback_data(message_id, 2) == f"{message_id}:2"


def test_a_bridge_has_one_id_of_its_own_per_intent() -> None:
    one, two = uuid4(), uuid4()
    assert bridge_message_id(one) == bridge_message_id(one)
    assert len({one, two, bridge_message_id(one), bridge_message_id(two)}) == 4
