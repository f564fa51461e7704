"""The classes of providers' faults. Pure.

A provider's adapter (``libs.common.providers``) has one table from its codes to these classes. It holds for responses
and for later statuses. ``docs/architecture/faults.md`` says what each class means for the message and for others, and
how long it lasts.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, assert_never

from libs.common.events.outbound import RefusalReason

AccountScope = Literal["all", "templates"]
ThrottleScope = Literal["pair", "account"]
RecipientMark = Literal["unreachable", "no_phone", "sms_opted_out", "marketing_limited", "marketing_stopped"]
"""What is stored about a recipient. All but the last are marks on the address.

``marketing_stopped`` is a consent that was withdrawn.
"""


@dataclass(frozen=True, slots=True)
class AccountFault:
    """The account is not in order (payment, lock, token, sender): messages wait until people mend it.

    ``scope``: what it cannot send; everything, where a free-form message met it. ``every_sender``: it holds for all
    senders of the provider's account, else for this sender alone.
    """

    scope: AccountScope = "all"
    every_sender: bool = False


@dataclass(frozen=True, slots=True)
class TemplateGone:
    """This template cannot be sent to any recipient.

    ``status`` is its status from now on, until Meta or the directory reports it approved.
    """

    status: str


@dataclass(frozen=True, slots=True)
class TemplateNeedsSync:
    """The template differs from the stored one, or its parameters do not fit: it is to be read again.

    Other messages with this template go on.
    """


@dataclass(frozen=True, slots=True)
class RecipientFault:
    """A fault of this recipient. The message is decided again, once.

    ``mark`` is stored for ``lasts``. None: for ever, where it is a consent. Without a mark only this message is
    concerned: it cannot go as this template.
    """

    mark: RecipientMark | None = None
    lasts: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ContentFault:
    """A fault of the message itself, which fails with the code.

    What was sent as a template that stands in for a text is decided again: the text may go another way.
    """


@dataclass(frozen=True, slots=True)
class CountryClosed:
    """The account may not send to the recipient's country: people must enable it, or register the sender there.

    The message fails with the code, and nothing more is sent to that country for an hour. ``every_sender``: it holds
    for all senders of the account, else for this sender alone.
    """

    every_sender: bool = True


@dataclass(frozen=True, slots=True)
class TransientFault:
    """A fault of the provider itself.

    In a status the message was certainly not delivered, so it is sent once more. In a response it was perhaps accepted,
    unless ``certain``. ``outage``: the provider says that it serves nobody now. In a response that is as good as
    silence.
    """

    certain: bool = False
    outage: bool = False


@dataclass(frozen=True, slots=True)
class WindowClosed:
    """The customer service window was closed when the message was sent."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """A rate limit, for this customer (``pair``) or for the account: not processed, so it is retried later."""

    scope: ThrottleScope = "account"


@dataclass(frozen=True, slots=True)
class UnknownFault:
    """The code is not in the table.

    In a status the message fails with it, as after a ``ContentFault``. In a response the HTTP status and evidence
    decide.
    """


KnownFault = (
    AccountFault
    | TemplateGone
    | TemplateNeedsSync
    | RecipientFault
    | ContentFault
    | CountryClosed
    | TransientFault
    | WindowClosed
    | Throttled
)
Fault = KnownFault | UnknownFault


def reroute_reason(fault: Fault, *, template: bool) -> RefusalReason | None:  # noqa: PLR0911 -- one return per class
    """Why a message that certainly was not delivered is decided again. None: it fails with the code.

    ``template``: it was sent as a template.
    """
    match fault:
        case WindowClosed():
            return "template_refused" if template else "window_closed"  # a template needs no window
        case TemplateGone():
            return "template_not_approved" if template else None
        case TemplateNeedsSync() | ContentFault() | UnknownFault():
            return "template_refused" if template else None
        case RecipientFault(mark):
            if mark == "unreachable":
                return "unreachable"
            # a customer who can get no template may still get a free-form message
            return "template_refused" if template else None
        case AccountFault():
            return "account"
        case TransientFault():
            return "transient"
        case Throttled():
            return "throttled"
        case CountryClosed():
            return None
        case _:
            assert_never(fault)


def stops_marketing(fault: Fault) -> bool:
    """Whether the provider reports that the customer stopped marketing there."""
    return isinstance(fault, RecipientFault) and fault.mark == "marketing_stopped"
