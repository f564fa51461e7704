"""A row that waits behind another one is released also where somebody changes it at the same moment."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest_asyncio

from libs.common.db.pool import Connection, Pool, open_pool
from libs.common.sending import conversation_order
from libs.common.sending import queries as sends
from libs.common.sending.rows import NewSend
from tests.support import world
from tests.support.ingest import ORG, now
from tests.support.waiting import eventually_true
from tests.support.webhooks import NUMBER

ACCOUNT = "106400000000777"


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=3, command_seconds=20) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield pool


async def test_a_row_that_changes_while_it_is_released_is_released(pool: Pool) -> None:
    conversation = uuid4()
    commands = [NewSend(ORG, uuid4(), 1, conversation, n, ACCOUNT, {}, None) for n in (1, 2)]
    later = now() + timedelta(minutes=1)
    async with pool.acquire() as db, pool.acquire() as other, pool.acquire() as looking:
        await sends.store(db, "whatsapp", commands, now(), now() + timedelta(days=1))
        minute = timedelta(minutes=1)
        assert await conversation_order.defer_blocked(db, "whatsapp", [ACCOUNT], later, minute) == {ACCOUNT: 1}
        async with other.transaction():
            await other.execute("update sends set due_at = due_at - interval '1 second' where sequence = 2")
            release = asyncio.create_task(released(db, conversation))
            await eventually_true(lambda: waits_for_a_row(looking))
        assert await release == {("whatsapp", ACCOUNT)}
        assert await looking.fetch("select from sends where deferred_until is not null") == []


async def released(db: Connection, conversation: UUID) -> set[tuple[str, str]]:
    async with db.transaction():
        return {*await conversation_order.release_blocked(db, [(ORG, conversation)])}


async def waits_for_a_row(db: Connection) -> bool:
    return bool(
        await db.fetchval(
            "select exists (select from pg_stat_activity where datname = current_database()"
            " and wait_event_type = 'Lock')"
        )
    )
