"""The recorder writes the answers that came during its last transaction together, and a lone answer at once.

Answers wait while the database is slow or away. Their claims are bounded (``turns``), and their leases are extended.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, assert_never
from uuid import UUID

from libs.common.backoff import backoff
from libs.common.bisection import Bisection, Faulty, Passed, TooSlow
from libs.common.clock import Clock
from libs.common.db.pool import Connection, Pool
from libs.common.ids import SendKey
from libs.common.logging import get_logger
from libs.common.periodic import StallDetector, log_set_aside, log_trouble
from libs.common.sending import claim_queries, pause_queries, unanswered_calls
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.breaker import UNRESPONSIVE_AFTER, is_silence, pause_reason, runs_after
from libs.common.sending.outcomes import PreparedT, SendOutcome, Timings
from libs.common.sending.persisting import Persisted, persist
from libs.common.sending.rows import Claim, Pause, names_of
from libs.common.sending.transitions import Recovery, answer, pause_key, pauses_after
from libs.common.slow_suspects import SlowSuspects

log = get_logger()

_AT_ONCE = 500
_WAIT = timedelta(milliseconds=50)
_LONGEST_WAIT = timedelta(seconds=2)
_SUSPECT_WAIT = 0.2

_ClaimKey = tuple[SendKey, UUID | None]


@dataclass(slots=True)
class _Answer(Generic[PreparedT]):
    """The outcome of a call."""

    claim: Claim[PreparedT]
    outcome: SendOutcome
    lease_until: datetime | None


@dataclass(slots=True)
class Recorded:
    """The result of a batch: the answers of each account, the new pauses, and the accounts whose pause ended."""

    applied: Persisted
    answers: Counter[str]
    rests: list[Pause] = field(default_factory=list)
    awake: set[str] = field(default_factory=set)


class Recorder(Generic[PreparedT]):
    """Takes answers, records them in batches, and calls ``recorded`` with each result."""

    def __init__(
        self,
        adapter: ProviderAdapter[PreparedT],
        pool: Pool,
        timings: Timings,
        *,
        now: Clock,
        recorded: Callable[[Recorded], None],
        pulse: StallDetector,
    ) -> None:
        self._adapter = adapter
        self._pool = pool
        self._timings = timings
        self._now = now
        self._recorded = recorded
        self._pulse = pulse
        self._answers: list[_Answer[PreparedT]] = []
        self._unanswered: set[str] | None = None
        """Accounts that may have a run of calls without an answer. None: nobody has looked yet."""
        self._suspects = SlowSuspects[_ClaimKey]()
        self._failures = 0
        self._any = asyncio.Event()
        self._ending = False

    def add(self, claim: Claim[PreparedT], outcome: SendOutcome) -> None:
        self._answers.append(_Answer(claim, outcome, claim.row.lease_until))
        self._any.set()

    async def keep_leases(self) -> None:
        """Extend the leases that end soon of answers that wait. No other process takes such an answer for lost."""
        now = self._now()
        soon, until = now + self._timings.lease / 4, now + self._timings.lease
        waiting = [one for one in self._answers if one.lease_until is not None and one.lease_until < soon]
        claims = [(*row.key, row.claim_id) for one in waiting if (row := one.claim.row).claim_id is not None]
        if claims:
            async with self._pool.acquire() as db:
                await claim_queries.extend_leases(db, claims, until)
        for one in waiting:
            one.lease_until = until

    def end(self) -> None:
        """Record the answers that are there, then return from ``run``."""
        self._ending = True
        self._any.set()

    async def run(self) -> None:
        """Record until ``end`` was called and nothing is left."""
        while self._answers or not self._ending:
            await self._any.wait()
            if not self._ending:
                self._any.clear()
            await self.flush()

    async def flush(self) -> None:
        while self._answers:
            batch, self._answers = self._answers[:_AT_ONCE], self._answers[_AT_ONCE:]
            self._pulse.begins("record")
            left = await self._record(batch)
            self._answers = left + self._answers
            if len(left) < len(batch):
                self._pulse.ends("record")  # an answer that waits to be tried again is no standstill
            if self._failures:
                wait = backoff(self._failures, base=_WAIT, cap=_LONGEST_WAIT, jitter=random.random)
                await asyncio.sleep(wait.total_seconds())
            elif left:
                await asyncio.sleep(_SUSPECT_WAIT)

    async def _record(self, batch: Sequence[_Answer[PreparedT]]) -> list[_Answer[PreparedT]]:
        """Record a batch. Returns the answers to try again: all while the database is away, and slow suspects.

        An answer that cannot be recorded alone, while others can, is given up: its claim ends, and evidence settles it.
        """
        search = Bisection[_Answer[PreparedT], Recorded, _ClaimKey](
            self._write, self._suspects, key=_key, ordering_key=_key
        )
        left = {_key(one): one for one in batch}
        async for found in search.run(batch):
            match found:
                case Passed(answers, recorded):
                    self._recorded(recorded)
                    done = answers
                    await self._adapter.committed(recorded.applied.settled)
                case Faulty(one, error) | TooSlow(one, error):
                    log_set_aside("record", one.claim.row.key, error)
                    self._recorded(Recorded(Persisted(), _answers([one])))
                    done = [one]
                case _:
                    assert_never(found)
            for one in done:
                left.pop(_key(one), None)
        self._failures = self._failures + 1 if search.transient_error is not None else 0
        if search.transient_error is not None:
            log_trouble("record", search.transient_error, attempt=self._failures)
        return list(left.values())

    async def _write(self, batch: Sequence[_Answer[PreparedT]]) -> Recorded:
        now = self._now()
        transport = self._adapter.transport
        async with self._pool.acquire(kept_plans=True) as db, db.transaction():
            silent, unanswered = await self._runs(db, batch, now)
            asking = silent | {account for one in batch for account in _pauses_of(one)}
            await self._adapter.learn_recipients(db, [(one.claim, one.outcome) for one in batch], now)
            standing = await pause_queries.lock(db, transport, asking) if asking else {}
            opens = [one.claim.row.paused_as in silent and is_silence(one.outcome) for one in batch]
            causes = [
                (one.claim, pause_reason(one.claim, one.outcome, standing, opens=o))
                for one, o in zip(batch, opens, strict=True)
            ]
            retries = [(claim.row, claim.probes, retry) for claim, retry in causes if retry is not None]
            new = pauses_after(retries, standing, now, random.random)
            recovery = Recovery()
            for one in batch:
                recovery.hear(one.claim.probes, one.outcome, standing)
            steps = [answer(o.claim.row, o.outcome, now, timings=self._timings, jitter=random.random) for o in batch]
            applied = await persist(db, self._adapter, steps, now)
            await pause_queries.pause(db, transport, list(new.values()))
            over = recovery.over - new.keys()
            await pause_queries.clear(db, transport, over)
            await pause_queries.probe_now(db, transport, recovery.again - new.keys(), now)
            proof_until = now + self._timings.proof
            await pause_queries.defer_probe(db, transport, recovery.unproved - new.keys(), proof_until, now)
        self._unanswered = unanswered
        org_ids = {one.claim.row.paused_as: one.claim.row.org_id for one in batch}
        for at, pause in new.items():
            if at not in standing:
                whose = names_of(pause.account, transport.provider, org_ids.get(pause.account))
                log.warning("breaker.opened", reason=pause.reason, **whose)
        for account, _scope in over:
            log.info("breaker.closed", **names_of(account, transport.provider, org_ids.get(account)))
        awake = {account for account, _scope in over | recovery.again}
        return Recorded(applied, _answers(batch), list(new.values()), awake)

    async def _runs(
        self, db: Connection, batch: Sequence[_Answer[PreparedT]], now: datetime
    ) -> tuple[set[str], set[str]]:
        """Keep the calls in a row without an answer. Returns the accounts that rest now, and those with a run.

        First in the transaction, so that nothing else is held while another replica's calls of an account are written.
        """
        channel = self._adapter.transport.channel
        known = self._unanswered
        if known is None:
            known = await unanswered_calls.accounts(db, channel)
        added, over = runs_after([(one.claim.row, one.outcome) for one in batch])
        if ended := over & known:
            await unanswered_calls.end(db, channel, sorted(ended))
        silent: set[str] = set()
        if added:
            calls = await unanswered_calls.add(db, channel, [call for run in added.values() for call in run], now)
            silent = {account for account, number in calls.items() if number >= UNRESPONSIVE_AFTER}
        if silent:
            await unanswered_calls.end(db, channel, sorted(silent))
        return silent, (known - ended | added.keys()) - silent


def _key(one: _Answer[PreparedT]) -> _ClaimKey:
    return one.claim.row.key, one.claim.row.claim_id


def _answers(batch: Sequence[_Answer[PreparedT]]) -> Counter[str]:
    return Counter(one.claim.row.account for one in batch)


def _pauses_of(one: _Answer[PreparedT]) -> set[str]:
    """The accounts whose pauses this answer may change."""
    found = {account for account, _scope in one.claim.probes}
    key = pause_key(one.claim.row, one.outcome)
    if key is not None:
        found.add(key[0])
    return found
