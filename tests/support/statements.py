"""The statements that a process sends to PostgreSQL, each a round trip."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from libs.common.db.pool import Pool

_MOST = 8
"""Connections of a pool, as the tests open them."""


_OF_THE_CONNECTION = ("clock_timestamp", "typeinfo_tree", "current_setting", "plan_cache_mode")


@asynccontextmanager
async def statements_of(*pools: Pool, size: int = _MOST) -> AsyncIterator[list[str]]:
    """The statements of these pools from now on. ``size``: how many connections each may have.

    Left out are questions for the server's time, what asyncpg asks about types at a connection's first use of them, and
    how plans are kept, which a connection says anew after some time.
    """
    sent: list[str] = []

    def note(statement: Any) -> None:
        if not any(word in statement.query for word in _OF_THE_CONNECTION):
            sent.append(statement.query)

    async with AsyncExitStack() as taken:
        for pool in pools:
            for _ in range(size):
                connection = await taken.enter_async_context(pool.acquire())
                connection.add_query_logger(note)
    yield sent
