"""PostgreSQL's clock was an hour ahead and is set right: what was stored meanwhile is dated later than now."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from libs.common.db.pool import Connection, open_pool
from libs.common.events.topics import WEBHOOKS
from libs.common.sending import coverage_queries
from libs.common.sending.coverage import CaughtUp
from libs.common.sending.coverage_queries import Known
from services.router.reconcile_queries import Pass, look_through

HOUR, GAP, AGE, DAY = timedelta(hours=1), timedelta(seconds=5), timedelta(minutes=1), timedelta(days=1)


@pytest_asyncio.fixture
async def db(database: str) -> AsyncIterator[Connection]:
    async with open_pool(database, application_name="test", size=1) as pool, pool.acquire() as db:
        yield db


@pytest_asyncio.fixture
async def now(db: Connection) -> datetime:
    found: datetime = await db.fetchval("select clock_timestamp()")
    return found


async def test_how_far_ingest_has_come_is_what_it_says_now(db: Connection, now: datetime) -> None:
    for at in (now + HOUR, now):
        await coverage_queries.store_caught_up(db, WEBHOOKS.name, {0: at}, GAP)
    assert await coverage_queries.caught_up(db, WEBHOOKS.name) == {0: CaughtUp(at=now, since=now)}


async def test_so_is_up_to_when_an_edge_has_told_what_it_refused(db: Connection, now: datetime) -> None:
    edge = Known(uuid4(), serves=timedelta(0), last_post=None, refusals=[])
    for until in (now + HOUR, now):
        await coverage_queries.store(db, edge, until)
    assert [edge.until for edge in (await coverage_queries.cover(db, "meta", now - HOUR)).edges] == [now]


@pytest.mark.parametrize("what", ["unsent", "unheard"])
async def test_no_decision_that_comes_then_is_passed_over(db: Connection, now: datetime, what: Pass) -> None:
    await db.execute("update reconcile_progress set upto = $1", now + HOUR)
    await db.execute(
        "insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, record, command,"
        " decided_at) values ('acme', uuidv7(), 1, uuidv7(), 'bridge', 'sms', 'window_expired', '{}', '{}', $1)",
        now,
    )
    await db.execute(
        "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status,"
        " sequence, occurred_at, received_at) select org_id, intent_id, conversation_id, 'out', 'whatsapp', 'text',"
        " '{}', 'pending', 1, decided_at, decided_at from decisions"
    )
    for until in (now - AGE, now + AGE):
        await look_through(db, what, None, until, now, lifetime=DAY, limit=10)
    assert await db.fetchval("select count(*) from stale_attempts") == 1
