"""The next step for a decision whose command, send or status is overdue. Pure.

Rule 1: a command without a send is published again as recorded, after growing waits, until its deadline. A sender that
has it already ignores it.
Rule 2: at the deadline the message fails, and its place in ``sends`` is taken. A command that arrives later sends
nothing.
Rule 3: a send that is not settled is its sender's to end. One that still waits a minute after its deadline has no
        sender, and is ended here. One that was called is left to evidence, which only its sender finds, for 25 hours
        after its deadline. Then it fails as ``unknown_outcome``, and so does a send that was accepted and of which no
        status arrived.
Rule 4: a failure is published before the row that led to it is deleted.
Rule 5: an SMS that ends here without a call is not bought. It gives back what it takes of its organisation's day.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from pydantic import ValidationError

from libs.common.events.outbound import SmsCommand
from libs.common.ids import AttemptKey
from libs.common.sms_policy import Taken
from libs.common.thread.message_status import INTENT_EXPIRED, UNKNOWN_OUTCOME

LIFETIME = timedelta(hours=24)
"""How long a command without ``expires_at`` may wait to become a send."""
HEARD_WITHIN = timedelta(hours=25)
"""A provider reports what became of an accepted send within this time; for SMS the bridge asks for a day before."""
OVERDUE = timedelta(minutes=1)
"""How long after its deadline a waiting send is its sender's to end. A running sender does so within seconds."""
PATIENCE = timedelta(hours=1)
"""How long after its deadline a send that was called may be unsettled before it is looked at again."""

_CALLED = ("claimed", "unknown")


class StaleAttempt(NamedTuple):
    """A decision, its message and its send as they stand.

    ``status``: None where the message is at another attempt by now. ``state``: None where there is no send. ``route``:
    None of a send that the router did not decide; other producers write commands too. ``holds``: a bridge that has the
    slot of its conversation. ``account``: what throttles together, as the command names it.
    """

    org_id: str
    message_id: UUID
    attempt: int
    deadline: datetime
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
    def key(self) -> AttemptKey:
        return self.org_id, self.message_id, self.attempt


@dataclass(frozen=True, slots=True)
class Republish:
    """Publish the command again."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Fail the message with this reason.

    ``send``: settled; missing, so that its place is taken first; or unsettled, so that it is ended first.
    """

    reason: str
    code: str | None = None
    send: Literal["settled", "missing", "unsettled"] = "settled"


@dataclass(frozen=True, slots=True)
class DecideAgain:
    """Its send went back to the router, and no decision followed: decide now."""

    reason: str
    code: str | None


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Its sender or its provider is at work. Look again at this time."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do. ``publish``: except to publish the message's status."""

    publish: bool


NextStep = Republish | Fail | DecideAgain | WaitUntil | Done


def next_step(stale: StaleAttempt, now: datetime) -> NextStep:
    if stale.state == "pending" and stale.expires_at is not None and now >= stale.expires_at + OVERDUE:
        return Fail(UNKNOWN_OUTCOME if stale.resends else INTENT_EXPIRED, send="unsettled")
    if stale.state in _CALLED and stale.expires_at is not None and now >= stale.expires_at + HEARD_WITHIN:
        return Fail(UNKNOWN_OUTCOME, send="unsettled")
    if stale.status is None:
        return Done(publish=False)
    if stale.state is None and (stale.status == "pending" or stale.holds):
        return Fail(INTENT_EXPIRED, send="missing") if now >= stale.deadline else Republish()
    if stale.status != "pending":
        return Done(publish=stale.status == "failed")
    return _after_its_send(stale, now)


def taken_by(stale: StaleAttempt, claimed_at: datetime | None) -> Taken | None:
    """What an SMS takes of its organisation's day; None where nothing was counted.

    It is counted on the day of its latest claim (``claimed_at``), else on that of its decision.
    """
    if stale.channel != "sms" or stale.command is None:
        return None
    try:
        command = SmsCommand.model_validate_json(stale.command)
    except ValidationError:  # a later release wrote it
        return None
    day = command.day if claimed_at is None else claimed_at.date()
    bridges = 1 if command.route == "bridge" else 0
    return None if day is None else Taken(stale.org_id, day, command.segments, bridges)


def _after_its_send(stale: StaleAttempt, now: datetime) -> NextStep:
    """The next step for a pending message whose send exists."""
    outcome = stale.outcome or {}
    reason, code = outcome.get("reason"), outcome.get("code")
    match stale.state:
        case "rerouted" if isinstance(reason, str):
            return DecideAgain(reason, code)
        case "failed" if isinstance(reason, str):
            return Fail(reason, code)
        case "accepted" | "rerouted" | "failed" if stale.settled_at is not None:
            heard_until = stale.settled_at + HEARD_WITHIN
            return WaitUntil(heard_until) if now < heard_until else Fail(UNKNOWN_OUTCOME)
        case "pending":
            return WaitUntil(max(stale.expires_at or now, now) + OVERDUE)
        case _:
            return WaitUntil(max(stale.expires_at or now, now) + PATIENCE)
