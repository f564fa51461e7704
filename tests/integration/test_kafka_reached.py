"""How far each partition has come: what may be taken for its end, and how many records are behind."""

import asyncio
from contextlib import suppress
from datetime import timedelta

from aiokafka import AIOKafkaConsumer

from libs.common import metrics
from libs.common.errors import Transient
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.consumer import BatchConsumer
from tests.support.consumer_bench import GROUP, Bench, Handled
from tests.support.waiting import eventually


async def at_end(consumer: BatchConsumer) -> dict[int, bool]:
    """Whether all that was there two seconds ago is done, by partition."""
    return {partition: age <= 2 for partition, age in (await consumer.behind(WEBHOOKS.name)).items()}


async def until_at_end(consumer: BatchConsumer, *partitions: int) -> None:
    async with asyncio.timeout(40):
        while not all(map((await at_end(consumer)).get, partitions)):  # noqa: ASYNC110 -- nobody tells
            await asyncio.sleep(0.05)


def lags() -> dict[str, float]:
    return {
        sample.labels["partition"]: sample.value
        for metric in metrics.LAG.collect()
        for sample in metric.samples
        if sample.labels["topic"] == WEBHOOKS.name
    }


async def test_what_comes_again_and_again_is_at_no_moment_taken_for_the_end(bench: Bench) -> None:
    await bench.put("stored", partition=1)
    await bench.put("comes again")
    away = [True]

    async def fault(batch: list[str]) -> None:
        await asyncio.sleep(0.01)
        if "comes again" in batch and away:
            raise Transient("the database is away")

    handled = Handled(fault)
    seen: set[bool | None] = set()

    async def look(consumer: BatchConsumer) -> None:
        while True:  # in every turn of the event loop
            ended = (await at_end(consumer)).get(0)
            if "comes again" not in handled.values():
                seen.add(ended)
            await asyncio.sleep(0)

    async with bench.consumer(handled) as consumer:
        looking = asyncio.create_task(look(consumer))
        await eventually(lambda: len(handled.batches) >= 5)
        away.clear()
        await eventually(lambda: "comes again" in handled.values())
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await until_at_end(consumer, 0, 1)
    assert True not in seen
    assert False in seen


async def test_a_record_that_a_bug_killed_holds_nothing_up(bench: Bench) -> None:
    await bench.put("fine", "poison")

    def fault(batch: list[str]) -> None:
        if "poison" in batch:
            raise ZeroDivisionError

    handled = Handled(fault)
    async with bench.consumer(handled) as consumer:
        await bench.dead(1)
        await until_at_end(consumer, 0, 1)


async def test_what_waits_counts_as_waiting_though_its_producers_clock_is_a_minute_ahead(bench: Bench) -> None:
    def fault(batch: list[str]) -> None:
        if "waits" in batch:
            raise Transient("the database is away")

    handled = Handled(fault)
    async with bench.consumer(handled, max_records=1) as consumer:
        await until_at_end(consumer, 0)
        await bench.put("done", "waits", clock_ahead=60)
        await eventually(lambda: "done" in handled.values())
        await eventually(lambda: len(handled.batches) > 4)
        async with asyncio.timeout(20):
            while (await at_end(consumer))[0]:  # noqa: ASYNC110 -- nobody tells
                await asyncio.sleep(0.05)


async def test_the_lag_is_told_in_trouble_too(bench: Bench) -> None:
    def fault(_batch: list[str]) -> None:
        raise Transient("the database is away")

    await bench.put("a", "b")
    async with bench.consumer(Handled(fault)):
        await eventually(lambda: lags().get("0") == 2)
        await bench.put("c", "d", "e")
        await eventually(lambda: lags().get("0") == 5)


async def test_the_lag_of_a_stopped_partition_grows_and_that_of_others_ends_at_nothing(bench: Bench) -> None:
    await bench.put(*[b"\xff"] * 3, "behind")
    await bench.put("fine", partition=1)
    async with bench.consumer(Handled(), dlq_run_limit=2, STOP_BASE=timedelta(hours=1)) as consumer:
        await eventually(consumer.unready)
        await eventually(lambda: {"0": 2, "1": 0}.items() <= lags().items())
        await bench.put("behind too")
        await eventually(lambda: {"0": 3, "1": 0}.items() <= lags().items())


async def test_the_lag_of_a_partition_that_went_elsewhere_is_not_told_here_any_more(bench: Bench) -> None:
    metrics.LAG.clear()  # of consumers before, in this process
    await bench.put("a", partition=0)
    await bench.put("a", partition=1)
    async with bench.consumer(Handled()):
        await eventually(lambda: {"0", "1"} <= lags().keys())
        async with AIOKafkaConsumer(
            bench.connection.name(WEBHOOKS.name),
            **bench.connection.client_options(),
            group_id=bench.connection.name(f"{GROUP}.{WEBHOOKS.name}"),
            enable_auto_commit=False,
        ) as elsewhere:
            await eventually(elsewhere.assignment)
            [gone] = elsewhere.assignment()
            await eventually(lambda: str(gone.partition) not in lags())
            assert str(1 - gone.partition) in lags()
