"""Ids that follow from other ids, so that a redelivery finds what the first try made. Pure.

An outbound message's id *is* its intent's id. Everything that Transom adds to a message derives its id from it.
"""

from uuid import UUID, uuid5

_BRIDGE = UUID("8a1d7c52-52f5-5f1b-9f5e-0f6c7a54b001")


def bridge_message_id(intent_id: UUID) -> UUID:
    """The id of the bridge SMS that stands in for the message ``intent_id``."""
    return uuid5(_BRIDGE, intent_id.bytes.hex())


def callback_data(message_id: UUID, attempt: int) -> str:
    """What a send carries as ``biz_opaque_callback_data``; Meta echoes it in every status of that send."""
    return f"{message_id}:{attempt}"


def identity_lock(org_id: str, kind: str, value: str) -> str:
    """The name of the advisory lock under which one identity is settled: whoever hears from a number and whoever writes to it make one customer.

    A ``wa_id`` and a ``phone`` are the same number, so they have the same lock.
    """
    return (
        f"identity:{org_id}:bsuid:{value}" if kind == "bsuid" else f"identity:{org_id}:phone:{value.removeprefix('+')}"
    )
