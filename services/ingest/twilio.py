"""Twilio's callbacks: statuses of our SMS, and customers' SMS. Pure.

They are unordered and repeatable, and carry no time of their own: the time of receipt stands in for it. An SMS whose
callback nobody took is brought by the SMS bridge from Twilio's list, with its time (``sent_at``).
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Literal

from libs.common.errors import Undecodable
from libs.common.events.inbound import TwilioSmsWebhook, TwilioStatusWebhook
from libs.common.providers.twilio import STATUSES
from libs.common.thread.message_status import ProviderStatus
from services.ingest.forms import ADDRESS, ANY_TEXT, Shapes, check_shapes, known_fields, number_of, without_unreadable
from services.ingest.items import Ignored, InboundSms, SmsMedia

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
_SPARE = ("ErrorCode", "RawDlrDoneDate")
"""Without these a status counts."""
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
_SMS_SPARE = _SMS_SHAPES.keys() - {"MessageSid", "AccountSid", "From", "To", "Body"}
"""Without these an SMS counts."""

_OPTED: Mapping[str, Literal["stop", "start"]] = {"STOP": "stop", "START": "start"}
"""Set where a Messaging Service has Advanced Opt-Out, with words of its own. HELP is neither."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{60,}={0,2}")

_A_SID = r"[A-Z]{2}[0-9a-f]"
_A_NUMBER = r"\+?[0-9]{3}"
_A_STATUS = "(?:accepted|scheduled|queued|sending|sent|receiv|delivered|undelivered|partially|failed|read|canceled)"
_RUNS_ON = re.compile(rf"{_A_NUMBER}[0-9]*[^0-9]")
_ENDS_WITH_SENDER = re.compile(rf"From{_A_NUMBER}[0-9]*\Z")
_STARTS: Mapping[str, str] = {
    **dict.fromkeys(("AccountSid", "MessageSid", "MessagingServiceSid", "SmsSid"), _A_SID),
    **dict.fromkeys(("From", "To"), _A_NUMBER),
    **dict.fromkeys(("MessageStatus", "SmsStatus"), _A_STATUS),
    **dict.fromkeys(("ErrorCode", "RawDlrDoneDate"), "[0-9]"),
}
_SMS_STARTS: Mapping[str, str] = {
    **{name: _STARTS[name] for name in ("AccountSid", "MessageSid", "MessagingServiceSid", "SmsSid", "From", "To")},
    "SmsMessageSid": _A_SID,
    "Body": "",
    **dict.fromkeys(("NumMedia", "NumSegments"), "[0-9]"),
    "OptOutType": "(?i:stop|start|help)",
    **dict.fromkeys((f"MediaUrl{n}" for n in range(_MOST_MEDIA)), "http"),
    **dict.fromkeys((f"MediaContentType{n}" for n in range(_MOST_MEDIA)), "[a-z]+/"),
}
"""How the values of the used fields begin: what is written otherwise behind such a name is no such field."""

_DOCUMENTED = frozenset(
    {
        *("OriginalRepliedMessageSid", "OriginalRepliedMessageSender", "SmsMessageSid", "ReferralNumMedia"),
        *("ReferralMediaContentType", "ReferralMediaUrl", "ReferralBody", "ReferralHeadline", "ReferralSourceId"),
        *("FromCity", "FromState", "FromZip", "FromCountry", "ToCity", "ToState", "ToZip", "ToCountry"),
        *("ChannelPrefix", "ChannelInstallSid", "ChannelStatusCode", "ChannelStatusMessage", "ChannelToAddress"),
        *("ButtonPayload", "ButtonText", "Forwarded", "FrequentlyForwarded", "ProfileName", "WaId", "MessageType"),
    }
)
"""Names that Twilio documents: such a name is a whole one. Its value may still hide a field.

Source: https://www.twilio.com/docs/messaging/guides/webhook-request.
"""


def is_split_as_sent(query: str, form: Mapping[str, str], *, is_sms: bool) -> bool:
    """Whether no other division of address and fields under the same signature can be the one that Twilio signed.

    Twilio signs the address, then names and values sorted by name, without separators. A captured callback could be
    divided anew. Four divisions do harm. Each is refused, and any other field is ignored, whatever its name.

    1. A used field is hidden in its neighbour, or in the address, and is missing. Its name then stands between those
       of the used fields around the neighbour, with the beginning of such a value behind it.
    2. The text of an SMS holds made-up fields. ``From`` follows the text, so the true one is hidden in a field behind
       the text. So is the true ``MessageSid``, unless that field's name is before it.
    3. The text of an SMS holds a made-up ``Body``. The true one is hidden in the field before it.
    4. A number holds the fields behind it, or the name of ``From`` is moved: the text then ends with the true sender.

    No stranger writes a text in a status, so only the first is possible there.
    """
    starts = _SMS_STARTS if is_sms else _STARTS
    if any(re.search(name + start, query) for name, start in starts.items() if name != "Body"):
        return False
    if is_sms and any(_RUNS_ON.match(form.get(name, "")) for name in ("From", "To")):
        return False
    if is_sms and not re.match(_A_NUMBER, form.get("From", "")) and _ENDS_WITH_SENDER.search(form.get("Body", "")):
        return False
    names = sorted(form)
    for index, name in enumerate(names):
        if is_sms and name == "Body":
            continue
        before = max((n for n in names[:index] if n in starts), default="")
        after = min((n for n in names[index + 1 :] if n in starts), default="\U0010ffff")
        text, whole = name + form[name], len(name) if name in starts or name in _DOCUMENTED else 0
        missing = (f for f in starts if f not in form and before < f < after)
        if any(_hides(text, f, starts[f], whole, name) for f in missing):
            return False
        if is_sms and _is_after_made_up_fields(name, text, whole):
            return False
    return True


def _hides(text: str, field: str, start: str, whole: int, name: str) -> bool:
    """Whether this field may be hidden in that text, of which the first ``whole`` characters are a name for certain.

    What stands before the field begins with a name, and names are sorted.
    """
    if whole:
        return name < field and re.search(field + start, text[whole:]) is not None
    return any(text[: found.start()] < field for found in re.finditer(f"(?={field}{start})", text))


def _is_after_made_up_fields(name: str, text: str, whole: int) -> bool:
    if name < "Body":
        return name != "AccountSid" and name >= "ApiVersion" and "Body" in text[whole:]
    found = re.search(f"From{_A_NUMBER}", text[whole:])
    if found is None:
        return False
    return name < "MessageSid" or re.search(f"MessageSid{_A_SID}", text[whole:][found.end() :]) is not None


def status_record(
    form: Mapping[str, str], received_at: datetime, account: str, ref: str | None = None
) -> tuple[bytes, bytes]:
    """Key (MessageSid) and value of one record of ``webhooks.v1``; ``ref`` is the one in the address that was called.

    Unused fields are left out: Twilio adds new ones without notice.
    """
    fields = known_fields(form, _SHAPES)
    webhook = TwilioStatusWebhook(received_at=received_at, form=fields, ref=ref, verified_account=account)
    return fields.get("MessageSid", "").encode(), webhook.encode()


def parse_status(webhook: TwilioStatusWebhook) -> ProviderStatus | Ignored:
    """The status, or that it says nothing.

    Raises Undecodable when it names no message, account or status, or a field is none.
    """
    form = _readable(webhook.form, _SHAPES, _SPARE, is_sms=False)
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
        return Ignored("status", None if status in STATUSES else ("twilio", status))
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
    return TwilioSmsWebhook(received_at=received_at, form=fields, verified_account=account).record()


def parse_sms(webhook: TwilioSmsWebhook) -> InboundSms:
    """The customer's SMS. Raises Undecodable when it names no message, sender or number, or a field is none."""
    form = _readable(webhook.form, _SMS_SHAPES, _SMS_SPARE, is_sms=True)
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
        at=webhook.sent_at,
        media=tuple(
            SmsMedia(form[f"MediaUrl{n}"], form.get(f"MediaContentType{n}"))
            for n in range(media)
            if form.get(f"MediaUrl{n}")
        ),
    )


def _readable(form: Mapping[str, str], shapes: Shapes, spare: Collection[str], *, is_sms: bool) -> Mapping[str, str]:
    """The form without the spare fields that cannot be read, unless another field may be hidden in one of them."""
    left = without_unreadable(form, shapes, spare)
    return left if len(left) == len(form) or is_split_as_sent("", form, is_sms=is_sms) else form


def _plain(body: str) -> str:
    """The text. Of some networks a concatenated SMS comes as the base64 of its text, though Twilio does not say so."""
    if len(body) % 4 or not _BASE64.fullmatch(body):
        return body
    try:
        text = base64.b64decode(body, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return body
    return text if all(character.isprintable() or character in "\r\n\t" for character in text) else body
