"""Twilio's rules for a send, and the shape of its message resource. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime
from urllib.parse import urlsplit

from deploy.local.sandbox.clock import utc
from deploy.local.sandbox.numbers import is_e164
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.segments import segments

BODY_MOST = 1600
VALIDITY_MOST = 36000
SENDER_ID_MOST = 11
PRICE = 0.04

MESSAGES: dict[int, tuple[int, str]] = {
    20003: (401, "Authenticate"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20500: (500, "An internal server error has occurred"),
    21211: (400, "Invalid 'To' Phone Number: {to}"),
    21212: (400, "Invalid From Number (caller ID): {from_}"),
    21408: (
        403,
        "Permission to send an SMS or MMS has not been enabled for the region indicated by the 'To' number: {to}",
    ),
    21602: (400, "Message body is required."),
    21603: (400, "A 'From' phone number is required."),
    21604: (400, "A 'To' phone number is required."),
    21606: (
        400,
        (
            "The From phone number {from_} is not a valid, SMS-capable inbound phone number or short code "
            "for your account."
        ),
    ),
    21609: (400, "Invalid 'StatusCallback' URL"),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21611: (429, "This 'From' number has exceeded the maximum number of queued messages"),
    21614: (400, "'To' number is not a valid mobile number: {to}"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit"),
    90007: (400, "Invalid Validity Period"),
}
RECIPIENTS = {"opted_out": 21610, "landline": 21614, "region_blocked": 21408}
"""What may be known of a number, with the error its sends get at once; ``unreachable`` fails later."""


@dataclass(frozen=True, slots=True)
class Text:
    """A message Twilio takes."""

    to: str
    sender: str | None
    service: str | None
    body: str
    callback: str | None


def refusal(code: int, *, http: int | None = None, to: str = "", sender: str = "") -> Answer:
    """An error of the REST API."""
    status, message = MESSAGES.get(code, (400, "Bad request"))
    status = http or status
    more = f"https://www.twilio.com/docs/errors/{code}"
    body = {"code": code, "message": message.format(to=to, from_=sender), "more_info": more, "status": status}
    return Answer(status, body, code)


def judge(form: Mapping[str, str], recipients: Mapping[str, str]) -> Text | Answer:
    """Read a form as Twilio does; ``recipients`` says what is known of numbers."""
    to, sender, service, body = (form.get(name) or "" for name in ("To", "From", "MessagingServiceSid", "Body"))
    code = _wrong(form, to, sender, service, body) or RECIPIENTS.get(recipients.get(to, ""))
    if code is not None:
        return refusal(code, to=to, sender=sender)
    return Text(to, sender or None, service or None, body, form.get("StatusCallback") or None)


def _wrong(form: Mapping[str, str], to: str, sender: str, service: str, body: str) -> int | None:
    """The code of the first thing wrong with the form itself."""
    period, callback = form.get("ValidityPeriod"), form.get("StatusCallback")
    letters_and_digits = sender.replace(" ", "").isalnum() and any(map(str.isalpha, sender))
    alphanumeric = letters_and_digits and len(sender) <= SENDER_ID_MOST
    checks = (
        (not to, 21604),
        (not is_e164(to), 21211),
        (not sender and not service, 21603),
        (
            bool(sender)
            and not is_e164(sender)
            and not alphanumeric
            and not (sender.isdigit() and len(sender) in (5, 6)),
            21212,
        ),
        (not body, 21602),
        (len(body) > BODY_MOST, 21617),
        (period is not None and not (period.isdigit() and 1 <= int(period) <= VALIDITY_MOST), 90007),
        (bool(callback) and not _callable(callback or ""), 21609),
    )
    return next((code for bad, code in checks if bad), None)


def _callable(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and "_" not in (parts.hostname or "")


def resource(account: str, sid: str, text: Text, now: float) -> Json:
    """A message as created: queued (accepted, when a service has yet to choose the sender), not priced, no error."""
    stamp, count = format_datetime(utc(now)), 0 if text.service and not text.sender else segments(text.body)
    path = f"/2010-04-01/Accounts/{account}/Messages/{sid}"
    return {
        "body": text.body,
        "num_segments": str(count),
        "direction": "outbound-api",
        "from": text.sender,
        "date_updated": stamp,
        "price": None,
        "error_message": None,
        "uri": f"{path}.json",
        "account_sid": account,
        "num_media": "0",
        "to": text.to,
        "date_created": stamp,
        "status": "accepted" if text.service else "queued",
        "sid": sid,
        "date_sent": None,
        "messaging_service_sid": text.service,
        "error_code": None,
        "price_unit": "USD",
        "api_version": "2010-04-01",
        "subresource_uris": {"media": f"{path}/Media.json"},
    }


def callback_form(message: Json, status: str) -> dict[str, str]:
    form = {
        "SmsSid": message["sid"],
        "SmsStatus": status,
        "MessageStatus": status,
        "To": message["to"],
        "MessageSid": message["sid"],
        "AccountSid": message["account_sid"],
        "From": message["from"] or "",
        "ApiVersion": "2010-04-01",
    }
    if message["messaging_service_sid"]:
        form["MessagingServiceSid"] = message["messaging_service_sid"]
    if message["error_code"] is not None and status in ("undelivered", "failed"):
        form["ErrorCode"] = str(message["error_code"])
    return form
