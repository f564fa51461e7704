"""How a row of ``sends`` moves. Pure: rows in, rows out; ``now`` and chance are arguments.

    pending ──▶ claimed ──▶ accepted | refused | failed
       ▲  │        │ └────▶ unknown ──▶ accepted | failed
       │  └───▶ refused | failed          │
       └───────────┴──────────────────────┘ later; once more after an unknown outcome

Rule 1: a settled row never moves again.
Rule 2: no row waits beyond its deadline, and an unknown outcome is never called expired: it was sent, perhaps.
Rule 3: a row holds back younger ones of its conversation without end only for a reason that holds for them too.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from libs.common.backoff import backoff
from libs.common.send_rows import UNANSWERED, Candidate, Pause, PauseKind, PauseScope, SendRow
from libs.common.sending.outcomes import (
    Absent,
    Accepted,
    Evidence,
    Found,
    Go,
    PreparedT,
    Refused,
    RetryLater,
    Returned,
    SendOutcome,
    Timings,
    Unclear,
    Unknown,
)
from libs.common.sending.rows import Final, Step

Jitter = Callable[[], float]

PROBES = 4
"""How many calls per claim try out whether an account that rested is well again."""
PROBE_GAP = timedelta(milliseconds=500)
"""The next few may try after this, or up to twice as long."""
_LONGEST_GAP = 2 * PROBE_GAP
_FORGOTTEN_AFTER = timedelta(minutes=10)
_SOON = timedelta(milliseconds=1)


@dataclass(slots=True)
class Admission:
    """What the core's own part of the gate says of the rows that are due."""

    judged: list[tuple[SendRow, frozenset[PauseScope]]] = field(default_factory=list)
    """Rows for the carrier's gate, each with the pauses whose end its call would try out."""
    steps: list[Step] = field(default_factory=list)
    probes: dict[tuple[str, PauseScope], int] = field(default_factory=dict)
    """How many calls try out the end of which pause."""


def admit(
    found: Iterable[Candidate],
    now: datetime,
    timings: Timings,
    is_template: Callable[[SendRow], bool],
    ours: Collection[str] = (),
) -> Admission:
    """Expired rows end, rows of resting accounts wait, the others go on to the carrier's gate.

    An account whose pause is over, but which has not proved itself since, gets ``PROBES`` calls; its other rows wait for their outcome.
    One that answered nothing gets one call, from whoever may try it out (``ours``), and first from a row that has another call left.
    """
    admission = Admission()
    for candidate in sorted(found, key=lambda candidate: candidate.row.resends):
        row = candidate.row
        if now >= row.expires_at:
            admission.steps.append(expire(row, now))
            continue
        rests: list[tuple[PauseScope, datetime]] = []
        if candidate.rests_until is not None:
            rests.append(("all", candidate.rests_until))
        if candidate.templates_rest_until is not None and is_template(row):
            rests.append(("templates", candidate.templates_rest_until))
        waits = [(scope, until) for scope, until in rests if until > now]
        over = frozenset(scope for scope, until in rests if until <= now)
        most: dict[PauseScope, int] = {
            "all": int(row.account in ours) if candidate.silent else PROBES,
            "templates": PROBES,
        }
        if not waits and any(admission.probes.get((row.account, scope), 0) >= most[scope] for scope in over):
            waits = [(scope, now + PROBE_GAP) for scope in over]
        if waits:
            until = max(until for _scope, until in waits)
            for_all = any(scope == "all" for scope, _until in waits)
            admission.steps.append(Step(row, later(row, until, now, timings, holds_for_all=for_all)))
            continue
        for scope in over:
            admission.probes[row.account, scope] = admission.probes.get((row.account, scope), 0) + 1
        admission.judged.append((row, over))
    return admission


def claim(row: SendRow, go: Go[PreparedT], claim_id: UUID, now: datetime, timings: Timings) -> SendRow:
    """The row as ours until its lease ends."""
    return replace(
        row,
        state="claimed",
        claim_id=claim_id,
        claimed_at=now,
        lease_until=now + timings.lease,
        tries=row.tries + 1,
        link_hash=go.link_hash,
        text_hash=go.text_hash,
    )


def answer(
    row: SendRow, outcome: SendOutcome, pause: Pause | None, now: datetime, *, timings: Timings, jitter: Jitter
) -> Step:
    """What an answer makes of a claimed row. ``pause`` is the one that the answer caused, for the scopes that cause one."""
    match outcome:
        case Accepted():
            return settle(row, (outcome,), now)
        case Returned() | Refused():
            return settle(row, outcome, now)
        case Unknown():
            return Step(row, unknown(row, outcome.code, now, timings))
        case RetryLater():
            answers = _answers(row, outcome)
            if outcome.limit is not None and answers["times"][outcome.code] >= outcome.limit:
                return settle(row, Refused(outcome.code), now)
            due = pause.until if pause is not None else now + wait(outcome, row.tries, jitter)
            noted = replace(row, outcome=answers)
            return Step(row, later(noted, due, now, timings, holds_for_all=outcome.scope in {"pair", "account"}))


def _answers(row: SendRow, outcome: RetryLater) -> dict[str, Any]:
    """The answer as it is noted, with how often each that has a limit has come: a throttle or an outage uses up nothing of it."""
    noted = {**(row.outcome or {}), "answer": "retry_later", "code": outcome.code}
    if outcome.limit is None:
        return noted
    times: Mapping[str, int] = noted.get("times", {})
    return noted | {"times": {**times, outcome.code: times.get(outcome.code, 0) + 1}}


def wait(outcome: RetryLater, tries: int, jitter: Jitter) -> timedelta:
    """How long to wait after failed try number ``tries``: what the provider said, or a jittered step of the curve."""
    if outcome.after is not None:
        return outcome.after
    curve = outcome.curve
    return backoff(tries, base=curve.base, cap=curve.cap, jitter=jitter, factor=curve.factor)


def later(row: SendRow, due: datetime, now: datetime, timings: Timings, *, holds_for_all: bool) -> SendRow:
    """The row as pending until ``due``, at the latest until its deadline, so that it is looked at then and ends.

    Unless the reason holds for the whole conversation, it holds back younger rows for ``timings.blocks`` in all.
    """
    return replace(
        row,
        state="pending",
        due_at=max(min(due, row.expires_at), now + _SOON),
        blocks_until=row.blocks_until if holds_for_all else row.blocks_until or now + timings.blocks,
        claim_id=None,
        lease_until=None,
    )


def unknown(row: SendRow, code: str, now: datetime, timings: Timings) -> SendRow:
    """The row as one whose outcome nobody knows; evidence is sought at once."""
    return replace(
        row,
        state="unknown",
        due_at=now,
        unknown_since=now,
        blocks_until=row.blocks_until or (row.claimed_at or now) + timings.blocks,
        outcome={**(row.outcome or {}), "answer": "unknown", "code": code},
    )


def weigh(row: SendRow, evidence: Evidence, now: datetime, timings: Timings) -> Step | None:
    """What evidence makes of a row of unknown outcome; None: look again later."""
    match evidence:
        case Found():
            return settle(row, evidence.ids, now)
        case Absent():
            if row.resends == 0 and now < row.expires_at:
                again = replace(row, state="pending", due_at=now, resends=1, claim_id=None, lease_until=None, unknown_since=None)  # fmt: skip
                return Step(row, again)
            return settle(row, Refused(None, "unknown_outcome"), now)
        case Unclear():
            if now - timings.patience >= max(
                row.expires_at, row.unknown_since or now
            ):  # a deadline may be the end of time
                return settle(row, Refused(None, "unknown_outcome"), now)
            return None


def expire(row: SendRow, now: datetime) -> Step:
    """A pending row whose deadline has passed. If it waits to be sent once more, its first call may have been accepted all the same."""
    return settle(row, Refused(None, "unknown_outcome" if row.resends else "intent_expired"), now)


def settle(row: SendRow, final: Final, now: datetime) -> Step:
    """The row at its end. It counts as told until it turns out that there is news."""
    match final:
        case Returned():
            noted = {"answer": "returned", "code": final.code, "reason": final.reason}
            after = replace(row, state="refused", outcome=noted)
        case Refused():
            noted = {"answer": "refused", "code": final.code, "reason": final.reason}
            after = replace(row, state="failed", outcome=noted)
        case _:
            after = replace(row, state="accepted", outcome={"answer": "accepted"})
    return Step(row, replace(after, settled_at=now, told=True), final)


def pauses_after(
    retries: Iterable[tuple[SendRow, frozenset[PauseScope], RetryLater]],
    standing: Mapping[tuple[str, PauseScope], Pause],
    now: datetime,
    jitter: Jitter,
) -> dict[tuple[str, PauseScope], Pause]:
    """The pauses that answers of scope ``account`` and ``templates`` cause, by account and scope. Each comes with what its call probed.

    Many calls are under way when an account is throttled: together they cause one pause. It grows when the account is throttled again
    after its end, and begins anew when that was long ago.
    """
    new: dict[tuple[str, PauseScope], Pause] = {}
    for row, probes, retry in retries:
        scope = pause_scope(retry)
        if scope is None:
            continue
        at = (row.account, scope)
        before = standing.get(at)
        if at in new:
            tries = new[at].tries
        elif before is None or now - before.until > _FORGOTTEN_AFTER:
            tries = 1
        else:
            # probing put off the end of the pause a little; a pause that ends later than that has grown already
            over = max(now, (row.claimed_at or now) + _LONGEST_GAP) if scope in probes else now
            alone = before.reason == UNANSWERED and scope in probes  # no other call tried it out meanwhile
            tries = before.tries + (1 if alone or before.until <= over else 0)
        until = now + wait(retry, tries, jitter)
        known = [pause.until for pause in (new.get(at), before) if pause is not None]
        kind = _kind(retry)
        since = before.since if before is not None and before.kind == kind else now
        new[at] = Pause(row.account, scope, max([until, *known]), tries, retry.code, kind, "answer", since)
    return new


def _kind(retry: RetryLater) -> PauseKind:
    if retry.fault:
        return "fault"
    return "silence" if retry.code == UNANSWERED else "throttle"


def pause_scope(outcome: SendOutcome) -> PauseScope | None:
    """Which pause an answer causes."""
    match outcome:
        case RetryLater(scope="account"):
            return "all"
        case RetryLater(scope="templates"):
            return "templates"
        case _:
            return None


def recovered(row_account: str, probes: Iterable[PauseScope], outcome: SendOutcome) -> set[tuple[str, PauseScope]]:
    """The pauses that this answer of a probe ends. Only an acceptance shows that templates pass again."""
    match outcome:
        case Accepted():
            return {(row_account, scope) for scope in probes}
        case Returned() | Refused():
            return {(row_account, scope) for scope in probes if scope == "all"}
        case RetryLater() | Unknown():
            return set()
