"""The sweeper finishes the rows that no other code finishes.

It ends claims whose lease is over, settles unknown outcomes, fails rows at their deadline, and publishes pending
events. Each is a periodic task of its own, so a slow or failing task delays no other. Every process of a sender runs a
sweeper. ``skip locked`` and short leases keep two sweepers from working on one row. A row that fails is quarantined
alone.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Generic

from libs.common import metrics
from libs.common.bisection import AdaptiveBatchSize
from libs.common.clock import Clock, utc_now
from libs.common.db.pool import Pool
from libs.common.logging import get_logger
from libs.common.periodic import log_trouble
from libs.common.retryable import is_retryable, is_statement_timeout
from libs.common.sending import claim_queries, conversation_order, pause_queries
from libs.common.sending import queries as sends
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.outcomes import Inconclusive, PreparedT, Timings
from libs.common.sending.persisting import Persisted, persist
from libs.common.sending.publishing import EventPublisher
from libs.common.sending.quarantine import Quarantine, halving
from libs.common.sending.rows import SendRow, Transition, names_of
from libs.common.sending.transitions import abandoned, expire, resolve
from libs.common.sending.waiting_queries import waiting

log = get_logger()

_AT_ONCE = 200
_ROUNDS = 25
ROW_TASKS = frozenset({"claims", "overdue", "unknown", "behind", "unpublished"})
"""The tasks whose standstill makes a process unready."""
RARELY = 15
"""What waits is measured in every 15th round, because counting a large backlog is slow. Faults are logged as rarely,
because each is logged once a minute. As rarely claims are looked for that were left without a row, because few are."""
_COUNTS_LOGGED_AFTER = timedelta(minutes=1)


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
        self._counted_at: datetime | None = None
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
            "left_claims": self.forget_claims,
            "faults": self.log_faults,
            "waiting": self.measure,
        }

    async def end_claims(self) -> None:
        """End the claims whose lease is over. The outcome is unknown, unless the call had not begun."""
        await self._move(
            "claims",
            claim_queries.ended_claims,
            lambda row, now: Transition(row, abandoned(row, now, self._timings)),
        )

    async def forget_claims(self) -> None:
        """Forget the claims that were left without a claimed row. They hold up nothing."""
        for _round in range(_ROUNDS):
            async with self._pool.acquire() as db:
                forgotten = await claim_queries.forget_claims(
                    db, self._adapter.transport.channel, self._now(), _AT_ONCE
                )
            if forgotten < _AT_ONCE:
                return

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
            whose = names_of(rest.account, rest.provider, rest.org_id)
            since = f"since {rest.since.isoformat(timespec='seconds')}"
            whose["detail"] = f"{whose['detail']}, {since}" if "detail" in whose else since
            log.error("account.resting", reason=rest.scope, provider_code=rest.reason, **whose)

    async def measure(self) -> None:
        """Measure what waits, and log it once a minute. The times are this host's: by how far back PostgreSQL's lie."""
        channel, now = self._adapter.transport.channel, self._now()
        async with self._pool.acquire() as db:
            found = await waiting(db, channel, now)
        oldest = _age(found.oldest_since, now)
        metrics.SENDS_WAITING.labels(channel).set(found.unsettled)
        metrics.SENDS_OLDEST_SECONDS.labels(channel).set(oldest)
        metrics.SENDS_UNKNOWN.labels(channel).set(found.unknown)
        for gauge, since in ((metrics.SENDS_DUE, found.due_since), (metrics.SENDS_UNKNOWN_SINCE, found.unknown_since)):
            gauge.labels(channel).set(utc_now().timestamp() - _age(since, now))
        for kind, number in (("throttle", found.throttled), ("silence", found.silent), ("fault", found.at_fault)):
            metrics.ACCOUNTS_RESTING.labels(channel, kind).set(number)
        if self._counted_at is None or now - self._counted_at >= _COUNTS_LOGGED_AFTER:
            self._counted_at = now
            log.info("sends.waiting", channel=channel, records=found.unsettled, oldest_ms=round(oldest * 1000))

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
                async with self._pool.acquire() as db:
                    if not await find(db, self._adapter.transport.channel, now, 1, quarantine.keys(now)):
                        return  # as at rest: one round trip instead of three
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


def _age(since: datetime | None, now: datetime) -> float:
    """In seconds; 0 where nothing waits."""
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
