"""What the edge knows of itself, told to the senders: since when it serves, what it refused, when Meta last posted.

Meta's silence about a send proves something only while its POSTs were taken. So every second the edge stores what it refused, and up to when that is
all. What it cannot store, because PostgreSQL is away, it keeps and stores later; until then no sender counts that time as covered.

What is a refusal: everything of ours that makes Meta try again. Kafka does not acknowledge (503), a bug (500), requests that a stop cuts short, no
room (503), a process that stood still, an edge that is not ready, so that a load balancer sends it nothing. All this is ``refused``.
``doubtful`` is what the request is to blame for, though it has the form of one of Meta's: cut short, too large, no JSON, a wrong signature. The last may
be Meta's with a secret that is changed just now, and it may be anybody's. Without a header that has the form of a signature nothing is counted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

from libs.common.clock import steady
from libs.common.db.pool import Connection, Pool, open_pool
from libs.common.drain import BATCHES
from libs.common.errors import ConfigurationError, TransomError
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable
from libs.common.sending import coverage_queries as coverage
from libs.common.sending.coverage import RefusalKind
from libs.common.sending.coverage_queries import Known
from libs.common.service import Service
from services.ingest.refusals import Refusals, Stretch

log = get_logger()

PERIOD = 1.0
STOOD_STILL = 3.0
"""Whoever hears nothing of itself for so long took nothing in that time."""
CHECKED_EVERY = 2.5  # it asks the brokers
UNREADY = 5.0
"""A load balancer that asks at the wrong moment once does not stop sending."""
AGAIN = 2.0
TELL_TRIES = 30
FAREWELL = 2.0


@dataclass(slots=True)
class Served:
    """One start of an edge. Instants are those of ``ticks``: steady seconds, which go on while the machine sleeps."""

    ticks: Callable[[], float] = steady
    edge_id: UUID = field(default_factory=uuid4)
    _since: float | None = None
    _left: float | None = None
    _last_post: float | None = None
    _refusals: Refusals = field(default_factory=Refusals)
    _under_way: dict[int, float] = field(default_factory=dict)
    _count: int = 0
    _seen: float | None = None
    _unready_since: float | None = None

    def begins(self) -> None:
        """From now on POSTs can come."""
        if self._since is None:
            self._since = self.ticks()

    def leaves(self) -> None:
        """From now on no new POST is taken, in good order."""
        if self._left is None:
            self._left = self.ticks()

    def refused(self, reason: str, kind: RefusalKind = "refused", *, since: float | None = None) -> None:
        """A POST was refused, or would have been ever ``since``."""
        self._refusals.happened(kind, reason, self.ticks(), since=since)

    def takes(self) -> int:
        """A signed POST is about to be handed over to Kafka; until ``took`` nobody knows what becomes of it."""
        self._count += 1
        self._under_way[self._count] = self._last_post = self.ticks()
        return self._count

    def took(self, ticket: int) -> None:
        """It was taken, or has been told as refused."""
        self._under_way.pop(ticket, None)

    def looks(self) -> None:
        """Called several times a second: a gap means that this process stood still, or its machine slept."""
        now = self.ticks()
        if self._seen is not None and now - self._seen > STOOD_STILL:
            self._refusals.happened("refused", "stood_still", now, since=self._seen)
        self._seen = now

    def checked(self, *, ready: bool) -> None:
        """What readiness says now."""
        if ready:
            self._unready_since = None
            return
        now = self.ticks()
        self._unready_since = now if self._unready_since is None else self._unready_since
        if now - self._unready_since >= UNREADY:
            self.refused("not_ready", since=self._unready_since)

    async def tell(self, db: Connection) -> None:
        """Store what is known. First the time is asked: all that happened before is in what is read afterwards."""
        if self._since is None:
            return
        until = await coverage.instant(db)
        self.looks()
        now = self.ticks()
        for open_since in [*self._under_way.values(), *([] if self._left is None else [self._left])]:
            until = min(until, until - timedelta(seconds=now - open_since))
        told = self._refusals.unstored()
        known = Known(self.edge_id, _ago(self._since, now), None if self._last_post is None else _ago(self._last_post, now), [_aged(one, now) for one in told])  # fmt: skip
        await coverage.tell(db, known, until, leaves=self._left is not None and not self._under_way)
        self._refusals.stored(told)

    @asynccontextmanager
    async def told(
        self, dsn: str, command_seconds: float, service: Service, ready: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Inside the block what is known is stored every second, as soon and as long as PostgreSQL is there; after it, the farewell."""
        ends = asyncio.Event()
        tasks = [
            asyncio.create_task(self._tell_always(dsn, command_seconds, ends)),
            asyncio.create_task(self._watch(service, ready)),
        ]
        try:
            yield
        finally:
            self.leaves()
            ends.set()
            await asyncio.wait(tasks[:1], timeout=min(FAREWELL, service.drain.left(BATCHES)))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, service: Service, ready: Callable[[], Awaitable[None]]) -> None:
        while not service.serving:  # noqa: ASYNC110 -- a flag, not an event
            await asyncio.sleep(0.02)
        while not await _holds(ready):  # noqa: ASYNC110 -- others decide
            await asyncio.sleep(0.25)
        self.begins()
        checks, looks = asyncio.create_task(self._check(ready)), asyncio.create_task(self._look())
        try:
            await service.stopped()
            self.leaves()
        finally:
            for task in (checks, looks):
                task.cancel()

    async def _check(self, ready: Callable[[], Awaitable[None]]) -> None:
        while True:
            self.checked(ready=await _holds(ready))
            await asyncio.sleep(CHECKED_EVERY)

    async def _look(self) -> None:
        while True:
            self.looks()
            await asyncio.sleep(PERIOD / 4)

    async def _tell_always(self, dsn: str, command_seconds: float, ends: asyncio.Event) -> None:
        """Whatever fails is tried again: an edge without PostgreSQL serves, and says once a minute that nobody can rely on it."""
        failures = 0
        while not ends.is_set():
            try:
                async with open_pool(dsn, application_name="transom-ingest-edge", size=1, command_seconds=command_seconds) as pool:  # fmt: skip
                    while True:
                        last = ends.is_set()
                        failures = await self._tell_once(pool, failures)
                        if last:
                            return
                        await _pause(ends, PERIOD if failures == 0 else AGAIN)
            except Exception as error:  # an edge serves on, whatever is the matter here
                if not isinstance(error, ConfigurationError):
                    log.exception("task.failed", task="cover")
                failures = _failed(failures)
                await _pause(ends, AGAIN)

    async def _tell_once(self, pool: Pool, failures: int) -> int:
        try:
            async with pool.acquire() as db:
                await self.tell(db)
        except Exception as error:
            if not is_retryable(error) and failures % TELL_TRIES == 0:
                log.exception("task.failed", task="cover")
            return _failed(failures)
        if failures:
            log.info("dependency.back", dependency="postgres")
        return 0


def _failed(failures: int) -> int:
    if failures % TELL_TRIES == 0:
        log.warning("dependency.away", dependency="postgres")
    return failures + 1


async def _holds(ready: Callable[[], Awaitable[None]]) -> bool:
    try:
        await ready()
    except (TransomError, OSError):
        return False
    return True


async def _pause(ends: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ends.wait()


def _aged(one: Stretch, now: float) -> coverage.Refusals:
    return coverage.Refusals(one.number, one.kind, one.reason, _ago(one.began, now), _ago(one.ended, now), one.times)


def _ago(at: float, now: float) -> timedelta:
    return timedelta(seconds=max(0.0, now - at))
