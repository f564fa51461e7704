"""Vonage's callbacks: delivery receipts and customers' SMS. Pure.

They are unordered and repeatable. Vonage sends a concatenated SMS part by part, each as a callback of its own.

Source: https://developer.vonage.com/messaging/sms/guides/inbound-sms and
https://developer.vonage.com/messaging/sms/guides/delivery-receipts.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from libs.common.errors import Undecodable
from libs.common.events.inbound import VonageSmsWebhook, VonageStatusWebhook
from libs.common.providers.vonage import CURRENCY, RECEIPT, STATUSES
from libs.common.thread.message_status import ProviderStatus
from libs.common.window import customer_instant
from services.ingest.forms import (
    ADDRESS,
    ANY_TEXT,
    REFERENCE,
    Shapes,
    check_shapes,
    known_fields,
    number_of,
    without_unreadable,
)
from services.ingest.items import Ignored, InboundSms, SmsPart

MOST_PARTS = 255
"""Number and count of the parts have one octet each (3GPP TS 23.040, 9.2.3.24.1)."""

_SECONDS = re.compile(r"[0-9]{0,13}")
_ID = re.compile(r"[A-Za-z0-9-]{0,64}")

_COMMON: Shapes = {
    "messageId": _ID,
    "api-key": re.compile(r"[A-Za-z0-9]{0,32}"),
    "msisdn": ADDRESS,
    "to": ADDRESS,
    "timestamp": _SECONDS,
    "message-timestamp": re.compile(r"[0-9: +T.Z-]{0,32}"),
}
_STATUS: Shapes = {
    **_COMMON,
    "status": re.compile(r"[A-Za-z_]{0,30}"),
    "err-code": re.compile(r"[0-9]{0,6}"),
    "client-ref": REFERENCE,
    "network-code": re.compile(r"[A-Za-z0-9-]{0,20}"),
    "price": re.compile(r"[0-9.]{0,20}"),
    "scts": re.compile(r"[0-9]{0,20}"),
}
_SMS: Shapes = {
    **_COMMON,
    "type": re.compile(r"[a-z]{0,20}"),
    "text": ANY_TEXT,
    "concat": re.compile(r"[a-z]{0,5}"),
    "concat-ref": re.compile(r"[A-Za-z0-9-]{0,64}"),
    "concat-total": re.compile(r"[0-9]{0,3}"),
    "concat-part": re.compile(r"[0-9]{0,3}"),
}
_CONCAT = ("concat", "concat-ref", "concat-total", "concat-part")
_SPARE = ("message-timestamp", "err-code", "network-code", "price", "scts", "type", *_CONCAT)
"""Without these a receipt or an SMS counts."""


def status_record(form: Mapping[str, str], received_at: datetime, account: str) -> tuple[bytes, bytes]:
    """Key (messageId) and value of one record of ``webhooks.v1``."""
    fields = known_fields(form, _STATUS)
    webhook = VonageStatusWebhook(received_at=received_at, form=fields, verified_account=account)
    return fields.get("messageId", "").encode(), webhook.encode()


def sms_record(form: Mapping[str, str], received_at: datetime, account: str) -> tuple[bytes, bytes]:
    """Key (business number and customer) and value of one record of ``webhooks.v1``."""
    fields = known_fields(form, _SMS)
    webhook = VonageSmsWebhook(received_at=received_at, form=fields, verified_account=account)
    return f"{fields.get('to', '')}:{fields.get('msisdn', '')}".encode(), webhook.encode()


def parse_status(webhook: VonageStatusWebhook) -> ProviderStatus | Ignored:
    """The status, or that it moves no message. Raises Undecodable."""
    form = without_unreadable(webhook.form, _STATUS, _SPARE)
    check_shapes(form, _STATUS, "bad_status")
    _check_account(form, webhook.verified_account, "bad_status")
    message_id, status = form.get("messageId"), form.get("status", "").lower()
    if not message_id or not status:
        raise Undecodable("bad_status", "messageId or status is missing")
    known = STATUSES.get(status)
    if known is None:
        return Ignored("status", None if status in STATUSES else ("vonage", status))
    code = form.get("err-code")
    parties = {"From": form.get("to"), "To": form.get("msisdn")}
    return ProviderStatus(
        channel="sms",
        provider="vonage",
        account=webhook.verified_account,
        provider_id=message_id,
        status=known,
        code=f"{RECEIPT}{code}" if code and code.strip("0") and known == "failed" else None,
        at=_at(form, webhook.received_at) or webhook.received_at,
        callback=form.get("client-ref"),
        item={"status": status, "price": form.get("price"), "currency": CURRENCY}
        | {name: number_of(address) or address for name, address in parties.items() if address},
    )


def parse_sms(webhook: VonageSmsWebhook) -> InboundSms:
    """The customer's SMS, or a part of it. Raises Undecodable."""
    form = without_unreadable(webhook.form, _SMS, _SPARE)
    check_shapes(form, _SMS, "bad_sms")
    _check_account(form, webhook.verified_account, "bad_sms")
    message_id, to, sender = form.get("messageId"), form.get("to"), form.get("msisdn")
    if not message_id or not to or not sender:
        raise Undecodable("bad_sms", "messageId, to or msisdn is missing")
    return InboundSms(
        provider="vonage",
        account=webhook.verified_account,
        provider_id=message_id,
        to=number_of(to) or to,
        sender=number_of(sender) or sender,
        text=None if form.get("type") == "binary" else form.get("text", ""),
        received_at=webhook.received_at,
        at=_at(form, webhook.received_at),
        part=_part(form),
    )


def _check_account(form: Mapping[str, str], account: str, reason: str) -> None:
    if form.get("api-key", account) != account:
        raise Undecodable(reason, "api-key names another account than the one that signed")


def _part(form: Mapping[str, str]) -> SmsPart | None:
    """Which part it is. None: it is whole, or its fields name no part, so that nothing can be waited for."""
    ref, total, number = form.get("concat-ref"), form.get("concat-total"), form.get("concat-part")
    if form.get("concat") != "true" or not (ref and total and number):
        return None
    part = SmsPart(ref, int(number), int(total))
    return part if 1 <= part.number <= part.total <= MOST_PARTS else None


def _at(form: Mapping[str, str], received_at: datetime) -> datetime | None:
    """When Vonage sent the callback, by its clock, which a wrong one cannot put into the future."""
    if seconds := form.get("timestamp"):
        return customer_instant(float(seconds), received_at)
    try:
        told = datetime.fromisoformat(form["message-timestamp"])
    except (KeyError, ValueError):
        return None
    return customer_instant((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp(), received_at)
