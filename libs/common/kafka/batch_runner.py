"""Runs the batches of one subscription, always in this order: handle, publish the dead letters, commit the offsets.

No batch waits for the brokers' answer to a commit: the next one is handled meanwhile.

What is not committed is read again. After a retryable error the partitions are rewound to their first unfinished
record, and the runner waits before it takes the next batch: 0.1 s at first, doubling up to 5 s, jittered. Meanwhile the
consumer's heartbeats go on.

A full batch means that more records wait. Where the subscription allows it, the next batches of other partitions are
then taken beside it, full or not, so that one is worked on while the other waits for the database or an
acknowledgement. No partition is in two batches at once, so each partition sees one batch after the other.

A batch that is not full runs alone where none is in flight: smaller batches cost more processor time for each record.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

from aiokafka import ConsumerRecord

from libs.common import metrics
from libs.common.backoff import backoff
from libs.common.clock import Clock
from libs.common.errors import Permanent, Transient, TransomError
from libs.common.kafka.batch_processor import (
    STATEMENT_TOO_SLOW,
    BatchProcessor,
    BatchResult,
    DeadLetter,
    Entry,
    Remember,
)
from libs.common.kafka.dead_letter import DETAIL_IN_LOG, DeadLetterLog, publish_letters, shapes_of
from libs.common.kafka.partitions import Partitions, RawBatch, firsts
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import RawRecord, Received, Reject, Skipped, check_headers
from libs.common.kafka.rewinding_consumer import FailureStreak
from libs.common.kafka.stalls import describe
from libs.common.kafka.topology import Subscription
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable, is_statement_timeout

log = get_logger()

T = TypeVar("T")

RETRY_BASE, RETRY_CAP = timedelta(seconds=0.1), timedelta(seconds=5)
UNREADABLE_AFTER = 60.0
SUSPECT_WAIT = 0.25
REPORT_INTERVAL = 60.0
_OURS = frozenset({"handler_failed", "undecodable", "batch_unreadable", STATEMENT_TOO_SLOW})
"""Reasons of records that somebody may read: once the release is mended, or the database is quicker."""


@dataclass(slots=True)
class BatchRunner(Generic[T]):
    """Runs the batches of one subscription in this process."""

    subscription: Subscription[T]
    partitions: Partitions
    producer: Producer
    service: str
    now: Clock
    remember: Remember | None = None
    """Stores a trace of dead letters before they are published."""
    _failures: int = 0
    """Retryable errors in a row, for the back-off."""
    _retries: int = 0
    _cause: str = ""
    _failing_since: float = 0.0
    """How many errors, the latest and the time of the first, as long as a partition is failing; for the log."""
    _lag_reported: float = -REPORT_INTERVAL
    _server_away: bool = False
    """The latest error was a server that is away, not work that takes too long."""
    _began: list[float] = field(default_factory=list)
    """When each batch in flight was taken."""
    _background: set[asyncio.Task[None]] = field(default_factory=set)
    """The batches in flight that FastStream does not wait for."""
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)
    _letter_log: DeadLetterLog = field(init=False)
    _processor: BatchProcessor[T] = field(init=False)
    _generation: int = 0
    """The generation whose records the processor remembers."""

    def __post_init__(self) -> None:
        self._idle.set()
        self._letter_log = DeadLetterLog(self.subscription.topic.name)
        self._processor = BatchProcessor(self.subscription.handle, self._pause, self.partitions.run_limit)

    async def on_batch(self, batch: RawBatch) -> None:
        """Run a batch that was read. Raises nothing: what is not finished is read again."""
        if self._leaving.is_set() or not batch:
            return
        held = self.partitions.take(batch)
        began = asyncio.get_running_loop().time()
        self._began.append(began)
        self._idle.clear()
        running = self._run(batch, held, began, self.partitions.generation)
        is_full = len(batch) >= self.subscription.max_records
        if self.subscription.side_by_side == 1 or not (is_full or self._background):
            await running
            return
        task = asyncio.create_task(running)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        self.partitions.restrict_fetch()
        while len(self._background) >= self.subscription.side_by_side:
            await asyncio.wait(self._background, return_when=asyncio.FIRST_COMPLETED)

    async def _run(self, batch: RawBatch, held: frozenset[int], began: float, generation: int) -> None:
        """``generation``: that in which the batch was read. A task begins later."""
        try:
            await self._handle(batch, generation)
        except Exception as error:
            log.exception("record.retried", topic=self.subscription.topic.name, reason=type(error).__name__)
            self.partitions.rewind(batch, {})
            await self._wait(RETRY_CAP.total_seconds())
        finally:
            self.partitions.in_flight.give_back(held)
            self._began.remove(began)
            if not self._began:
                self._idle.set()
            metrics.BATCH_SECONDS.labels(self.subscription.topic.name).observe(
                asyncio.get_running_loop().time() - began
            )

    async def _handle(self, batch: RawBatch, generation: int) -> None:
        topic = self.subscription.topic.name
        partitions = self.partitions
        metrics.BATCH_RECORDS.labels(topic).observe(len(batch))
        if self._generation != generation:
            self._generation = generation
            self._processor.forget()
        begun = {p: partitions.open_offsets.get(p, first) for p, first in firsts(batch).items()}
        partitions.stalls.waits_at(begun, asyncio.get_running_loop().time())
        partitions.progress.begin(batch)
        result = await self._processor.process([self._decode(raw) for raw in batch], partitions.runs)
        if result.splits:
            metrics.BATCH_ISOLATIONS.labels(topic).inc()
        if result.dead:
            try:
                await self._publish_letters(result.dead)
            except TransomError as error:
                result = BatchResult(transient_error=error)
        if generation != partitions.generation:
            return  # a rebalance: reading begins at the committed offsets, here or elsewhere
        partitions.runs |= {partition: result.runs[partition] for partition in result.next_offsets}
        partitions.commits.soon(result.next_offsets)
        partitions.open_offsets = self._processor.open_offsets()  # as of now: other batches were processed meanwhile
        partitions.rewind(batch, result.next_offsets | result.resume)
        partitions.reset_stops(result.readable)
        for partition in result.stopped:
            letters = [letter for letter in result.dead if letter.record.partition == partition]
            unreadable = not any(letter.reason in _OURS for letter in letters)
            partitions.stop(partition, result.next_offsets[partition], unreadable=unreadable)
        partitions.measure(batch, result.next_offsets)
        for record in result.suspected:
            log.warning(
                "record.retried",
                topic=topic,
                partition=record.partition,
                offset=record.offset,
                reason=STATEMENT_TOO_SLOW,
            )
        await self._after(batch, result)

    async def _after(self, batch: RawBatch, result: BatchResult) -> None:
        """Log what failed, and wait before the unfinished records are read again."""
        partitions = self.partitions
        if result.transient_error is not None:
            if not partitions.failing:
                self._retries, self._cause = 0, ""
                self._failing_since = asyncio.get_running_loop().time()
            partitions.failing.update(raw.partition for raw in batch)
            _forget_frames(result.transient_error)
            await self._back_off(result.transient_error, len(batch))
            return
        if result.wait:
            await self._wait(min(result.wait, SUSPECT_WAIT))
            return
        partitions.failing.difference_update(raw.partition for raw in batch)
        self._failures = 0
        if self._retries and not partitions.failing:
            log.info("record.retried", topic=self.subscription.topic.name, reason="recovered", attempt=self._retries)
            self._retries, self._cause = 0, ""

    def _decode(self, raw: "ConsumerRecord[bytes, bytes]") -> Entry[T]:
        record = RawRecord(
            self.subscription.topic.name, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, raw.headers
        )
        if isinstance(raw.value, Skipped):
            return Reject(record, raw.value.reason, raw.value.detail, stops=raw.value.reason == "batch_unreadable")
        try:
            if record.headers:
                check_headers(record)
            return Received(self.subscription.decode(record), record)
        except Permanent as refusal:
            return Reject(record, refusal.reason, refusal.detail, refusal.stops)
        except Exception as error:  # noqa: BLE001 -- whatever a decoder raises, the record becomes a value
            return Reject(record, "undecodable", type(error).__name__, stops=True)

    async def _publish_letters(self, letters: Sequence[DeadLetter]) -> None:
        topic = self.subscription.topic
        failed_at = self.now()
        if self.remember is not None:
            try:
                await self.remember(letters, failed_at)
            except Exception as error:
                if is_retryable(error):
                    raise Transient("dead letters cannot be remembered now") from error
                log.exception("task.failed", task="remember")  # the letters are published without their trace
        await publish_letters(
            self.producer,
            [
                shapes_of(
                    letter,
                    topic=topic,
                    source_topic=self.partitions.source_topic,
                    failed_at=failed_at,
                    service=self.service,
                )
                for letter in letters
            ],
        )
        now = asyncio.get_running_loop().time()
        for letter in letters:
            metrics.DEAD_LETTERED.labels(topic.name, letter.reason).inc()
            self._letter_log.add(letter, now)

    async def _back_off(self, error: Exception, records: int) -> None:
        self._failures += 1
        self._retries += 1
        cause = type(error).__name__
        self._server_away = not is_statement_timeout(error)
        metrics.BATCH_RETRIES.labels(self.subscription.topic.name, cause).inc()
        if cause != self._cause:
            self._cause = cause
            log.warning(
                "record.retried",
                topic=self.subscription.topic.name,
                reason=cause,
                detail=str(error)[:DETAIL_IN_LOG] if isinstance(error, TransomError) else "",
                attempt=self._retries,
                records=records,
            )
        wait = backoff(self._failures, base=RETRY_BASE, cap=RETRY_CAP, jitter=random.random)
        await self._wait(wait.total_seconds())

    async def _pause(self, attempt: int) -> bool:
        wait = backoff(attempt - 1, base=RETRY_BASE, cap=RETRY_CAP, jitter=random.random)
        await self._wait(wait.total_seconds())
        return not self._leaving.is_set()

    async def _wait(self, seconds: float) -> None:
        """Sleep, but wake up when the consumer stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._leaving.wait()
        except TimeoutError:
            return

    # -- called by the consumer

    def leave(self) -> None:
        """Take no new batch and end all waits; the batches in flight are finished."""
        self._leaving.set()

    def break_off(self) -> None:
        """Cancel the batches in flight; their records are read again."""
        for task in self._background:
            task.cancel()

    def end(self) -> None:
        """Log what was counted and not logged yet."""
        self._letter_log.end(asyncio.get_running_loop().time())

    def retry(self, now: float) -> None:
        """Resume stopped partitions, retry slow records, log counted letters: what is due. Call it every second."""
        self.partitions.note_ends()
        self.partitions.retry_stopped(now)
        self._processor.rewound(self.partitions.rewind_to_open(self._processor.due()))
        self._letter_log.log_due(now)

    def deleted(self, partition: int, first: int) -> None:
        """What this partition had before ``first`` was deleted, and is read no more."""
        self._processor.deleted(partition, first)
        self.partitions.open_offsets = self._processor.open_offsets()
        self.partitions.processed[partition] = self.partitions.open_offsets.get(partition, first)

    async def until_idle(self, patience: float) -> None:
        """Wait until no batch is in flight and its offsets are committed, at most ``patience`` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
                await self.partitions.commits.until_done()
        except TimeoutError:
            return

    def report(self, now: float) -> None:
        """Log again what is still wrong; call it every ``REPORT_INTERVAL`` seconds.

        ``now`` is the event loop's time.
        """
        topic = self.subscription.topic.name
        self.partitions.log_stopped()
        if (failing := self._unreadable(now)) is not None:
            log.error("consumer.failing", topic=topic, reason=failing.cause, duration_ms=failing.seconds(now) * 1000)
        self.partitions.stalls.log(topic, now, self.partitions.assigned(), self._stall_cause())
        lasted = now - self._failing_since
        if self.partitions.failing and lasted >= REPORT_INTERVAL:
            log.warning(
                "record.retried", topic=topic, reason=self._cause, attempt=self._retries, duration_ms=lasted * 1000
            )

    def report_lag(self, now: float) -> None:
        """Log the lag that was measured, at most every ``REPORT_INTERVAL`` seconds of the event loop."""
        if self.partitions.lag and now - self._lag_reported >= REPORT_INTERVAL:
            self._lag_reported = now
            log.info("consumer.lag", topic=self.subscription.topic.name, records=sum(self.partitions.lag.values()))

    def _stall_cause(self) -> str:
        return self._cause or (STATEMENT_TOO_SLOW if self.partitions.open_offsets else "")

    def _unreadable(self, now: float) -> FailureStreak | None:
        """The read failures, when they have lasted too long."""
        consumer = self.partitions.consumer
        return None if consumer is None or consumer.failures.seconds(now) < UNREADABLE_AFTER else consumer.failures

    def unready(self, now: float, *, but_away: bool = False) -> str | None:
        """Why this runner needs attention, or None. ``now`` is the event loop's time.

        A retryable error is a reason once a partition has stalled. ``but_away``: not where a server is away, for the
        caller has other work that goes on.
        """
        topic = self.subscription.topic.name
        if self.partitions.stopped:
            stopped = ", ".join(str(partition) for partition in sorted(self.partitions.stopped))
            return f"{topic}: {self.partitions.run_limit} dead letters in a row, stopped at partition {stopped}"
        rebalancing = 0.0 if self.partitions.rebalancing_since is None else now - self.partitions.rebalancing_since
        if rebalancing > UNREADABLE_AFTER:
            return f"{topic}: its partitions have been given out anew for {rebalancing:.0f} s, and none has come"
        if (failing := self._unreadable(now)) is not None:
            return f"{topic}: cannot be read for {failing.seconds(now):.0f} s ({failing.cause})"
        if (
            self.partitions.commits.failing_since is not None
            and now - self.partitions.commits.failing_since > self.partitions.stalls.after
        ):
            return f"{topic}: nothing can be committed for {now - self.partitions.commits.failing_since:.0f} s"
        stalled = self.partitions.stalls.stalled(now, self.partitions.assigned())
        if but_away and self._server_away:
            stalled = {p: seconds for p, seconds in stalled.items() if p not in self.partitions.failing}
        if stalled:
            return describe(topic, stalled, self._stall_cause())
        return self.partitions.group_watch.unready(topic, now)


def _forget_frames(error: BaseException) -> None:
    """Let an error, and those that led to it, go without their frames, which hold the batch and the error itself.

    Such cycles are collected rarely (``libs.common.service``), and in an outage a batch is decoded every few seconds.
    """
    chain = [error]
    for one in chain:
        one.__traceback__ = None
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        chain += [e for e in (one.__cause__, one.__context__, *inner) if e is not None and e not in chain]
