"""Twilio's error codes: one table, for responses to a send, for later statuses and for listed records. Pure.

Only the code counts. Twilio splits and renames codes, and advises not to rely on single ones: in July 2024 21211,
21212, 21606 and 21614 became a dozen. So an unknown code is an ``UnknownFault``. A response is then read by its HTTP
status (``services.sms_bridge.providers.twilio``). A status fails its message with the code.

Source: https://www.twilio.com/docs/api/errors;
https://www.twilio.com/en-us/changelog/updates-to-the-error-code-dictionary-to-clarify-number-validatio
"""

from typing import Final

from libs.common.faults import (
    AccountFault,
    ContentFault,
    CountryClosed,
    Fault,
    Throttled,
    TransientFault,
    UnknownFault,
)
from libs.common.providers.sms_marks import BLOCKED, NO_PHONE, NO_ROUTE, OUT_OF_REACH, STOPPED

STATUSES: Final = {
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "undelivered": "failed",
    "failed": "failed",
    "canceled": "failed",
    **dict.fromkeys(("accepted", "scheduled", "queued", "sending", "receiving", "received", "partially_delivered")),
}
"""Our status for each of Twilio's; None where a thread does not show it."""

_SENDER = (
    # no number of this account, not for SMS, not verified, missing; of another channel
    *(21212, 21264, 21267, 21603, 21606, 21607, 21659, 21660, 21661, 21664, 21910, 63007),
    # the Messaging Service: none, empty, not usable
    *(21701, 21702, 21703, 21704, 21705),
)
_ACCOUNT = (
    # not active, suspended (30002: while the message was queued), credentials, permissions, no such account
    *(10001, 10002, 20003, 20005, 20006, 20008, 20403, 20404, 30002, 70051, 90010),
    # our settings: callback address, validity period
    *(21609, 90007),
)
_NO_ROOM = (21730, 30001, 30017, 30022, 30023, 30026)
"""Under maintenance, queue overflow, congestion and limits of a carrier."""
_NO_SUCH_PHONE = (
    *(21211, 21214, 21217, 21219, 21401, 21421),  # no valid number
    *(21614, 21635, 30006),  # not a mobile number; a landline; a landline or a carrier without SMS
    *(21265, 21268),  # a short code; a premium or information service
    30005,  # no such handset
)
_OTHER_SENDER_WANTED = (30018, 30024, 30040, 30041, 30042)
"""The recipient's carrier wants another kind of sender, or a registered one. The SMS was paid for and dropped."""
_UNREGISTERED = (30032, 30033, 30034, 30035)
"""In the United States, of 30032 in Canada too: the sender is not registered, not yet, or its campaign is suspended.

No carrier takes its SMS there, whoever the recipient is. The SMS was taken, and its status says this.
"""
_CONTENT = (
    # text or media: missing, too long, not readable
    *(21602, 21604, 21605, 21617, 21619, 21620, 21621, 21622, 21623, 21624),
    # Content API: template and variables
    *(21654, 21655, 21656, 21657, 21658),
    # filtered, dearer than allowed, no MMS there, too large, looks like a code
    *(30007, 30010, 30011, 30019, 30037, 30038),
    # refused for this pair as things are set up: to oneself, trial, out of this sender's reach
    *(21266, 21608, 21612),
)

FAULTS: Final[dict[int, Fault]] = {
    **dict.fromkeys(_ACCOUNT, AccountFault(every_sender=True)),
    **dict.fromkeys(_SENDER, AccountFault()),
    **dict.fromkeys((14107, 20429, 21611), Throttled("account")),  # too many requests; the sender's queue is full
    **dict.fromkeys(_NO_ROOM, TransientFault(certain=True)),
    21610: STOPPED,  # replied STOP to this sender
    **dict.fromkeys(_NO_SUCH_PHONE, NO_PHONE),
    **dict.fromkeys((30004, 30450), BLOCKED),  # blocked by the recipient or for them
    **dict.fromkeys((30003, 30036), OUT_OF_REACH),  # switched off or without coverage, also beyond the validity period
    **dict.fromkeys(_OTHER_SENDER_WANTED, NO_ROUTE),
    **dict.fromkeys(_CONTENT, ContentFault()),
    21408: CountryClosed(),  # the region is not enabled for the account
    **dict.fromkeys(_UNREGISTERED, CountryClosed(every_sender=False)),
    # The SMS may have arrived: the operator reports "unknown", or did not answer in time. Without a class no SMS is
    # bought again.
    30008: UnknownFault(),
    30410: UnknownFault(),
}
"""The fault of every known code, by its number."""

_FIRST_LATE = 30000
"""Lower codes come from the REST API: it refused to create the message. The others are about delivery."""


def is_of_creation(code: str | int | None) -> bool:
    """Whether this is the code of a refused creation. Twilio lists records of refused messages, too."""
    number = _number(code)
    return number is not None and (number < _FIRST_LATE or number == 63007)  # noqa: PLR2004 -- a channel's code


def fault_of(code: str | int | None) -> Fault:
    """The fault of a code. ``code`` is None where Twilio gave none."""
    number = _number(code)
    return UnknownFault() if number is None else FAULTS.get(number, UnknownFault())


def _number(code: str | int | None) -> int | None:
    text = str(code)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None  # noqa: PLR2004 -- codes have 5 digits
