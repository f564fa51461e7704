"""The sweeper finishes the rows that no other code finishes.

It ends claims whose lease is over, settles unknown outcomes, fails rows at their deadline, and publishes pending
events. Each is a periodic task of its own, so a slow or failing task delays no other. Every process of a sender runs a
sweeper. ``skip locked`` and short leases keep two sweepers from working on one row. A row that fails is quarantined
alone.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Generic

from libs.common import metrics
from libs.common.bisection import AdaptiveBatchSize
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.logging import get_logger
from libs.common.periodic import log_trouble
from libs.common.retryable import is_retryable, is_statement_timeout
from libs.common.sending import conversation_order, pause_queries
from libs.common.sending import queries as sends
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.outcomes import Inconclusive, PreparedT, Timings
from libs.common.sending.persisting import Persisted, persist
from libs.common.sending.publishing import EventPublisher
from libs.common.sending.quarantine import Quarantine, halving
from libs.common.sending.rows import EVERY_ACCOUNT, SendRow, Transition, sender_of
from libs.common.sending.transitions import expire, resolve, unknown

log = get_logger()

_AT_ONCE = 200
_ROUNDS = 25
ROW_TASKS = frozenset({"claims", "overdue", "unknown", "behind", "unpublished"})
"""The tasks whose standstill makes a process unready."""
COUNT_EVERY = 15
"""Waiting rows are counted in every 15th round, because counting a large backlog is slow."""


class Sweeper(Generic[PreparedT]):
    """``tasks`` are run once per ``Timings.poll``, each in a loop of its own."""

    def __init__(
        self,
        adapter: ProviderAdapter[PreparedT],
        pool: Pool,
        publisher: EventPublisher,
        timings: Timings,
        *,
        now: Clock,
        ended: Callable[[Persisted], None],
        awake: Callable[[Iterable[str]], None],
    ) -> None:
        self._adapter = adapter
        self._pool = pool
        self._publisher = publisher
        self._timings = timings
        self._now = now
        self._ended = ended
        self._awake = awake
        self._quarantines = {name: Quarantine(name) for name in ("claims", "overdue", "unknown")}
        self._portions = {name: AdaptiveBatchSize(_AT_ONCE) for name in (*self._quarantines, "behind")}

    @property
    def tasks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """By name, the function that does one round of the task."""
        return {
            "claims": self.end_claims,
            "overdue": self.expire,
            "unknown": self.find_evidence,
            "behind": self.free,
            "unpublished": self.publish,
            "faults": self.log_faults,
            "waiting": self.count,
        }

    async def end_claims(self) -> None:
        """Move the claims whose lease is over to an unknown outcome."""
        await self._move(
            "claims",
            sends.ended_claims,
            lambda row, now: Transition(row, unknown(row, "lease_ended", now, self._timings)),
        )

    async def expire(self) -> None:
        """Fail the pending rows whose deadline has passed."""
        await self._move("overdue", sends.overdue, expire)

    async def free(self) -> None:
        """Release deferred rows whose time is over, so that claims look at them again."""
        for _round in range(_ROUNDS):
            with self._portions["behind"].taken() as size:
                async with self._pool.acquire() as db:
                    freed = await conversation_order.release_due(db, self._adapter.transport.channel, self._now(), size)
            self._awake(freed)
            if len(freed) < size:
                return

    async def find_evidence(self) -> None:
        """Settle unknown outcomes by evidence, which is sought outside of any transaction: a provider may be asked."""
        quarantine = self._quarantines["unknown"]
        for _round in range(_ROUNDS):
            now = self._now()
            with self._portions["unknown"].taken() as size:
                async with self._pool.acquire() as db:
                    rows = await sends.take_unknown(
                        db,
                        self._adapter.transport.channel,
                        self._adapter.evidence_of,
                        now,
                        size,
                        soonest=self._timings.poll,
                        latest=self._timings.look,
                        abandoned=self._timings.patience,
                    )
            left_out = set(quarantine.keys(now))
            await halving([row for row in rows if row.key not in left_out], self._resolve, quarantine, now)
            if len(rows) < size:
                return

    async def publish(self) -> None:
        """Publish the pending events of settled rows, from the rows."""
        for _round in range(_ROUNDS):
            if not await self._publisher.publish_pending():
                return

    async def log_faults(self) -> None:
        """Log the accounts that are paused for a fault, each once a minute over all replicas."""
        async with self._pool.acquire() as db:
            rests = await pause_queries.take_due_for_log(db, self._adapter.transport, self._now())
        for rest in rests:
            whose = {"org_id": rest.org_id} if rest.org_id is not None else {}
            of_all = ""
            if rest.provider == "meta":  # an SMS account is a phone number
                whose["phone_number_id"] = rest.account
            elif sender_of(rest.account) == EVERY_ACCOUNT:
                of_all = f"account {rest.account.rpartition(':')[2]}, every sender, "
            log.error(
                "account.resting",
                dependency=rest.provider,
                reason=rest.scope,
                provider_code=rest.reason,
                detail=f"{of_all}since {rest.since.isoformat(timespec='seconds')}",
                **whose,
            )

    async def count(self) -> None:
        async with self._pool.acquire() as db:
            waiting = await sends.waiting(db, self._adapter.transport.channel)
        metrics.SENDS_WAITING.labels(channel=self._adapter.transport.channel).set(waiting)

    async def _move(
        self,
        task: str,
        find: Callable[..., Awaitable[list[SendRow]]],
        step: Callable[[SendRow, datetime], Transition],
    ) -> None:
        quarantine, portion = self._quarantines[task], self._portions[task]
        for _round in range(_ROUNDS):
            now, rows, applied = self._now(), list[SendRow](), Persisted()
            size = portion.size
            try:
                async with self._pool.acquire() as db, db.transaction():
                    with portion.taken():
                        rows = await find(db, self._adapter.transport.channel, now, size, quarantine.keys(now))
                    sound = [row for row in rows if row.key not in quarantine.suspects]
                    if sound:
                        applied = await persist(db, self._adapter, [step(row, now) for row in sound], now)
            except Exception as error:
                if not rows or (is_retryable(error) and not is_statement_timeout(error)):
                    raise
                log_trouble(task, error)
                await halving(rows, partial(self._move_some, step, now), quarantine, now)
            else:
                await self._after(applied)
                quarantine.passed(len(sound))
                if suspects := [row for row in rows if row.key in quarantine.suspects]:
                    await halving(suspects, partial(self._move_some, step, now), quarantine, now)
            if len(rows) < size:
                return

    async def _move_some(
        self, step: Callable[[SendRow, datetime], Transition], now: datetime, rows: Sequence[SendRow]
    ) -> None:
        await self._apply([step(row, now) for row in rows], now)

    async def _resolve(self, rows: Sequence[SendRow]) -> None:
        ours = [row for row in rows if row.provider in self._adapter.evidence_of]
        evidence = await self._adapter.find_evidence(ours, self._now()) if ours else {}
        now = self._now()
        steps = [resolve(row, evidence.get(row.key, Inconclusive()), now, self._timings) for row in rows]
        await self._apply([step for step in steps if step is not None], now)

    async def _apply(self, steps: Sequence[Transition], now: datetime) -> None:
        """Persist the steps. A step has no effect where another replica has moved the row meanwhile."""
        if not steps:
            return
        async with self._pool.acquire() as db, db.transaction():
            applied = await persist(db, self._adapter, steps, now)
        await self._after(applied)

    async def _after(self, applied: Persisted) -> None:
        self._ended(applied)
        if applied.settled:
            await self._adapter.committed(applied.settled)
