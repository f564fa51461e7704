"""What is to be done about a decision of which nothing followed in time. Pure.

Rule 1: a command without a send goes out again as it stands, ever more rarely, until its deadline: whoever has it already changes nothing.
Rule 2: at the deadline it ends, and its place in ``sends`` is taken, so that a command which turns up later sends nothing.
Rule 3: a send that is not settled is its sender's to end. One that still waits a minute after its deadline has no sender, and ends here; one that
        was called is left to evidence, which only its sender finds, for a day and an hour after its deadline. Then it ends as ``unknown_outcome``, and
        so does one that was accepted and of which nothing was heard.
Rule 4: what ended is told, and only then forgotten here.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.thread.message_status import UNKNOWN_OUTCOME

LIFETIME = timedelta(hours=24)
"""How long a command that names no end may wait to become a send."""
HEARD_WITHIN = timedelta(hours=25)
"""A provider tells what became of an accepted send within this time; of SMS the bridge asks for a day before."""
OVERDUE = timedelta(minutes=1)
"""How long beyond its deadline a send that waits is its sender's to end: one at work does so within seconds."""
PATIENCE = timedelta(hours=1)
"""How long beyond its deadline a send that was called may be unsettled before it is looked at again."""

_CALLED = ("claimed", "unknown")

Key = tuple[str, UUID, int]
"""org_id, message_id, attempt"""


class LooseEnd(NamedTuple):
    """A decision, its message and its send as they stand. ``status`` is None where the message is not at this attempt any more; ``state`` where there is no send.

    ``route`` is None of a send that the router did not decide on: somebody else writes commands too. ``holds``: it is a bridge, and has the slot of its conversation. ``account``: what throttles together, as the command names it.
    """

    org_id: str
    message_id: UUID
    attempt: int
    deadline: datetime
    tries: int
    conversation_id: UUID | None
    route: str | None
    channel: str | None
    command: bytes | None
    sequence: int
    account: str | None
    status: str | None
    holds: bool
    state: str | None
    resends: int | None
    settled_at: datetime | None
    expires_at: datetime | None
    outcome: dict[str, Any] | None

    @property
    def key(self) -> Key:
        return self.org_id, self.message_id, self.attempt


@dataclass(frozen=True, slots=True)
class Again:
    """Publish the command once more."""


@dataclass(frozen=True, slots=True)
class End:
    """End the message with this reason. ``send``: it is settled; it is missing, and may not come to exist; or it is not settled, and ends first."""

    reason: str
    code: str | None = None
    send: Literal["settled", "missing", "unsettled"] = "settled"


@dataclass(frozen=True, slots=True)
class Refuse:
    """Its send went back to the router, and nobody decided: do it now."""

    reason: str
    code: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody else has it; look again then."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Over:
    """Nothing is left to do, but to tell how it ended where ``tell`` says so."""

    tell: bool


Course = Again | End | Refuse | Wait | Over


def course(end: LooseEnd, now: datetime) -> Course:
    """What to do about it now."""
    if end.state == "pending" and end.expires_at is not None and now >= end.expires_at + OVERDUE:
        return End(UNKNOWN_OUTCOME if end.resends else "intent_expired", send="unsettled")
    if end.state in _CALLED and end.expires_at is not None and now >= end.expires_at + HEARD_WITHIN:
        return End(UNKNOWN_OUTCOME, send="unsettled")
    if end.status is None:
        return Over(tell=False)
    if end.state is None and (end.status == "pending" or end.holds):
        return End("intent_expired", send="missing") if now >= end.deadline else Again()
    if end.status != "pending":
        return Over(tell=end.status == "failed")
    return _after_its_send(end, now)


def _after_its_send(end: LooseEnd, now: datetime) -> Course:
    """Of a pending message whose send exists."""
    outcome = end.outcome or {}
    reason, code = outcome.get("reason"), outcome.get("code")
    match end.state:
        case "refused" if isinstance(reason, str):
            return Refuse(reason, code)
        case "failed" if isinstance(reason, str):
            return End(reason, code)
        case "accepted" | "refused" | "failed" if end.settled_at is not None:
            heard_until = end.settled_at + HEARD_WITHIN
            return Wait(heard_until) if now < heard_until else End(UNKNOWN_OUTCOME)
        case "pending":
            return Wait(max(end.expires_at or now, now) + OVERDUE)
        case _:
            return Wait(max(end.expires_at or now, now) + PATIENCE)
