"""Threads that become one while their messages wait to be sent: whatever happens in between, it is one thread,
complete, in order, once.
"""

from collections.abc import AsyncIterator

import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from libs.common.db.pool import Pool, open_pool
from libs.common.sending import conversation_order
from tests.support import world
from tests.support.examples import examples
from tests.support.ingest import ORG, now
from tests.support.merges import a_slice, all_moved
from tests.support.threads import MINUTE, Threads
from tests.support.webhooks import NUMBER


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield pool


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("written"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("one"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("slice"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("sent"), st.just(0), st.just(0)),
        st.tuples(st.just("kept behind"), st.just(0), st.just(0)),
    ),
    min_size=4,
    max_size=30,
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@example(
    steps=[
        *[("written", 0, False)] * 3,
        ("written", 1, False),
        ("kept behind", 0, 0),
        ("one", 0, 1),
        ("slice", 1, 0),
        ("sent", 0, 0),
        ("one", 1, 2),
        ("written", 0, True),
        ("sent", 0, 0),
    ]
)  # a chain, in the middle of which the first of three that wait behind each other goes
async def test_merged_threads_are_one_complete_in_order_and_once(pool: Pool, steps: list[tuple[str, int, int]]) -> None:
    async with pool.acquire() as db:
        threads = Threads(db)
        await threads.opened(4)
        for what, one, other in steps:
            match what:
                case "written":
                    await threads.is_written(one, from_before=bool(other))
                case "one":
                    await threads.become_one(one, other)
                case "slice":
                    await a_slice(db, one)
                case "sent":
                    await threads.are_sent()
                case _:
                    await conversation_order.defer_blocked(db, "whatsapp", [threads.account], now() + MINUTE, MINUTE)
        await all_moved(db, 3)
        while await threads.are_sent():
            pass
        assert threads.waits == {}
        expected = {
            message: threads.conversations[threads.now_is(thread)] for message, thread in threads.written.items()
        }
        for query in (
            "select message_id, conversation_id from messages where conversation_id = any($1::uuid[])",
            "select message_id, conversation_id from sends where account = $2",
            "select intent_id, conversation_id from decisions where conversation_id = any($1::uuid[])",
        ):
            values = [threads.conversations] if "$1" in query else [threads.account]
            rows = await db.fetch(query.replace("$2", "$1"), *values)
            assert sorted(map(tuple, rows), key=str) == sorted(expected.items(), key=str)


async def test_what_waits_on_both_sides_of_a_merge_goes_in_one_order_before_a_row_of_it_is_moved(pool: Pool) -> None:
    async with pool.acquire() as db:
        threads = Threads(db)
        await threads.opened(3)
        for thread in (0, 1, 2, 0, 1):
            await threads.is_written(thread, from_before=False)
        assert len(await threads.may_go()) == 3  # three people
        await threads.become_one(0, 1)
        await threads.become_one(2, 1)
        order = sorted(threads.waits, key=lambda message: threads.waits[message][1])
        await threads.is_written(1, from_before=False)
        for message in order:
            assert [row.message_id for row in await threads.may_go()] == [message]
            await threads.are_sent()
        assert len(await threads.may_go()) == 1


async def test_what_is_being_moved_goes_all_the_way_where_the_release_before_merges_on(pool: Pool) -> None:
    async with pool.acquire() as db:
        threads = Threads(db)
        await threads.opened(3)
        first, second, third = threads.conversations
        await threads.is_written(0, from_before=False)
        await threads.become_one(0, 1)
        async with db.transaction():
            await db.execute(
                "update conversation_aliases set conversation_id = $2 where conversation_id = $1", second, third
            )
            await db.execute("insert into conversation_aliases values ($1, 'acme', $2)", second, third)
            await db.execute("delete from conversations where conversation_id = $1", second)
        await all_moved(db)
        (message_id,) = threads.written
        stands = "select conversation_id from {} where message_id = $1"
        assert [await db.fetchval(stands.format(table), message_id) for table in ("messages", "sends")] == [
            third,
            third,
        ]
        assert await db.fetchval("select count(*) from messages where conversation_id = $1", first) == 0
