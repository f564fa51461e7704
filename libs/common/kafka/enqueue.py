"""Records into aiokafka's accumulator, in their order, without what its ``send`` does anew for each of them.

``send`` waits for metadata, lists the topic's partitions, measures the record and makes a future, record by record. Here a topic is looked up
once per publish, and a batch has one future, aiokafka's own: resolved when the brokers acknowledged it, failed when they refused it or it came
too late. Several publishes share a batch as they do with ``send``; sequence numbers, retries and the order of batches stay aiokafka's.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerClosed
from aiokafka.partitioner import murmur2

from libs.common.kafka.records import Headers

_NO_HEADERS: list[tuple[str, bytes | None]] = []

Sendable = tuple[str, bytes | None, bytes | None, Headers]
"""Topic as the broker calls it, key, value, headers."""


async def enqueue(
    inner: AIOKafkaProducer, records: Iterable[Sendable], acknowledgements: "set[asyncio.Future[Any]]"
) -> None:
    """Hand over every record; ``acknowledgements`` gets what is to be awaited, also of those handed over before a failure.

    Waits where a partition's batch is full, without a bound of its own. Raises KafkaError.
    """
    accumulator = inner._message_accumulator  # noqa: SLF001 -- its public way costs a third of what the router spends on a record
    known: dict[str, list[TopicPartition]] = {}
    _check(accumulator)
    for topic, key, value, headers in records:
        every = known.get(topic)
        if every is None:
            every = known[topic] = _places(topic, len(await inner.partitions_for(topic)))
            _check(accumulator)
        place = partition(key, every, _with_leader(inner, topic) if key is None else ())
        while True:
            pending = accumulator._batches.get(place)  # noqa: SLF001 -- as above
            batch = pending[-1] if pending else accumulator._append_batch(accumulator.create_builder(), place)  # noqa: SLF001
            builder = batch._builder  # noqa: SLF001 -- as above
            given = list(headers) if headers else _NO_HEADERS
            if builder.append(timestamp=None, key=key, value=value, headers=given) is not None:
                acknowledgements.add(batch.future)
                break
            if not accumulator.waiter().done():  # full: wake the sender, and wait until it has taken the batch
                accumulator.waiter().set_result(None)
            await batch.wait_drain()
            _check(accumulator)


def partition(key: bytes | None, every: "Sequence[Any]", available: "Sequence[Any]") -> Any:
    """Where a record goes, as every Kafka client has it: by the hash of its key, anywhere without one."""
    return random.choice(available or every) if key is None else every[_hash(key) % len(every)]  # noqa: S311 -- no secret


@lru_cache(maxsize=16_384)
def _hash(key: bytes) -> int:
    """Kafka's own hash, in Python 7 µs for a conversation's id; a conversation comes more than once."""
    return int(murmur2(key)) & 0x7FFFFFFF


@lru_cache(maxsize=256)
def _places(topic: str, count: int) -> list[TopicPartition]:
    """A topic's partitions in their order; a broker numbers them from 0 without a gap."""
    return [TopicPartition(topic, number) for number in range(count)]


def _with_leader(inner: AIOKafkaProducer, topic: str) -> list[TopicPartition]:
    available = inner.client.cluster.available_partitions_for_topic(topic) or ()
    return [TopicPartition(topic, number) for number in available]


def _check(accumulator: Any) -> None:
    if accumulator._closed:  # noqa: SLF001 -- as above
        raise ProducerClosed
    if accumulator._exception is not None:  # noqa: SLF001 -- as above
        raise accumulator._exception  # noqa: SLF001 -- as above
