"""Connections for what people read: no organisation takes them from another.

Rule 1: an organisation has at most a share of the connections at once. Its further reads wait for its own ones.
Rule 2: a read that gets none in time says so. It is not queued for ever.
Rule 3: every statement ends within the time of the pool, a search within a shorter one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from libs.common.db.pool import Connection, Pool
from libs.common.errors import Transient

_PATIENCE_SECONDS = 2.0


@dataclass(slots=True)
class _Share:
    """The connections of one organisation: what is left of them, and how many wait or read."""

    free: asyncio.Semaphore
    users: int = 0


class Reads:
    """A pool with a share of each organisation."""

    def __init__(self, pool: Pool, share: int) -> None:
        self.pool = pool
        self._share = share
        self._shares: dict[str, _Share] = {}

    @asynccontextmanager
    async def of(self, org_id: str) -> AsyncIterator[Connection]:
        """A connection for reading what this organisation has. Raises Transient where none is free in time."""
        share = self._shares.setdefault(org_id, _Share(asyncio.Semaphore(self._share)))
        share.users += 1
        try:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await share.free.acquire()
            except TimeoutError:
                raise Transient("the organisation reads more at once than its share allows") from None
            try:
                async with self.pool.acquire() as db:
                    yield db
            finally:
                share.free.release()
        finally:
            share.users -= 1
            if share.users == 0:
                self._shares.pop(org_id, None)


@dataclass(slots=True)
class OneAtATime:
    """At most one thing at a time for each key. A second waits for the first, and a third for neither."""

    _running: Counter[tuple[str, str]] = field(default_factory=Counter)
    _locks: dict[tuple[str, str], asyncio.Lock] = field(default_factory=dict)

    @asynccontextmanager
    async def turn(self, key: tuple[str, str]) -> AsyncIterator[bool]:
        """Whether it is the caller's turn; False where one runs and another waits already."""
        if self._running[key] > 1:
            yield False
            return
        self._running[key] += 1
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield True
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key], self._locks[key]
