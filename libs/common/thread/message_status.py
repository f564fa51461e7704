"""The status of an outbound message: forward only, ``pending < sent < delivered < read``, or ``failed``.

Rule 1: a message never moves back. ``read`` without ``delivered`` is fine: Meta implies the statuses before it.
Rule 2: a status counts only for the attempt it belongs to. The exception are ``delivered`` and ``read`` of an older
attempt: they prove that the customer has the message.
Rule 3: a message that reached the customer cannot fail any more. Such proof overrules a failure that a provider
reported, and ``unknown_outcome``. A failure that we decided ourselves is overruled by ``read`` alone. The failure's
reason, code and time stay as history.
Rule 4: ``seq`` grows by one with every move, and only then. A repeated or reordered webhook changes nothing.
No I/O, no clock.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from libs.common.faults import Fault
from libs.common.providers import Provider, ProviderChannel, fault_of

Status = Literal["pending", "sent", "delivered", "read", "failed"]
DeliveryStatus = Literal["sent", "delivered", "read"]
INTENT_EXPIRED = "intent_expired"
"""The reason of a failure whose deadline passed before any call."""
PROVIDER_REFUSED = "provider_refused"
"""The reason of a failure that a provider reported."""
UNKNOWN_OUTCOME = "unknown_outcome"
"""The reason of a failure that may be none: no evidence says what became of the call."""
_DISPROVED = frozenset({PROVIDER_REFUSED, UNKNOWN_OUTCOME})
"""The reasons that ``delivered`` disproves."""
_RANK: dict[str, int] = {"pending": 0, "sent": 1, "delivered": 2, "read": 3}


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One status as its provider reported it.

    ``status`` is a word of ours; a word that is no ``DeliveryStatus`` moves no message. ``account`` scopes
    ``provider_id``: phone_number_id at Meta, the account sid at Twilio. ``at`` is the provider's clock.
    """

    channel: ProviderChannel
    provider: Provider
    account: str
    provider_id: str
    status: str
    at: datetime
    code: str | None = None
    callback: str | None = None
    item: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> tuple[str, str, str]:
        return self.provider, self.account, self.provider_id

    @property
    def fault(self) -> Fault:
        """What ``code`` means, by its provider's table."""
        return fault_of(self.provider, self.code)


@dataclass(frozen=True, slots=True)
class MessageState:
    """Where a message stands, with the provider's time of each status."""

    status: Status
    attempt: int
    seq: int = 0
    reason: str | None = None
    provider_code: str | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    failed_at: datetime | None = None

    @property
    def at(self) -> datetime | None:
        """When the present status was reached; None while pending."""
        found: datetime | None = None if self.status == "pending" else getattr(self, f"{self.status}_at")
        return found


@dataclass(frozen=True, slots=True)
class Reached:
    """The provider reports that attempt ``attempt`` has reached ``status``."""

    attempt: int
    status: DeliveryStatus
    at: datetime


@dataclass(frozen=True, slots=True)
class Failed:
    """Attempt ``attempt`` ended: ``reason`` as in the contract, ``code`` the provider's where it has one."""

    attempt: int
    reason: str
    code: str | None
    at: datetime


def advance(state: MessageState, event: Reached | Failed) -> MessageState:
    """The state after ``event``; ``seq`` differs from the state's own only when the message moved."""
    match event:
        case Failed():
            if event.attempt != state.attempt or state.status not in {"pending", "sent"}:
                return state
            return replace(
                state,
                status="failed",
                reason=event.reason,
                provider_code=event.code,
                failed_at=event.at,
                seq=state.seq + 1,
            )
        case Reached():
            proof = event.status != "sent"
            if event.attempt != state.attempt and not (proof and event.attempt < state.attempt):
                return state
            timed = _timed(state, event)
            if state.status == "failed":
                disproved = event.status == "read" or (proof and state.reason in _DISPROVED)
                return replace(timed, status=event.status, seq=state.seq + 1) if disproved else timed
            if _RANK[event.status] <= _RANK[state.status]:
                return timed
            return replace(timed, status=event.status, seq=state.seq + 1)


def _timed(state: MessageState, event: Reached) -> MessageState:
    """The state with the time of the status, where it has none yet."""
    match event.status:
        case "sent":
            return replace(state, sent_at=state.sent_at or event.at)
        case "delivered":
            return replace(state, delivered_at=state.delivered_at or event.at)
        case "read":
            return replace(state, read_at=state.read_at or event.at)
