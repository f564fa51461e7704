"""Merges of threads without the time between their slices."""

import asyncio

from libs.common.db.pool import Connection
from libs.common.sending.merge_slices import Slice, move_some

ENOUGH = 500


async def a_slice(db: Connection, limit: int = 100) -> Slice | None:
    """One slice, or one look, of whatever merge is next, due or not."""
    await db.execute("update conversation_merges set due_at = now() where due_at > now()")
    async with db.transaction():
        return await move_some(db, limit)


async def all_moved(db: Connection, limit: int = 100) -> None:
    """Every slice of every merge, and every look after them. A service that runs beside may have one of them."""
    for _ in range(ENOUGH):
        if await a_slice(db, limit) is None:
            if not await db.fetchval("select exists (select from conversation_merges)"):
                return
            await asyncio.sleep(0.01)
    raise AssertionError("a merge does not end")
