"""Rows, claims, ends and news: what a carrier and the core hand each other. Pure data."""

from dataclasses import dataclass, field
from typing import Generic
from uuid import UUID

from libs.common.events.outbound import DeliveryUpdate, OutboundRefused
from libs.common.send_rows import Candidate, Key, NewSend, Pause, PauseKey, PauseScope, ProviderName, SendRow, State
from libs.common.sending.outcomes import Accepted, PreparedT, Refused, Returned

__all__ = [
    "Candidate",
    "Claim",
    "Final",
    "Key",
    "NewSend",
    "News",
    "Pause",
    "PauseKey",
    "PauseScope",
    "ProviderName",
    "SendRow",
    "Settled",
    "State",
    "Step",
]


@dataclass(frozen=True, slots=True)
class Claim(Generic[PreparedT]):
    """A row that is ours to send until its lease ends; ``prepared`` is what the carrier's gate handed over.

    ``probes`` are the pauses whose end this call tries out.
    """

    row: SendRow
    prepared: PreparedT
    probes: frozenset[PauseKey] = frozenset()


Final = tuple[Accepted, ...] | Returned | Refused
"""How a send ended: accepted under these ids, back to the router, or failed."""


@dataclass(frozen=True, slots=True)
class Step:
    """A row before and after. It is written only where the row still stands as ``before``: same state, same claim.

    ``final`` says how the send ended, when it did.
    """

    before: SendRow
    after: SendRow
    final: Final | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A row that ends in this transaction, and how. ``row.link_hash`` and ``row.text_hash`` are those of its latest send."""

    row: SendRow
    final: Final


@dataclass(slots=True)
class News:
    """What a transaction gives to tell about one row once it is committed.

    ``rungs`` are the messages whose newest rung is to be told should the first telling be lost; the message itself counts always.
    """

    updates: list[DeliveryUpdate] = field(default_factory=list)
    refusals: list[OutboundRefused] = field(default_factory=list)
    rungs: set[UUID] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.updates or self.refusals)
