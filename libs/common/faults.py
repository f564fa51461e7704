"""Whose fault a failure is. Pure.

A provider's adapter (``libs.common.providers``) has one table from its codes to these classes, which holds for answers and for statuses that come
later alike. What a class means for the message, for others and for how long is in ``docs/architecture/faults.md``.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, assert_never

from libs.common.events.outbound import RefusalReason

AccountScope = Literal["all", "templates"]
ThrottleScope = Literal["pair", "account"]
RecipientMark = Literal["unreachable", "no_phone", "sms_opted_out", "marketing_stopped"]
"""What is remembered of a recipient: the first three are marks on the address, ``marketing_stopped`` is a consent that was withdrawn."""


@dataclass(frozen=True, slots=True)
class AccountFault:
    """The account is not in order (payment, lock, token, sender): messages wait until people have mended it.

    ``scope``: what it cannot send. ``every_sender``: no sender of the provider's account can send; else the sender alone cannot.
    """

    scope: AccountScope = "all"
    every_sender: bool = False


@dataclass(frozen=True, slots=True)
class TemplateGone:
    """This template cannot be sent to anybody; ``status`` is its own from now on, until Meta or the directory says approved."""

    status: str


@dataclass(frozen=True, slots=True)
class TemplateNeedsSync:
    """The template is not as we know it, or its parameters do not suit it: it is to be read anew. Others that use it go on."""


@dataclass(frozen=True, slots=True)
class RecipientFault:
    """It lies with this recipient; the message goes another way, once.

    ``mark`` is remembered for ``lasts``: None for ever, where it is a consent. Without a mark only this message is concerned: it cannot go as
    the template that it was.
    """

    mark: RecipientMark | None = None
    lasts: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ContentFault:
    """It lies with the message itself, which fails with the code."""


@dataclass(frozen=True, slots=True)
class TransientFault:
    """The provider had trouble of its own. In a status: certainly not delivered, so once more. In an answer: perhaps accepted, unless ``certain``."""

    certain: bool = False


@dataclass(frozen=True, slots=True)
class WindowClosed:
    """The customer service window was closed when the message was sent."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """Too fast, for this customer (``pair``) or for the whole account: certainly not processed, later again."""

    scope: ThrottleScope = "account"


@dataclass(frozen=True, slots=True)
class UnknownFault:
    """The code is not in the table. In a status the message failed with it; in an answer the HTTP status and evidence decide."""


Fault = (
    AccountFault
    | TemplateGone
    | TemplateNeedsSync
    | RecipientFault
    | ContentFault
    | TransientFault
    | WindowClosed
    | Throttled
    | UnknownFault
)


def way_on(fault: Fault, *, template: bool) -> RefusalReason | None:  # noqa: PLR0911 -- one return per class
    """Why a message that certainly was not delivered is decided again; None where it fails with the code. ``template``: it went as one."""
    match fault:
        case WindowClosed():
            return "template_refused" if template else "window_closed"  # of a template the window is no matter
        case TemplateGone():
            return "template_not_approved" if template else None
        case TemplateNeedsSync():
            return "template_refused" if template else None
        case RecipientFault(mark):
            if mark == "unreachable":
                return "unreachable"
            return (
                "template_refused" if template else None
            )  # whom a template cannot go to may be written to all the same
        case AccountFault():
            return "account"
        case TransientFault():
            return "transient"
        case Throttled():
            return "throttled"
        case ContentFault() | UnknownFault():
            return None
        case _:
            assert_never(fault)


def stops_marketing(fault: Fault) -> bool:
    """Whether the provider says that the customer has switched marketing off there."""
    return isinstance(fault, RecipientFault) and fault.mark == "marketing_stopped"
