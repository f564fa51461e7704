"""An edge stores for the senders since when it serves, which POSTs it refused, and when Meta last posted.

Meta's silence about a send proves something only while its POSTs were taken. So every second the edge stores its
refusals, and up to when they are complete. While PostgreSQL is away, it keeps them in memory and stores them later.
Until then no sender counts that time as covered.

``refused`` is everything of ours that makes Meta try again:

- Kafka does not acknowledge (503), a bug (500), a request that a stop cuts short, no room for a request (503);
- a process that stalled, or an edge that is not ready, so that a load balancer sends it nothing;
- a POST that was taken after so long that no sender waits any more for it to be read.

``doubtful`` is a request that is itself at fault, though it has the form of one of Meta's: cut short, too large, no
JSON, a wrong signature. A wrong signature may be Meta's while its secret is changed, or a stranger's. Without a header
that has the form of a signature nothing is counted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from libs.common import metrics
from libs.common.clock import steady
from libs.common.db.pool import Connection, Pool, open_pool
from libs.common.drain import BATCHES
from libs.common.errors import ConfigurationError, TransomError
from libs.common.logging import get_logger
from libs.common.periodic import until_beat
from libs.common.retryable import is_retryable
from libs.common.sending import coverage_queries as coverage
from libs.common.sending.coverage import HELD, RefusalKind
from libs.common.sending.coverage_queries import Known
from libs.common.service import Service

log = get_logger()

PERIOD = 1.0
STALLED = 3.0
"""A process that was stalled for longer counts as refusing for that time."""
CHECK_PERIOD = 2.5  # a check asks the brokers
UNREADY = 5.0
"""A load balancer does not stop sending after one check at a bad moment."""
RETRY_SECONDS = 2.0
LOG_EVERY_TRIES = 30
LAST_STORE_SECONDS = 2.0
JOIN = 60.0
"""Refusals of a kind within so many seconds of each other are one stretch: a storm is one row and not thousands."""
MOST = 64
"""Beyond so many stretches the two oldest of a kind become one, which covers more than was refused, never less."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """From the first refusal to the last, and how many of them there were."""

    number: int
    kind: RefusalKind
    reason: str
    began: float
    ended: float
    times: int = 1


@dataclass(slots=True)
class Refusals:
    """Stretches that are not stored, or may still grow."""

    _stretches: dict[int, Stretch] = field(default_factory=dict)
    _latest: dict[RefusalKind, int] = field(default_factory=dict)
    _stored: dict[int, Stretch] = field(default_factory=dict)
    _count: int = 0

    def happened(self, kind: RefusalKind, reason: str, at: float, *, since: float | None = None) -> None:
        """One more refusal at ``at``; with ``since``, refusals from then until ``at``."""
        began = at if since is None else since
        last = self._stretches.get(self._latest.get(kind, -1))
        if last is not None and began - last.ended <= JOIN:
            self._stretches[last.number] = replace(
                last, began=min(last.began, began), ended=max(last.ended, at), times=last.times + 1
            )
            return
        self._stretches[self._count] = Stretch(self._count, kind, reason, began, at)
        self._latest[kind] = self._count
        self._count += 1
        if len(self._stretches) > MOST:
            self._join_oldest()

    def unstored(self) -> Sequence[Stretch]:
        """The stretches to store, oldest first."""
        return [one for number, one in self._stretches.items() if self._stored.get(number) != one]

    def stored(self, stretches: Sequence[Stretch]) -> None:
        """Note that these are stored. Stretches that can no longer grow are dropped."""
        self._stored |= {one.number: one for one in stretches}
        latest = set(self._latest.values())
        for number in [n for n, one in self._stored.items() if n not in latest and self._stretches.get(n) == one]:
            del self._stretches[number], self._stored[number]

    def _join_oldest(self) -> None:
        kinds: Mapping[RefusalKind, list[Stretch]] = {"refused": [], "doubtful": []}
        for one in self._stretches.values():
            kinds[one.kind].append(one)
        first, second = max(kinds.values(), key=len)[:2]
        joined = replace(first, ended=second.ended, times=first.times + second.times)
        self._stretches = {n: one for n, one in self._stretches.items() if n != second.number} | {first.number: joined}
        self._stretches = dict(sorted(self._stretches.items()))


@dataclass(slots=True)
class EdgeCoverage:
    """The coverage of one start of an edge.

    Times are those of ``ticks``: steady seconds, which go on while the machine sleeps.
    """

    ticks: Callable[[], float] = steady
    edge_id: UUID = field(default_factory=uuid4)
    _since: float | None = None
    _left: float | None = None
    _last_post: float | None = None
    _refusals: Refusals = field(default_factory=Refusals)
    _in_flight: dict[int, float] = field(default_factory=dict)
    _count: int = 0
    _seen: float | None = None
    _unready_since: float | None = None

    def begin(self) -> None:
        """From now on POSTs can come."""
        if self._since is None:
            self._since = self.ticks()

    def leave(self) -> None:
        """From now on no new POST is taken, because the edge stops in good order."""
        if self._left is None:
            self._left = self.ticks()

    def refused(self, reason: str, kind: RefusalKind = "refused", *, since: float | None = None) -> None:
        """A POST was refused, or every POST ``since`` then would have been."""
        metrics.EDGE_REFUSED.labels(kind, reason).inc()
        self._refusals.happened(kind, reason, self.ticks(), since=since)

    def begin_publish(self) -> int:
        """A signed POST is about to be published.

        Until ``end_publish`` it is in flight, and the time since then is not complete.
        """
        self._count += 1
        self._in_flight[self._count] = self.ticks()
        return self._count

    def end_publish(self, ticket: int) -> None:
        """It was acknowledged, or counted as refused. After ``HELD`` it counts as refused in any case."""
        began = self._in_flight.pop(ticket, None)
        self._last_post = self.ticks()
        if began is not None and self._last_post - began > HELD.total_seconds():
            self.refused("slow")

    def beat(self) -> None:
        """Called every second. A gap means that this process stalled, or that its machine slept."""
        now = self.ticks()
        if self._seen is not None and now - self._seen > STALLED:
            self.refused("stood_still", since=self._seen)
        self._seen = now

    def checked(self, *, ready: bool) -> None:
        """Whether the edge is ready now."""
        if ready:
            self._unready_since = None
            return
        now = self.ticks()
        self._unready_since = now if self._unready_since is None else self._unready_since
        if now - self._unready_since >= UNREADY:
            self.refused("not_ready", since=self._unready_since)

    async def store(self, db: Connection, until: datetime) -> None:
        """Store the report. It includes what happened before ``until``, which the database's clock has reached."""
        if self._since is None:
            return
        self.beat()
        now = self.ticks()
        for open_since in [*self._in_flight.values(), *([] if self._left is None else [self._left])]:
            until = min(until, until - timedelta(seconds=now - open_since))
        stretches = self._refusals.unstored()
        last_post = now if self._in_flight else self._last_post
        known = Known(
            self.edge_id,
            _ago(self._since, now),
            None if last_post is None else _ago(last_post, now),
            [_aged(one, now) for one in stretches],
        )
        await coverage.store(db, known, until, leaves=self._left is not None and not self._in_flight)
        self._refusals.stored(stretches)

    @asynccontextmanager
    async def stored(
        self, dsn: str, command_seconds: float, service: Service, ready: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Inside the block the report is stored every second while PostgreSQL is there.

        After it the edge is stored as left.
        """
        ends = asyncio.Event()
        tasks = [
            asyncio.create_task(self._store_always(dsn, command_seconds, ends)),
            asyncio.create_task(self._watch(service, ready)),
        ]
        try:
            yield
        finally:
            self.leave()
            ends.set()
            await asyncio.wait(tasks[:1], timeout=min(LAST_STORE_SECONDS, service.drain.left(BATCHES)))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, service: Service, ready: Callable[[], Awaitable[None]]) -> None:
        while not service.serving:  # noqa: ASYNC110 -- a flag, not an event
            await asyncio.sleep(0.02)
        while not await _passes(ready):  # noqa: ASYNC110 -- others decide
            await asyncio.sleep(0.25)
        self.begin()
        checks, beats = asyncio.create_task(self._check(ready)), asyncio.create_task(self._beat())
        try:
            await service.stopped()
            self.leave()
        finally:
            for task in (checks, beats):
                task.cancel()

    async def _check(self, ready: Callable[[], Awaitable[None]]) -> None:
        while True:
            self.checked(ready=await _passes(ready))
            await asyncio.sleep(until_beat(CHECK_PERIOD))

    async def _beat(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(until_beat(PERIOD))

    async def _store_always(self, dsn: str, command_seconds: float, ends: asyncio.Event) -> None:
        """Every failure is retried.

        An edge without PostgreSQL serves on, and logs once a minute that PostgreSQL is away, and why.
        """
        failures = 0
        while not ends.is_set():
            try:
                async with open_pool(
                    dsn, application_name="transom-ingest-edge", size=1, command_seconds=command_seconds
                ) as pool:
                    while True:
                        last = ends.is_set()
                        failures = await self._store_once(pool, failures)
                        if last:
                            return
                        await _pause(ends, until_beat(PERIOD) if failures == 0 else RETRY_SECONDS)
            except Exception as error:  # the edge serves on after any failure here
                if not isinstance(error, ConfigurationError):
                    log.exception("task.failed", task="cover")
                failures = _failed(failures, error)
                await _pause(ends, RETRY_SECONDS)

    async def _store_once(self, pool: Pool, failures: int) -> int:
        try:
            async with pool.acquire() as db:
                await self.store(db, pool.now.earliest)
        except Exception as error:
            if not is_retryable(error) and failures % LOG_EVERY_TRIES == 0:
                log.exception("task.failed", task="cover")
            return _failed(failures, error)
        if failures:
            log.info("dependency.back", dependency="postgres")
        return 0


def _failed(failures: int, error: Exception) -> int:
    """Only our own errors are told: their words have no password."""
    if failures % LOG_EVERY_TRIES == 0:
        why = {"detail": str(error)} if isinstance(error, TransomError) else {}
        log.warning("dependency.away", dependency="postgres", **why)
    return failures + 1


async def _passes(ready: Callable[[], Awaitable[None]]) -> bool:
    try:
        await ready()
    except Exception:  # noqa: BLE001 -- /readyz counts any failure alike, and a load balancer goes by that
        return False
    return True


async def _pause(ends: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ends.wait()


def _aged(one: Stretch, now: float) -> coverage.RefusalStretch:
    return coverage.RefusalStretch(
        one.number, one.kind, one.reason, _ago(one.began, now), _ago(one.ended, now), one.times
    )


def _ago(at: float, now: float) -> timedelta:
    return timedelta(seconds=max(0.0, now - at))
