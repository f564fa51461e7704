"""Records gathered by partition, and handed to aiokafka as whole batches (``create_batch``, ``send_batch``).

Rule 1: while a request is on its way records gather, and leave together when its answer comes. A lone record waits for nothing.
        Where no answer comes within ``GATE_SECONDS`` they leave nevertheless: one partition never holds up another.
Rule 2: each partition has at most one batch in flight, so its records keep their order.
Rule 3: a full batch waits until the one in flight has ended, and the publish that has more records waits with it. This bounds memory.
Rule 4: sequence numbers and retries are aiokafka's. It retries a batch until the brokers take or refuse it.

aiokafka's ``send`` waits for metadata, lists the topic's partitions, measures the record and makes a future, record by record. That costs
four times as much. A batch is closed when aiokafka gets it, so it gets none before it can send it.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.partitioner import murmur2

from libs.common.kafka.records import Headers

GATE_SECONDS = 0.1
_NO_HEADERS: list[tuple[str, bytes | None]] = []

Sendable = tuple[str, bytes | None, bytes | None, Headers]
"""Topic on the broker, key, value, headers."""


@dataclass(slots=True)
class _Publish:
    """``pending`` counts the batches with records of it that have not ended, and one more while records are handed over."""

    ended: "asyncio.Future[None]"
    pending: int = 1
    failure: BaseException | None = None

    def ends(self, failure: BaseException | None) -> None:
        self.failure = self.failure or failure
        self.pending -= 1
        if not self.pending and not self.ended.done():
            self.ended.set_result(None)


@dataclass(slots=True)
class _Batch:
    """``left`` is resolved when the batch goes in flight; it exists only where a publish waits for that."""

    builder: Any
    publishes: list[_Publish] = field(default_factory=list)
    left: "asyncio.Future[None] | None" = None


class GroupCommit:
    """In front of one started aiokafka producer."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer
        self._gathering: dict[TopicPartition, _Batch] = {}
        self._in_flight: dict[TopicPartition, _Batch] = {}
        self._ready: list[TopicPartition] = []
        """Partitions whose batch gathers, with none in flight."""
        self._sending: asyncio.Task[None] | None = None
        self._gate: asyncio.TimerHandle | None = None
        """Closed while a request is believed to be on its way."""

    async def publish(self, topics: Iterable[str], records: Iterable[Sendable]) -> None:
        """Return when the brokers have acknowledged all records; ``topics`` are those of ``records``. Has no time limit of its own.

        After a cancellation or a failure, records that were handed over are sent nevertheless. Raises KafkaError.
        """
        places = {topic: _places(topic, len(await self.producer.partitions_for(topic))) for topic in topics}
        publish = _Publish(asyncio.get_running_loop().create_future())
        try:
            await self._hand_over(places, records, publish)
        finally:
            publish.ends(None)
        await publish.ended
        if publish.failure is not None:
            raise publish.failure

    async def stop(self) -> None:
        """Wait until all batches have ended, then stop aiokafka's producer."""
        while batches := (*self._gathering.values(), *self._in_flight.values()):
            await asyncio.wait({publish.ended for batch in batches for publish in batch.publishes})
        await self.producer.stop()

    async def _hand_over(
        self, places: Mapping[str, Sequence[TopicPartition]], records: Iterable[Sendable], publish: _Publish
    ) -> None:
        gathering = self._gathering
        for topic, key, value, headers in records:
            every = places[topic]
            place = partition(key, every, self._with_leader(topic) if key is None else ())
            given = list(headers) if headers else _NO_HEADERS
            batch = gathering.get(place) or self._begin(place)
            while batch.builder.append(timestamp=None, key=key, value=value, headers=given) is None:
                batch.left = batch.left or asyncio.get_running_loop().create_future()
                await asyncio.wait([batch.left])
                batch = gathering.get(place) or self._begin(place)
            if not batch.publishes or batch.publishes[-1] is not publish:
                batch.publishes.append(publish)
                publish.pending += 1

    def _begin(self, place: TopicPartition) -> _Batch:
        batch = self._gathering[place] = _Batch(self.producer.create_batch())
        if place not in self._in_flight:
            self._ready.append(place)
            self._send_soon()
        return batch

    def _send_soon(self) -> None:
        """In the next turn of the event loop, unless a request is on its way."""
        if self._gate is None and self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        ready, self._ready, self._sending = self._ready, [], None
        self._gate = asyncio.get_running_loop().call_later(GATE_SECONDS, self._open_gate)
        for place in ready:
            batch = self._in_flight[place] = self._gathering.pop(place)
            batch.builder.close()
            if batch.left is not None:
                batch.left.set_result(None)
            try:
                sent = await self.producer.send_batch(batch.builder, place.topic, partition=place.partition)
            except Exception as error:  # noqa: BLE001 -- the publishes raise it
                self._ended(place, batch, error)
            else:
                sent.add_done_callback(
                    lambda done, place=place, batch=batch: self._ended(place, batch, done.exception())
                )

    def _ended(self, place: TopicPartition, batch: _Batch, failure: BaseException | None) -> None:
        del self._in_flight[place]
        if place in self._gathering:
            self._ready.append(place)
        for publish in batch.publishes:
            publish.ends(failure)
        self._open_gate()

    def _open_gate(self) -> None:
        if self._gate is not None:
            self._gate.cancel()
            self._gate = None
        if self._ready:
            self._send_soon()

    def _with_leader(self, topic: str) -> list[TopicPartition]:
        available = self.producer.client.cluster.available_partitions_for_topic(topic) or ()
        return [TopicPartition(topic, number) for number in available]


def partition(key: bytes | None, every: "Sequence[Any]", available: "Sequence[Any]") -> Any:
    """The partition of a record, as every Kafka client chooses it: by the hash of its key, at random without a key."""
    return random.choice(available or every) if key is None else every[_hash(key) % len(every)]  # noqa: S311 -- no secret


@lru_cache(maxsize=16_384)
def _hash(key: bytes) -> int:
    """Kafka's own hash. It takes 7 µs in Python for a conversation's id, and a conversation comes more than once."""
    return int(murmur2(key)) & 0x7FFFFFFF


@lru_cache(maxsize=256)
def _places(topic: str, count: int) -> list[TopicPartition]:
    """A topic's partitions in their order; a broker numbers them from 0 without a gap."""
    return [TopicPartition(topic, number) for number in range(count)]
