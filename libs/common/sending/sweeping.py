"""Sweeping: what nobody finishes.

Claims that ended without an answer, outcomes nobody knows, deadlines, events that were not published.

Each is a task of its own, so that one that fails or takes long holds up none of the others. Every process of a sender
sweeps; rows are shared by ``skip locked``, and what is taken is taken for a while, so that none is looked at or
published twice. A row that fails is set aside alone.
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
ROW_TASKS = frozenset({"claims", "overdue", "unknown", "behind", "untold"})
"""Those on which rows wait; the others only publish."""
COUNT_EVERY = 15
"""Rows that wait are counted at every so manieth round: where very much waits the count takes long."""


class Sweeper(Generic[PreparedT]):
    """``tasks``: what is to be done once a second or so, each in a loop of its own."""

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
        self._aside = {name: Quarantine(name) for name in ("claims", "overdue", "unknown")}
        self._portions = {name: AdaptiveBatchSize(_AT_ONCE) for name in (*self._aside, "behind")}

    @property
    def tasks(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """One round of each, by name."""
        return {
            "claims": self.end_claims,
            "overdue": self.expire,
            "unknown": self.find_evidence,
            "behind": self.free,
            "untold": self.publish,
            "rests": self.say_rests,
            "waiting": self.count,
        }

    async def end_claims(self) -> None:
        """A claim whose lease is over has an unknown outcome."""
        await self._move(
            "claims",
            sends.ended_claims,
            lambda row, now: Transition(row, unknown(row, "lease_ended", now, self._timings)),
        )

    async def expire(self) -> None:
        """A row that waited until its deadline fails, whatever it waited for."""
        await self._move("overdue", sends.overdue, expire)

    async def free(self) -> None:
        """A row that was held back for a time is looked at again when that is over."""
        for _round in range(_ROUNDS):
            with self._portions["behind"].taken() as size:
                async with self._pool.acquire() as db:
                    freed = await conversation_order.release_due(db, self._adapter.transport.channel, self._now(), size)
            self._awake(freed)
            if len(freed) < size:
                return

    async def find_evidence(self) -> None:
        """Evidence settles unknown outcomes. It is sought outside of any transaction: a provider may be asked."""
        aside = self._aside["unknown"]
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
            left_out = set(aside.keys(now))
            await halving([row for row in rows if row.key not in left_out], self._resolve, aside, now)
            if len(rows) < size:
                return

    async def publish(self) -> None:
        """Events of settled rows that were not published are published from the rows."""
        for _round in range(_ROUNDS):
            if not await self._publisher.publish_pending():
                return

    async def say_rests(self) -> None:
        """An account that people must mend is said to be at rest, once a minute by whoever comes first."""
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
        aside, portion = self._aside[task], self._portions[task]
        for _round in range(_ROUNDS):
            now, rows, applied = self._now(), list[SendRow](), Persisted()
            size = portion.size
            try:
                async with self._pool.acquire() as db, db.transaction():
                    with portion.taken():
                        rows = await find(db, self._adapter.transport.channel, now, size, aside.keys(now))
                    sound = [row for row in rows if row.key not in aside.suspects]
                    if sound:
                        applied = await persist(db, self._adapter, [step(row, now) for row in sound], now)
            except Exception as error:
                if not rows or (is_retryable(error) and not is_statement_timeout(error)):
                    raise
                log_trouble(task, error)
                await halving(rows, partial(self._move_some, step, now), aside, now)
            else:
                await self._after(applied)
                aside.passed(len(sound))
                if suspects := [row for row in rows if row.key in aside.suspects]:
                    await halving(suspects, partial(self._move_some, step, now), aside, now)
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
        """Steps of rows that another replica has moved meanwhile come to nothing."""
        if not steps:
            return
        async with self._pool.acquire() as db, db.transaction():
            applied = await persist(db, self._adapter, steps, now)
        await self._after(applied)

    async def _after(self, applied: Persisted) -> None:
        self._ended(applied)
        if applied.settled:
            await self._adapter.committed(applied.settled)
