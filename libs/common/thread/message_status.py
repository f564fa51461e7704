"""The status of an outbound message: forward only, ``pending < sent < delivered < read``, or ``failed``.

Rule 1: a message never moves back. ``read`` without ``delivered`` is fine: Meta implies the statuses before it.
Rule 2: a status counts only for the attempt it belongs to. The exceptions are ``delivered`` and ``read`` of an older
attempt: they prove that the customer has the message.
Rule 3: a message that reached the customer cannot fail any more. Such proof overrules a failure that a provider
reported, and ``unknown_outcome``. A failure that we decided ourselves is overruled by ``read`` alone. The failure's
reason, code and time stay as history.
Rule 4: ``seq`` grows by one with every move, and only then. A repeated or reordered webhook changes nothing.
No I/O, no clock.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from libs.common.faults import Fault
from libs.common.providers import Provider, ProviderChannel, fault_of

Status = Literal["pending", "sent", "delivered", "read", "failed"]
DeliveryStatus = Literal["sent", "delivered", "read"]
DELIVERY_STATUSES: Final = frozenset[str](get_args(DeliveryStatus))
INTENT_EXPIRED = "intent_expired"
"""The reason of a failure whose deadline passed before any call."""
PROVIDER_REFUSED = "provider_refused"
"""The reason of a failure that a provider reported."""
UNKNOWN_OUTCOME = "unknown_outcome"
"""The reason of a failure that may be none: no evidence says what became of the call."""
_DISPROVED = frozenset({PROVIDER_REFUSED, UNKNOWN_OUTCOME})
"""The reasons that ``delivered`` disproves."""
ECHO = 0
"""The attempt of a message that staff wrote in the WhatsApp Business app: it is none of ours."""
_RANK: dict[str, int] = {"pending": 0, "sent": 1, "delivered": 2, "read": 3}


class ProviderStatus(NamedTuple):
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
    item: Mapping[str, Any] = {}

    @property
    def id(self) -> tuple[str, str, str]:
        return self[1:4]

    @property
    def order(self) -> tuple[datetime, int]:
        """Statuses of one message in this order move it forward. A failure comes after what was reached.

        Meta's times are whole seconds, so several of one message may be equal.
        """
        return self.at, _RANK.get(self.status, len(_RANK))

    @property
    def fault(self) -> Fault:
        """What ``code`` means, by its provider's table."""
        return fault_of(self.provider, self.code)


class MessageState(NamedTuple):
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
        if self.status == "pending":
            return None
        _, _, _, _, _, sent_at, delivered_at, read_at, failed_at = self
        return {"sent": sent_at, "delivered": delivered_at, "read": read_at, "failed": failed_at}[self.status]


class Reached(NamedTuple):
    """The provider reports that attempt ``attempt`` has reached ``status``."""

    attempt: int
    status: DeliveryStatus
    at: datetime


class Failed(NamedTuple):
    """Attempt ``attempt`` ended: ``reason`` as in the contract, ``code`` the provider's where it has one."""

    attempt: int
    reason: str
    code: str | None
    at: datetime


def advance(state: MessageState, event: Reached | Failed) -> MessageState:
    """The state after ``event``: ``state`` itself where nothing changes. ``seq`` grows only when the message moves."""
    if isinstance(event, Failed):
        if event.attempt != state.attempt or state.status not in {"pending", "sent"}:
            return state
        return state._replace(
            status="failed", reason=event.reason, provider_code=event.code, failed_at=event.at, seq=state.seq + 1
        )
    _, attempt, seq, reason, code, sent_at, delivered_at, read_at, failed_at = state
    status, proof = event.status, event.status != "sent"
    if event.attempt != attempt and not (proof and event.attempt < attempt):
        return state
    if state.status == "failed":
        moves = status == "read" or (proof and reason in _DISPROVED)
    else:
        moves = _RANK[status] > _RANK[state.status]
    times = {"sent": sent_at, "delivered": delivered_at, "read": read_at}
    if not moves and times[status] is not None:
        return state
    times[status] = event.at
    return MessageState(
        status if moves else state.status,
        attempt,
        seq + 1 if moves else seq,
        reason,
        code,
        times["sent"],
        times["delivered"],
        times["read"],
        failed_at,
    )
