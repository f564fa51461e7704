"""Kafka as the bench uses it: topics of one run, records in before the clock runs, and what came out when.

What came out is judged by the timestamps that the producer gave its records (milliseconds), read when all is over:
nobody reads along and takes processor time from what is measured. The end is found by asking for the partitions' ends a
few times a second.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from libs.common.events.topics import Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.topics import declare, delete

_LOOK_SECONDS = 0.1
_CHUNK = 5_000

Publish = Callable[[Topic, bytes, bytes], Awaitable[None]]
"""Topic, key, value."""


@asynccontextmanager
async def topics(connection: KafkaConnection, wanted: Sequence[Topic]) -> AsyncIterator[None]:
    """These topics under the connection's prefix, as declared; everything under the prefix is deleted afterwards."""
    await declare(connection, wanted)
    try:
        yield
    finally:
        await delete(connection)


async def fill(connection: KafkaConnection, topic: Topic, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Produce (key, value); all are acknowledged when this returns."""
    producer = AIOKafkaProducer(**connection.client_options(), linger_ms=5, max_batch_size=256 * 1024)
    await producer.start()
    try:
        waiting = []
        for key, value in records:
            waiting.append(await producer.send(connection.name(topic.name), value=value, key=key))
            if len(waiting) >= _CHUNK:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()


@asynccontextmanager
async def producing(connection: KafkaConnection) -> AsyncIterator[Publish]:
    """Puts one record after the other on topics; each is acknowledged when the call returns."""
    producer = AIOKafkaProducer(**connection.client_options())
    await producer.start()
    try:

        async def publish(topic: Topic, key: bytes, value: bytes) -> None:
            await producer.send_and_wait(connection.name(topic.name), value=value, key=key)

        yield publish
    finally:
        await producer.stop()


async def until(connection: KafkaConnection, topic: Topic, count: int) -> None:
    """Return once the topic holds ``count`` records."""
    async with _reader(connection, topic) as consumer:
        partitions = sorted(consumer.assignment())
        while sum((await consumer.end_offsets(partitions)).values()) < count:  # noqa: ASYNC110 -- the brokers can only be polled
            await asyncio.sleep(_LOOK_SECONDS)


async def instants(connection: KafkaConnection, topic: Topic) -> list[float]:
    """The timestamps of everything in the topic, in seconds, in no particular order."""
    return [at for at, _ in await read(connection, topic)]


async def read(connection: KafkaConnection, topic: Topic) -> list[tuple[float, bytes]]:
    """Timestamp (seconds) and value of everything in the topic, in no particular order."""
    found: list[tuple[float, bytes]] = []
    async with _reader(connection, topic) as consumer:
        ends = await consumer.end_offsets(sorted(consumer.assignment()))
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.timestamp / 1000, record.value) for record in records]
    return found


@asynccontextmanager
async def _reader(connection: KafkaConnection, topic: Topic) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**connection.client_options(), auto_offset_reset="earliest", fetch_max_wait_ms=50)
    await consumer.start()
    try:
        name = connection.name(topic.name)
        consumer.assign([TopicPartition(name, number) for number in range(topic.partitions)])
        yield consumer
    finally:
        await consumer.stop()
