"""Feeds number what changed within an organisation, in the order in which it becomes visible."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from services.inbox import feed_queries
from services.inbox.feed import Change


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=4, command_seconds=10) as opened:
        yield opened


def a_change(org_id: str = "acme") -> Change:
    return Change(org_id, uuid4(), uuid4(), "message")


async def add(pool: Pool, *changes: Change) -> None:
    async with pool.acquire() as db:
        await feed_queries.add(db, changes)


async def numbers(pool: Pool, org_id: str, seen: int, limit: int = 100) -> list[int]:
    async with pool.acquire() as db:
        news = await feed_queries.since(db, [(org_id, seen)], limit)
    return [change.change for change in news[org_id, seen].changes] if news else []


async def test_each_organisation_counts_for_itself(pool: Pool) -> None:
    async with pool.acquire() as db:
        begun = await feed_queries.newest_mark(db, "acme")
        assert begun.change == 0
        assert await feed_queries.newest_mark(db, "acme") == begun
    ours = [a_change() for _ in range(3)]
    await add(pool, ours[0], a_change("bolt"), ours[1], a_change("bolt"))
    await add(pool, a_change("bolt"), ours[2])
    async with pool.acquire() as db:
        news = await feed_queries.since(db, [("acme", 0), ("bolt", 2), ("crown", 0)], 100)
        mark = await feed_queries.newest_mark(db, "acme")
    assert (mark.feed, mark.change) == (begun.feed, 3)
    assert [(c.change, c.message_id) for c in news["acme", 0].changes] == [
        (n, c.message_id) for n, c in enumerate(ours, 1)
    ]
    assert [c.change for c in news["bolt", 2].changes] == [3]
    assert news["acme", 0].feed != news["bolt", 2].feed
    assert ("crown", 0) not in news
    assert await numbers(pool, "acme", 0, limit=2) == [1, 2]


async def test_a_number_is_seen_after_all_below_it(pool: Pool) -> None:
    """A transaction that took its numbers first and commits last holds the others up, so no reader skips it."""
    async with pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await feed_queries.add(slow, [a_change()])
        behind = asyncio.create_task(add(pool, a_change()))
        await asyncio.sleep(0.05)
        assert await numbers(pool, "acme", 0) == []
        assert not behind.done()
        await transaction.commit()
        await behind
    assert await numbers(pool, "acme", 0) == [1, 2]


async def test_many_writers_leave_no_gap_and_no_number_twice(pool: Pool) -> None:
    await asyncio.gather(*(add(pool, *(a_change(f"org-{n % 3}") for n in range(7))) for _ in range(20)))
    for n, count in enumerate((60, 40, 40)):
        assert await numbers(pool, f"org-{n}", 0) == list(range(1, count + 1))


async def test_what_is_forgotten_shows_in_the_oldest_number(pool: Pool) -> None:
    await add(pool, a_change(), a_change())
    async with pool.acquire() as db:
        await db.execute("update inbox_changes set at = at - interval '2 hours' where change = 1")
        assert await feed_queries.forget(db, pool.now() - feed_queries.KEPT, 10) == 1
        assert (await feed_queries.since(db, [("acme", 0)], 10))["acme", 0].oldest == 2
        assert await feed_queries.forget(db, pool.now() + timedelta(hours=1), 10) == 1
        news = (await feed_queries.since(db, [("acme", 0)], 10))["acme", 0]
    assert (news.oldest, news.last, news.changes) == (None, 2, [])
