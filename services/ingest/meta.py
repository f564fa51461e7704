"""A Meta webhook, split into one record per item. Pure.

Rule 1: any signed JSON becomes at least one record. An unreadable body is a record too, and the worker makes it a dead
        letter with the reason.
Rule 2: an item stays as Meta wrote it; the parts of its surroundings that the worker needs stand beside it.
Rule 3: every item takes its card of ``contacts[]`` along (``fields.Cards``).
Rule 4: a body becomes at most ``MAX_RECORDS`` records and grows to at most ``MAX_GROWTH`` times its size; otherwise it
        stays whole. Meta puts at most 1,000 updates into a webhook.
Rule 5: the work grows with the body, not with products of its parts.
Rule 6: how deeply a body may be nested does not depend on the stack of the moment: what the quick reader and writer
        leave to Python's own is read and written to ``nesting.DEEPEST`` levels.

A record is the key and the value of a ``MetaWebhook``.
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Literal, TypedDict

import orjson

from libs.common.events.inbound import MetaWebhook
from libs.common.nesting import DEEPEST, is_deeper, text_is_deeper
from libs.common.sanitize import sanitize
from services.ingest.fields import Cards, echo_fields
from services.ingest.notices import TEMPLATE_FIELDS

WHATSAPP = "whatsapp_business_account"

MAX_RECORDS = 5_000
MAX_GROWTH = 3
_ANY_GROWTH = 512 * 1024  # what the 1,000 smallest updates may become

_LONGEST_NUMBER = 1_000  # characters; Python itself refuses to read whole numbers of 4,301 digits

Reason = Literal["unreadable", "too_many_items", "too_large"]
"""Why a body stays whole: it cannot be read; ``MAX_RECORDS`` or ``MAX_GROWTH``; one of its items fits no record."""

ItemKind = Literal["message", "status", "change", "body"]


class NotJsonError(ValueError):
    """The body is no JSON text."""


class UnreadableError(ValueError):
    """The body is JSON, but nested too deeply to be read and written again.

    ``rest``: the records of its other items.
    """

    reason: Reason = "unreadable"

    def __init__(self, rest: "Sequence[SplitRecord]" = ()) -> None:
        super().__init__()
        self.rest = rest


class TooManyItemsError(UnreadableError):
    """The body is JSON that would become more, or more bytes, than a webhook ever does."""

    reason = "too_many_items"


SplitRecord = tuple[bytes, bytes]
"""Key and value of one record of ``webhooks.v1``."""


def parse(body: bytes | bytearray) -> Any:
    """The JSON value in the body. Raises NotJsonError or UnreadableError.

    Half a surrogate pair is legal in JSON and in no UTF-8 text: it is read as U+FFFD. A number beyond any float stays
    text, because no reader of the record knows it.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    if text_is_deeper(body, DEEPEST):
        raise UnreadableError
    try:
        found = json.loads(body.decode(), parse_constant=_no_constant, parse_int=_whole, parse_float=_real)
    except (json.JSONDecodeError, UnicodeDecodeError, NotJsonError):
        raise NotJsonError from None
    return sanitize(found)


def split(webhook: Any, received_at: datetime, size: int = 0) -> list[SplitRecord]:
    """One record per message, status, call and other change; one record for whatever is no webhook.

    ``size``: bytes of the body, by which it may grow.

    Raises UnreadableError, or TooManyItemsError as soon as a bound is reached.
    """
    at = received_at.isoformat()
    records: list[SplitRecord] = []
    left = max(_ANY_GROWTH, MAX_GROWTH * size)
    unreadable = False
    for fields in _items(webhook):
        try:
            record = _record(at, fields)
        except UnreadableError:
            unreadable = True
            continue
        left -= len(record[1])
        if left < 0 or len(records) == MAX_RECORDS:
            raise TooManyItemsError
        records.append(record)
    if unreadable:
        raise UnreadableError(records)
    return records or [_record(at, _body(webhook))]


def read(body: bytes | bytearray, received_at: datetime) -> list[SplitRecord]:
    """The records of a body, which stays whole where it cannot be split; items that can be read go on beside it.

    Raises NotJsonError.
    """
    try:
        return split(parse(body), received_at, len(body))
    except UnreadableError as error:
        return [*error.rest, whole(body, received_at, error.reason)]


def whole(body: bytes | bytearray, received_at: datetime, reason: Reason) -> SplitRecord:
    """The body as it came, in one record, because of ``reason``. Compressed, so that it always fits."""
    packed = {"zlib_base64": base64.b64encode(zlib.compress(body)).decode(), "reason": reason}
    return _record(received_at.isoformat(), _body(packed))


class _Fields(TypedDict):
    """The fields of a ``MetaWebhook`` that differ between the items of a body."""

    item_kind: ItemKind
    waba_id: str | None
    field: str | None
    phone_number_id: str | None
    item: Any
    contact: Any


def _fields(
    item_kind: ItemKind, waba_id: str | None, field: str | None, number: str | None, item: Any, *, contact: Any = None
) -> _Fields:
    return {
        "item_kind": item_kind,
        "waba_id": waba_id,
        "field": field,
        "phone_number_id": number,
        "item": item,
        "contact": contact,
    }


def _body(item: Any) -> _Fields:
    return _fields("body", None, None, None, item)


def _items(webhook: Any) -> Iterator[_Fields]:
    entries = (
        webhook.get("entry") if isinstance(webhook, dict) and (webhook.get("object") or WHATSAPP) == WHATSAPP else None
    )
    if not isinstance(entries, list):
        yield _body(webhook)
        return
    for entry in entries:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list) or not changes:
            yield _body(entry)
            continue
        waba_id = _text(entry.get("id"))
        for change in changes:
            value = change.get("value") if isinstance(change, dict) else None
            if isinstance(value, dict):
                field = _text(change.get("field"))
                if field in _DATED and "time" in entry:
                    value = value | {"entry_time": entry["time"]}
                # the field's own name, or where one example of Meta's has it: beside the list of changes
                named = field or _text(entry.get("field"))
                yield from (_of_echoes if named == ECHOES else _of_change)(waba_id, named, value)
            else:
                yield _fields("body", waba_id, None, None, change)


# Changes that have no time of their own. An older one must not be taken for news.
_DATED = frozenset(TEMPLATE_FIELDS)


def _of_echoes(waba_id: str | None, field: str | None, value: dict[str, Any]) -> Iterator[_Fields]:
    """Each with the metadata, which tells the business from the customer. Items beside them are not lost."""
    metadata, echoes = value.get("metadata"), _listed(value, "message_echoes")
    number = _text(metadata.get("phone_number_id")) if isinstance(metadata, dict) else None
    cards = Cards(value.get("contacts"), len(echoes))
    for echo in echoes:
        item = {"message_echoes": [echo], "metadata": metadata}
        yield _fields("change", waba_id, field, number, item, contact=cards.of(_reached(item)))
    beside = {name: part for name, part in value.items() if name != "message_echoes"}
    if not echoes:
        yield from _of_change(waba_id, field, value)
    elif any(beside.get(name) for name in _BESIDE):
        yield from _of_change(waba_id, "messages", beside)


def _of_change(waba_id: str | None, field: str | None, value: dict[str, Any]) -> Iterator[_Fields]:
    metadata = value.get("metadata")
    number = _text(metadata.get("phone_number_id")) if isinstance(metadata, dict) else None
    inner = _standby(value) if field == "standby" else value
    if lists := _ONE_BY_ONE.get(field or ""):
        items = [(name, item) for name in lists for item in _listed(value, name)]
        cards = Cards(value.get("contacts"), len(items))
        for name, item in items:
            yield _fields("change", waba_id, field, number, {name: [item]}, contact=cards.of(_as_a_status(item)))
        if not items:
            yield _fields("change", waba_id, field, number, value)
        return
    if field not in ("messages", "standby"):
        yield _fields("change", waba_id, field, number, value)
        return
    messages, statuses = _listed(inner, "messages"), _listed(inner, "statuses")
    cards = Cards(inner.get("contacts"), len(messages) + len(statuses))
    for message in messages:
        yield _fields("message", waba_id, field, number, message, contact=cards.of(message))
    for status in statuses:
        yield _fields("status", waba_id, field, number, status, contact=cards.of(status))
    if not (messages or statuses):
        yield _fields("change", waba_id, field, number, value)
    elif rest := {
        name: part for name in _BESIDE if (part := inner.get(name)) and part is not messages and part is not statuses
    }:
        yield _fields("change", waba_id, field, number, rest)


def _standby(value: dict[str, Any]) -> dict[str, Any]:
    """What came while Meta's agent has the thread. Meta puts it one level deeper than under ``messages``.

    A customer's message is one without that level, too: it opens the window.
    """
    inner = value.get("standby")
    return value | inner if isinstance(inner, dict) else value


# What may stand beside messages and statuses; also one of the two that is no list.
_BESIDE = ("errors", "message_echoes", "messages", "statuses")

ECHOES = "smb_message_echoes"

# Changes whose value is a list of things about one customer each.
_ONE_BY_ONE = {
    "calls": ("calls", "statuses"),
    "user_preferences": ("user_preferences",),
    "user_id_update": ("user_id_update",),
}


def _customer_of(item: Mapping[str, Any]) -> tuple[Any, Any]:
    """Number and BSUID of the customer: of a call by the business the one called, else the one that the item names."""
    if item.get("direction") == "BUSINESS_INITIATED":
        return item.get("to"), item.get("to_user_id")
    for number, bsuid in (("from", "from_user_id"), ("recipient_id", "recipient_user_id"), ("wa_id", "user_id")):
        if item.get(number) or item.get(bsuid):
            user_id = item.get(bsuid)
            return item.get(number), user_id.get("previous") if isinstance(user_id, dict) else user_id
    return None, None


def _reached(item: Mapping[str, Any]) -> Any:
    """The customer of an echo, in the fields of a status."""
    [echo] = item["message_echoes"]
    if not isinstance(echo, dict):
        return echo
    number, bsuid = echo_fields(echo, item.get("metadata"))
    return {"recipient_id": echo.get(number), "recipient_user_id": echo.get(bsuid)}


def _as_a_status(item: Any) -> Any:
    """The same customer in the fields that a status has, by which cards are found."""
    if not isinstance(item, dict):
        return item
    number, bsuid = _customer_of(item)
    return {"recipient_id": number, "recipient_user_id": bsuid}


def _listed(value: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = value.get(name)
    return found if isinstance(found, list) else ()


def _record(at: str, fields: _Fields) -> SplitRecord:
    value = _encode(at, fields)
    return _key(fields["phone_number_id"], fields["waba_id"], fields["item"], value), value


def _key(number: str | None, waba_id: str | None, item: Any, value: bytes) -> bytes:
    """Business number and customer, so that one customer's items stay in order.

    An item that names no customer has a key of its own.
    """
    customer = None
    if isinstance(item, dict):
        ids = _customer_of(item)
        if ids == (None, None):
            inner = next((part[0] for part in item.values() if isinstance(part, list) and len(part) == 1), None)
            if inner is not None and item.get("message_echoes") == [inner]:
                inner = _reached(item)
            ids = _customer_of(inner) if isinstance(inner, dict) else ids
        customer = _text(ids[0]) or _text(ids[1])
        if customer is None:
            system = item.get("system")  # the notice of a new user id may name the customer by the one before alone
            customer = _text(system.get("previous_user_id")) if isinstance(system, dict) else None
    if not (number or waba_id or customer):
        return f":{zlib.crc32(value):08x}".encode()
    return f"{number or waba_id or ''}:{customer or ''}".encode(errors="replace")


def _encode(at: str, fields: _Fields) -> bytes:
    try:
        return MetaWebhook.encode_fields({"received_at": at, **fields})
    except TypeError:  # nested deeply, or a whole number beyond 64 bits, which only the slower reader lets through
        pass
    if is_deeper(fields, DEEPEST):
        raise UnreadableError
    value = {"type": MetaWebhook.TYPE, "received_at": at, **fields}
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _no_constant(_name: str) -> Any:
    raise NotJsonError


def _whole(text: str) -> int | str:
    return int(text) if _is_finite(text) else text


def _real(text: str) -> float | str:
    return float(text) if _is_finite(text) else text


def _is_finite(text: str) -> bool:
    return len(text) <= _LONGEST_NUMBER and isfinite(float(text))
