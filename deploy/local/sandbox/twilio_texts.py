"""What Twilio makes of a text on its way, and what it shows of it afterwards. No I/O."""

import re

from deploy.local.sandbox.behaviour import Behaviour
from deploy.local.sandbox.schemas import Json

TRIAL = "Sent from your Twilio trial account - "
SHORT_LINK = "twil.io/"
MASKED_DIGITS = "XXXX"
_LINK = re.compile(r"(?:https?://)?(?:[a-z0-9-]+\.)+[a-z]{2,}/(\S+)", re.IGNORECASE)
_SMART = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "}  # noqa: RUF001 -- what is replaced
)


def as_sent(body: str, rules: Behaviour) -> str:
    """The text that goes to the phone, and stands in the record."""
    if rules.sms_short_links:
        body = _LINK.sub(lambda link: SHORT_LINK + link.group(1)[-6:], body)
    if rules.sms_smart_encoding:
        body = body.translate(_SMART)
    return TRIAL + body if rules.sms_trial else body


def as_shown(message: Json, rules: Behaviour) -> Json:
    """A record as the API shows it: an account may have texts and its customers' numbers masked, once Twilio is done with them."""
    if message["date_sent"] is None and message["status"] != "failed":
        return message
    masked = {"body": ""} if rules.sms_redact_bodies else {}
    if rules.sms_redact_numbers:
        masked["to"] = masked_number(message["to"])
    return message | masked


def masked_number(number: str) -> str:
    """Phone number redaction: the last four digits are gone."""
    return number[:-4] + MASKED_DIGITS if len(number) > len(MASKED_DIGITS) else number
