"""The fields of Meta's items that say who, where and when, read one by one. Pure.

What an item cannot do without raises Undecodable with a reason; everything else is None where it cannot be read.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from libs.common import phone
from libs.common.errors import Undecodable
from libs.common.window import customer_instant
from services.ingest.understood import Sender

MAX_ID = 512
MAX_NAME = 1_000


def read_received_at(value: object) -> datetime:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
        if at is not None and at.tzinfo is not None:
            at.astimezone(UTC)
    except (ValueError, OverflowError):  # no time, or one that UTC has not
        at = None
    if at is None or at.tzinfo is None:
        raise Undecodable("bad_fields", "received_at is no time with a zone")
    return at


def business_number(webhook: Mapping[str, Any]) -> str:
    number = webhook.get("phone_number_id")
    if not isinstance(number, str) or not 0 < len(number) <= MAX_ID:
        raise Undecodable("no_number", "the webhook names no usable phone_number_id")
    return number


def waba_of(webhook: Mapping[str, Any]) -> str | None:
    found = webhook.get("waba_id")
    return found[:MAX_ID] if isinstance(found, str) and found else None


def item_id(item: Mapping[str, Any]) -> str:
    found = item.get("id")
    if not isinstance(found, str) or not 0 < len(found) <= MAX_ID:
        raise Undecodable("no_id", "the item has no usable id")
    return found


def sender_of(item: Mapping[str, Any], contact: object) -> Sender:
    """Who it comes from."""
    found = person_of(item, contact, number="from", bsuid="from_user_id")
    if found is None:
        raise Undecodable("no_sender", "the item names no customer")
    return found


def person_of(item: Mapping[str, Any], contact: object, *, number: str, bsuid: str) -> Sender | None:
    """The ids in the item's own fields first, completed by its card."""
    card: Mapping[str, Any] = contact if isinstance(contact, dict) else {}
    told, on_card = wa_id_of(item.get(number)), wa_id_of(card.get("wa_id"))
    user = user_id_of(item.get(bsuid)) or user_id_of(card.get("user_id"))
    if user is None and told is None:
        user = user_id_of(item.get(number))  # seen in the wild: the BSUID under the name of the number
    if told is None and on_card is None and user is None:
        return None
    profile = card.get("profile")
    name = profile.get("name") if isinstance(profile, dict) else None
    return Sender(
        wa_id=told or on_card,
        bsuid=user,
        name=name[:MAX_NAME] if isinstance(name, str) and name else None,
        also=on_card if told is not None and on_card != told else None,
    )


def wa_id_of(value: object) -> str | None:
    """The digits of a wa_id, also where it is a number or has a plus sign."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return None
    e164 = phone.from_wa_id(value.removeprefix("+"))
    return None if e164 is None else e164[1:]


def user_id_of(value: object) -> str | None:
    """A user id as it is: documented as a BSUID, but nothing here depends on its form."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID else None


def instant_of(item: Mapping[str, Any], received_at: datetime) -> datetime:
    told = item.get("timestamp")
    if isinstance(told, bool) or not isinstance(told, str | int | float):
        raise Undecodable("bad_timestamp", "the item has no timestamp")
    try:
        seconds = float(told)
        if seconds <= 0:
            raise Undecodable("bad_timestamp", "the item's timestamp is not after 1970")
        return customer_instant(seconds, received_at)
    except (ValueError, OverflowError):
        raise Undecodable("bad_timestamp", "the item's timestamp is no number") from None


def code_of(errors: object) -> str | None:
    match errors:
        case [{"code": int() | str() as code}, *_]:
            return str(code)[:20]
        case _:
            return None
