"""The outcomes of a send: answers of a provider, verdicts of the gate, evidence about lost answers. Pure.

Rule 1: ``RetryLater`` means: certainly not processed. ``Unknown`` means: may have been processed, so only evidence may
        settle it. An answer in doubt is ``Unknown``.
Rule 2: an expected outcome is a value of these unions, never an exception.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, Literal, TypeVar

from libs.common.events.outbound import RefusalReason
from libs.common.providers import Provider
from libs.common.providers.cost import Cost
from libs.common.thread.message_status import PROVIDER_REFUSED

PreparedT = TypeVar("PreparedT")

Scope = Literal["message", "pair", "account", "templates", "provider"]
"""What waits: the message, its conversation, its account, the templates of its account, or all accounts."""


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """How waits grow: ``base``, times ``factor`` with every try in a row, never above ``cap``."""

    base: timedelta
    factor: float
    cap: timedelta


MENDING = BackoffPolicy(timedelta(seconds=10), 1.05, timedelta(minutes=3))
"""The waits between probes of an account that people must mend.

The wait reaches a minute after a quarter of an hour, and the cap after an hour.
"""
UNANSWERED = "unanswered"
"""The reason of a pause for silence. Each try may cost a message a call, so one is made at a time."""
UNANSWERED_READ = "unanswered_read"
"""The same, where the last try was a question of ours, which cost no message a call."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has it. ``account`` scopes ``provider_id`` (phone_number_id at Meta, the account sid at Twilio).

    ``wa_id`` and ``bsuid`` are whom the answer called the recipient, where it did; ``cost`` is what it asks for the
    message, where it said so. They are no part of which send it is.
    """

    account: str
    provider_id: str
    wa_id: str | None = field(default=None, compare=False)
    bsuid: str | None = field(default=None, compare=False)
    cost: Cost | None = field(default=None, compare=False)
    parts: tuple[str, ...] = ()
    """The ids of the other parts, where the provider has one for each part of a long SMS."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Certainly not processed. The same again after ``after``, else after a step of ``policy``.

    ``code`` is the provider's, or a word of ours such as ``never_left``. When it has come ``limit`` times for a
    message, that is refused with the code; with ``reroute`` it goes back to the router for this reason.

    ``fault``: the account is not in order and people must mend it (scopes ``account``, ``templates``, ``provider``). It
    rests, loudly; one call at a time tries it out, an acceptance alone ends it, and no message's tries are used up.
    ``answered``: False where something on the way to the provider said so, such as a proxy; in a row that is as good as
    silence.
    """

    scope: Scope
    policy: BackoffPolicy
    code: str
    after: timedelta | None = None
    limit: int | None = None
    fault: bool = False
    answered: bool = True
    called: bool = True
    """False where the call was not made at all. No try is used up."""
    reroute: RefusalReason | None = None


@dataclass(frozen=True, slots=True)
class Rerouted:
    """Refused in a way that another route may mend: back to the router, which decides again.

    ``refused_at``: from when on the provider's refusal for a closed window counts.
    """

    reason: RefusalReason
    code: str | None = None
    refused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The message is refused for good; it ends as failed with ``reason``.

    ``detail``: more of a reason of ours, for log and record; no values of the message.
    """

    code: str | None
    reason: str = PROVIDER_REFUSED
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been processed: a timeout after the request left, a server error, an answer that says nothing.

    ``answered``: the provider itself has spoken, so it is alive, whatever became of this message.
    """

    code: str
    answered: bool = False


SendOutcome = Accepted | RetryLater | Rerouted | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Allowed(Generic[PreparedT]):
    """The gate lets it pass. ``prepared`` reaches the call; the hashes are stored with the claim."""

    prepared: PreparedT
    link_hash: bytes | None = None
    text_hash: bytes | None = None
    by: tuple[Provider, str] | None = None
    """The provider and its account that the call goes by; None where the sender is the account."""
    last: bool = False
    """No second call is made, because nothing can prove that this one was not taken."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The call was accepted: under these ids (one, or two after a resend)."""

    ids: tuple[Accepted, ...]
    by: tuple[Provider, str] | None = None
    """As of ``Allowed``: the account that accepted it."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The call was refused, and the answer was lost. ``outcome`` is what the answer meant."""

    outcome: Refused | RetryLater


@dataclass(frozen=True, slots=True)
class NotSent:
    """The call was not accepted: the grace is over, and no evidence shows an acceptance."""


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """It is too early to know, or the source of evidence cannot be asked now."""


Evidence = Confirmed | Denied | NotSent | Inconclusive


@dataclass(frozen=True, slots=True)
class NotYet:
    """A row of another release that this one cannot read. It waits for that release until its deadline."""

    code: str


Verdict = Allowed[PreparedT] | Confirmed | Rerouted | Refused | NotYet
"""The gate's verdict on a row: it passes, was accepted already, is rerouted, ends, or is for another release."""


@dataclass(frozen=True, slots=True)
class Timings:
    """The times of a sender.

    ``timeout`` of one call < ``lease`` of a claim < ``grace`` before silence proves anything.
    """

    timeout: timedelta
    lease: timedelta
    grace: timedelta
    blocks: timedelta = timedelta(seconds=60)
    """How long a row may hold back younger ones of its conversation for a reason that does not hold for them."""
    lifetime: timedelta = timedelta(hours=24)
    """The deadline of a command that names none."""
    patience: timedelta = timedelta(hours=1)
    """How long beyond its deadline a send of unknown outcome waits for evidence that cannot be had."""
    poll: timedelta = timedelta(seconds=1)
    """The period of the dispatcher's look for rows that were not woken in memory, and of the sweeper."""
    look: timedelta = timedelta(seconds=30)
    """A send of unknown outcome is looked at this often at least; soon after its call every ``poll``."""
    proof: timedelta = timedelta(seconds=30)
    """How long the status is awaited that ends the pause of an account. Then the next call tries it out."""
