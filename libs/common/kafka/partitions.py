"""The partitions of one topic that are ours: how far each is committed, where reading goes on, which ones are stopped."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from libs.common.clock import Clock
from libs.common.kafka import metrics
from libs.common.logging import get_logger

log = get_logger()

COMMIT_TIMEOUT = 10.0
POSITION_TIMEOUT = 0.5
FRESH_MS = 2000


class InHand:
    """The partitions of which a batch is in hand; nothing more of them is read meanwhile."""

    def __init__(self) -> None:
        self.partitions: frozenset[int] = frozenset()
        self._changed = asyncio.Event()

    def take(self, partitions: AbstractSet[int]) -> frozenset[int]:
        """These are in hand now; returns what is to be given back."""
        self.partitions |= partitions
        return frozenset(partitions)

    def give_back(self, partitions: frozenset[int]) -> None:
        """These are not in hand any more."""
        self.partitions -= partitions
        self._changed.set()

    async def change(self, seconds: float) -> None:
        """Wait until some are given back, at most so long."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


RawBatch = Sequence["ConsumerRecord[bytes, bytes]"]


@dataclass(slots=True)
class Partitions:
    """``topic`` is the declared name, ``source_topic`` the one on the broker; partitions are numbers."""

    topic: str
    source_topic: str
    now: Clock
    run_limit: int
    find_consumer: Callable[[], AIOKafkaConsumer | None] = lambda: None
    """Asked each time: FastStream may hand over the first batch before its start has returned."""
    runs: dict[int, int] = field(default_factory=dict)
    """Dead letters in a row so far."""
    stopped: dict[int, int] = field(default_factory=dict)
    """Partitions with too many dead letters in a row, and the offset where each stands."""
    assignment: int = 0
    """Grows whenever the partitions are given out anew."""
    owed: dict[int, int] = field(default_factory=dict)
    """Handled up to here, but the commit failed."""
    in_hand: InHand = field(default_factory=InHand)
    troubled: set[int] = field(default_factory=set)
    """Partitions whose last batch ended in expected trouble."""
    _committing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        return self.find_consumer()

    def withhold(self) -> None:
        """Let the consumer read, from now on, only partitions of which no batch is in hand."""
        if self.consumer is not None:
            self.consumer.in_hand = self.in_hand

    async def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Commit these and what is owed.

        What fails is counted, told and owed; without ``pay`` the records would come again after the next start or rebalance, which
        handlers bear.
        """
        assignment = self.assignment
        async with self._committing:  # one after the other, or an older offset could overtake a newer one
            if assignment != self.assignment:
                return  # given out anew while this one waited: perhaps no longer ours, and then no commit with it would pass any more
            self.owed |= next_offsets
            if not self.owed or self.consumer is None:
                return
            owed = dict(self.owed)
            try:
                async with asyncio.timeout(COMMIT_TIMEOUT):
                    await self.consumer.commit(
                        {self._on_broker(partition): offset for partition, offset in owed.items()}
                    )
            except (KafkaError, TimeoutError) as error:
                metrics.COMMIT_FAILURES.labels(self.topic).inc()
                log.warning("offsets.commit_failed", topic=self.topic, reason=type(error).__name__)
                if assignment == self.assignment:
                    return
            self.owed.clear()  # committed, or no longer ours to commit

    async def pay(self) -> None:
        """Try again what is owed: on a topic that went quiet no batch would."""
        if self.owed:
            await self.commit({})

    def set_back(self, batch: RawBatch, next_offsets: Mapping[int, int]) -> None:
        """Let every partition of ``batch`` that is not done to its end go on from its first record that is not done."""
        ends = {raw.partition: raw.offset + 1 for raw in batch}
        for partition, first in firsts(batch).items():
            offset = next_offsets.get(partition, first)
            if self.consumer is None or offset == ends[partition]:
                continue
            try:
                self.consumer.seek(self._on_broker(partition), offset)
            except IllegalStateError:  # no longer ours: whoever has it reads from the committed offset
                continue

    def stop(self, partition: int, offset: int) -> None:
        """Read no more of a partition."""
        self.stopped[partition] = offset
        self._hold()
        self.tell_stopped()

    def tell_stopped(self) -> None:
        """One line per stopped partition."""
        for partition, offset in self.stopped.items():
            log.error(
                "consumer.stopped",
                topic=self.topic,
                partition=partition,
                offset=offset,
                reason="dlq_run_limit",
                records=self.run_limit,
            )

    def lost(self) -> None:
        """The partitions are being given out anew: what is under way may no longer be committed."""
        self.assignment += 1
        self.owed.clear()
        self.troubled.clear()

    def gained(self, assigned: set[TopicPartition]) -> None:
        """A stopped partition that comes back to us stays stopped; one that went elsewhere is another's concern."""
        ours = {partition.partition for partition in assigned}
        self.stopped = {partition: offset for partition, offset in self.stopped.items() if partition in ours}
        self.runs = {partition: run for partition, run in self.runs.items() if partition in self.stopped}
        self._hold()

    async def read_to_end(self) -> dict[int, bool]:
        """Our partitions, and whether each was read to its end (not: handled) by the brokers' word of the last ``FRESH_MS``."""
        consumer = self.consumer
        if consumer is None:
            return {}
        ended: dict[int, bool] = {}
        for partition in consumer.assignment():
            try:
                async with asyncio.timeout(POSITION_TIMEOUT):
                    position = await consumer.position(partition)
                end, polled_ms = consumer.highwater(partition), consumer.last_poll_timestamp(partition)
            except (KafkaError, TimeoutError, AssertionError):  # aiokafka asserts that it is still ours
                ended[partition.partition] = False
                continue
            fresh = polled_ms is not None and self.now().timestamp() * 1000 - polled_ms <= FRESH_MS
            ended[partition.partition] = fresh and end is not None and position >= end
        return ended

    def measure(self, batch: RawBatch, next_offsets: Mapping[int, int]) -> None:
        """Count what is done and how far behind the end each partition is."""
        begun = firsts(batch)
        done = sum(1 for raw in batch if raw.offset < next_offsets.get(raw.partition, begun[raw.partition]))
        metrics.HANDLED.labels(self.topic).inc(done)
        for partition, offset in next_offsets.items():
            try:
                end = self.consumer.highwater(self._on_broker(partition)) if self.consumer is not None else None
            except AssertionError:  # aiokafka asserts that it is still ours
                continue
            if end is not None:
                metrics.LAG.labels(self.topic, str(partition)).set(max(0, end - offset))

    def _hold(self) -> None:
        metrics.STOPPED.labels(self.topic).set(len(self.stopped))
        if self.consumer is not None:
            held = {self._on_broker(partition) for partition in self.stopped}
            self.consumer.pause(*(held & self.consumer.assignment()))

    def _on_broker(self, partition: int) -> TopicPartition:
        return TopicPartition(self.source_topic, partition)


def firsts(batch: RawBatch) -> dict[int, int]:
    """The first offset of each partition in ``batch``."""
    found: dict[int, int] = {}
    for raw in batch:
        found.setdefault(raw.partition, raw.offset)
    return found
