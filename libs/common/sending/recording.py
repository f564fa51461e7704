"""Recording: answers are written together, whatever has come while the last transaction ran; a lone answer is written at once."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic

from libs.common.backoff import backoff
from libs.common.clock import Clock
from libs.common.db import pauses
from libs.common.db.pool import Pool
from libs.common.logging import get_logger
from libs.common.sending.applying import Applied, apply
from libs.common.sending.carrier import Carrier
from libs.common.sending.outcomes import PreparedT, SendOutcome, Timings
from libs.common.sending.rows import Claim
from libs.common.sending.silence import Runs, cause, is_silence
from libs.common.sending.transitions import answer, pause_scope, pauses_after, recovered
from libs.common.transience import is_transient

log = get_logger()

_AT_ONCE = 500
_WAIT = timedelta(milliseconds=50)
_LONGEST_WAIT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class _Answer(Generic[PreparedT]):
    """What came of a call, and whether its account must rest because it was the last of a run without an answer."""

    claim: Claim[PreparedT]
    outcome: SendOutcome
    opens: bool


class Recorder(Generic[PreparedT]):
    """Takes answers, records them in batches, and says so (``recorded``) with the number of answers that are off its hands."""

    def __init__(
        self,
        carrier: Carrier[PreparedT],
        pool: Pool,
        timings: Timings,
        *,
        now: Clock,
        recorded: Callable[[Applied, int], None],
    ) -> None:
        self._carrier = carrier
        self._pool = pool
        self._timings = timings
        self._now = now
        self._recorded = recorded
        self._answers: list[_Answer[PreparedT]] = []
        self._runs = Runs()
        self._any = asyncio.Event()
        self._ending = False

    def add(self, claim: Claim[PreparedT], outcome: SendOutcome) -> None:
        """Record this answer soon."""
        self._answers.append(_Answer(claim, outcome, self._runs.heard(claim.row.account, outcome)))
        self._any.set()

    def end(self) -> None:
        """Record what is there, then return from ``run``."""
        self._ending = True
        self._any.set()

    async def run(self) -> None:
        """Record for ever, or until ``end`` and nothing is left."""
        while self._answers or not self._ending:
            await self._any.wait()
            if not self._ending:
                self._any.clear()
            await self.flush()

    async def flush(self) -> None:
        """Record everything that is there."""
        while self._answers:
            batch, self._answers = self._answers[:_AT_ONCE], self._answers[_AT_ONCE:]
            await self._record(batch)

    async def _record(self, batch: Sequence[_Answer[PreparedT]]) -> None:
        """Record a batch: again while the database is away, one by one when it meets a bug.

        An answer that cannot be recorded alone is given up: its claim ends, and evidence settles it.
        """
        failures = 0
        while True:
            try:
                applied = await self._write(batch)
            except (
                Exception
            ) as error:  # nothing may end the recording: the answers of all other sends come through here
                if is_transient(error):
                    failures += 1
                    log.warning("task.retried", task="record", attempt=failures, exc_info=error)
                    wait = backoff(failures, base=_WAIT, cap=_LONGEST_WAIT, jitter=random.random)
                    await asyncio.sleep(wait.total_seconds())
                    continue
                log.exception("task.failed", task="record")
                if len(batch) > 1:
                    for one in batch:
                        await self._record([one])
                else:
                    self._recorded(Applied(), 1)
                return
            self._recorded(applied, len(batch))
            await self._carrier.committed(applied.settled)
            return

    async def _write(self, batch: Sequence[_Answer[PreparedT]]) -> Applied:
        now = self._now()
        provider = self._carrier.provider
        awake = {at for one in batch for at in recovered(one.claim.row.account, one.claim.probes, one.outcome)}
        asking = {one.claim.row.account for one in batch if pause_scope(one.outcome) or one.opens or _failed_probe(one)}
        async with self._pool.acquire() as db, db.transaction():
            await self._carrier.heard(db, [(one.claim, one.outcome) for one in batch], now)
            standing = await pauses.pauses(db, provider, asking) if asking else {}
            causes = [(one.claim, cause(one.claim, one.outcome, standing, opens=one.opens)) for one in batch]
            retries = [(claim.row, claim.probes, retry) for claim, retry in causes if retry is not None]
            new = pauses_after(retries, standing, now, random.random)
            steps = []
            for one in batch:
                row, scope = one.claim.row, pause_scope(one.outcome)
                pause = None if scope is None else new.get((row.account, scope))
                steps.append(answer(row, one.outcome, pause, now, timings=self._timings, jitter=random.random))
            applied = await apply(db, self._carrier, steps, now)
            await pauses.rest(db, provider, list(new.values()))
            await pauses.wake(db, provider, awake - new.keys())
        for at, pause in new.items():
            if at not in standing:
                log.warning("breaker.opened", dependency=provider, reason=pause.reason)
        for _at in awake - new.keys():
            log.info("breaker.closed", dependency=provider)
        return applied


def _failed_probe(one: _Answer[PreparedT]) -> bool:
    return "all" in one.claim.probes and is_silence(one.outcome)
