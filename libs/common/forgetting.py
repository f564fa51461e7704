"""Deletes rows whose time has passed, a slice in each transaction."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from libs.common.bisection import AdaptiveBatchSize
from libs.common.db.pool import Connection, Pool

AT_ONCE = 2_000

Forget = Callable[[Connection, datetime, int], Awaitable[int]]
"""Deletes up to so many rows of before then; returns how many."""


async def forget_all(pool: Pool, some: Forget, before: datetime) -> None:
    """Delete all rows of before then. A slice that is too slow for a statement is halved.

    Raises where one row alone is too slow, and any other error.
    """

    async def forget(size: int) -> int:
        async with pool.acquire() as db:
            return await some(db, before, size)

    await AdaptiveBatchSize(AT_ONCE).until_done(forget)
