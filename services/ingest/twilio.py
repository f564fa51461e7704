"""Twilio's status callbacks. No I/O.

They are unordered and repeatable, and carry no time of their own: the time of receipt stands in for it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import parse_qs

from libs.common.db.statuses import ProviderStatus
from libs.common.errors import Undecodable
from libs.common.events.inbound import TwilioStatusWebhook

MAX_FIELDS = 200

_KEPT = ("MessageStatus", "ErrorCode", "From", "To", "MessagingServiceSid", "RawDlrDoneDate")
"""What is kept of a status that came first. The numbers are compared with those of the send that it is said to be of."""

# accepted, scheduled, queued, sending and the like say nothing that a thread shows
_STATUSES = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "undelivered": "failed",
    "failed": "failed",
    "canceled": "failed",
}


def read_form(body: bytes) -> dict[str, list[str]] | None:
    """Every value of every field, blank ones too; None when it is no form."""
    try:
        return parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace")
    except ValueError:
        return None


def status_record(
    form: Mapping[str, Sequence[str]], received_at: datetime, ref: str | None = None
) -> tuple[bytes, bytes]:
    """Key (MessageSid) and value of one record of ``webhooks.v1``; ``ref`` is the one in the address that was called."""
    fields = {name: values[-1] for name, values in form.items() if values}
    webhook = TwilioStatusWebhook(received_at=received_at, form=fields, ref=ref)
    return fields.get("MessageSid", "").encode(), webhook.encode()


def understand_status(webhook: TwilioStatusWebhook) -> ProviderStatus | None:
    """The status, or None for one that tells nothing. Raises Undecodable when it names no message, account or status."""
    form = webhook.form
    sid = form.get("MessageSid") or form.get("SmsSid")
    account = form.get("AccountSid")
    status = form.get("MessageStatus") or form.get("SmsStatus")
    if not sid or not account or not status:
        raise Undecodable("bad_status", "MessageSid, AccountSid or MessageStatus is missing")
    rung = _STATUSES.get(status)
    if rung is None:
        return None
    return ProviderStatus(
        provider="sms",
        account=account,
        provider_id=sid,
        status=rung,
        code=form.get("ErrorCode") or None,
        at=webhook.received_at,
        callback=webhook.ref,
        item={name: form[name] for name in _KEPT if name in form},
    )
