"""Who goes first on the event loop of edge and worker."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from libs.common.kafka.producer import Producer
from services.ingest.precedence import QUEUE, WEBHOOKS_PER_RECORD, Precedence
from services.ingest.together import Together


def an_edge(waits: int = 0) -> Together:
    """An edge that so many requests wait at."""
    return Together(cast("Producer", None), waits=waits)


@asynccontextmanager
async def a_busy_loop(edge: Together | None = None) -> AsyncIterator[None]:
    """Every turn of the event loop takes long; an edge takes a webhook in each."""

    async def work() -> None:
        while True:
            time.sleep(0.002)  # noqa: ASYNC251 -- that is the point
            if edge is not None:
                edge.taken += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()


FOR_EVER = 3600.0


async def test_without_a_queue_the_worker_does_not_wait() -> None:
    async with a_busy_loop():
        await Precedence(an_edge(waits=QUEUE - 1), longest_seconds=FOR_EVER).give_way(10)


async def test_a_queue_that_waits_for_kafka_alone_holds_no_worker() -> None:
    await Precedence(an_edge(waits=QUEUE * 10), longest_seconds=FOR_EVER).give_way(10)


async def test_behind_a_queue_it_gets_a_record_for_so_many_webhooks() -> None:
    edge = an_edge(waits=QUEUE)
    async with a_busy_loop(edge):
        before = edge.taken
        await Precedence(edge, longest_seconds=FOR_EVER).give_way(2)
        assert edge.taken - before >= 2 * WEBHOOKS_PER_RECORD


async def test_it_goes_on_when_the_queue_is_gone() -> None:
    edge = an_edge(waits=QUEUE)
    async with a_busy_loop():
        waiting = asyncio.create_task(Precedence(edge, longest_seconds=FOR_EVER).give_way(10))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        edge.waits = 0
        await waiting


async def test_it_goes_on_though_the_queue_stays_and_nothing_is_taken() -> None:
    async with a_busy_loop():
        await Precedence(an_edge(waits=QUEUE), longest_seconds=0.2).give_way(500)


async def test_an_edge_of_its_own_and_a_worker_of_its_own_never_wait() -> None:
    async with a_busy_loop():
        await Precedence().give_way(500)
