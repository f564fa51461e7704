"""What every floor has: the environment of a service, aiokafka as the services configure it, one batch after the other,
and nothing else.

A floor is the barest program that does a service's kind of work on the same servers: it knows no message, no tenant, no
failure.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from libs.common.events.topics import Topic
from libs.common.kafka.producer import BATCH_BYTES

Handle = Callable[[Sequence["ConsumerRecord[bytes, bytes]"]], Awaitable[None]]

BATCH = 500
READY = "floor ready"


def named(topic: Topic) -> str:
    """The topic's name in this run."""
    return os.environ["TRANSOM_TOPIC_PREFIX"] + topic.name


@asynccontextmanager
async def producing() -> AsyncIterator[AIOKafkaProducer]:
    """A producer that asks for the same acknowledgement, and lets as much travel together, as the services' own."""
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["TRANSOM_KAFKA_BOOTSTRAP"],
        acks="all",
        enable_idempotence=True,
        max_batch_size=BATCH_BYTES,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


@asynccontextmanager
async def database() -> AsyncIterator[asyncpg.Connection]:
    """One connection: a floor has one batch in hand."""
    db = await asyncpg.connect(os.environ["TRANSOM_POSTGRES_DSN"])
    try:
        yield db
    finally:
        await db.close()


async def publish(producer: AIOKafkaProducer, topic: Topic, records: Sequence[tuple[bytes, bytes]]) -> None:
    """Return when all are acknowledged."""
    name = named(topic)
    await asyncio.gather(*[await producer.send(name, value=value, key=key) for key, value in records])


async def consume(topic: Topic, handle: Handle) -> None:
    """Hand over batches as the services read them and commit each once it is handled; for ever."""
    consumer = AIOKafkaConsumer(
        named(topic),
        bootstrap_servers=os.environ["TRANSOM_KAFKA_BOOTSTRAP"],
        group_id=f"{os.environ['TRANSOM_TOPIC_PREFIX']}floor",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=5 * 1024 * 1024,
        fetch_max_bytes=8 * 1024 * 1024,
        fetch_max_wait_ms=10,  # a lone record must not wait for the fetch of the other partitions
    )
    await consumer.start()
    print(READY, flush=True)  # noqa: T201 -- for the starting process
    try:
        while True:
            found = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            if found:
                await handle([record for records in found.values() for record in records])
                await consumer.commit()
    finally:
        await consumer.stop()


def run(floor: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Until SIGTERM, which ends it without ceremony: a floor has nothing to lose."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(floor())
