"""Who goes first on the event loop of edge and worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import cast

from libs.common.kafka.producer import Producer
from services.ingest.coalescing_producer import (
    LONGEST_SECONDS,
    QUEUE,
    WEBHOOKS_PER_RECORD,
    CoalescingProducer,
    EdgePriority,
    occupied,
)

LONG = int(1_000_000 * QUEUE)
"""Long enough in the mean also where the test loses the processor between two readings of one look."""


def an_edge(waits: int = LONG) -> CoalescingProducer:
    """An edge that so many requests wait at."""
    return CoalescingProducer(cast("Producer", None), _waits=waits)


@asynccontextmanager
async def on_a_busy_loop(edge: CoalescingProducer, *, takes: int = 1) -> AsyncIterator[EdgePriority]:
    """The edge takes webhooks all the time, and the event loop has no time to spare."""

    async def work() -> None:
        while True:
            ends = perf_counter() + 0.005
            while perf_counter() < ends:
                pass
            edge.taken += takes
            await asyncio.sleep(0)

    priority = EdgePriority(edge)
    task = asyncio.create_task(work())
    try:
        await asyncio.sleep(0.2)
        yield priority
    finally:
        task.cancel()


async def test_without_a_queue_the_worker_does_not_wait() -> None:
    async with on_a_busy_loop(an_edge(waits=int(QUEUE) - 1), takes=0) as priority:
        await priority.wait_for_edge(10)


async def test_a_queue_that_waits_for_kafka_alone_holds_no_worker() -> None:
    priority = EdgePriority(an_edge())
    await asyncio.sleep(0.2)
    await priority.wait_for_edge(10)


async def test_behind_a_queue_it_gets_a_record_for_so_many_webhooks_also_side_by_side() -> None:
    edge = an_edge()
    async with on_a_busy_loop(edge) as priority:
        before = edge.taken
        await asyncio.gather(priority.wait_for_edge(2), priority.wait_for_edge(2))
        assert edge.taken - before >= 2 * 2 * WEBHOOKS_PER_RECORD


async def test_it_goes_on_when_the_queue_is_gone() -> None:
    edge = an_edge()
    async with on_a_busy_loop(edge, takes=0) as priority:
        waiting = asyncio.create_task(priority.wait_for_edge(10))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        edge._count_waits(0)
        await waiting


async def test_it_goes_on_though_the_queue_stays_and_batches_side_by_side_wait_no_longer_than_one() -> None:
    async with on_a_busy_loop(an_edge(), takes=0) as priority:
        one, other = (asyncio.create_task(priority.wait_for_edge(500)) for _ in range(2))
        await one
        as_long_again = asyncio.create_task(asyncio.sleep(LONGEST_SECONDS / 2))
        done, _ = await asyncio.wait({other, as_long_again}, return_when=asyncio.FIRST_COMPLETED)
        as_long_again.cancel()
        assert other in done, "the time of both had begun"


async def test_where_there_is_no_edge_nobody_waits() -> None:
    await EdgePriority().wait_for_edge(500)


def test_a_thread_that_works_is_occupied_and_one_that_sleeps_is_not() -> None:
    before, began = occupied(), perf_counter()
    while perf_counter() - began < 0.05:
        pass
    assert occupied() - before > 0.02
