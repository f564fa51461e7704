"""Advisory locks by buckets: bounded for one transaction, in one order for all."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest_asyncio

from libs.common.db.locks import BUCKETS, IDENTITIES, PROVIDER_IDS, bucket_of, lock
from libs.common.db.pool import Pool, open_pool

_HELD = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=5, command_seconds=10) as opened:
        yield opened


async def test_a_batch_of_thousands_holds_no_more_locks_than_there_are_buckets(pool: Pool) -> None:
    async with pool.acquire() as db, db.transaction():
        await lock(db, PROVIDER_IDS, [f"meta:1:{uuid4()}" for _ in range(20_000)])
        await lock(db, IDENTITIES, [f"identity:acme:phone:{uuid4()}" for _ in range(20_000)])
        assert await db.fetchval(_HELD) == 2 * BUCKETS


async def test_batches_in_any_order_of_names_never_wait_for_each_other_in_a_ring(pool: Pool) -> None:
    names = [str(uuid4()) for _ in range(500)]

    async def batch(number: int) -> None:
        async with pool.acquire() as db, db.transaction():
            await lock(db, IDENTITIES, names if number % 2 else reversed(names))

    await asyncio.gather(*(batch(number) for number in range(40)))


async def test_the_same_name_is_held_by_one_transaction_at_a_time(pool: Pool) -> None:
    inside = 0

    async def alone() -> None:
        nonlocal inside
        async with pool.acquire() as db, db.transaction():
            await lock(db, IDENTITIES, ["identity:acme:phone:447700900123"])
            inside += 1
            assert inside == 1
            await db.fetchval("select pg_sleep(0.001)")
            inside -= 1

    await asyncio.gather(*(alone() for _ in range(20)))


async def test_no_names_ask_nothing(pool: Pool) -> None:
    async with pool.acquire() as db, db.transaction():
        await lock(db, IDENTITIES, [])
        assert await db.fetchval(_HELD) == 0


def test_a_name_has_the_same_bucket_in_every_release() -> None:
    assert [bucket_of(name) for name in ("a", "identity:acme:phone:447700900123", "")] == [3, 6, 0]
