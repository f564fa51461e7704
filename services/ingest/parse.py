"""A record of ``webhooks.v1``, parsed. Pure.

A record is one of: a customer's message, SMS, call or preference; a message to a group; echoes of staff; a status; a
change of a customer's identity; news of a template; something known that is ignored. Any other record raises
Undecodable with a reason and becomes a dead letter.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from libs.common.errors import Undecodable
from libs.common.events.base import event_type, misfit, read_json_object
from libs.common.events.content import MAX_ID
from libs.common.events.inbound import (
    MetaWebhook,
    TwilioSmsWebhook,
    TwilioStatusWebhook,
    VonageSmsWebhook,
    VonageStatusWebhook,
)
from libs.common.nesting import DEEPEST, is_deeper
from libs.common.sanitize import sanitize
from libs.common.thread.message_status import ProviderStatus
from services.ingest import content, notices, twilio, vonage
from services.ingest.echoes import read_echoes
from services.ingest.fields import (
    business_number,
    code_of,
    instant_of,
    item_id,
    own_number,
    person_of,
    read_received_at,
    sender_of,
    user_id_of,
    waba_of,
)
from services.ingest.items import (
    CustomerCall,
    CustomerMessage,
    CustomerPreference,
    GroupMessage,
    IdentityChange,
    Ignored,
    Item,
    MessageStatus,
    NumberErrors,
    Sender,
)

_LONGEST_RING = timedelta(minutes=1)  # Meta ends a call that nobody takes by then

MAX_DEPTH = 64  # what is parsed becomes JSON again, and not every writer and reader of that goes as deep as this one

# Fields of Meta's that say nothing about a thread or a window yet. History is outside the window rules by Meta's own
# word. Of what stands in ``standby`` as an echo it is not known who wrote it: staff, or Meta's own agent.
IGNORED_FIELDS = frozenset(
    {
        *("account_alerts", "account_review_update", "account_settings_update", "account_update"),
        *("automatic_events", "business_capability_update", "business_status_update", "business_username_update"),
        *("flows", "group_lifecycle_update", "group_participants_update", "group_settings_update"),
        *("group_status_update", "history", "message_echoes", "messaging_handovers"),
        "partner_solutions",
        *("payment_configuration_update", "phone_number_name_update", "phone_number_quality_update", "security"),
        *("smb_app_state_sync", "standby", "template_correct_category_detection"),
        "tracking_events",
    }
)
_STATUSES = frozenset({"sent", "delivered", "read", "failed"})
_SHOWN_NOWHERE = frozenset({"played", "deleted", "warning"})
_MOST_ERRORS = 10  # that one change tells of its number; Meta's tell one
_WORD = re.compile("[A-Za-z_]{1,30}")


def parse(value: bytes | None, *, reaction_opens: bool) -> Item:
    """What the record's value says. Raises Undecodable."""
    found = read_json_object(value)
    if value is not None and value.count(b"[") + value.count(b"{") > MAX_DEPTH and is_deeper(found, MAX_DEPTH):
        raise Undecodable("nested_too_deeply", f"nested deeper than {MAX_DEPTH} levels")
    match kind := event_type(found):
        case MetaWebhook.TYPE:
            # U+0000 is legal JSON and no PostgreSQL text; it can only come escaped
            clean = sanitize(found) if b"\\u0000" in (value or b"") else found
            return _of_meta(clean, reaction_opens=reaction_opens)
        case TwilioStatusWebhook.TYPE | TwilioSmsWebhook.TYPE | VonageStatusWebhook.TYPE | VonageSmsWebhook.TYPE:
            return _of_sms_provider(kind, sanitize(found))
        case _:
            raise Undecodable("unknown_type", "field type names no webhook that is known here")


def _of_sms_provider(kind: str, found: object) -> Item:
    try:
        match kind:
            case TwilioSmsWebhook.TYPE:
                return twilio.parse_sms(TwilioSmsWebhook.model_validate(found))
            case VonageSmsWebhook.TYPE:
                return vonage.parse_sms(VonageSmsWebhook.model_validate(found))
            case VonageStatusWebhook.TYPE:
                status = vonage.parse_status(VonageStatusWebhook.model_validate(found))
            case _:
                status = twilio.parse_status(TwilioStatusWebhook.model_validate(found))
    except ValidationError as error:
        raise misfit(error) from None
    return status if isinstance(status, Ignored) else MessageStatus(None, status)


def _of_meta(webhook: Mapping[str, Any], *, reaction_opens: bool) -> Item:
    received_at = read_received_at(webhook.get("received_at"))
    item = webhook.get("item")
    kind = webhook.get("item_kind")
    if kind == "body":
        raise _dead(item)
    if not isinstance(item, dict):
        raise Undecodable("bad_item", "the item is not an object")
    match kind:
        case "message":
            return _said(webhook, item, received_at, reaction_opens=reaction_opens)
        case "status":
            return _status(webhook, item, received_at)
        case "change" if webhook.get("field") == "user_id_update":
            return _user_id_update(webhook, item, received_at)
        case "change" if webhook.get("field") == "smb_message_echoes":
            return read_echoes(webhook, item, received_at)
        case "change":
            return _change(webhook, item, received_at)
        case str():
            raise Undecodable("unknown_value", "item_kind is not known here")
        case _:
            raise Undecodable("bad_fields", "item_kind is no word")


def _dead(body: object) -> Undecodable:
    """Why a whole body is no webhook to be read."""
    match body:
        case {"zlib_base64": str(), "reason": "too_many_items"}:
            return Undecodable("too_many_items", "the webhook has more items than one ever has")
        case {"zlib_base64": str(), "reason": "too_large"}:
            return Undecodable("item_too_large", "an item of the webhook fits no record")
        case {"zlib_base64": str(), "reason": "unreadable"}:
            return Undecodable(
                "nested_too_deeply", f"the webhook, or an item of it, is nested deeper than {DEEPEST} levels"
            )
        case {"object": str() as named} if named not in ("", "whatsapp_business_account"):
            return Undecodable("not_a_webhook", "signed JSON whose object is another than WhatsApp's")
        case _:
            return Undecodable("not_a_webhook", "signed JSON, but not a WhatsApp webhook")


def _said(
    webhook: Mapping[str, Any], item: dict[str, Any], received_at: datetime, *, reaction_opens: bool
) -> CustomerMessage | GroupMessage | IdentityChange:
    if item.get("group_id"):
        return _group_message(webhook, item, received_at)
    if item.get("type") == "system":
        return _notice(webhook, item, received_at)
    return _message(webhook, item, received_at, reaction_opens=reaction_opens)


def _message(
    webhook: Mapping[str, Any], item: dict[str, Any], received_at: datetime, *, reaction_opens: bool
) -> CustomerMessage:
    return CustomerMessage(
        phone_number_id=business_number(webhook),
        sender=sender_of(item, webhook.get("contact")),
        provider_id=item_id(item),
        content=content.stored(item),
        reply_to=content.reply_to(item),
        at=instant_of(item, received_at),
        received_at=received_at,
        opens=content.opens_window(item, reaction_opens=reaction_opens),
        waba_id=waba_of(webhook),
        shared=own_number(item),
    )


def _group_message(webhook: Mapping[str, Any], item: dict[str, Any], received_at: datetime) -> GroupMessage:
    group_id = item.get("group_id")
    if not isinstance(group_id, str) or len(group_id) > MAX_ID:
        raise Undecodable("bad_fields", "the item's group_id is no id")
    said = content.stored(item)
    said.pop("keyword", None)  # what is said to a group switches nothing
    return GroupMessage(
        phone_number_id=business_number(webhook),
        group_id=group_id,
        sender=sender_of(item, webhook.get("contact")),
        provider_id=item_id(item),
        content=said,
        reply_to=content.reply_to(item),
        at=instant_of(item, received_at),
        received_at=received_at,
        waba_id=waba_of(webhook),
    )


def _notice(webhook: Mapping[str, Any], item: dict[str, Any], received_at: datetime) -> IdentityChange:
    """A message of the system: whose ids changed, and into which (``notices``)."""
    before, now, alarm = notices.read_id_notice(item, webhook.get("contact"))
    if before.ids == now.ids == (None, None):
        raise Undecodable("no_sender", "the item names no customer")
    notice = CustomerMessage(
        phone_number_id=business_number(webhook),
        sender=before,
        provider_id=item_id(item),
        content=content.content_of(item),
        reply_to=content.reply_to(item),
        at=instant_of(item, received_at),
        received_at=received_at,
        opens=False,
    )
    return IdentityChange(notice.phone_number_id, before, now, notice.at, received_at, notice, alarm, waba_of(webhook))


def _user_id_update(webhook: Mapping[str, Any], item: dict[str, Any], received_at: datetime) -> Item:
    """Meta documents this field, and no app can subscribe to it.

    Whether its number is the old one or the new one is not documented.
    """
    match item.get("user_id_update"):
        case [{"user_id": {"previous": str(before), "current": str(now)}} as update] if user_id_of(
            before
        ) and user_id_of(now):
            number, at = business_number(webhook), instant_of(update, received_at)
            return IdentityChange(
                number, Sender(None, before), Sender(None, now), at, received_at, None, waba_id=waba_of(webhook)
            )
        case _:
            raise Undecodable("bad_change", "no old and new user id can be read in it")


def _status(webhook: Mapping[str, Any], item: dict[str, Any], received_at: datetime) -> Item:
    number = business_number(webhook)
    status = item.get("status")
    if not isinstance(status, str) or not status:
        raise Undecodable("bad_status", "the status has no name")
    if item.get("type") == "call":
        return _call_status(webhook, item, received_at)
    if item.get("type") == "payment":
        return Ignored("payment")  # "failed" is the customer's payment then, and no message of ours
    if item.get("recipient_type") == "group" or status in _SHOWN_NOWHERE:
        return Ignored("status")
    if status not in _STATUSES:
        return Ignored("status", ("meta", _named(status)))
    callback = item.get("biz_opaque_callback_data")
    return MessageStatus(
        number,
        ProviderStatus(
            "whatsapp",
            "meta",
            number,
            item_id(item),
            status,
            instant_of(item, received_at),
            code_of(item.get("errors")),
            callback if isinstance(callback, str) and len(callback) <= MAX_ID else None,
            item,
        ),
        webhook.get("contact"),
        waba_of(webhook),
    )


def _change(webhook: Mapping[str, Any], item: dict[str, Any], received_at: datetime) -> Item:  # noqa: PLR0911 -- one return per field
    field = webhook.get("field")
    match field, item:
        case "calls", {"calls": [dict(call)]}:
            return _call(webhook, call, received_at)
        case "calls", {"statuses": [dict(status)]}:
            return _call_status(webhook, status, received_at)
        case "user_preferences", {"user_preferences": [dict(preference)]}:
            return _preference(webhook, preference, received_at)
        case "messages" | "standby", _ if _has_unread(item):
            raise Undecodable("bad_change", "its messages or statuses are no list")
        case ("messages", {"errors": [_, *_] as errors}) | (
            "standby",
            {"errors": [_, *_] as errors} | {"standby": {"errors": [_, *_] as errors}},
        ):
            return _number_errors(webhook, errors, received_at)
        case str(), _ if field in notices.TEMPLATE_FIELDS:
            return notices.read_template_news(waba_of(webhook), field, item, received_at)
        case None, {"event": str()} if "message_template_name" not in item:
            return Ignored("account_update")  # an example of Meta's has lost the name of its field
        case str(), _ if field in IGNORED_FIELDS:
            return Ignored(field)
        case "messages" | "calls" | "user_preferences", _:
            raise Undecodable("bad_change", "nothing that the field stands for can be read in it")
        case _:
            raise Undecodable("unknown_field", f"the webhook's field is not known here: {_named(field)}")


def _number_errors(webhook: Mapping[str, Any], errors: list[object], received_at: datetime) -> Item:
    codes = dict.fromkeys(code for one in errors if (code := code_of([one])) is not None)
    if not codes:
        return Ignored("errors")
    number = business_number(webhook) if webhook.get("phone_number_id") else None
    return NumberErrors(number, tuple(codes)[:_MOST_ERRORS], received_at, waba_of(webhook))


def _named(word: object) -> str:
    """A word of Meta's, which may be shown. Anything else may be what somebody said."""
    if word is None:
        return "none"
    return word if isinstance(word, str) and _WORD.fullmatch(word) else "unreadable"


def _has_unread(item: Mapping[str, Any]) -> bool:
    """Whether messages or statuses stand in a change, from which all that are in a list were taken out."""
    inner = item.get("standby")
    places = (item, inner) if isinstance(inner, dict) else (item,)
    return any(place.get(name) for place in places for name in ("messages", "statuses")) or (
        bool(inner) and not isinstance(inner, dict)
    )


def _call(webhook: Mapping[str, Any], call: Mapping[str, Any], received_at: datetime) -> Item:
    """A customer's call opens the window, answered or not; a call of the business when the customer took it.

    Its ``connect`` is no such proof: it comes when Meta's side is ready, before the customer's phone rings. Only a call
    that was taken has a ``start_time``, in the webhook of its end. Where the ``connect`` of a customer's call was lost,
    its end opens the window, as of when it rang at the earliest: so it moves no window that the ``connect`` opened.
    """
    match call:
        case {"direction": "USER_INITIATED", "event": "connect"}:
            return _called(webhook, call, instant_of(call, received_at), received_at)
        case {"direction": "USER_INITIATED", "event": "terminate", "start_time": start} if start:
            return _called(webhook, call, instant_of({"timestamp": start}, received_at) - _LONGEST_RING, received_at)
        case {"direction": "USER_INITIATED", "event": "terminate", "status": str(how)} if how.upper() == "FAILED":
            return _called(webhook, call, instant_of(call, received_at) - _LONGEST_RING, received_at)
        case {"direction": "BUSINESS_INITIATED", "event": "terminate", "start_time": start} if start:
            at = instant_of({"timestamp": start}, received_at)
        case {"direction": "BUSINESS_INITIATED", "event": "accept" | "accepted"}:
            at = instant_of(call, received_at)
        case {"direction": str(), "event": str()}:
            return Ignored("call")
        case _:
            raise Undecodable("bad_change", "the call has no direction or no event")
    return _opened(webhook, call, at, received_at, number="to", bsuid="to_user_id")


def _called(webhook: Mapping[str, Any], call: Mapping[str, Any], at: datetime, received_at: datetime) -> CustomerCall:
    return _opened(webhook, call, at, received_at, number="from", bsuid="from_user_id")


def _call_status(webhook: Mapping[str, Any], status: Mapping[str, Any], received_at: datetime) -> Item:
    told = status.get("status")
    if not isinstance(told, str):
        raise Undecodable("bad_status", "the status has no name")
    if told.upper() != "ACCEPTED":
        return Ignored("call")  # it rings, or was rejected
    return _opened(
        webhook, status, instant_of(status, received_at), received_at, number="recipient_id", bsuid="recipient_user_id"
    )


def _opened(
    webhook: Mapping[str, Any], item: Mapping[str, Any], at: datetime, received_at: datetime, *, number: str, bsuid: str
) -> CustomerCall:
    customer = person_of(item, webhook.get("contact"), number=number, bsuid=bsuid)
    if customer is None:
        raise Undecodable("no_sender", "the call names no customer")
    return CustomerCall(business_number(webhook), customer, at, received_at, waba_of(webhook))


_SWITCHES = {"stop": False, "resume": True, "signup": True}


def _preference(webhook: Mapping[str, Any], preference: Mapping[str, Any], received_at: datetime) -> Item:
    category, value = preference.get("category"), preference.get("value")
    if not isinstance(category, str) or not isinstance(value, str):
        raise Undecodable("bad_change", "the preference has no category or no value")
    if category.lower() != "marketing_messages":
        return Ignored("user_preferences")
    marketing = _SWITCHES.get(value.lower())
    if marketing is None:
        raise Undecodable("unknown_value", "the preference's value is not known here")
    customer = person_of(preference, webhook.get("contact"), number="wa_id", bsuid="user_id")
    if customer is None:
        raise Undecodable("no_sender", "the preference names no customer")
    return CustomerPreference(
        business_number(webhook), customer, marketing, instant_of(preference, received_at), waba_of(webhook)
    )
