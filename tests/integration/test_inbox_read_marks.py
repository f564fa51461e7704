"""What members have read is kept in few rows, however many they have, and none waits for another one's."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.retryable import is_statement_timeout
from services.inbox import read_queries
from services.inbox.read_marks import ReadMarks
from tests.support.databases import slow_down

_MEMBER = "insert into members (org_id, user_id, first_seen_at, seen_at) values ($1, 'kim', now(), now())"
_HEADS = """
insert into conversation_heads (conversation_id, org_id, last_at, channel, last_sequence, inbound_sequence)
select uuidv7(), $1, now(), 'whatsapp', n, n from generate_series(1, $2::int) n
"""
_READ = """
insert into member_reads (org_id, user_id, conversation_id, read_sequence)
select org_id, 'kim', conversation_id, inbound_sequence from conversation_heads
 where org_id = $1 and inbound_sequence is distinct from $2
"""


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """One whose statements may take 375 ms, and wait for a lock for 300."""
    async with open_pool(database, application_name="test", size=2, command_seconds=0.5) as opened:
        async with opened.acquire() as db:
            await db.execute("select setval('message_sequence', 10000)")
        yield opened


async def has_read(pool: Pool, org_id: str, conversations: int, *, but: int | None = None) -> None:
    """The organisation's one member has read so many conversations, but for the one with that sequence."""
    async with pool.acquire() as db:
        await db.execute("insert into orgs (org_id, name, upserted_at) values ($1, $1, now())", org_id)
        await db.execute(_MEMBER, org_id)
        await db.execute(_HEADS, org_id, conversations)
        await db.execute(_READ, org_id, but)


async def kept(pool: Pool, org_id: str) -> tuple[int, int]:
    """Up to which sequence everything counts as read, and how many rows there are beside that."""
    async with pool.acquire() as db:
        below = await db.fetchval("select read_below from members where org_id = $1", org_id)
        return below, await db.fetchval("select count(*) from member_reads where org_id = $1", org_id)


async def folding(pool: Pool) -> ReadMarks:
    """One that knows how far messages are: its first round only notes that."""
    marks = ReadMarks(pool)
    await marks.fold()
    return marks


async def test_below_the_first_message_that_a_member_has_not_read_no_row_is_kept(pool: Pool) -> None:
    await has_read(pool, "acme", 300, but=250)
    marks = await folding(pool)
    assert await kept(pool, "acme") == (0, 299)
    await marks.fold()
    assert await kept(pool, "acme") == (249, 50)


async def test_rows_go_in_smaller_slices_where_all_of_them_are_too_many_for_a_statement(pool: Pool) -> None:
    """Of 300,000 none went: deleting them took longer than a statement may, in each round."""
    await has_read(pool, "acme", 900)
    async with pool.acquire() as db:
        await slow_down(db, "delete", "member_reads", 0.002)
    await (await folding(pool)).fold()
    assert await kept(pool, "acme") == (10_000, 0)


async def test_a_slice_passes_no_more_conversations_than_it_may(pool: Pool) -> None:
    await has_read(pool, "acme", 300, but=250)
    async with pool.acquire() as db:
        for below in (100, 200, 249):
            assert await read_queries.move(db, "acme", "kim", 10_000, 100)
            assert await db.fetchval("select read_below from members") == below
        assert not await read_queries.move(db, "acme", "kim", 10_000, 100)


async def test_a_member_whose_rows_cannot_be_folded_keeps_no_other_ones_from_it(pool: Pool) -> None:
    for org_id in ("acme", "other"):
        await has_read(pool, org_id, 300)
    marks = await folding(pool)
    async with pool.acquire() as db, db.transaction():
        await db.execute("select from members where org_id = 'acme' for update")
        with pytest.raises(Exception, match="timeout") as locked:
            await marks.fold()
    assert is_statement_timeout(locked.value)
    assert await kept(pool, "acme") == (0, 300)
    assert await kept(pool, "other") == (10_000, 0)
    await marks.fold()
    assert await kept(pool, "acme") == (10_000, 0)
