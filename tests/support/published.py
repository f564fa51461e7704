"""What stands on the topics under a test's prefix, read from their beginning whenever a test looks."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED, Topic
from tests.support.waiting import DEADLINE_SECONDS

Events = dict[str, list[dict[str, Any]]]
"""Events by topic, without the prefix."""


class Published:
    """The records of some topics. Each call reads to the end, so it returns all that was published before it."""

    def __init__(self, consumer: AIOKafkaConsumer, prefix: str, topics: Iterable[Topic]) -> None:
        self._consumer = consumer
        self._prefix = prefix
        self._names = [topic.name for topic in topics]
        self._read: dict[str, list[ConsumerRecord[bytes, bytes]]] = defaultdict(list)
        self._shown: dict[str, int] = defaultdict(int)

    async def records(self, topic: Topic, at_least: int = 0) -> list["ConsumerRecord[bytes, bytes]"]:
        """All records of a topic so far, once there are ``at_least`` this many."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._read_to_the_end()
            while len(self._read[topic.name]) < at_least:
                await self._read_some()
        return list(self._read[topic.name])

    async def events(self, topic: Topic, at_least: int = 0) -> list[dict[str, Any]]:
        """The same as decoded JSON."""
        return [orjson.loads(record.value or b"") for record in await self.records(topic, at_least)]

    async def updates(self) -> list[dict[str, Any]]:
        return await self.events(DELIVERY_UPDATES)

    async def refusals(self) -> list[dict[str, Any]]:
        return await self.events(OUTBOUND_REFUSED)

    async def new(self) -> Events:
        """What was published since the last call, by topic. Every event is an outbound one and has its key."""
        await self._read_to_the_end()
        found: Events = {}
        for name in self._names:
            records = self._read[name][self._shown[name] :]
            self._shown[name] += len(records)
            found[name] = [orjson.loads(record.value or b"") for record in records]
            for record, event in zip(records, found[name], strict=True):
                key = event["conversation_id"] or event.get("intent_id") or event["message_id"]
                assert record.key == key.encode()
        return found

    async def _read_to_the_end(self) -> None:
        ends = await self._consumer.end_offsets(sorted(self._consumer.assignment()))
        for partition, end in ends.items():
            while await self._consumer.position(partition) < end:
                await self._read_some()

    async def _read_some(self) -> None:
        for partition, records in (await self._consumer.getmany(timeout_ms=50)).items():
            self._read[partition.topic.removeprefix(self._prefix)] += records


@asynccontextmanager
async def published_on(bootstrap: str, prefix: str, topics: Iterable[Topic]) -> AsyncIterator[Published]:
    """Read these topics, which exist, without a consumer group."""
    wanted = tuple(topics)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50)
    await consumer.start()
    try:
        names = [f"{prefix}{topic.name}" for topic in wanted]
        consumer.assign(
            [TopicPartition(name, n) for name in names for n in sorted(consumer.partitions_for_topic(name) or {0})]
        )
        yield Published(consumer, prefix, wanted)
    finally:
        await consumer.stop()
