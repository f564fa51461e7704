"""The fields of Meta's items that say who, where and when. Pure.

A required field that cannot be read raises Undecodable with a reason. Any other field is then None.

Which card of ``contacts[]`` belongs to a message, a call or a status (``Cards``):

Rule 1: a card belongs to an item by its id, BSUID before number, whichever number of the line it names; never by its
        position.
Rule 2: where there is one card and one item, the card is the item's, whatever number it names.
Rule 3: a card that names another BSUID than the item is another person's. A number on two cards with different BSUIDs
        says nothing.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from libs.common import phone
from libs.common.errors import Undecodable
from libs.common.events.content import MAX_ID
from libs.common.events.directory import MAX_NAME
from libs.common.events.fields import within_the_calendar
from libs.common.phone import canonical
from libs.common.window import customer_instant
from services.ingest.items import MessageStatus, Sender

CONTACT_REQUEST = "contact_request"
_LONGEST_NUMBER = 30  # E.164, with decoration
_LONGEST_TIME = 64
_LONGEST_CODE = 20
_USUAL_TIME = 16  # digits of seconds or milliseconds since 1970

Card = dict[str, Any]

_BSUIDS = ("from_user_id", "recipient_user_id")
_NUMBERS = ("from", "recipient_id")


def read_received_at(value: object) -> datetime:
    at = _instant(value) if isinstance(value, str) and len(value) <= _LONGEST_TIME else None
    if at is None:
        raise Undecodable("bad_fields", "received_at is no time with a zone")
    return at


@lru_cache(maxsize=256)  # all items of a webhook have the same
def _instant(value: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(value)
        return None if at.tzinfo is None else within_the_calendar(at)
    except ValueError:  # no time, or one outside of the calendar
        return None


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
    """The sender."""
    found = person_of(item, contact, number="from", bsuid="from_user_id")
    if found is None:
        raise Undecodable("no_sender", "the item names no customer")
    return found


def person_of(item: Mapping[str, Any], contact: object, *, number: str, bsuid: str) -> Sender | None:
    """The ids in the item's own fields first, completed by its card."""
    card: Mapping[str, Any] = contact if isinstance(contact, dict) else {}
    named, on = item.get(number), card.get("wa_id")
    in_item = wa_id_of(named)
    on_card = in_item if on == named else wa_id_of(on)
    user = user_id_of(item.get(bsuid)) or user_id_of(card.get("user_id"))
    if user is None and in_item is None:
        user = user_id_of(item.get(number))  # seen in the wild: the BSUID under the name of the number
    if in_item is None and on_card is None and user is None:
        return None
    profile = card.get("profile")
    name = profile.get("name") if isinstance(profile, dict) else None
    return Sender(
        in_item or on_card,
        user,
        _seen(name) if isinstance(name, str) else None,
        on_card if in_item is not None and on_card != in_item else None,
    )


def _seen(name: str) -> str | None:
    """The name; None where nothing of it can be seen, as where it is a space or marks of direction alone."""
    bare = name.strip()[:MAX_NAME]
    return bare if any(one.isprintable() and not one.isspace() for one in bare) else None


def recipient_of(one: MessageStatus) -> Sender | None:
    """The recipient, where Meta names one. Most statuses of another system are counted without being asked."""
    return person_of(one.status.item, one.contact, number="recipient_id", bsuid="recipient_user_id")


def wa_id_of(value: object) -> str | None:
    """The digits of a wa_id, also where it is a number or is decorated: with a plus sign, spaces, dashes."""
    if not isinstance(value, str):
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        value = str(value)
    return _digits(value) if 0 < len(value) <= _LONGEST_NUMBER else None


@lru_cache(maxsize=1 << 14)  # a customer has many statuses
def _digits(number: str) -> str | None:
    bare = number.strip().removeprefix("+")
    e164 = phone.from_wa_id(bare) or phone.normalise(f"+{bare}")
    return None if e164 is None else e164[1:]


def user_id_of(value: object) -> str | None:
    """A user id as it is: documented as a BSUID, but nothing here depends on its form."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID else None


def instant_of(item: Mapping[str, Any], received_at: datetime) -> datetime:
    timestamp = item.get("timestamp")
    if type(timestamp) is str and len(timestamp) <= _USUAL_TIME:
        return _counted(timestamp, received_at)
    return _count(timestamp, received_at)


def _count(timestamp: object, received_at: datetime) -> datetime:
    if isinstance(timestamp, bool) or not isinstance(timestamp, str | int | float):
        raise Undecodable("bad_timestamp", "the item has no timestamp")
    try:
        seconds = float(timestamp)
        if seconds <= 0:
            raise Undecodable("bad_timestamp", "the item's timestamp is not after 1970")
        return customer_instant(seconds, received_at)
    except (ValueError, OverflowError):
        raise Undecodable("bad_timestamp", "the item's timestamp is no number") from None


_counted = lru_cache(maxsize=1 << 12)(_count)  # the statuses of a webhook are of few seconds


def code_of(errors: object) -> str | None:
    """The code of the first error that has one."""
    for error in errors if isinstance(errors, list) else [errors]:
        match error:
            case {"code": bool()}:
                continue
            case {"code": float() as code} if code.is_integer():
                return str(int(code))[:_LONGEST_CODE]
            case {"code": int() | str() as code} if text := str(code).strip():
                return text[:_LONGEST_CODE]
    return None


def echo_fields(echo: Mapping[str, Any], metadata: object) -> tuple[str, str]:
    """The fields with the number and the BSUID of the customer whom staff wrote to.

    Edits and revocations are seen with both sides exchanged: the customer is not the number of ``metadata``.
    """
    if echo.get("to") or echo.get("to_user_id"):
        exchanged = not echo.get("to_user_id") and is_own_number(echo.get("to"), metadata)
    else:
        exchanged = _shown(metadata) is not None and not is_own_number(echo.get("from"), metadata)
    return ("from", "from_user_id") if exchanged else ("to", "to_user_id")


def is_own_number(value: object, metadata: object) -> bool:
    """Whether this is the business number that ``metadata`` displays, in whatever way it is written there."""
    line = _shown(metadata)
    return line is not None and _line(value) == line


def _shown(metadata: object) -> str | None:
    shown = metadata.get("display_phone_number") if isinstance(metadata, dict) else None
    return _line("".join(one for one in str(shown)[:_LONGEST_TIME] if one.isdecimal()))


class Cards:
    """The cards beside ``items`` messages, calls and statuses.

    They are read once, so the work grows with their number alone.
    """

    def __init__(self, contacts: object, items: int) -> None:
        listed = contacts if isinstance(contacts, list) else []
        people = [card for card in listed if isinstance(card, dict)]
        self._only = people[0] if len(people) == len(listed) == items == 1 else None
        if self._only is None:
            self._by_bsuid = _index((_text(card.get("user_id")), card) for card in people)
            self._by_line = _index((_line(card.get("wa_id")), card) for card in people)

    def of(self, item: object) -> Card | None:
        """The card of this item, or None."""
        if not isinstance(item, dict):
            return None
        if self._only is not None:
            return None if _of_another(self._only, item) else self._only
        for name in (*_BSUIDS, *_NUMBERS):  # seen in the wild: the BSUID under the name of the number
            if (bsuid := _text(item.get(name))) and (card := self._by_bsuid.get(bsuid)):
                return card
        for name in _NUMBERS:
            if (line := _line(item.get(name))) and (card := self._by_line.get(line)):
                return None if _of_another(card, item) else card
        return None


def _of_another(card: Card, item: Mapping[str, Any]) -> bool:
    """Whether the item names a BSUID, and none of its ids is the card's."""
    user = _text(card.get("user_id"))
    if user is None or any(item.get(name) == user for name in (*_BSUIDS, *_NUMBERS)):
        return False
    return any(_text(item.get(name)) for name in _BSUIDS)


def _index(cards: Iterable[tuple[str | None, Card]]) -> dict[str, Card]:
    found: dict[str, Card] = {}
    unclear: set[str] = set()
    for key, card in cards:
        if key is not None and _text(found.setdefault(key, card).get("user_id")) != _text(card.get("user_id")):
            unclear.add(key)
    return {key: card for key, card in found.items() if key not in unclear}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _line(value: object) -> str | None:
    digits = wa_id_of(value)
    return None if digits is None else canonical(f"+{digits}")


def own_number(message: Mapping[str, Any]) -> str | None:
    """The number (E.164) that the customer shared on request as their own, or None.

    Meta sends it as a message of type ``contacts`` whose ``origin`` is ``contact_request``. A card that a customer
    picked or forwarded has another origin, or none, and is another person's. Cards that do not clearly name one line
    say nothing.
    """
    match message:
        case {"type": "contacts", "contacts": [{"phones": [*phones], **card}]}:
            if message.get("origin", card.get("origin")) != CONTACT_REQUEST:
                return None
        case _:
            return None
    cards = [one for one in phones if isinstance(one, dict)]
    found = [number for one in cards if (number := _of_meta(one.get("wa_id")))]
    found = found or [
        number for one in cards if (number := phone.normalise(one.get("phone")) or _of_meta(one.get("phone")))
    ]
    return found[0] if len({canonical(number) for number in found}) == 1 else None


def _of_meta(value: object) -> str | None:
    """Digits without a plus, as Meta writes numbers."""
    return phone.from_wa_id(value.removeprefix("+")) if isinstance(value, str) else None
