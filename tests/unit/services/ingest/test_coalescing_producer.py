"""Who goes first on the event loop of edge and worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from time import perf_counter, thread_time
from typing import cast

from libs.common.kafka.producer import Producer
from services.ingest.coalescing_producer import (
    QUEUE,
    WEBHOOKS_PER_RECORD,
    CoalescingProducer,
    EdgePriority,
    occupied,
)

FOR_EVER = 3600.0
LONG = int(1_000_000 * QUEUE)
"""Long enough in the mean also where the test loses the processor between two readings of one look."""


def an_edge(waits: int = LONG) -> CoalescingProducer:
    """An edge that so many requests wait at."""
    return CoalescingProducer(cast("Producer", None), _waits=waits)


def first(edge: CoalescingProducer, *, longest: float = FOR_EVER, busy: bool = True) -> EdgePriority:
    """Its priority on an event loop that has no time to spare, or that has."""
    seconds = count(step=3600 if busy else 0)  # of work between two looks
    return EdgePriority(edge, longest_seconds=longest, occupied=lambda: next(seconds))


@asynccontextmanager
async def taking(edge: CoalescingProducer) -> AsyncIterator[None]:
    """The edge takes webhooks all the time."""

    async def take() -> None:
        while True:
            await asyncio.sleep(0.001)
            edge.taken += 1

    task = asyncio.create_task(take())
    try:
        yield
    finally:
        task.cancel()


async def test_without_a_queue_the_worker_does_not_wait() -> None:
    await first(an_edge(waits=int(QUEUE) - 1)).wait_for_edge(10)


async def test_a_queue_that_waits_for_kafka_alone_holds_no_worker() -> None:
    await first(an_edge(), busy=False).wait_for_edge(10)


async def test_behind_a_queue_it_gets_a_record_for_so_many_webhooks() -> None:
    edge = an_edge()
    async with taking(edge):
        await first(edge).wait_for_edge(2)
        assert edge.taken >= 2 * WEBHOOKS_PER_RECORD


async def test_it_goes_on_when_the_queue_is_gone() -> None:
    edge = an_edge()
    waiting = asyncio.create_task(first(edge).wait_for_edge(10))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    edge._count_waits(0)
    await waiting


async def test_it_goes_on_though_the_queue_stays_and_nothing_is_taken() -> None:
    await first(an_edge(), longest=0.2).wait_for_edge(500)


async def test_batches_side_by_side_wait_one_after_the_other() -> None:
    edge = an_edge()
    priority = first(edge)
    async with taking(edge):
        await asyncio.gather(priority.wait_for_edge(2), priority.wait_for_edge(2))
        assert edge.taken >= 2 * 2 * WEBHOOKS_PER_RECORD


async def test_of_batches_side_by_side_none_waits_longer_than_one_does() -> None:
    looks = 0

    def looked() -> float:
        nonlocal looks
        looks += 1
        return perf_counter()

    priority = EdgePriority(an_edge(), longest_seconds=0.5, occupied=looked)
    one, other = asyncio.create_task(priority.wait_for_edge(500)), asyncio.create_task(priority.wait_for_edge(500))
    await one
    before = looks
    await other
    assert looks - before <= max(2, before // 2), "the time of both had begun"


async def test_where_there_is_no_edge_nobody_waits() -> None:
    await EdgePriority().wait_for_edge(500)


def test_a_thread_that_works_is_occupied_and_one_that_sleeps_is_not() -> None:
    before, began = occupied(), thread_time()
    while thread_time() - began < 0.05:
        pass
    assert occupied() - before > 0.02
