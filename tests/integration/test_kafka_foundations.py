"""What we rely on in FastStream and aiokafka, shown on a real broker."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from deploy.local.servers.kafka import KafkaServer
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.rewinding_consumer import RewindingConsumer
from libs.common.kafka.topics import declare
from tests.support.consumer_bench import Bench, Handled
from tests.support.topics import OwnTopics
from tests.support.waiting import DEADLINE_SECONDS, eventually


@pytest_asyncio.fixture
async def two_partitions(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[str]:
    """The name of a topic with ten records on each of two partitions."""
    await topics.create([WEBHOOKS], partitions=2)
    name = f"{topics.prefix}{WEBHOOKS.name}"
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        for number in range(10):
            for partition in range(2):
                await producer.send_and_wait(name, f"{partition}-{number}".encode(), key=b"k", partition=partition)
    yield name


EVERYTHING = sorted(f"{partition}-{number}" for partition in range(2) for number in range(10))


async def test_a_batch_that_is_put_back_is_read_again_on_every_partition(
    kafka_bootstrap: str, two_partitions: str
) -> None:
    """FastStream up to 0.7.7 set back one partition only, and the next commit buried the others' records."""
    broker = KafkaBroker(kafka_bootstrap, consumer_only=True, allow_auto_create_topics=False, logger=None)
    seen: list[str] = []
    nacked: list[int] = []

    async def put_back_once(body: list[bytes], message: KafkaMessage) -> None:
        raw: Any = message.raw_message
        if not nacked and len({record.partition for record in raw}) < 2:
            await asyncio.sleep(0.05)  # both partitions are to be in the batch
            await message.nack()
            return
        if not nacked:
            nacked.append(len(raw))
            await message.nack()
            return
        seen.extend(value.decode() for value in body)
        await message.ack()

    broker.subscriber(
        two_partitions,
        batch=True,
        group_id=f"{two_partitions}.nack",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
    )(put_back_once)
    async with broker:
        await broker.start()
        await eventually(lambda: len(seen) >= 20)
    assert sorted(seen) == EVERYTHING


async def test_when_reading_raises_nothing_that_was_taken_in_the_same_breath_is_skipped(
    kafka_bootstrap: str, two_partitions: str
) -> None:
    """aiokafka alone moves on behind the records of partitions that it had already taken when another one raised."""
    raising = [True]

    def value(raw: bytes | None) -> bytes | None:
        if raising and raw == b"1-5":
            raise ValueError("cannot be unpacked")
        return raw

    first, second = (TopicPartition(two_partitions, partition) for partition in range(2))
    async with RewindingConsumer(
        bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest", value_deserializer=value
    ) as consumer:
        consumer.assign([first, second])
        consumer.pause(second)
        await eventually(lambda: consumer.highwater(first), "the first partition is fetched")
        consumer.resume(second)
        await eventually(lambda: consumer.highwater(second), "the second partition is fetched, behind the first")
        with pytest.raises(ValueError, match="unpacked"):
            await consumer.getmany(timeout_ms=1000)
        assert consumer.failures.cause == "ValueError"
        raising.clear()
        seen: list[str] = []
        async with asyncio.timeout(30):
            while len(seen) < 20:
                taken = await consumer.getmany(timeout_ms=200)
                seen += [(record.value or b"").decode() for records in taken.values() for record in records]
    assert sorted(seen) == EVERYTHING


async def test_a_partition_that_cannot_be_read_holds_up_no_other(kafka_bootstrap: str, two_partitions: str) -> None:
    raising = [True]

    def value(raw: bytes | None) -> bytes | None:
        if raising and raw == b"1-5":
            raise ValueError("cannot be unpacked")
        return raw

    seen: list[str] = []
    async with RewindingConsumer(
        bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest", value_deserializer=value
    ) as consumer:
        consumer.assign([TopicPartition(two_partitions, partition) for partition in range(2)])

        async def read() -> None:
            with suppress(ValueError):
                taken = await consumer.getmany(timeout_ms=200, max_records=3)
                seen.extend((record.value or b"").decode() for records in taken.values() for record in records)
            await asyncio.sleep(0.05)  # what was put back is fetched again, as after FastStream's wait

        async with asyncio.timeout(DEADLINE_SECONDS):
            while len([each for each in seen if each.startswith("0")]) < 10:
                await read()
            assert consumer.failures.cause == "ValueError"
            raising.clear()
            while len(seen) < 20:
                await read()
    assert sorted(seen) == EVERYTHING


async def test_partitions_take_turns_while_more_waits_than_one_call_returns(
    kafka_bootstrap: str, two_partitions: str
) -> None:
    """aiokafka alone gives all that it has of one partition before anything of the next."""
    first, second = (TopicPartition(two_partitions, partition) for partition in range(2))
    async with RewindingConsumer(bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([first, second])
        consumer.pause(second)
        await eventually(lambda: consumer.highwater(first), "the first partition is fetched")
        consumer.resume(second)
        await eventually(lambda: consumer.highwater(second), "the second partition is fetched, behind the first")
        calls = [await consumer.getmany(timeout_ms=1000, max_records=4) for _ in range(5)]
    assert [{place.partition: len(records) for place, records in call.items()} for call in calls] == [
        {0: 4},
        {1: 4},
        {0: 4},
        {1: 4},
        {0: 2, 1: 2},
    ]
    seen = [(record.value or b"").decode() for call in calls for records in call.values() for record in records]
    assert sorted(seen) == EVERYTHING


async def test_what_was_fetched_and_not_read_is_freed_by_a_rewind(kafka_bootstrap: str, two_partitions: str) -> None:
    """While a server of the handlers is away the same records are fetched every few seconds."""
    place = TopicPartition(two_partitions, 0)
    async with RewindingConsumer(bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([place])
        assert await consumer.getmany(timeout_ms=10_000, max_records=4)
        gc.collect()
        gc.disable()
        try:
            before = fetched_and_alive()
            consumer.seek(place, 0)
            assert fetched_and_alive() == before - 1
        finally:
            gc.enable()
        seen = [await consumer.getone() for _ in range(10)]
    assert [record.offset for record in seen] == list(range(10))


def fetched_and_alive() -> int:
    return sum(isinstance(one, PartitionRecords) for one in gc.get_objects())


@pytest.mark.parametrize("end", [KafkaServer.stop, KafkaServer.kill], ids=["stopped", "killed"])
async def test_consumer_and_producer_survive_a_broker_that_goes_and_comes_back(
    own_kafka: KafkaServer, end: Callable[[KafkaServer], None]
) -> None:
    connection = KafkaConnection(own_kafka.address)
    await declare(connection, [WEBHOOKS], partitions=1)
    handled = Handled()
    async with (
        Producer(connection) as producer,
        AIOKafkaProducer(bootstrap_servers=own_kafka.address) as raw,
    ):
        bench = Bench(connection, producer, raw)
        async with bench.consumer(handled) as consumer:
            await bench.put("before")
            await eventually(lambda: handled.records)
            await asyncio.to_thread(end, own_kafka)
            await asyncio.to_thread(own_kafka.start)
            await bench.put("after")
            await eventually(lambda: "after" in handled.values())
            assert consumer.unready() is None
            async with asyncio.timeout(DEADLINE_SECONDS):  # a commit that failed meanwhile is made again
                while await bench.committed(0) != [2]:  # noqa: ASYNC110 -- the brokers tell nobody
                    await asyncio.sleep(0.05)
