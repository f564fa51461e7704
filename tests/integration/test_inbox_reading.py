"""What one organisation reads keeps no other one waiting."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.common.db.pool import open_pool
from libs.common.db.shares import Shares
from libs.common.errors import Transient
from services.inbox.reading import OneAtATime

SLOW = "select pg_sleep(0.5)"


@pytest_asyncio.fixture
async def reads(postgres_dsn: str) -> AsyncIterator[Shares]:
    """Four connections, of which an organisation has one."""
    async with open_pool(postgres_dsn, application_name="test", size=4, command_seconds=5) as pool:
        yield Shares(pool, 1)


async def _slow(reads: Shares, org_id: str) -> None:
    async with reads.of(org_id) as db:
        await db.execute(SLOW)


async def test_slow_reads_of_one_organisation_keep_no_other_one_waiting(reads: Shares) -> None:
    reading, over = asyncio.Event(), asyncio.Event()

    async def reads_long() -> None:
        async with reads.of("flood"):
            reading.set()
            await over.wait()

    flood = [asyncio.create_task(reads_long()) for _ in range(20)]
    await reading.wait()
    async with reads.of("quiet") as db:
        assert await db.fetchval("select 1") == 1
    over.set()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_a_read_beyond_the_share_is_told_so_in_time(reads: Shares) -> None:
    flood = [asyncio.create_task(_slow(reads, "flood")) for _ in range(8)]
    ends = await asyncio.gather(*flood, return_exceptions=True)
    refused = [one for one in ends if isinstance(one, Transient)]
    assert refused
    assert len(refused) < 8
    await _slow(reads, "flood")  # the share is free again


async def test_a_reader_who_went_away_gives_the_share_back(reads: Shares) -> None:
    task = asyncio.create_task(_slow(reads, "flood"))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _slow(reads, "flood")


async def test_of_three_at_once_one_runs_one_waits_and_one_is_refused() -> None:
    turns, order = OneAtATime(), list[str]()

    async def search(name: str) -> bool:
        async with turns.turn(("acme", "kim")) as ours:
            if ours:
                order.append(f"{name} begins")
                await asyncio.sleep(0.05)
                order.append(f"{name} ends")
            return ours

    assert await asyncio.gather(*(search(name) for name in "abc")) == [True, True, False]
    assert order == ["a begins", "a ends", "b begins", "b ends"]
    assert await search("d")
