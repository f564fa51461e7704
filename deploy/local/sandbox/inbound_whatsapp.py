"""What people do through Meta: the control calls ``customer writes`` and ``customer calls``, and any raw change.

``staff writes`` is a message of the business in the WhatsApp Business app on the phone.
"""

import hashlib
import secrets
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deploy.local.sandbox.clock import unix_now
from deploy.local.sandbox.meta import new_wamid
from deploy.local.sandbox.meta_errors import webhook_error
from deploy.local.sandbox.schemas import Json
from deploy.local.sandbox.templates import Number
from deploy.local.sandbox.webhooks import Person, Webhook, change, incoming
from deploy.local.sandbox.world import World

Kind = Literal[
    "text", "image", "video", "audio", "document", "sticker", "location", "contacts", "button", "button_reply",
    "list_reply", "reaction", "order", "unsupported", "system", "raw",
]  # fmt: skip
MEDIA = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/pdf",
    "sticker": "image/webp",
}
UNSUPPORTED = 131051
ECHOES = "smb_message_echoes"
NOT_OPENING = {"reaction", "system", "edit", "revoke"}


class _Written(BaseModel):
    """A message between a customer and a business number.

    ``phone`` or ``bsuid`` or both name the customer; ``hide_phone`` keeps the number out of the webhook. ``content`` is
    merged over the default content of the kind, the object under the message's type. For ``raw`` it is the message
    itself, merged over ``{from, id, timestamp}``. ``at`` (unix seconds) or ``age`` (seconds ago) dates the message.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    phone_number_id: str
    phone: str | None = None
    bsuid: str | None = None
    hide_phone: bool = False
    name: str = "Kim"
    kind: Kind = "text"
    text: str = "Is my car ready?"
    content: dict[str, Any] | list[Any] | None = None
    reply_to: str | None = None
    wamid: str | None = None
    at: float | None = None
    age: float = 0.0
    times: Annotated[int, Field(ge=1, le=100)] = 1


class CustomerWrites(_Written):
    """A customer sends something to a business number; it opens the window unless its kind does not."""

    referral: dict[str, Any] | None = None


class StaffWrites(_Written):
    """Staff send something in the WhatsApp Business app: it is echoed, and opens no window."""

    text: str = "It is ready."


class CustomerRegistered(BaseModel):
    """WhatsApp has the account ``wa_id`` behind ``phone``, which may be spelled differently, as in Brazil.

    ``hidden``: answers name the user id instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    phone: str
    wa_id: str
    hidden: bool = False


class RawChange(BaseModel):
    """Any other update of Meta's: a ``field`` and its ``value``; product and metadata are added where missing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phone_number_id: str
    field: str = "messages"
    value: dict[str, Any]


class CustomerCalls(BaseModel):
    """A customer calls the business number; answered or not, it opens the window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phone_number_id: str
    phone: str
    age: float = 0.0


def writes(world: World, ask: CustomerWrites) -> Json:
    """Send the message; answers ``{wamid, timestamp, user_id, wa_id}``. Raises ``ValueError`` without a customer."""
    number = world.number(ask.phone_number_id) or Number(phone_number_id=ask.phone_number_id)
    person = _person(world, ask.phone, ask.bsuid, ask.name, hide=ask.hide_phone)
    at = int(ask.at if ask.at is not None else unix_now() - ask.age)
    wamid = ask.wamid or new_wamid(person.wa_id or person.bsuid)
    phone = {} if person.wa_id is None else {"from": person.wa_id}
    message: Json = {**phone, "from_user_id": person.bsuid, "id": wamid, "timestamp": str(at)} | _content(ask)
    if ask.reply_to is not None:
        message["context"] = {"from": number.digits, "id": ask.reply_to}
    if ask.referral is not None:
        message["referral"] = ask.referral
    if message["type"] not in NOT_OPENING or (message["type"] == "reaction" and world.behaviour.reaction_opens_window):
        world.windows.opened(number.phone_number_id, person.bsuid, at)
    hook = incoming(number, world.webhook_url(number), person, message)
    for _ in range(ask.times):
        world.webhook_sender.chain([(0.0, hook)])
    return {"wamid": message["id"], "timestamp": at, "user_id": person.bsuid, "wa_id": person.wa_id}


def staff_writes(world: World, ask: StaffWrites) -> Json:
    """Send the message; answers ``{wamid, timestamp, user_id, wa_id}``. Raises ``ValueError`` without a customer."""
    number = world.number(ask.phone_number_id) or Number(phone_number_id=ask.phone_number_id)
    person = _person(world, ask.phone, ask.bsuid, ask.name, hide=ask.hide_phone)
    at = int(ask.at if ask.at is not None else unix_now() - ask.age)
    wamid = ask.wamid or new_wamid(person.wa_id or person.bsuid)
    phone = {} if person.wa_id is None else {"to": person.wa_id}
    echo: Json = {"from": number.digits, **phone, "to_user_id": person.bsuid, "id": wamid, "timestamp": str(at)}
    echo |= _content(ask)
    if ask.reply_to is not None:
        echo["context"] = {"from": person.wa_id, "id": ask.reply_to}
    value = {"contacts": [person.contact], "message_echoes": [echo]}
    hook = change(number, world.webhook_url(number), ECHOES, wamid, value, field=ECHOES)
    for _ in range(ask.times):
        world.webhook_sender.chain([(0.0, hook)])
    return {"wamid": echo["id"], "timestamp": at, "user_id": person.bsuid, "wa_id": person.wa_id}


def registered(world: World, ask: CustomerRegistered) -> None:
    world.customers.register(ask.phone.lstrip("+"), ask.wa_id.lstrip("+"), hidden=ask.hidden)


def calls(world: World, ask: CustomerCalls) -> Json:
    """A call that is not answered: ``connect`` and ``terminate``."""
    number = world.number(ask.phone_number_id) or Number(phone_number_id=ask.phone_number_id)
    person = _person(world, ask.phone, None, "Kim", hide=False)
    at = int(unix_now() - ask.age)
    call_id = "wacid." + secrets.token_hex(16).upper()
    world.windows.opened(number.phone_number_id, person.bsuid, at)
    base: Json = {
        "id": call_id,
        "from": person.wa_id,
        "from_user_id": person.bsuid,
        "to": number.digits,
        "timestamp": str(at),
    }
    base["direction"] = "USER_INITIATED"
    steps: list[tuple[float, Webhook]] = []
    for event, extra in (
        ("connect", {"session": {"sdp": "v=0", "sdp_type": "offer"}}),
        ("terminate", {"status": "FAILED"}),
    ):
        value = {"contacts": [person.contact], "calls": [base | {"event": event} | extra]}
        steps.append((0.0, change(number, world.webhook_url(number), "calls", call_id, value, field="calls")))
    world.webhook_sender.chain(steps)
    return {"id": call_id, "timestamp": at, "user_id": person.bsuid}


def raw(world: World, ask: RawChange) -> Json:
    """Post the change as it is. It opens no window."""
    number = world.number(ask.phone_number_id) or Number(phone_number_id=ask.phone_number_id)
    world.webhook_sender.chain(
        [(0.0, change(number, world.webhook_url(number), ask.field, "raw", ask.value, field=ask.field))]
    )
    return {}


def _person(world: World, phone: str | None, bsuid: str | None, name: str, *, hide: bool) -> Person:
    wa_id = None if phone is None else phone.lstrip("+")
    if wa_id is None and bsuid is None:
        raise ValueError("phone or bsuid is required")
    if wa_id is not None and bsuid is not None:
        world.customers.introduce(wa_id, bsuid)
    known = bsuid or world.customers.bsuid_of(wa_id or "")
    world.customers.named(known, name)
    return Person(None if hide else wa_id, known, name)


def _content(ask: _Written) -> Json:
    """The part of the message that depends on its kind, ``type`` included."""
    if ask.kind == "raw":
        return {"type": "text", **(ask.content if isinstance(ask.content, dict) else {})}
    if ask.kind == "unsupported":
        error = {key: value for key, value in webhook_error(UNSUPPORTED).items() if key != "href"}
        return {
            "type": "unsupported",
            "errors": [error],
            "unsupported": _merged({"type": "poll"}, ask.content),
        }
    if ask.kind == "contacts":
        cards = (
            ask.content
            if isinstance(ask.content, list)
            else [{"name": {"formatted_name": ask.name, "first_name": ask.name}, "phones": []}]
        )
        return {"type": "contacts", "contacts": cards}
    if ask.kind in ("button_reply", "list_reply"):
        reply = _merged({"id": "choice-1", "title": ask.text}, ask.content)
        return {"type": "interactive", "interactive": {"type": ask.kind, ask.kind: reply}}
    return {"type": ask.kind, ask.kind: _merged(_plain(ask.kind, ask.text), ask.content)}


def _plain(kind: str, text: str) -> Json:
    """The default content of a kind; media unless the kind is one of the others."""
    plain: dict[str, Json] = {
        "text": {"body": text},
        "location": {"latitude": 51.5007, "longitude": -0.1246, "name": "Westminster Bridge", "address": "London SE1"},
        "button": {"text": text, "payload": text},
        "reaction": {"message_id": "wamid.unknown", "emoji": "\U0001f44d"},
        "order": {"catalog_id": "1", "text": text, "product_items": []},
        "system": {"type": "user_changed_number", "body": text},
    }
    if kind in plain:
        return plain[kind]
    media_id = str(secrets.randbelow(10**15))
    return {"id": media_id, "mime_type": MEDIA[kind], "sha256": hashlib.sha256(media_id.encode()).hexdigest()}


def _merged(plain: Json, content: dict[str, Any] | list[Any] | None) -> Json:
    return plain | content if isinstance(content, dict) else plain
