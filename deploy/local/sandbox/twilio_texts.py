"""How Twilio changes a text before it sends it, and what it shows of it afterwards. No I/O."""

import re

from deploy.local.sandbox.behaviour import Behaviour
from deploy.local.sandbox.schemas import Json

TRIAL = "Sent from your Twilio trial account - "
SHORT_LINK = "twil.io/"
MASKED_DIGITS = "XXXX"
_LINK = re.compile(r"(?:https?://)?(?:[a-z0-9-]+\.)+[a-z]{2,}/(\S+)", re.IGNORECASE)
_PLAIN = {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "}  # noqa: RUF001 -- keys
_SMART = str.maketrans(_PLAIN)


def as_sent(body: str, rules: Behaviour) -> str:
    """The text that is sent, which the record has too."""
    if rules.sms_short_links:
        body = _LINK.sub(lambda link: SHORT_LINK + link.group(1)[-6:], body)
    if rules.sms_smart_encoding:
        body = body.translate(_SMART)
    return TRIAL + body if rules.sms_trial else body


def as_shown(message: Json, rules: Behaviour) -> Json:
    """A record as the API shows it. An account may have texts and numbers of finished messages masked."""
    if message["date_sent"] is None and message["status"] != "failed":
        return message
    masked = {"body": ""} if rules.sms_redact_bodies else {}
    if rules.sms_redact_numbers:
        customer = "from" if message["direction"] == "inbound" else "to"
        masked[customer] = masked_number(message[customer])
    return message | masked


def masked_number(number: str) -> str:
    """Phone number redaction: the last four digits are masked."""
    return number[:-4] + MASKED_DIGITS if len(number) > len(MASKED_DIGITS) else number
