"""Work that is too slow, on a real broker and a real PostgreSQL: one record costs its neighbours nothing, a slow
database costs no record.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import pytest
import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.records import Received
from libs.common.slow_suspects import LOCKED
from tests.support.consumer_bench import Bench, header_of
from tests.support.logs import LogLines
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually

SECONDS = 0.6
"""The limit of a command; a statement's is three quarters of it."""

_SCHEMA = """
create table said (partition int, "offset" bigint, value text, primary key (partition, "offset"));
create table slow (value text primary key);
create table shelf (value text);
create function take_time() returns trigger language plpgsql as $$
begin
    if exists (select from slow where new.value like value) then perform pg_sleep(20); end if;
    if new.value like 'shelf%' then insert into shelf values (new.value); end if;
    return new;
end $$;
create trigger takes_time before insert on said for each row execute function take_time();
"""


@pytest_asyncio.fixture
async def said(database: str) -> AsyncIterator["Said"]:
    async with (
        open_pool(database, application_name="eyes", size=1, command_seconds=20) as eyes,
        open_pool(database, application_name="transom-test", command_seconds=SECONDS) as pool,
    ):
        async with eyes.acquire() as db:
            await db.execute(_SCHEMA)
        yield Said(pool, eyes, database)


class Said:
    """A handler that stores a batch in one statement, and what makes that slow. ``eyes``: the test's own pool."""

    def __init__(self, pool: Pool, eyes: Pool, dsn: str) -> None:
        self._pool = pool
        self._eyes = eyes
        self._dsn = dsn

    async def __call__(self, batch: Sequence[Received[str]]) -> None:
        async with self._pool.acquire() as db:
            await db.execute(
                "insert into said select * from unnest($1::int[], $2::bigint[], $3::text[]) on conflict do nothing",
                [received.record.partition for received in batch],
                [received.record.offset for received in batch],
                [received.value for received in batch],
            )

    async def slow(self, *patterns: str) -> None:
        """From now on whatever is like one of these takes long."""
        async with self._eyes.acquire() as db:
            await db.execute("delete from slow")
            await db.executemany("insert into slow values ($1)", [(pattern,) for pattern in patterns])

    async def values(self) -> list[str]:
        async with self._eyes.acquire() as db:
            return [r[0] for r in await db.fetch('select value from said order by partition, "offset"')]

    async def has(self, count: int) -> bool:
        """So many are stored."""
        async with self._eyes.acquire() as db:
            return bool(await db.fetchval("select count(*) = $1 from said", count))

    @asynccontextmanager
    async def locked(self, table: str = "said") -> AsyncIterator[None]:
        """Another session holds the table."""
        db = await asyncpg.connect(self._dsn)
        try:
            async with db.transaction():
                await db.execute(f"lock table {table} in access exclusive mode")
                yield
        finally:
            await db.close()


async def a_backlog(bench: Bench, said: Said, count: int) -> None:
    """``count`` records wait, one of them too slow, and more come; all others are handled, and it is set aside."""
    values = [f"v{number}" for number in range(count)]
    values[count // 3] = "poison"
    for begin in range(0, count, 10_000):
        await bench.put(*values[begin : begin + 10_000], key=None)
    await said.slow("poison")
    over = asyncio.Event()

    async def go_on() -> None:
        while not over.is_set():
            values.append(f"v{len(values)}")
            await bench.put(values[-1], key=None)
            await asyncio.sleep(0.2)

    async with bench.consumer(said), asyncio.TaskGroup() as traffic:
        traffic.create_task(go_on())
        try:
            [letter] = await bench.dead(1)
        finally:
            over.set()
    async with bench.consumer(said):
        await until(lambda: said.has(len(values) - 1), "all others are handled")
        await until(lambda: committed(bench, len(values)), "and committed")
    assert (letter.value, header_of(letter, "reason")) == (b"poison", "statement_too_slow")
    assert header_of(letter, "detail").startswith("57014: ")
    assert sorted(await said.values()) == sorted(value for value in values if value != "poison")


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not await condition():  # noqa: ASYNC110 -- the condition is the servers' to make true
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"did not come true: {what}") from None


async def committed(bench: Bench, offset: int) -> bool:
    return await bench.committed(0) == [offset]


async def test_one_record_that_is_too_slow_among_a_backlog_is_set_aside_and_all_others_are_handled(
    bench: Bench, said: Said, log_lines: LogLines
) -> None:
    await a_backlog(bench, said, 2_000)
    [line] = log_lines.of("record.dead_lettered")
    assert (line["level"], line["reason"], line["offset"]) == ("error", "statement_too_slow", 666)
    suspected = [line["offset"] for line in log_lines.of("record.retried") if line["reason"] == "statement_too_slow"]
    assert suspected.count(666) == 1  # any other is a suspect, too, that is alone while the whole machine is slow


@pytest.mark.proof
async def test_among_a_hundred_thousand_that_wait_one_that_is_too_slow_holds_up_nobody(
    bench: Bench, said: Said
) -> None:
    await a_backlog(bench, said, 100_000)


async def test_one_that_is_deleted_while_it_waits_for_its_retry_holds_up_nothing(
    bench: Bench, said: Said, topics: OwnTopics, log_lines: LogLines
) -> None:
    """Reading has gone on ahead of it, and its retention passes."""
    await said.slow("poison")
    async with bench.consumer(said):
        await bench.put("v0", "poison", "v2", "v3", key=None)
        await until(lambda: said.has(3), "the others are read ahead")
        await topics.lose(WEBHOOKS)
        await bench.put("v4", key=None)
        await until(lambda: committed(bench, 5), "all that is left is handled and committed")
    assert await said.values() == ["v0", "v2", "v3", "v4"]
    assert [line["offset"] for line in log_lines.of("records.lost")] == [1]
    assert await bench.dead(0) == []


@pytest.mark.parametrize("how", ["slow", "locked"])
async def test_a_database_that_is_slow_for_everybody_costs_no_record_and_readiness_says_so(
    bench: Bench, said: Said, how: str
) -> None:
    values = [f"v{number}" for number in range(40)]
    async with bench.consumer(said, STALLED_SECONDS=1.0) as consumer, AsyncExitStack() as lock:
        await bench.put("quiet", partition=1)
        await until(lambda: said.has(1), "the other partition is read")
        if how == "slow":
            await said.slow("%")
        else:
            await lock.enter_async_context(said.locked())
        await bench.put(*values)
        await eventually(consumer.unready, "the partition stands still")
        reason = consumer.unready()
        await asyncio.sleep(1)
        await said.slow()
        await lock.aclose()
        await until(lambda: said.has(41), "everything is handled when it is over")
        await eventually(lambda: consumer.unready() is None, "it is ready again")
    assert reason is not None
    assert reason.startswith("webhooks.v1: partition 0 has made no progress for ")
    assert "partition 1" not in reason
    assert await bench.dead(0) == []
    assert (await said.values())[:40] == values
    assert await bench.committed(0, 1) == [40, 1]


@pytest.mark.proof
async def test_while_a_table_is_locked_what_needs_it_waits_its_neighbours_go_on_and_only_a_slow_one_is_set_aside(
    bench: Bench, said: Said
) -> None:
    await said.slow("poison")
    values = ["shelf 0", "shelf 1", "v0", "poison", "v1"]
    async with bench.consumer(said):
        async with said.locked("shelf"):
            await bench.put(*values, key=None)
            loop = asyncio.get_running_loop()
            until_then = loop.time() + LOCKED + 10
            while loop.time() < until_then:
                values.append(f"v{len(values)}")
                await bench.put(values[-1], key=None)
                await asyncio.sleep(0.2)
            await until(lambda: said.has(len(values) - 3), "the neighbours are handled")
        await until(lambda: said.has(len(values) - 1), "what needed the table is handled")
        await until(lambda: committed(bench, len(values)), "and committed")
    assert sorted(await said.values()) == sorted(value for value in values if value != "poison")
    [letter] = await bench.dead(1)
    assert letter.value == b"poison"


@pytest.mark.proof
async def test_a_member_without_a_partition_says_that_nobody_reads_what_waits(bench: Bench) -> None:
    """Of three members one has nothing to read; it looks well itself, and only looking at the others shows what is
    wrong.
    """
    answer = asyncio.Event()

    async def hang(_batch: Sequence[Received[str]]) -> None:
        await answer.wait()

    async with AsyncExitStack() as members:
        consumers = [bench.consumer(hang, STALLED_SECONDS=1.0) for _ in range(3)]
        for consumer in consumers:
            await members.enter_async_context(consumer)
        await eventually(lambda: not any(consumer.unready() for consumer in consumers), "all are ready")
        await bench.put("waits")
        await eventually(lambda: sum(consumer.unready() is not None for consumer in consumers) == 2, seconds=30)
        reasons = sorted(reason for consumer in consumers if (reason := consumer.unready()) is not None)
        answer.set()
        await eventually(lambda: not any(consumer.unready() for consumer in consumers), "all are ready again")
    assert all(reason.startswith("webhooks.v1: partition 0 has made no progress for ") for reason in reasons)
    assert sum("no partition is ours" in reason for reason in reasons) == 1
