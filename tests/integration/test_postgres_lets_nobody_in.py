"""PostgreSQL answers and lets nobody in, as while a database is restored, or refuses the role a right."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from libs.common.events.topics import INBOUND_MESSAGES, WEBHOOKS
from tests.support.ingest import Ingest, now
from tests.support.logs import LogLines
from tests.support.waiting import eventually
from tests.support.webhooks import a_message, of_messages

PER_WEBHOOK = 10
_RESTORED = "alter database {0} rename to {0}_kept", "alter database {0}_kept rename to {0}"
_CLOSED = "alter database {0} allow_connections false", "alter database {0} allow_connections true"


@pytest_asyncio.fixture
async def server(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the administrator, to another database."""
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


@asynccontextmanager
async def shut(server: asyncpg.Connection, name: str, change: str, back: str) -> AsyncIterator[None]:
    """The database lets nobody in within the block, and all connections to it are ended before."""
    while True:
        await server.fetch("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
        try:
            await server.execute(change.format(name))
        except asyncpg.ObjectInUseError:  # a service was quicker
            continue
        break
    try:
        await server.fetch("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", name)
        yield
    finally:
        await server.execute(back.format(name))


@pytest.mark.parametrize("changes", [_RESTORED, _CLOSED], ids=["restored under another name", "closed"])
async def test_no_webhook_is_a_dead_letter_while_the_database_lets_nobody_in(
    ingest: Ingest, server: asyncpg.Connection, database: str, changes: tuple[str, str], log_lines: LogLines
) -> None:
    async with shut(server, urlsplit(database).path.lstrip("/"), *changes):
        await _webhooks_wait(ingest, log_lines, "Transient", "postgres lets us not in")
    await _each_is_stored(ingest)


async def test_no_webhook_is_a_dead_letter_while_the_role_lacks_a_right(
    ingest: Ingest, database: str, log_lines: LogLines
) -> None:
    owner = await asyncpg.connect(database)
    await owner.execute("revoke insert on messages from current_user")
    try:
        await _webhooks_wait(ingest, log_lines, "InsufficientPrivilegeError")
    finally:
        await owner.execute("grant insert on messages to current_user")
        await owner.close()
    await _each_is_stored(ingest)


async def _webhooks_wait(ingest: Ingest, log_lines: LogLines, reason: str, why: str = "") -> None:
    def is_told() -> bool:
        lines = [line for line in log_lines.of("record.retried") if line["reason"] == reason]
        return any(why in line["detail"] for line in lines)

    for _ in range(3):
        messages = [a_message(now()) for _ in range(PER_WEBHOOK)]
        assert await ingest.post(of_messages(*messages)) == 200
    await eventually(is_told, every=0.2)
    await asyncio.sleep(3)  # who takes a record for the cause gives it up after three tries, in less


async def _each_is_stored(ingest: Ingest) -> None:
    assert len(await ingest.published.records(INBOUND_MESSAGES, 3 * PER_WEBHOOK)) == 3 * PER_WEBHOOK
    assert await ingest.published.records(WEBHOOKS.dlq) == []
