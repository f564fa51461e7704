"""Twilio's callbacks: statuses of our SMS, and customers' SMS. Pure.

They are unordered and repeatable, and carry no time of their own: the time of receipt stands in for it.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from libs.common.errors import Undecodable
from libs.common.events.inbound import TwilioSmsWebhook, TwilioStatusWebhook
from libs.common.providers.twilio import STATUSES
from libs.common.thread.message_status import ProviderStatus
from services.ingest.forms import ADDRESS, ANY_TEXT, Shapes, check_shapes, known_fields, number_of
from services.ingest.items import InboundSms, SmsMedia

MAX_REF = 80

_SID = re.compile(r"[A-Za-z0-9]{0,34}")
_SHAPES: Shapes = {
    **dict.fromkeys(("MessageSid", "SmsSid", "AccountSid", "MessagingServiceSid"), _SID),
    **dict.fromkeys(("MessageStatus", "SmsStatus"), re.compile(r"[A-Za-z_]{0,30}")),
    "ErrorCode": re.compile(r"[0-9]{0,10}"),
    "ApiVersion": re.compile(r"[0-9-]{0,10}"),
    **dict.fromkeys(("From", "To"), ADDRESS),
    "RawDlrDoneDate": re.compile(r"[0-9]{0,20}"),
}
"""The fields that are used, and what they may hold.

Twilio signs names and values without separators, so a captured callback can be cut into other
fields under the same signature. No such piece has the shape of the field it would be part of."""
_KEPT = ("MessageStatus", "ErrorCode", "From", "To", "MessagingServiceSid", "RawDlrDoneDate")
"""What is kept of a status that came before its send. The numbers are compared with those of the send that it names."""


_MOST_MEDIA = 10
_SMS_SHAPES: Shapes = {
    **dict.fromkeys(("MessageSid", "SmsSid", "SmsMessageSid", "AccountSid", "MessagingServiceSid"), _SID),
    **dict.fromkeys(("From", "To"), ADDRESS),
    "Body": ANY_TEXT,
    **dict.fromkeys(("NumMedia", "NumSegments"), re.compile(r"[0-9]{0,3}")),
    "OptOutType": re.compile(r"[A-Za-z]{0,20}"),
    **dict.fromkeys((f"MediaUrl{n}" for n in range(_MOST_MEDIA)), re.compile(r"[!-~]{0,1000}")),
    **dict.fromkeys((f"MediaContentType{n}" for n in range(_MOST_MEDIA)), re.compile(r"[ -~]{0,100}")),
}
"""The fields of a customer's SMS that are used. Twilio puts a concatenated SMS together, and sends it as one."""

_OPTED: Mapping[str, Literal["stop", "start"]] = {"STOP": "stop", "START": "start"}
"""Set where a Messaging Service has Advanced Opt-Out, with words of its own. HELP is neither."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{60,}={0,2}")

_FIELDS = ("AccountSid", "ErrorCode", "MessageSid", "MessageStatus", "SmsSid", "SmsStatus")
_SMS_FIELDS = (
    *("AccountSid", "MessageSid", "SmsMessageSid", "SmsSid", "NumMedia", "NumSegments", "MediaUrl", "MediaContentType"),
    *("From+", "To+"),
)


def is_split_as_sent(query: str, form: Mapping[str, str], *, is_sms: bool) -> bool:
    """Whether address and fields are divided as Twilio divided them.

    Twilio signs address, names and values one after the other, without separators. So a captured callback could be sent
    again with a field hidden in its neighbour, or in the address, under the same signature. Such a neighbour holds a
    field's name. Only the text of an SMS may hold one: no field that follows it can be hidden there and be there too.
    """
    fields, known = (_SMS_FIELDS, frozenset(_SMS_SHAPES)) if is_sms else (_FIELDS, frozenset(_FIELDS))
    names = (name for name in form if name not in known)
    texts = [query, *names, *(value for name, value in form.items() if not (is_sms and name == "Body"))]
    return not any(field in text for text in texts for field in fields)


def status_record(
    form: Mapping[str, str], received_at: datetime, account: str, ref: str | None = None
) -> tuple[bytes, bytes]:
    """Key (MessageSid) and value of one record of ``webhooks.v1``; ``ref`` is the one in the address that was called.

    Unused fields are left out: Twilio adds new ones without notice.
    """
    fields = known_fields(form, _SHAPES)
    webhook = TwilioStatusWebhook(received_at=received_at, form=fields, ref=ref, verified_account=account)
    return fields.get("MessageSid", "").encode(), webhook.encode()


def parse_status(webhook: TwilioStatusWebhook) -> ProviderStatus | None:
    """The status, or None for one that says nothing.

    Raises Undecodable when it names no message, account or status, or a field is none.
    """
    form = webhook.form
    check_shapes(form, _SHAPES, "bad_status")
    if webhook.ref is not None and len(webhook.ref) > MAX_REF:
        raise Undecodable("bad_status", "the reference is longer than ours are")
    sid = form.get("MessageSid") or form.get("SmsSid")
    account = form.get("AccountSid")
    status = form.get("MessageStatus") or form.get("SmsStatus")
    if not sid or not account or not status:
        raise Undecodable("bad_status", "MessageSid, AccountSid or MessageStatus is missing")
    if account != (webhook.verified_account or account):
        raise Undecodable("bad_status", "AccountSid names another account than the one that signed")
    known = STATUSES.get(status)
    if known is None:
        return None
    return ProviderStatus(
        channel="sms",
        provider="twilio",
        account=account,
        provider_id=sid,
        status=known,
        code=form.get("ErrorCode") or None,
        at=webhook.received_at,
        callback=webhook.ref,
        item={name: form[name] for name in _KEPT if name in form},
    )


def sms_record(form: Mapping[str, str], received_at: datetime, account: str) -> tuple[bytes, bytes]:
    """Key (business number and customer) and value of one record of ``webhooks.v1``."""
    fields = known_fields(form, _SMS_SHAPES)
    webhook = TwilioSmsWebhook(received_at=received_at, form=fields, verified_account=account)
    return f"{fields.get('To', '')}:{fields.get('From', '')}".encode(), webhook.encode()


def parse_sms(webhook: TwilioSmsWebhook) -> InboundSms:
    """The customer's SMS. Raises Undecodable when it names no message, sender or number, or a field is none."""
    form = webhook.form
    check_shapes(form, _SMS_SHAPES, "bad_sms")
    if form.get("AccountSid") != webhook.verified_account:
        raise Undecodable("bad_sms", "AccountSid names another account than the one that signed")
    sid, to, sender = form.get("MessageSid") or form.get("SmsSid"), form.get("To"), form.get("From")
    if not sid or not to or not sender:
        raise Undecodable("bad_sms", "MessageSid, To or From is missing")
    if ":" in to or ":" in sender:
        raise Undecodable("bad_sms", "the message came by another channel than SMS")
    media = min(int(form.get("NumMedia") or 0), _MOST_MEDIA)
    return InboundSms(
        provider="twilio",
        account=webhook.verified_account,
        provider_id=sid,
        to=number_of(to) or to,
        sender=number_of(sender) or sender,
        text=_plain(form.get("Body", "")),
        opted=_OPTED.get(form.get("OptOutType", "").upper()),
        received_at=webhook.received_at,
        media=tuple(
            SmsMedia(form[f"MediaUrl{n}"], form.get(f"MediaContentType{n}"))
            for n in range(media)
            if form.get(f"MediaUrl{n}")
        ),
    )


def _plain(body: str) -> str:
    """The text. Of some networks a concatenated SMS comes as the base64 of its text, though Twilio does not say so."""
    if len(body) % 4 or not _BASE64.fullmatch(body):
        return body
    try:
        text = base64.b64decode(body, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return body
    return text if all(character.isprintable() or character in "\r\n\t" for character in text) else body
