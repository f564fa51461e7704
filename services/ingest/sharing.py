"""A customer who answers a request for the phone number. Pure.

Meta tells it as a message of type ``contacts`` whose ``origin`` is ``contact_request``; a card that a customer picked or forwarded has another
origin, or none, and is somebody else's. What does not clearly name one line is not taken for the customer's own.
"""

from collections.abc import Mapping
from typing import Any

from libs.common.phone import canonical, from_wa_id, normalise

REQUESTED = "contact_request"


def own_number(message: Mapping[str, Any]) -> str | None:
    """The number (E.164) that the customer shared as their own, or None."""
    match message:
        case {"type": "contacts", "contacts": [{"phones": [*phones], **card}]}:
            if message.get("origin", card.get("origin")) != REQUESTED:
                return None
        case _:
            return None
    told = [phone for phone in phones if isinstance(phone, dict)]
    found = [number for phone in told if (number := _of_meta(phone.get("wa_id")))]
    found = found or [
        number for phone in told if (number := normalise(phone.get("phone")) or _of_meta(phone.get("phone")))
    ]
    return found[0] if len({canonical(number) for number in found}) == 1 else None


def _of_meta(told: object) -> str | None:
    """Digits without a plus, as Meta writes numbers."""
    return from_wa_id(told.removeprefix("+")) if isinstance(told, str) else None
