"""Heads of conversations of which the inbox worker heard nothing."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from services.inbox.conversation_queries import one
from services.inbox.heads import Backfill
from tests.support.inbox_world import HOUR, RULE, InboxWorld, an_inbox_world

_SLOW = """
create function too_many() returns trigger language plpgsql as $$ begin
    if (select count(*) from made) > 3 then
        raise exception 'canceling statement due to statement timeout' using errcode = 'query_canceled';
    end if;
    return null;
end $$;
create trigger too_many after insert on conversation_heads referencing new table as made
    for each statement execute function too_many()
"""


@pytest_asyncio.fixture(scope="module")
async def garage(postgres_dsn: str, database_template: str) -> AsyncIterator[InboxWorld]:
    async with an_inbox_world(postgres_dsn, database_template) as made:
        yield made


async def test_a_conversation_of_before_the_inbox_gets_its_head_and_its_customer_is_found(garage: InboxWorld) -> None:
    customer, thread = await garage.customer("Ondine")
    message = await garage.hears(thread)
    async with garage.pool.acquire() as db:
        await db.execute("delete from conversation_heads where conversation_id = $1", thread)
        await db.execute("delete from customer_words where customer_id = $1", customer)
    await Backfill(garage.pool, RULE).step()
    assert (await garage.head(thread))["last_message_id"] == message
    async with garage.pool.acquire() as db:
        words = await db.fetchval(
            "select tsvector_to_array(words) from customer_words where customer_id = $1", customer
        )
    assert words == ["acme/ondine"]


async def test_a_conversation_of_which_nothing_was_published_gets_its_head(garage: InboxWorld) -> None:
    """What a stranger wrote is parted from another thread without any message being published again."""
    backfill = Backfill(garage.pool, RULE)
    await backfill.step()
    customer, _ = await garage.customer()
    async with garage.pool.acquire() as db:
        newest = await db.fetchval("select conversation_id from conversations order by 1 desc limit 1")
        parted = UUID(int=newest.int + 1)
        await db.execute(
            "insert into conversations (conversation_id, org_id, customer_id) values ($1, $2, $3)",
            *(parted, garage.org, customer),
        )
    await backfill.step()
    assert (await garage.head(parted))["channel"] == "whatsapp"


async def test_who_came_before_the_heads_were_made_has_read_what_was_a_week_old(garage: InboxWorld) -> None:
    threads = [(await garage.customer())[1] for _ in range(2)]
    for thread, days in zip(threads, (8, 1), strict=True):
        await garage.hears(thread, ago=timedelta(days=days))
    async with garage.pool.acquire() as db:
        await db.execute("delete from conversation_heads where conversation_id = any($1)", threads)
        await db.execute(
            "insert into members (org_id, user_id, first_seen_at, seen_at) values ($1, 'early', $2, $2)",
            *(garage.org, garage.now),
        )
    await Backfill(garage.pool, RULE).step()
    async with garage.pool.acquire() as db:
        rows = [await one(db, garage.org, "early", thread, garage.now) for thread in threads]
    assert [row is not None and row.unread for row in rows] == [False, True]


@pytest.mark.parametrize("channel", ["whatsapp", "sms"])
async def test_what_a_customer_wrote_while_the_worker_was_away_for_longer_than_topics_keep_it_is_in_the_head(
    garage: InboxWorld, channel: str
) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=2 * HOUR, channel=channel)
    async with garage.pool.acquire() as db:
        before = await db.fetchval("select to_jsonb(h) from conversation_heads h where conversation_id = $1", thread)
    unheard = await garage.hears(thread, ago=HOUR, channel=channel)
    async with garage.pool.acquire() as db:
        await db.execute("delete from conversation_heads where conversation_id = $1", thread)
        await db.execute(
            "insert into conversation_heads select * from jsonb_populate_record(null::conversation_heads, $1)", before
        )
    assert (await garage.head(thread))["last_message_id"] != unheard
    await Backfill(garage.pool, RULE).step()
    assert (await garage.head(thread))["last_message_id"] == unheard


async def test_a_customer_who_only_called_while_the_worker_was_away_is_in_the_lists_by_window(
    garage: InboxWorld,
) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=2 * HOUR)
    called = garage.now - HOUR
    async with garage.pool.acquire() as db:
        await db.execute("update conversations set last_customer_at = $2 where conversation_id = $1", thread, called)
    await Backfill(garage.pool, RULE).step()
    assert (await garage.head(thread))["last_customer_at"] == called


async def test_heads_are_made_also_where_so_many_at_once_reach_the_time_limit(garage: InboxWorld) -> None:
    threads = [(await garage.customer())[1] for _ in range(10)]
    async with garage.pool.acquire() as db:
        await db.execute(_SLOW)
    try:
        await Backfill(garage.pool, RULE).step()
    finally:
        async with garage.pool.acquire() as db:
            await db.execute("drop trigger too_many on conversation_heads")
    for thread in threads:
        assert await garage.head(thread)
