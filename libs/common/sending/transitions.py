"""How a row of ``sends`` moves. Pure: rows in, rows out; ``now`` and chance are arguments.

    pending ──▶ claimed ──▶ accepted | rerouted | failed
       ▲  │        │ └────▶ unknown ──▶ accepted | failed
       │  └───▶ rerouted | failed         │
       └───────────┴──────────────────────┘ later; once more after an unknown outcome

Rule 1: a settled row never moves again.
Rule 2: no row waits beyond its deadline, and an unknown outcome never expires, because it may have been sent.
Rule 3: a row holds back younger ones of its conversation without end only for a reason that holds for them too.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from libs.common.backoff import backoff
from libs.common.providers import Provider
from libs.common.sending.outcomes import (
    UNANSWERED,
    UNANSWERED_READ,
    Accepted,
    Allowed,
    Confirmed,
    Denied,
    Evidence,
    Inconclusive,
    NotSent,
    PreparedT,
    Refused,
    Rerouted,
    RetryLater,
    SendOutcome,
    Timings,
    Unknown,
)
from libs.common.sending.rows import (
    Pause,
    PauseKey,
    PauseKind,
    Result,
    SendRow,
    State,
    Transition,
)
from libs.common.thread.message_status import INTENT_EXPIRED, UNKNOWN_OUTCOME

Jitter = Callable[[], float]

PROBE_GAP = timedelta(milliseconds=500)
"""The wait before the next probes: this long, up to twice as long."""
_LONGEST_GAP = 2 * PROBE_GAP
_FORGOTTEN_AFTER = timedelta(minutes=10)
_SOON = timedelta(milliseconds=1)


def claim(
    row: SendRow, go: Allowed[PreparedT], claim_id: UUID, now: datetime, *, provider: Provider, timings: Timings
) -> SendRow:
    """The row as claimed by this process until its lease ends, with the provider and account that take it."""
    return row._replace(
        state="claimed",
        provider=go.by[0] if go.by else provider,
        provider_account=go.by[1] if go.by else None,
        claim_id=claim_id,
        claimed_at=now,
        lease_until=now + timings.lease,
        tries=row.tries + 1,
        link_hash=go.link_hash,
        text_hash=go.text_hash,
    )


def answer(row: SendRow, outcome: SendOutcome, now: datetime, *, timings: Timings, jitter: Jitter) -> Transition:
    """The transition that an answer makes of a claimed row. Where the account is paused, the row keeps its place."""
    match outcome:
        case Accepted():
            return settle(row, (outcome,), now)
        case Rerouted() | Refused():
            return settle(row, outcome, now)
        case Unknown():
            return Transition(row, unknown(row, outcome.code, now, timings))
        case RetryLater():
            answers = _answers(row, outcome)
            if outcome.limit is not None and answers["times"][outcome.code] >= outcome.limit:
                return settle(row, _at_the_limit(outcome), now)
            noted = row._replace(outcome=answers, tries=row.tries - int(outcome.fault or not outcome.called))
            if pause_key(row, outcome) is None:
                due = now + wait(outcome, row.tries, jitter)
                return Transition(row, later(noted, due, now, timings, holds_for_all=outcome.scope == "pair"))
            return Transition(row, _as_before(noted, now, timings, holds_for_all=outcome.scope != "templates"))


def _at_the_limit(outcome: RetryLater) -> Refused | Rerouted:
    return Refused(outcome.code) if outcome.reroute is None else Rerouted(outcome.reroute, outcome.code)


def _answers(row: SendRow, outcome: RetryLater) -> dict[str, Any]:
    """The answer as it is stored, with how often each answer with a limit has come.

    ``refused_calls``: how many calls the provider refused. Their records are not taken for those of a later call.
    """
    noted = {**(row.outcome or {}), "answer": "retry_later", "code": outcome.code}
    if outcome.fault or outcome.limit is not None:
        noted["refused_calls"] = noted.get("refused_calls", 0) + 1
    if outcome.limit is None:
        return noted
    times: Mapping[str, int] = noted.get("times", {})
    return noted | {"times": {**times, outcome.code: times.get(outcome.code, 0) + 1}}


def wait(outcome: RetryLater, tries: int, jitter: Jitter) -> timedelta:
    """How long to wait after failed try number ``tries``: what the provider said, or a jittered step of the policy."""
    if outcome.after is not None:
        return outcome.after
    policy = outcome.policy
    return backoff(tries, base=policy.base, cap=policy.cap, jitter=jitter, factor=policy.factor)


def later(row: SendRow, due: datetime, now: datetime, timings: Timings, *, holds_for_all: bool) -> SendRow:
    """The row as pending until ``due``, at the latest until its deadline, so that it is looked at then and ends.

    Unless the reason holds for the whole conversation, it holds back younger rows for ``timings.blocks`` in all.
    """
    waiting = row._replace(due_at=max(min(due, row.expires_at), now + _SOON))
    return _as_before(waiting, now, timings, holds_for_all=holds_for_all)


def _as_before(row: SendRow, now: datetime, timings: Timings, *, holds_for_all: bool) -> SendRow:
    return row._replace(
        state="pending",
        blocks_order_until=row.blocks_order_until if holds_for_all else row.blocks_order_until or now + timings.blocks,
        claim_id=None,
        lease_until=None,
    )


def unknown(row: SendRow, code: str, now: datetime, timings: Timings) -> SendRow:
    """The row with an unknown outcome. Evidence is sought at once."""
    return row._replace(
        state="unknown",
        due_at=now,
        unknown_since=now,
        blocks_order_until=row.blocks_order_until or (row.claimed_at or now) + timings.blocks,
        outcome={**(row.outcome or {}), "answer": "unknown", "code": code},
    )


def abandoned(row: SendRow, now: datetime, timings: Timings) -> SendRow:
    """The row of a claim whose process is gone. What that had not called yet is due again."""
    noted = dict(row.outcome or {})
    if row.claim_id is not None and noted.pop("asks", None) == str(row.claim_id):
        return _as_before_its_call(row)._replace(due_at=now, tries=row.tries - 1, outcome=noted)
    return unknown(row, "lease_ended", now, timings)


def resolve(row: SendRow, evidence: Evidence, now: datetime, timings: Timings) -> Transition | None:
    """The transition that evidence makes of a row of unknown outcome. None: look again later."""
    match evidence:
        case Confirmed():
            return settle(row, evidence.ids, now)
        case Denied():
            return _denied(row, evidence.outcome, now)
        case NotSent():
            if row.resends == 0 and now < row.expires_at:
                return Transition(row, _as_before_its_call(row)._replace(due_at=now, resends=1))
            return settle(row, Refused(None, UNKNOWN_OUTCOME), now)
        case Inconclusive():
            if now - timings.patience >= max(
                row.expires_at, row.unknown_since or now
            ):  # a deadline may be the end of time
                return settle(row, Refused(None, UNKNOWN_OUTCOME), now)
            return None


def _denied(row: SendRow, outcome: Refused | RetryLater, now: datetime) -> Transition:
    """The call was refused for good, or certainly not processed. In the second case the row is sent again."""
    match outcome:
        case Refused():
            return settle(row, outcome, now)
        case RetryLater():
            again = _as_before_its_call(row)._replace(outcome=_answers(row, outcome))
            return Transition(row, again._replace(due_at=min(now + outcome.policy.base, row.expires_at)))


def _as_before_its_call(row: SendRow) -> SendRow:
    return row._replace(state="pending", claim_id=None, lease_until=None, unknown_since=None)


def expire(row: SendRow, now: datetime) -> Transition:
    """A pending row whose deadline has passed.

    If it waits to be sent once more, its first call may have been accepted all the same.
    """
    return settle(row, Refused(None, UNKNOWN_OUTCOME if row.resends else INTENT_EXPIRED), now)


def settle(row: SendRow, final: Result, now: datetime) -> Transition:
    """The row at its end. It counts as published until it has events."""
    state: State
    noted: dict[str, Any]
    match final:
        case Rerouted():
            state, noted = "rerouted", {"answer": "rerouted", "code": final.code, "reason": final.reason}
        case Refused():
            state, noted = "failed", {"answer": "refused", "code": final.code, "reason": final.reason}
            noted |= {} if final.detail is None else {"detail": final.detail}
        case _:
            state, noted = "accepted", {"answer": "accepted"}
    return Transition(row, row._replace(state=state, outcome=noted, settled_at=now, published=True), final)


def pauses_after(
    retries: Iterable[tuple[SendRow, frozenset[PauseKey], RetryLater]],
    standing: Mapping[PauseKey, Pause],
    now: datetime,
    jitter: Jitter,
) -> dict[PauseKey, Pause]:
    """The pauses that these answers cause. Each answer comes with the pauses that its call probed.

    Many calls are in flight when an account is throttled: together they cause one pause. The pause grows when the
    account is throttled again after its end, and starts small when that was long ago. After a single probe the next one
    may go at the end of the pause, not at the end of the probe's lease.
    """
    new: dict[PauseKey, Pause] = {}
    for row, probes, retry in retries:
        at = pause_key(row, retry)
        if at is None:
            continue
        before = standing.get(at)
        alone = before is not None and before.kind != "throttle" and at in probes  # no other call probed it meanwhile
        if at in new:
            tries = new[at].tries
        elif before is None or now - before.until > _FORGOTTEN_AFTER:
            tries = 1
        else:
            # a probe moved the end of the pause a little; a pause that ends later than that has grown already
            over = max(now, (row.claimed_at or now) + _LONGEST_GAP) if at in probes else now
            tries = before.tries + (1 if alone or before.until <= over else 0)
        until = now + wait(retry, tries, jitter)
        # the end of a pause that this call alone probed was moved for it until now
        known = [pause.until for pause in (new.get(at), None if alone else before) if pause is not None]
        kind = _kind(retry)
        since = before.since if before is not None and before.kind == kind else now
        new[at] = Pause(*at, max([until, *known]), tries, retry.code, kind, "answer", since)
    return new


def _kind(retry: RetryLater) -> PauseKind:
    if retry.fault:
        return "fault"
    return "silence" if retry.code in {UNANSWERED, UNANSWERED_READ} else "throttle"


def pause_key(row: SendRow, outcome: SendOutcome) -> PauseKey | None:
    """Which pause an answer causes."""
    match outcome:
        case RetryLater(scope="account"):
            return row.paused_as, "all"
        case RetryLater(scope="templates"):
            return row.paused_as, "templates"
        case RetryLater(scope="provider"):
            return row.every_sender, "all"
        case _:
            return None


@dataclass(slots=True)
class Recovery:
    """What the answers to probes say of the probed pauses."""

    over: set[PauseKey] = field(default_factory=set)
    """These end."""
    again: set[PauseKey] = field(default_factory=set)
    """These stand: the answer says nothing of them, and the next call may probe."""
    unproved: set[PauseKey] = field(default_factory=set)
    """These stand until a status proves that the call went through."""

    def hear(self, probes: Iterable[PauseKey], outcome: SendOutcome, standing: Mapping[PauseKey, Pause]) -> None:
        """Take in the answer of a call that probed these.

        Only an acceptance shows that templates pass again, or that a fault is mended.
        """
        for key in probes:
            pause = standing.get(key)
            fault = pause is not None and pause.kind == "fault"
            match outcome:
                case Accepted() if fault and pause is not None and pause.proof == "status":
                    self.unproved.add(key)
                case Accepted():
                    self.over.add(key)
                case Rerouted() | Refused() if fault:
                    self.again.add(key)
                case Rerouted() | Refused() if key[1] == "all":
                    self.over.add(key)
                case Unknown(answered=True) if pause is not None and pause.kind == "silence":
                    self.again.add(key)  # it may be one template's error, or an outage
                case _:
                    continue
