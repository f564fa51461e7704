"""The records of one topic, read outside of any subscription, from fixed begins to fixed ends.

Rule 1: the ends are those of the moment at which reading began. So a run ends, although it writes into the topic that
        it reads.
Rule 2: records come in the order of their partition, and of several partitions the oldest first. What was read so far
        is therefore everything up to some time, but for producers whose clocks differ.
Rule 3: what is held in memory is one fetch for each partition, and a batch of ``BATCH`` records (of dead letters
        ``LETTERS``) or ``BATCH_BYTES``.
"""

import heapq
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.cli.replay.selection import Found, Selection
from libs.common.errors import ConfigurationError, Transient
from libs.common.kafka import aiokafka_patches
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.groups import committed

BATCH = 500
LETTERS = 50
"""Fewer than stop a partition where all of them die again."""
BATCH_BYTES = 8 * 1024 * 1024
_POLL_MS = 500
_PATIENCE = 60  # polls without an answer


@dataclass(slots=True)
class Reading:
    """An open reader and what it is to read: from ``begins`` to before ``ends``, by partition."""

    consumer: AIOKafkaConsumer
    begins: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    most: int = BATCH
    """Of a batch, in records."""
    _kept: dict[TopicPartition, deque[Found]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many offsets lie between begins and ends; not each of them needs to have a record."""
        return sum(max(0, end - self.begins[place]) for place, end in self.ends.items())

    async def batches(self) -> AsyncIterator[list[Found]]:
        """All records, in batches. Raises Transient where the brokers give no more."""
        heads: list[tuple[int, TopicPartition]] = []
        for place in self.ends:
            await self._push(heads, place)
        batch: list[Found] = []
        weight = 0
        while heads:
            _, place = heapq.heappop(heads)
            record = self._kept[place].popleft()
            batch.append(record)
            weight += len(record.value or b"")
            if len(batch) >= self.most or weight >= BATCH_BYTES:
                yield batch
                batch, weight = [], 0
            await self._push(heads, place)
        if batch:
            yield batch

    async def _push(self, heads: list[tuple[int, TopicPartition]], place: TopicPartition) -> None:
        """Put the partition's next record among the heads, if there is one."""
        kept = self._kept.setdefault(place, deque())
        silent = 0
        while not kept and await self.consumer.position(place) < self.ends[place]:
            found = await self.consumer.getmany(place, timeout_ms=_POLL_MS, max_records=BATCH)
            kept.extend(record for record in found.get(place, ()) if record.offset < self.ends[place])
            silent = 0 if found else silent + 1
            if silent > _PATIENCE:
                raise Transient(f"the brokers give no more of {place.topic}: repeat the command, which is safe")
        if kept:
            heapq.heappush(heads, (kept[0].timestamp, place))


@asynccontextmanager
async def reading(
    connection: KafkaConnection, admin: AIOKafkaAdminClient, selection: Selection
) -> AsyncIterator[Reading]:
    """A reader of the selection's topic: from its time, or from where the last run of a remembered one ended.

    Raises ConfigurationError where the topic or the partition does not exist.
    """
    aiokafka_patches.install()  # a compressed batch is inflated within a bound
    name = connection.name(selection.source.name)
    groups = selection.groups(connection) if selection.remembers else []
    consumer = AIOKafkaConsumer(
        **connection.client_options(),
        group_id=groups[0] if groups else None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",  # what a producer took back is not fed through
    )
    try:
        await consumer.start()
        places = await _places(admin, name, selection.partition)
        consumer.assign(places)
        begins: dict[TopicPartition, int] = await consumer.beginning_offsets(places)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
        for group in groups:
            done = await committed(admin, group, places)
            begins = {place: max(at, done.get(place, at)) for place, at in begins.items()}
        if selection.began is not None:
            since = int(selection.began.timestamp() * 1000)
            found = await consumer.offsets_for_times(dict.fromkeys(places, since))
            for place, at in found.items():
                begins[place] = ends[place] if at is None else max(begins[place], at.offset)
        for place in places:
            consumer.seek(place, begins[place])
        yield Reading(consumer, begins, ends, LETTERS if selection.dlq else BATCH)
    finally:
        await consumer.stop()


async def _places(admin: AIOKafkaAdminClient, name: str, partition: int | None) -> list[TopicPartition]:
    if name not in await admin.list_topics():
        raise ConfigurationError(f"the topic {name} does not exist: has `transom topics` created it?")
    (topic,) = await admin.describe_topics([name])
    numbers = sorted(each["partition"] for each in topic["partitions"])
    if partition is not None and partition not in numbers:
        raise ConfigurationError(f"--partition: {name} has the partitions 0 to {numbers[-1]}")
    return [TopicPartition(name, number) for number in numbers if partition in (None, number)]
