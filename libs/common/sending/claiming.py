"""Claiming: due rows pass the gate in one transaction. The gate ends a row, or this process holds its lease.

A row that waits for nothing is claimed in the transaction that stores it (``claim_new``). All others are stored as
pending, and ``claim_due`` takes them when they are due. Both ask the same gate by the same rules.

Rows of a paused account, and rows beyond an account's budget, are not touched. Nor is a row behind an older one of its
conversation that another claim has. Where a claim meets many such rows, it defers them until the older row moves. Rows
of one conversation that wait for each other alone are claimed together, up to ``RUN``, also as they are stored. Each
call waits for the acceptance of the one before.
"""

import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Generic, assert_never
from uuid import UUID, uuid4

from libs.common.backoff import backoff
from libs.common.db.pool import Connection
from libs.common.ids import SendKey
from libs.common.sending import claim_queries, conversation_order, pause_queries, unanswered_calls
from libs.common.sending import queries as sends
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.admission import Admission, admit
from libs.common.sending.breaker import asks_first
from libs.common.sending.outcomes import Allowed, Confirmed, NotYet, PreparedT, Refused, Rerouted, Timings
from libs.common.sending.persisting import Persisted, persist
from libs.common.sending.rows import (
    RUN,
    Candidate,
    Claim,
    NewSend,
    Pause,
    PauseKey,
    SendRow,
    Transition,
    sender_of,
)
from libs.common.sending.transitions import PROBE_GAP, claim, later, settle

_HELD = 32
"""A claim reads at most so many rows beyond the budget, because some may be held back."""
_MANY_HELD = 2 * RUN
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
    held: set[str] = field(default_factory=set)
    """Accounts with rows behind an older one of their conversation."""
    strange: Counter[str] = field(default_factory=Counter)
    """How many rows were left to another release, by the reason."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The due rows to claim: those of ``only`` where it is given, and none of ``but``."""

    but: Collection[SendKey] = ()
    only: Collection[SendKey] | None = None

    def of(self, found: Sequence[Candidate]) -> list[Candidate]:
        return [one for one in found if one.row.key not in self.but and (self.only is None or one.row.key in self.only)]


async def claim_due(
    db: Connection,
    adapter: ProviderAdapter[PreparedT],
    budgets: Mapping[str, int],
    now: datetime,
    timings: Timings,
    *,
    choice: Choice,
    called: Collection[str],
) -> ClaimRound[PreparedT]:
    """Claim due rows of each account up to its budget. Call inside a transaction.

    ``called``: accounts of which this process has open claims. An answer leads to their next claim soon.
    """
    scan = _scan(budgets, choice)
    found = choice.of(await sends.candidates(db, adapter.transport, scan, now, timings.blocks))
    if not found:
        return ClaimRound([], Persisted())
    lone = {account for candidate in found for account, _scope in candidate.alone}
    ours = await pause_queries.lock_unresponsive(db, adapter.transport, lone, now) if lone else {}
    admission = admit(found, now, budgets, ours)
    full = _full(found, scan)
    judged = await _judge(db, adapter, admission, now, timings, ours=ours)
    claims = judged.claims
    applied = await persist(db, adapter, admission.ended + judged.steps, now)
    await _open(db, adapter, claims, now + timings.lease)
    # after the claims are written, so that no row of theirs is deferred as well
    kept = await _defer_blocked(db, adapter, admission, full - {*called}, now=now, timings=timings)
    round_ = ClaimRound(claims, applied, strange=judged.strange, more=_more(found, budgets, admission, full & kept))
    round_.held = set(admission.held)
    went = {key for claimed in claims for key in claimed.probes}
    # the next probe waits for these calls; where the gate ended the row of a probe, the account is claimed again at
    # once
    gap = PROBE_GAP * (1 + random.random())  # noqa: S311 -- chance spreads probes, it guards nothing
    for keys, until in ((admission.probes.keys() - ours, now + gap), (went & ours.keys(), now + timings.lease)):
        await pause_queries.defer_probe(db, adapter.transport, keys, until, now)
        round_.waits += [(until, sender_of(account)) for account, _scope in keys]
    round_.more |= {row.account for row, probes in admission.judged if probes & (ours.keys() - went)}
    return round_


async def claim_new(
    db: Connection,
    adapter: ProviderAdapter[PreparedT],
    commands: Sequence[NewSend],
    budgets: Mapping[str, int],
    now: datetime,
    *,
    timings: Timings,
) -> list[Claim[PreparedT]]:
    """Store commands as rows, as claimed where they wait for nothing and the gate lets them pass at once.

    Of each conversation up to ``RUN`` rows are claimed, of each account as many as its budget says. All others are
    stored as pending, also those that the gate would end, and those behind them. Call inside a transaction; an error
    leaves nothing stored. Raises ``Moved``.

    Here the gate takes its locks before the rows are there. Only the insert of the same command elsewhere is waited
    for after that, and whoever inserts has taken these locks already.
    """
    deadline = now + timings.lifetime
    free = await sends.free_to_go(db, adapter.transport, commands, budgets, now, holds=timings.blocks)
    found = [
        Candidate(command.row(conversation_id, now, deadline), command.sequence, behind)
        for command, conversation_id, behind in free
    ]
    going = [one for one in found if one.row.due_at <= now < one.row.expires_at]
    judged = await _judge(db, adapter, admit(going, now, budgets), now, timings, ours={}, stored=False)
    claims = {one.row.key: one.row for one in judged.claims}
    channel = adapter.transport.channel
    stored = await sends.store(db, channel, commands, now, deadline, claimed=claims)
    if any(stored.get(key) != row.conversation_id for key, row in claims.items()):
        raise Moved
    await _open(db, adapter, judged.claims, now + timings.lease)
    return judged.claims


class Moved(Exception):  # noqa: N818 -- what happened, not a fault
    """Another transaction has stored one of the commands meanwhile, or has merged its conversation."""


@dataclass(slots=True)
class _Judged(Generic[PreparedT]):
    """What the gate says of the rows that were admitted, and the steps that follow."""

    claims: list[Claim[PreparedT]] = field(default_factory=list)
    steps: list[Transition] = field(default_factory=list)
    strange: Counter[str] = field(default_factory=Counter)


async def _judge(
    db: Connection,
    adapter: ProviderAdapter[PreparedT],
    admission: Admission,
    now: datetime,
    timings: Timings,
    *,
    ours: Mapping[PauseKey, Pause],
    stored: bool = True,
) -> _Judged[PreparedT]:
    """Ask the gate. ``stored``: the rows are in the table, so a row that it ends does so in this transaction.

    Then the rows behind it may go. ``ours``: the pauses that this process alone probes.
    """
    rows = [row for row, _ in admission.judged]
    verdicts = await adapter.judge(db, rows, now, stored=stored) if rows else {}
    claim_id = uuid4()
    judged = _Judged[PreparedT]()
    latest: dict[tuple[str, UUID], SendKey | None] = {}
    """The latest claim of each conversation; None where a row waits, and those behind it with it."""
    for row, probes in admission.judged:
        conversation = row.org_id, row.conversation_id
        before = latest.get(conversation) if row.key in admission.followers else None
        if row.key in admission.followers and conversation in latest and before is None:
            continue
        verdict = verdicts[row.key]
        match verdict:
            case Allowed():
                row_of_ours = claim(row, verdict, claim_id, now, provider=adapter.transport.provider, timings=timings)
                judged.steps.append(Transition(row, row_of_ours))
                last = bool(row.resends) or verdict.last
                judged.claims.append(Claim(row_of_ours, verdict.prepared, probes, before, last))
                latest[conversation] = row.key
            case Confirmed() | Rerouted() | Refused() if not stored:
                latest[conversation] = None
            case Confirmed(ids, by):
                provider, account = by or (adapter.transport.provider, None)
                judged.steps.append(settle(row._replace(provider=provider, provider_account=account), ids, now))
            case Rerouted() | Refused():
                judged.steps.append(settle(row, verdict, now))
            case NotYet(code):
                waits = later(row, now + _ANOTHER_RELEASE, now, timings, holds_for_all=False)
                judged.steps.append(
                    Transition(row, waits._replace(outcome={**(row.outcome or {}), "answer": "not_yet", "code": code}))
                )
                judged.strange[code] += 1
                latest[conversation] = None
            case _:
                assert_never(verdict)
    if any(one.last or one.probes & ours.keys() for one in judged.claims):
        unanswered = await unanswered_calls.accounts(db, adapter.transport.channel)
        judged.claims = [replace(one, asks=asks_first(one, ours, unanswered, now)) for one in judged.claims]
    return judged


async def _open(
    db: Connection, adapter: ProviderAdapter[PreparedT], claims: Sequence[Claim[PreparedT]], until: datetime
) -> None:
    """Store what this claim has taken."""
    if claims and (claim_id := claims[0].row.claim_id) is not None:
        await claim_queries.open_claim(db, adapter.transport.channel, claim_id, [one.row for one in claims], until)


async def due(
    db: Connection,
    adapter: ProviderAdapter[PreparedT],
    budgets: Mapping[str, int],
    now: datetime,
    timings: Timings,
    *,
    choice: Choice,
) -> list[SendRow]:
    """The rows that ``claim_due`` would claim if the gate let all of them pass."""
    left = Counter(budgets)
    rows = []
    found = await sends.candidates(db, adapter.transport, _scan(budgets, choice), now, timings.blocks)
    for row in sorted((one.row for one in choice.of(found) if not one.behind), key=lambda row: row.due_at):
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
    many = {
        account
        for account, keys in admission.held.items()
        if len(keys) > _MANY_HELD or (account in full and account not in used)  # else an answer leads to a claim soon
    }
    return {*await conversation_order.defer_blocked(db, adapter.transport.channel, many, now, timings.blocks)}


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
    noted = row._replace(tries=row.tries + 1, outcome={**(row.outcome or {}), "answer": "retry_later", "code": "fault"})
    return later(noted, now + wait, now, timings, holds_for_all=False)
