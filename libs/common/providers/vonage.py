"""Vonage's codes: one table, for answers to a send and for delivery receipts. Pure.

The answer's ``status`` and the receipt's ``err-code`` count from 1 each and mean other things. So the code of a receipt
is stored with ``RECEIPT`` before it. An unknown code is an ``UnknownFault``: it marks and pauses nothing.

Source: https://developer.vonage.com/en/api-errors/sms and
https://developer.vonage.com/en/messaging/sms/guides/troubleshooting-sms (answers),
https://api.support.vonage.com/hc/en-us/articles/204014733 and
https://api.support.vonage.com/hc/en-us/articles/360018438551 (receipts).
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

RECEIPT: Final = "dlr-"
"""Stands before the code of a delivery receipt."""

CURRENCY: Final = "EUR"
"""Of every price that Vonage tells, whatever the account: "the price charged (EUR) for the submitted message"."""

STATUSES: Final = {
    **dict.fromkeys(("accepted", "acceptd", "buffered"), "sent"),
    **dict.fromkeys(("delivered", "delivrd"), "delivered"),
    **dict.fromkeys(("expired", "failed", "rejected", "rejectd", "undelivered", "undeliv"), "failed"),
    **dict.fromkeys(("submitted", "unknown", "deleted")),  # deleted from one queue, to be sent from another
}
"""Our status for each of a receipt's, in lower case; None where it moves no message.

Vonage documents whole words in one place, and the short ones of operators in capitals in another.
"""

_ACCOUNT = AccountFault(every_sender=True)

FAULTS: Final[dict[str, Fault]] = {
    # answers
    **dict.fromkeys(("1", "10"), Throttled("account")),  # too fast; too many connections
    "2": ContentFault(),  # a parameter is missing
    "3": ContentFault(),  # a parameter is wrong
    **dict.fromkeys(
        ("4", "8", "9", "11", "14", "32"), _ACCOUNT
    ),  # credentials, suspended, credit, SMPP only, signature
    "5": TransientFault(),  # an error inside Vonage: it may have been taken
    "6": NO_ROUTE,  # a number prefix that Vonage does not know
    "7": BLOCKED,  # the number is barred
    "12": ContentFault(),  # too long
    "15": ContentFault(),  # the sender is not allowed there, mostly in North America: other destinations go on
    "22": ContentFault(),  # network code
    "23": _ACCOUNT,  # callback address
    "29": ContentFault(),  # the account is in demo mode and has not listed this number
    "33": NO_PHONE,  # the recipient's number is deactivated
    # receipts
    "dlr-2": OUT_OF_REACH,  # absent for now
    "dlr-3": NO_PHONE,  # absent for good
    "dlr-4": BLOCKED,  # barred by the user
    "dlr-5": NO_ROUTE,  # number portability
    "dlr-6": ContentFault(),  # filtered as spam
    "dlr-7": OUT_OF_REACH,  # busy
    "dlr-8": TransientFault(),  # network error
    "dlr-9": STOPPED,  # the user asked for no messages of this service
    "dlr-10": ContentFault(),
    **dict.fromkeys(("dlr-11", "dlr-12"), NO_ROUTE),
    **dict.fromkeys(("dlr-13", "dlr-14"), BLOCKED),  # age restriction; blocked by the carrier
    "dlr-15": ContentFault(),  # non-compliant
    "dlr-16": _ACCOUNT,  # the operator's quota
    "dlr-39": CountryClosed(every_sender=False),  # the sender is not allowed in the United States
    "dlr-41": AccountFault(),  # daily limit of the sender
    **dict.fromkeys(("dlr-50", "dlr-51", "dlr-52", "dlr-53", "dlr-54"), ContentFault()),  # filters, regulation
}
"""The fault of every known code, by the code as it is stored."""


def fault_of(code: str | int | None) -> Fault:
    """The fault of a code. ``code`` is None where Vonage gave none."""
    return FAULTS.get(str(code), UnknownFault())
