"""One subscription: batches in, handled; dead letters out, acknowledged; then the offsets committed. In this order, always.

What is not committed comes again: after expected trouble the partitions are set back to their first record that is not done, and the lane
waits a little (0.1 s, doubling up to 5 s, jittered) before it is asked for the next batch, so that the group keeps hearing from us through any outage.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from libs.common.backoff import backoff
from libs.common.clock import Clock
from libs.common.errors import Permanent, TransomError
from libs.common.events.topics import Topic
from libs.common.kafka import metrics
from libs.common.kafka.dead_letter import dead_letter_record
from libs.common.kafka.isolate import DeadLetter, Entry, Isolation, Verdict
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Decode, Handle, RawRecord, Received, Rejected, check_headers

log = structlog.get_logger()

T = TypeVar("T")

RETRY_BASE, RETRY_CAP = timedelta(seconds=0.1), timedelta(seconds=5)
COMMIT_TIMEOUT = 10.0
STUCK_AFTER = 120.0
DETAIL_IN_LOG = 200
POSITION_TIMEOUT = 0.5
FRESH_MS = 2000

RawBatch = Sequence["ConsumerRecord[bytes, bytes]"]


@dataclass(frozen=True, slots=True)
class Subscription(Generic[T]):
    """A topic, how its records are understood, and who handles them.

    ``decode`` raises Undecodable (or any Permanent) for a record that is not what the topic promises; anything else it raises counts as
    ``undecodable`` too. ``handle`` gets what was understood, in order, and either handles all of it, or returns the few it must refuse
    (``Rejected``), or raises: Transient and the like → the same again later; anything else → the batch is halved to find the guilty record.
    ``handle`` must bear being given a record again.
    """

    topic: Topic
    decode: Decode[T]
    handle: Handle[T]
    max_records: int = 500


@dataclass(slots=True)
class Lane(Generic[T]):
    """The state of one subscription's consumer in this process."""

    subscription: Subscription[T]
    source_topic: str
    producer: Producer
    run_limit: int
    service: str
    now: Clock
    find_consumer: Callable[[], AIOKafkaConsumer | None] = lambda: None
    """Asked each time: FastStream may hand over the first batch before its start has returned."""
    stopped: dict[int, int] = field(default_factory=dict)
    """Partitions with too many dead letters in a row, and the offset where each stands."""
    _runs: dict[int, int] = field(default_factory=dict)
    _assignment: int = 0
    _failures: int = 0
    _cause: str = ""
    _busy_since: float | None = None
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._idle.set()

    async def on_batch(self, batch: RawBatch) -> None:
        """Handle what Kafka gave. Raises nothing: whatever happens, what is not done comes again."""
        if self._leaving.is_set() or not batch:
            return
        loop = asyncio.get_running_loop()
        self._busy_since = began = loop.time()
        self._idle.clear()
        try:
            await self._handle(batch)
        except Exception as error:
            log.exception("record.retried", topic=self.subscription.topic.name, reason=type(error).__name__)
            self._set_back(_firsts(batch), {})
            await self._wait(RETRY_CAP.total_seconds())
        finally:
            self._busy_since = None
            self._idle.set()
            metrics.BATCH_SECONDS.labels(self.subscription.topic.name).observe(loop.time() - began)

    async def _handle(self, batch: RawBatch) -> None:
        topic = self.subscription.topic.name
        assignment = self._assignment
        metrics.BATCH_RECORDS.labels(topic).observe(len(batch))
        isolation = Isolation(self.subscription.handle, self._pause, self.run_limit)
        verdict = await isolation.judge([self._understand(raw) for raw in batch], self._runs)
        if verdict.halvings:
            metrics.ISOLATIONS.labels(topic).inc()
        if verdict.dead:
            try:
                await self._bury(verdict.dead)
            except TransomError as error:
                verdict = Verdict(runs=self._runs, trouble=error)
        if assignment != self._assignment:
            return  # the partitions went elsewhere, or came back at their committed offset: what is not committed is read again
        self._runs = verdict.runs
        await self._commit(verdict.next_offsets)
        self._set_back(_firsts(batch), verdict.next_offsets, _ends(batch))
        for partition in verdict.stopped:
            self._stop(partition, verdict.next_offsets[partition])
        self._measure(batch, verdict)
        if verdict.trouble is not None:
            await self._after_trouble(verdict.trouble, len(batch))
        elif self._failures:
            log.info("record.retried", topic=topic, reason="recovered", attempt=self._failures)
            self._failures, self._cause = 0, ""

    def _understand(self, raw: "ConsumerRecord[bytes, bytes]") -> Entry[T]:
        record = RawRecord(
            self.subscription.topic.name, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, raw.headers
        )
        try:
            if record.headers:
                check_headers(record)
            return Received(self.subscription.decode(record), record)
        except Permanent as refusal:
            return Rejected(record, refusal.reason, refusal.detail)
        except Exception as error:  # noqa: BLE001 -- a bad record is a value, whatever a decoder makes of it
            return Rejected(record, "undecodable", type(error).__name__)

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        topic = self.subscription.topic
        failed_at = self.now()
        await self.producer.publish(
            [
                dead_letter_record(
                    letter, topic=topic, source_topic=self.source_topic, failed_at=failed_at, service=self.service
                )
                for letter in letters
            ]
        )
        for letter in letters:
            metrics.DEAD_LETTERED.labels(topic.name, letter.reason).inc()
            tell = log.error if letter.reason == "handler_failed" else log.warning
            tell(
                "record.dead_lettered",
                topic=topic.name,
                partition=letter.record.partition,
                offset=letter.record.offset,
                reason=letter.reason,
                detail=letter.detail[:DETAIL_IN_LOG],
                attempt=letter.attempts,
            )

    async def _commit(self, next_offsets: Mapping[int, int]) -> None:
        """A commit that fails is counted and told; the records come again after the next start or rebalance, which handlers bear."""
        if not next_offsets or self.consumer is None:
            return
        offsets = {TopicPartition(self.source_topic, partition): offset for partition, offset in next_offsets.items()}
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT):
                await self.consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            metrics.COMMIT_FAILURES.labels(self.subscription.topic.name).inc()
            log.warning("offsets.commit_failed", topic=self.subscription.topic.name, reason=type(error).__name__)

    def _set_back(
        self, firsts: Mapping[int, int], next_offsets: Mapping[int, int], ends: Mapping[int, int] | None = None
    ) -> None:
        """Let every partition that is not done to its end go on from its first record that is not done."""
        for partition, first in firsts.items():
            offset = next_offsets.get(partition, first)
            if self.consumer is None or (ends and offset == ends[partition]):
                continue
            try:
                self.consumer.seek(TopicPartition(self.source_topic, partition), offset)
            except IllegalStateError:  # no longer ours: whoever has it reads from the committed offset
                continue

    def _stop(self, partition: int, offset: int) -> None:
        self.stopped[partition] = offset
        metrics.STOPPED.labels(self.subscription.topic.name).set(len(self.stopped))
        self._hold()
        self.tell_stopped()

    def _hold(self) -> None:
        if self.consumer is not None:
            held = {TopicPartition(self.source_topic, partition) for partition in self.stopped}
            self.consumer.pause(*(held & self.consumer.assignment()))

    def tell_stopped(self) -> None:
        """One line per stopped partition."""
        for partition, offset in self.stopped.items():
            log.error(
                "consumer.stopped",
                topic=self.subscription.topic.name,
                partition=partition,
                offset=offset,
                reason="dlq_run_limit",
                records=self.run_limit,
            )

    async def _after_trouble(self, error: Exception, records: int) -> None:
        self._failures += 1
        cause = type(error).__name__
        metrics.RETRIES.labels(self.subscription.topic.name, cause).inc()
        if cause != self._cause:
            self._cause = cause
            log.warning(
                "record.retried",
                topic=self.subscription.topic.name,
                reason=cause,
                detail=str(error)[:DETAIL_IN_LOG] if isinstance(error, TransomError) else "",
                attempt=self._failures,
                records=records,
            )
        wait = backoff(self._failures, base=RETRY_BASE, cap=RETRY_CAP, jitter=random.random)
        await self._wait(wait.total_seconds())

    async def _pause(self, attempt: int) -> bool:
        wait = backoff(attempt - 1, base=RETRY_BASE, cap=RETRY_CAP, jitter=random.random)
        await self._wait(wait.total_seconds())
        return not self._leaving.is_set()

    async def _wait(self, seconds: float) -> None:
        """Sleep, but wake up to leave."""
        try:
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        except TimeoutError:
            return

    def _measure(self, batch: RawBatch, verdict: Verdict) -> None:
        topic = self.subscription.topic.name
        firsts = _firsts(batch)
        done = sum(1 for raw in batch if raw.offset < verdict.next_offsets.get(raw.partition, firsts[raw.partition]))
        metrics.HANDLED.labels(topic).inc(done)
        for partition, offset in verdict.next_offsets.items():
            if self.consumer is None:
                return
            end = self.consumer.highwater(TopicPartition(self.source_topic, partition))
            if end is not None:
                metrics.LAG.labels(topic, str(partition)).set(max(0, end - offset))

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        return self.find_consumer()

    # -- what the consumer around it asks and tells

    def leave(self) -> None:
        """No new batch, no more waiting; the batch in hand is finished."""
        self._leaving.set()

    async def until_idle(self, patience: float) -> None:
        """Wait for the batch in hand, at most ``patience`` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            return

    def lost(self) -> None:
        """The partitions are being given out anew: what is under way may no longer be committed."""
        self._assignment += 1
        self._runs = {partition: run for partition, run in self._runs.items() if partition in self.stopped}

    def gained(self, assigned: set[TopicPartition]) -> None:
        """A stopped partition that comes back to us stays stopped; one that went elsewhere is another's concern."""
        ours = {partition.partition for partition in assigned}
        self.stopped = {partition: offset for partition, offset in self.stopped.items() if partition in ours}
        metrics.STOPPED.labels(self.subscription.topic.name).set(len(self.stopped))
        self._hold()

    async def read_to_end(self) -> dict[int, bool]:
        """Our partitions, and whether each was read to its end (not: handled) by the brokers' word of the last ``FRESH_MS``."""
        consumer = self.consumer
        ended: dict[int, bool] = {}
        for partition in consumer.assignment() if consumer is not None else ():
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

    def unready(self) -> str | None:
        """Why this lane needs somebody's attention, or None."""
        topic = self.subscription.topic.name
        if self.stopped:
            partitions = ", ".join(str(partition) for partition in sorted(self.stopped))
            return f"{topic}: {self.run_limit} dead letters in a row, stopped at partition {partitions}"
        if self._busy_since is not None:
            busy = asyncio.get_running_loop().time() - self._busy_since
            if busy > STUCK_AFTER:
                return f"{topic}: one batch has been in hand for {busy:.0f} s"
        return None


def _firsts(batch: RawBatch) -> dict[int, int]:
    firsts: dict[int, int] = {}
    for raw in batch:
        firsts.setdefault(raw.partition, raw.offset)
    return firsts


def _ends(batch: RawBatch) -> dict[int, int]:
    return {raw.partition: raw.offset + 1 for raw in batch}
