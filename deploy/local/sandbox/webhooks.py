"""The payloads of webhooks, one update each, and how Meta packs several into one POST. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.local.sandbox.meta_errors import webhook_error
from deploy.local.sandbox.meta_rules import SendRequest
from deploy.local.sandbox.schemas import Json
from deploy.local.sandbox.templates import Number


@dataclass(frozen=True, slots=True)
class Webhook:
    """One update on its way to the customer of the provider."""

    provider: Literal["meta", "twilio", "vonage"]
    url: str
    kind: str
    """``message``, ``status``, ``sms`` or the field of anything else."""
    subject: str
    """The wamid or sid it is about."""
    status: str | None
    payload: Json
    """Meta: ``{waba_id, field, value}``; the others: the form."""


@dataclass(frozen=True, slots=True)
class Person:
    """A customer as a webhook shows him; ``wa_id`` None when Meta hides the number."""

    wa_id: str | None
    bsuid: str
    name: str

    @property
    def contact(self) -> Json:
        phone = {} if self.wa_id is None else {"wa_id": self.wa_id}
        return {"profile": {"name": self.name}, **phone, "user_id": self.bsuid}


def change(
    number: Number,
    url: str,
    kind: str,
    subject: str,
    value: Json,
    *,
    status: str | None = None,
    field: str = "messages",
) -> Webhook:
    """A Meta webhook about one of the business's numbers; ``value`` is completed with product and metadata."""
    metadata = {"display_phone_number": number.digits, "phone_number_id": number.phone_number_id}
    full = {"messaging_product": "whatsapp", "metadata": metadata} | value
    return Webhook("meta", url, kind, subject, status, {"waba_id": number.waba_id, "field": field, "value": full})


def incoming(number: Number, url: str, person: Person, message: Json) -> Webhook:
    """What a customer did, as ``messages[]``; a system notice has no contacts."""
    contacts = {} if message["type"] == "system" else {"contacts": [person.contact]}
    return change(number, url, "message", message["id"], {**contacts, "messages": [message]})


def meta_status(
    number: Number,
    url: str,
    person: Person,
    ask: SendRequest,
    *,
    wamid: str,
    status: str,
    at: int,
    priced: bool,
    code: int | None,
) -> Webhook:
    """A status of v24 or later: no ``conversation``; pricing where it is due; contacts unless it failed."""
    phone = {} if person.wa_id is None else {"recipient_id": person.wa_id}
    item: Json = {"id": wamid, "status": status, "timestamp": str(at), **phone, "recipient_user_id": person.bsuid}
    if ask.callback is not None:
        item["biz_opaque_callback_data"] = ask.callback
    if priced:
        item["pricing"] = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": ask.category}
    if code is not None:
        item["errors"] = [webhook_error(code)]
    contacts = {} if status == "failed" else {"contacts": [person.contact]}
    return change(number, url, "status", wamid, {**contacts, "statuses": [item]}, status=status)


def of_template(waba_id: str, url: str, field: str, value: Json, *, status: str, at: int) -> Webhook:
    """A webhook about a template: it names no number, and its entry is dated."""
    payload = {"waba_id": waba_id, "field": field, "value": value, "time": at}
    return Webhook("meta", url, field, str(value["message_template_name"]), status, payload)


def pack(hooks: Sequence[Webhook]) -> Json:
    """One body for several Meta updates: an entry per account, a change per number, field and kind.

    Lists of one change are joined and its contacts are listed once each, so they match messages by id and by
    nothing else.
    """
    entries: dict[tuple[str, int | None], dict[tuple[object, ...], Json]] = {}
    for number, hook in enumerate(hooks):
        field, value = hook.payload["field"], hook.payload["value"]
        lists = {key: items for key, items in value.items() if isinstance(items, list)}
        rest = {key: item for key, item in value.items() if not isinstance(item, list)}
        changes = entries.setdefault((hook.payload["waba_id"], hook.payload.get("time")), {})
        alone = () if "metadata" in rest else (number,)
        key = (field, str(rest.get("metadata")), *alone, *(name for name in sorted(lists) if name != "contacts"))
        joined: Json = changes.setdefault(key, {"value": rest, "field": field})["value"]
        for name, items in lists.items():
            have = joined.setdefault(name, [])
            have.extend(item for item in items if name != "contacts" or item not in have)
    packed = [
        {"id": waba_id, **({} if at is None else {"time": at}), "changes": list(changes.values())}
        for (waba_id, at), changes in entries.items()
    ]
    return {"object": "whatsapp_business_account", "entry": packed}
