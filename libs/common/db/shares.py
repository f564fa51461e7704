"""Connections for whoever asks: no client takes them from the others. Clients are named by a text.

Rule 1: a client has at most a share of the connections at once. What it asks for beyond that waits for its own ones.
Rule 2: who gets none in time is told so, and is not queued for ever.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from libs.common.db.pool import Connection, Pool
from libs.common.errors import Transient

_PATIENCE_SECONDS = 2.0


@dataclass(slots=True)
class _Share:
    """The connections of one client: what is left of them, and how many wait for one or have one."""

    free: asyncio.Semaphore
    users: int = 0


class Shares:
    """A pool with a share of each client."""

    def __init__(self, pool: Pool, share: int) -> None:
        self.pool = pool
        self._share = share
        self._shares: dict[str, _Share] = {}

    @asynccontextmanager
    async def of(self, client: str) -> AsyncIterator[Connection]:
        """A connection for this client. Raises Transient where none is free in time."""
        share = self._shares.setdefault(client, _Share(asyncio.Semaphore(self._share)))
        share.users += 1
        try:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await share.free.acquire()
            except TimeoutError:
                raise Transient("more is asked for at once than a share allows") from None
            try:
                async with self.pool.acquire() as db:
                    yield db
            finally:
                share.free.release()
        finally:
            share.users -= 1
            if share.users == 0:
                self._shares.pop(client, None)
