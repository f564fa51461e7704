"""Batches of different partitions in flight at once: each partition sees one batch after the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition

from libs.common.errors import Transient
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received
from tests.support.consumer_bench import Bench, Handled, header_of
from tests.support.logs import LogLines
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually

TWO = {"max_records": 5, "side_by_side": 2}


@pytest_asyncio.fixture
async def bench(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Bench]:
    await topics.create([WEBHOOKS, WEBHOOKS.dlq], partitions=3)
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with Producer(connection) as producer, AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as raw:
        yield Bench(connection, producer, raw)


def numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def holding_up_what_is_slow(let_go: asyncio.Event) -> Callable[[list[str]], Awaitable[None]]:
    async def fault(batch: list[str]) -> None:
        if "slow" in batch:
            await let_go.wait()

    return fault


@dataclass
class Watched(Handled):
    """A handler that waits a little, and sees which partitions are in hand, and which were twice."""

    in_flight: list[int] = field(default_factory=list)
    twice: set[int] = field(default_factory=set)
    together: int = 0

    async def __call__(self, batch: Sequence[Received[str]]) -> None:
        mine = {received.record.partition for received in batch}
        self.twice |= mine & set(self.in_flight)
        self.in_flight += mine
        self.together = max(self.together, len(self.in_flight))
        await asyncio.sleep(0.01)
        self.records += [received.record for received in batch]
        self.in_flight = [partition for partition in self.in_flight if partition not in mine]


async def test_partitions_are_handled_beside_each_other_and_each_in_its_order(bench: Bench) -> None:
    for partition in range(3):
        await bench.put(*numbered(43), partition=partition)
    handled = Watched()
    async with bench.consumer(handled, **TWO):
        await eventually(lambda: len(handled.records) >= 129)
    assert handled.together > 1
    assert not handled.twice
    assert [handled.values(partition) for partition in range(3)] == [numbered(43)] * 3
    assert await bench.committed(0, 1, 2) == [43] * 3


async def test_beside_a_full_batch_lone_records_of_others_are_handled_beside_each_other(bench: Bench) -> None:
    let_go = asyncio.Event()
    handled = Handled(holding_up_what_is_slow(let_go))
    await bench.put(*["slow"] * 5, "behind it", partition=0)
    async with bench.consumer(handled, **(TWO | {"side_by_side": 3})):
        await eventually(lambda: handled.batches)
        await bench.put("slow", partition=1)
        await eventually(lambda: len(handled.batches) == 2)
        await bench.put("beside both", partition=2)
        await eventually(lambda: len(handled.values(2)) == 1)
        await bench.put("and the next", partition=2)
        await eventually(lambda: len(handled.values(2)) == 2)
        assert not handled.values(0)
        let_go.set()
        await eventually(lambda: handled.values(0) == [*["slow"] * 5, "behind it"])
    assert await bench.committed(0, 1, 2) == [6, 1, 2]


async def test_a_batch_that_is_not_full_is_handled_alone(bench: Bench) -> None:
    let_go = asyncio.Event()
    handled = Handled(holding_up_what_is_slow(let_go))
    async with bench.consumer(handled, **TWO) as consumer:
        reader = consumer._runners[0].partitions.consumer
        assert reader is not None
        await bench.put("slow", partition=0)
        await eventually(lambda: handled.batches)
        await bench.put("a", "b", partition=1)
        beside = TopicPartition(bench.connection.name(WEBHOOKS.name), 1)
        await eventually(lambda: reader.highwater(beside) == 2)  # they could be taken now
        for _turn in range(10):
            await asyncio.sleep(0)
        assert handled.batches == [1]
        let_go.set()
        await eventually(lambda: handled.values(1) == ["a", "b"])


async def test_one_full_partition_is_handled_in_its_order(bench: Bench) -> None:
    await bench.put(*numbered(43))
    handled = Watched()
    async with bench.consumer(handled, **TWO):
        await eventually(lambda: len(handled.records) >= 43)
    assert handled.values() == numbered(43)
    assert not handled.twice
    assert await bench.committed(0) == [43]


async def test_through_an_outage_every_record_waits_and_the_trouble_is_told_once(
    bench: Bench, log_lines: LogLines
) -> None:
    for partition in range(2):
        await bench.put(*numbered(20), partition=partition)
    outage = iter(range(6))

    def fault(_batch: list[str]) -> None:
        if next(outage, None) is not None:
            raise Transient("the database is away")

    handled = Handled(fault)
    async with bench.consumer(handled, **TWO):
        await eventually(lambda: len(handled.records) >= 40)
        await eventually(lambda: len(log_lines.of("record.retried")) > 1)
    assert [handled.values(partition) for partition in range(2)] == [numbered(20)] * 2
    assert await bench.committed(0, 1) == [20, 20]
    assert [line["reason"] for line in log_lines.of("record.retried")] == ["Transient", "recovered"]


async def test_at_the_limit_one_partition_stops_while_the_other_goes_on(bench: Bench) -> None:
    await bench.put(*[b"\xff"] * 12, "behind", partition=0)
    await bench.put(*numbered(40), partition=1)
    handled = Handled()
    async with bench.consumer(handled, dlq_run_limit=7, STOP_BASE=timedelta(hours=1), **TWO) as consumer:
        await eventually(consumer.unready)
        await eventually(lambda: len(handled.records) >= 40)
        letters = await bench.dead(7)
    assert handled.values() == numbered(40)
    assert [header_of(letter, "source_offset") for letter in letters] == numbered(7)
    assert await bench.committed(0, 1) == [7, 40]


async def test_a_drain_finishes_both_batches_in_hand_and_takes_no_other(bench: Bench) -> None:
    for partition in range(3):
        await bench.put(*numbered(10), partition=partition)
    go_on = asyncio.Event()

    async def fault(_batch: list[str]) -> None:
        await go_on.wait()

    handled = Handled(fault)
    consumer = bench.consumer(handled, **TWO)
    await consumer.start()
    await eventually(lambda: len(handled.batches) == 2)
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.sleep(0.2)
    assert not stopping.done()
    go_on.set()
    await stopping
    assert len(handled.records) == 10
    assert sum(await bench.committed(0, 1, 2)) == 10


async def test_batches_that_do_not_end_are_broken_off_and_come_again(bench: Bench) -> None:
    for partition in range(2):
        await bench.put(*numbered(5), partition=partition)

    async def fault(_batch: list[str]) -> None:
        await asyncio.Event().wait()

    stuck = Handled(fault)
    consumer = bench.consumer(stuck, **TWO)
    await consumer.start()
    await eventually(lambda: len(stuck.batches) == 2)
    await consumer.stop(timeout=0.2)
    again = Handled()
    async with bench.consumer(again, **TWO):
        await eventually(lambda: len(again.records) >= 10)
    assert [again.values(partition) for partition in range(2)] == [numbered(5)] * 2


async def test_partitions_move_between_two_consumers_and_every_record_is_handled_in_its_order(bench: Bench) -> None:
    first, second = Watched(), Watched()
    sent = 0

    async def feed(count: int) -> None:
        nonlocal sent
        for partition in range(3):
            await bench.put(*numbered(sent + count)[sent:], partition=partition)
        sent += count

    async with bench.consumer(first, **TWO):
        await feed(100)
        await eventually(lambda: first.records)
        async with bench.consumer(second, **TWO):
            while not second.records:
                await feed(20)
                await asyncio.sleep(0.02)
        await feed(20)
        everything = numbered(sent)
        await eventually(lambda: all({*first.values(p), *second.values(p)} == {*everything} for p in range(3)))
        await eventually(lambda: all(first.values(p)[-1:] == everything[-1:] for p in range(3)) and not first.in_flight)
    assert await bench.committed(0, 1, 2) == [sent] * 3
    for handled in (first, second):
        assert not handled.twice
        for partition in range(3):
            seen = list(dict.fromkeys(handled.values(partition)))
            assert seen == sorted(seen, key=int)


async def test_from_aiokafkas_move_of_the_position_on_a_partition_is_in_flight_beside_others_too(bench: Bench) -> None:
    let_go = asyncio.Event()

    async def fault(_batch: list[str]) -> None:
        await let_go.wait()

    handled = Handled(fault)
    unseen: set[int] = set()

    async with bench.consumer(handled, **TWO) as consumer:
        partitions = consumer._runners[0].partitions

        async def look() -> None:
            while True:  # in every turn of the event loop
                assert partitions.consumer is not None
                moved = {place.partition for place, at in partitions.consumer.positions().items() if at}
                unseen.update(moved - partitions.in_flight.partitions)
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        await bench.put(*numbered(5), partition=0)
        await eventually(lambda: handled.batches)
        await bench.put("beside it", partition=1)
        await eventually(lambda: len(handled.batches) == 2)
        looking.cancel()
        let_go.set()
    assert not unseen
