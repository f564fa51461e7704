"""Claiming: due rows pass the gate in one transaction. The gate ends a row, or this process holds its lease.

Rows of a paused account, and rows beyond an account's budget, are not touched. Nor is a row behind an older one of its
conversation. Where a claim meets many such rows, it defers them until the older row moves.
"""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Generic, assert_never
from uuid import uuid4

from libs.common.backoff import backoff
from libs.common.db.pool import Connection
from libs.common.ids import SendKey
from libs.common.sending import conversation_order, pause_queries
from libs.common.sending import queries as sends
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.outcomes import Allowed, Confirmed, NotYet, PreparedT, Refused, Rerouted, Timings
from libs.common.sending.persisting import Persisted, persist
from libs.common.sending.rows import Candidate, Claim, SendRow, Transition, sender_of
from libs.common.sending.transitions import PROBE_GAP, Admission, admit, claim, later, settle

_HELD = 32
"""A claim reads at most so many rows beyond the budget, because some may be held back."""
_MANY_HELD = 16
"""More blocked rows of one account than this are deferred; fewer where they fill the whole scan."""
_ANOTHER_RELEASE = timedelta(seconds=30)
"""When a row that this release cannot read is due again, for any replica."""
_SET_ASIDE = timedelta(seconds=30)
_SET_ASIDE_LONGEST = timedelta(hours=1)


@dataclass(slots=True)
class ClaimRound(Generic[PreparedT]):
    """The result of one claim: the calls to make, the rows that the gate ended, the accounts to claim next and when."""

    claims: list[Claim[PreparedT]]
    applied: Persisted
    more: set[str] = field(default_factory=set)
    waits: list[tuple[datetime, str]] = field(default_factory=list)
    strange: Counter[str] = field(default_factory=Counter)
    """How many rows were left to another release, by the reason."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The due rows to claim: those of ``only`` where it is given, and none of ``but``."""

    but: Collection[SendKey] = ()
    only: Collection[SendKey] | None = None

    def of(self, found: Sequence[Candidate]) -> list[Candidate]:
        return [one for one in found if one.row.key not in self.but and (self.only is None or one.row.key in self.only)]


ALL = Choice()


async def claim_due(
    db: Connection,
    adapter: ProviderAdapter[PreparedT],
    budgets: Mapping[str, int],
    now: datetime,
    timings: Timings,
    *,
    choice: Choice = ALL,
) -> ClaimRound[PreparedT]:
    """Claim due rows of each account up to its budget. Call inside a transaction."""
    scan = _scan(budgets, choice)
    found = choice.of(await sends.candidates(db, adapter.transport, scan, now, timings.blocks))
    if not found:
        return ClaimRound([], Persisted())
    lone = {account for candidate in found for account, _scope in candidate.alone}
    ours = await pause_queries.lock_unresponsive(db, adapter.transport, lone, now) if lone else set()
    admission = admit(found, now, budgets, ours)
    full = _full(found, scan)
    kept = await _defer_blocked(db, adapter, admission, full, now=now, timings=timings)
    verdicts = await adapter.judge(db, [row for row, _ in admission.judged], now) if admission.judged else {}
    claim_id = uuid4()
    claims: list[Claim[PreparedT]] = []
    steps = admission.ended
    strange: Counter[str] = Counter()
    for row, probes in admission.judged:
        verdict = verdicts[row.key]
        match verdict:
            case Allowed():
                row_of_ours = claim(row, verdict, claim_id, now, provider=adapter.transport.provider, timings=timings)
                steps.append(Transition(row, row_of_ours))
                claims.append(Claim(row_of_ours, verdict.prepared, probes))
            case Confirmed():
                steps.append(settle(row, verdict.ids, now))
            case Rerouted() | Refused():
                steps.append(settle(row, verdict, now))
            case NotYet(code):
                waits = later(row, now + _ANOTHER_RELEASE, now, timings, holds_for_all=False)
                steps.append(
                    Transition(row, replace(waits, outcome={**(row.outcome or {}), "answer": "not_yet", "code": code}))
                )
                strange[code] += 1
            case _:
                assert_never(verdict)
    applied = await persist(db, adapter, steps, now)
    round_ = ClaimRound(claims, applied, strange=strange, more=_more(found, budgets, admission, full & kept))
    went = {key for claimed in claims for key in claimed.probes}
    # the next probe waits for these calls; where the gate ended the row of a probe, the account is claimed again at
    # once
    gap = PROBE_GAP * (1 + random.random())  # noqa: S311 -- chance spreads probes, it guards nothing
    for keys, until in ((admission.probes.keys() - ours, now + gap), (went & ours, now + timings.lease)):
        await pause_queries.defer_probe(db, adapter.transport, keys, until, now)
        round_.waits += [(until, sender_of(account)) for account, _scope in keys]
    round_.more |= {row.account for row, probes in admission.judged if probes & (ours - went)}
    return round_


async def due(
    db: Connection,
    adapter: ProviderAdapter[PreparedT],
    budgets: Mapping[str, int],
    now: datetime,
    timings: Timings,
    *,
    choice: Choice = ALL,
) -> list[SendRow]:
    """The rows that ``claim_due`` would claim if the gate let all of them pass."""
    left = Counter(budgets)
    rows = []
    found = await sends.candidates(db, adapter.transport, _scan(budgets, choice), now, timings.blocks)
    for row in sorted((one.row for one in choice.of(found) if not one.held), key=lambda row: row.due_at):
        if left[row.account] > 0:
            left[row.account] -= 1
            rows.append(row)
    return rows


async def postpone(
    db: Connection, adapter: ProviderAdapter[PreparedT], row: SendRow, now: datetime, timings: Timings
) -> Sequence[Transition]:
    """Postpone a row that cannot be claimed, so that the rows behind it can go. Call inside a transaction."""
    return (await persist(db, adapter, [Transition(row, _postponed(row, now, timings))], now)).done


def _scan(budgets: Mapping[str, int], choice: Choice) -> dict[str, int]:
    return {account: budget + min(_HELD, budget // 4) + len(choice.but) for account, budget in budgets.items()}


async def _defer_blocked(
    db: Connection,
    adapter: ProviderAdapter[PreparedT],
    admission: Admission,
    full: set[str],
    *,
    now: datetime,
    timings: Timings,
) -> set[str]:
    """Defer the blocked rows of accounts that have many. Returns the accounts of which some were deferred."""
    used = {row.account for row, _probes in admission.judged}
    kept = set()
    for account, keys in admission.held.items():
        in_the_way = account in full and account not in used  # otherwise an answer leads to another claim soon
        if (len(keys) > _MANY_HELD or in_the_way) and await conversation_order.defer_blocked(
            db, adapter.transport.channel, account, now, timings.blocks
        ):
            kept.add(account)
    return kept


def _full(found: Sequence[Candidate], scan: Mapping[str, int]) -> set[str]:
    """The accounts with a scope whose scan was full, so that it may have more rows."""
    seen = Counter((candidate.row.account, candidate.row.template) for candidate in found)
    return {account for (account, _template), rows in seen.items() if rows >= scan[account]}


def _more(found: Sequence[Candidate], budgets: Mapping[str, int], admission: Admission, cleared: set[str]) -> set[str]:
    """The accounts that may have more due now: they used their budget, or blocked rows were deferred."""
    probed = {candidate.row.account for candidate in found if candidate.over}
    used = Counter(row.account for row, _probes in admission.judged)
    used.update(step.before.account for step in admission.ended)
    return (({a for a in budgets if used[a] >= budgets[a]} | admission.left) - probed) | cleared


def _postponed(row: SendRow, now: datetime, timings: Timings) -> SendRow:
    """The row as pending, to be tried again after a growing wait, at the latest at its deadline."""
    wait = backoff(row.tries + 1, base=_SET_ASIDE, cap=_SET_ASIDE_LONGEST, jitter=random.random, factor=4)
    noted = replace(row, tries=row.tries + 1, outcome={**(row.outcome or {}), "answer": "retry_later", "code": "fault"})
    return later(noted, now + wait, now, timings, holds_for_all=False)
