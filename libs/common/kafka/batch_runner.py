"""One subscription: batches in, handled; dead letters out, acknowledged; then the offsets committed. In this order, always.

What is not committed comes again: after expected trouble the partitions are set back to their first record that is not done, and the runner
waits a little (0.1 s, doubling up to 5 s, jittered) before it is asked for the next batch, so that the group keeps hearing from us through any outage.

Behind a full batch others wait. Where a subscription allows it, one of other partitions is then taken beside it, so that one is worked on while the
other waits for a database, an acknowledgement or a commit. No partition is in two batches at once: for each of them everything is as if
there were one batch after the other.
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
from libs.common.errors import Permanent, Transient, TransomError, Unreadable
from libs.common.events.base import named_type, read_json_object
from libs.common.kafka.batch_processor import STATEMENT_TOO_SLOW, BatchProcessor, BatchResult, DeadLetter, Entry
from libs.common.kafka.dead_letter import publish_letters, shapes_of
from libs.common.kafka.partitions import Partitions, RawBatch, firsts
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import RawRecord, Received, Reject, Skipped, check_headers
from libs.common.kafka.rewinding_consumer import FailureStreak
from libs.common.kafka.stalls import describe
from libs.common.kafka.subscription import Remember, Subscription
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable, is_statement_timeout
from libs.common.tally import Tally, Told

log = get_logger()

T = TypeVar("T")

RETRY_BASE, RETRY_CAP = timedelta(seconds=0.1), timedelta(seconds=5)
UNREADABLE_AFTER = 60.0
SUSPECT_WAIT = 0.25
REPORT_INTERVAL = 60.0
DETAIL_IN_LOG = 200
_STRANGE = frozenset({"unknown_type", "unknown_value", "unknown_version"})
"""Another release wrote it: told apart by the event's type, and somebody must roll out or feed it through again."""
_LOUD = _STRANGE | {"handler_failed", STATEMENT_TOO_SLOW, "batch_too_large", "batch_unreadable"}


@dataclass(slots=True)
class BatchRunner(Generic[T]):
    """What one subscription does with its batches in this process."""

    subscription: Subscription[T]
    partitions: Partitions
    producer: Producer
    service: str
    now: Clock
    remember: Remember | None = None
    """Leaves a trace of letters before they are published."""
    _failures: int = 0
    """In a row, for the back-off."""
    _trouble: int = 0
    _cause: str = ""
    _failing_since: float = 0.0
    """How often, why and since when, as long as a partition is in trouble; for the log."""
    _away: bool = False
    """Whether that is a server that is away, and not work that takes too long."""
    _began: list[float] = field(default_factory=list)
    """When each batch in hand was taken."""
    _beside: set[asyncio.Task[None]] = field(default_factory=set)
    """The batches in hand for which nobody waits."""
    _idle: asyncio.Event = field(default_factory=asyncio.Event)
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)
    _letters: Tally[tuple[str, str], DeadLetter] = field(default_factory=Tally)
    """By reason, for bugs also by what was raised, for what another release wrote by the event's type."""

    _processor: BatchProcessor[T] = field(init=False)
    _assignment: int = 0
    """Of which assignment the isolation remembers records."""

    def __post_init__(self) -> None:
        self._idle.set()
        self._processor = BatchProcessor(self.subscription.handle, self._pause, self.partitions.run_limit)

    async def on_batch(self, batch: RawBatch) -> None:
        """Handle what Kafka gave. Raises nothing: whatever happens, what is not done comes again."""
        if self._leaving.is_set() or not batch:
            return
        held = self.partitions.in_flight.take({raw.partition for raw in batch})
        began = asyncio.get_running_loop().time()
        self._began.append(began)
        self._idle.clear()
        taken = self._take(batch, held, began)
        if self.subscription.side_by_side == 1 or len(batch) < self.subscription.max_records:
            await taken
            return
        task = asyncio.create_task(taken)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        self.partitions.restrict_fetch()
        while len(self._beside) >= self.subscription.side_by_side:
            await asyncio.wait(self._beside, return_when=asyncio.FIRST_COMPLETED)

    async def _take(self, batch: RawBatch, held: frozenset[int], began: float) -> None:
        try:
            await self._handle(batch)
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

    async def _handle(self, batch: RawBatch) -> None:
        topic = self.subscription.topic.name
        partitions = self.partitions
        assignment = partitions.assignment
        metrics.BATCH_RECORDS.labels(topic).observe(len(batch))
        if self._assignment != assignment:
            self._assignment = assignment
            self._processor.forget()
        begun = {p: partitions.open_offsets.get(p, first) for p, first in firsts(batch).items()}
        partitions.stalls.wait_at(begun, asyncio.get_running_loop().time())
        result = await self._processor.process([self._understand(raw) for raw in batch], partitions.runs)
        if result.splits:
            metrics.BATCH_ISOLATIONS.labels(topic).inc()
        if result.dead:
            try:
                await self._dead_letter(result.dead)
            except TransomError as error:
                result = BatchResult(transient_error=error)
        if assignment != partitions.assignment:
            return  # the partitions went elsewhere, or came back at their committed offset: what is not committed is read again
        partitions.runs |= {partition: result.runs[partition] for partition in result.next_offsets}
        await partitions.commit(result.next_offsets)
        if assignment != partitions.assignment:
            return  # the commit crossed a rebalance: nothing of this batch is ours to set back or to stop any more
        partitions.open_offsets = (
            self._processor.open_offsets()
        )  # as it is now: batches beside this one have been judged meanwhile
        partitions.rewind(batch, result.next_offsets | result.resume)
        partitions.readable(result.readable)
        for partition in result.stopped:
            partitions.stop(partition, result.next_offsets[partition])
        partitions.measure(batch, result.next_offsets)
        for record in result.suspected:
            log.warning(
                "record.retried",
                topic=topic,
                partition=record.partition,
                offset=record.offset,
                reason=STATEMENT_TOO_SLOW,
            )
        await self._go_on(batch, result)

    async def _go_on(self, batch: RawBatch, result: BatchResult) -> None:
        """Say what trouble there is, and let some time pass before what is not done is read again."""
        partitions = self.partitions
        if result.transient_error is not None:
            if not partitions.failing:
                self._trouble, self._cause = 0, ""
                self._failing_since = asyncio.get_running_loop().time()
            partitions.failing.update(raw.partition for raw in batch)
            await self._after_trouble(result.transient_error, len(batch))
            return
        if result.wait:
            await self._wait(min(result.wait, SUSPECT_WAIT))
            return
        partitions.failing.difference_update(raw.partition for raw in batch)
        self._failures = 0
        if self._trouble and not partitions.failing:
            log.info("record.retried", topic=self.subscription.topic.name, reason="recovered", attempt=self._trouble)
            self._trouble, self._cause = 0, ""

    def _understand(self, raw: "ConsumerRecord[bytes, bytes]") -> Entry[T]:
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
        except Exception as error:  # noqa: BLE001 -- a bad record is a value, whatever a decoder makes of it
            return Reject(record, "undecodable", type(error).__name__, stops=True)

    async def _dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        topic = self.subscription.topic
        failed_at = self.now()
        if self.remember is not None:
            try:
                await self.remember(letters, failed_at)
            except Exception as error:
                if is_retryable(error):
                    raise Transient("dead letters cannot be remembered now") from error
                log.exception("task.failed", task="remember")  # the letters count, not their trace
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
            kind = letter.reason, _of_its_kind(letter)
            if (told := self._letters.add(kind, letter, now)) is not None:
                self._log_letters(told)

    def _log_letters(self, told: "Told[tuple[str, str], DeadLetter]") -> None:
        """One line for ``told.count`` letters of a kind, with the place of the last of them."""
        letter = told.sample
        tell = log.error if letter.reason in _LOUD else log.warning
        tell(
            "record.dead_lettered",
            topic=self.subscription.topic.name,
            partition=letter.record.partition,
            offset=letter.record.offset,
            reason=letter.reason,
            detail=letter.detail[:DETAIL_IN_LOG],
            attempt=letter.attempts,
            records=told.count,
            exc_info=letter.error,
            **({"kind": kind} if letter.reason in _STRANGE and (kind := _event_type(letter)) else {}),
        )

    async def _after_trouble(self, error: Exception, records: int) -> None:
        self._failures += 1
        self._trouble += 1
        cause = type(error).__name__
        self._away = not is_statement_timeout(error)
        metrics.BATCH_RETRIES.labels(self.subscription.topic.name, cause).inc()
        if cause != self._cause:
            self._cause = cause
            log.warning(
                "record.retried",
                topic=self.subscription.topic.name,
                reason=cause,
                detail=str(error)[:DETAIL_IN_LOG] if isinstance(error, TransomError) else "",
                attempt=self._trouble,
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

    # -- what the consumer around it asks and tells

    def leave(self) -> None:
        """No new batch, no more waiting; the batch in hand is finished."""
        self._leaving.set()

    def break_off(self) -> None:
        """Whatever is still in hand is given up; it comes again."""
        for task in self._beside:
            task.cancel()

    def end(self) -> None:
        """Say what was counted and not said yet."""
        for told in self._letters.rest(asyncio.get_running_loop().time()):
            self._log_letters(told)

    def attend(self, now: float) -> None:
        """Try stopped partitions again when their time has come, and say what was counted; to be asked every few seconds."""
        self.partitions.retry_stopped(now)
        self._processor.turned(self.partitions.rewind_to_open(self._processor.due()))
        for told in self._letters.due(now):
            self._log_letters(told)

    async def until_idle(self, patience: float) -> None:
        """Wait for what is in hand, at most ``patience`` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            return

    def report(self, now: float) -> None:
        """Say again what still is not as it should be; to be asked every ``REPORT_INTERVAL`` seconds. ``now`` is the event loop's time."""
        topic = self.subscription.topic.name
        self.partitions.log_stopped()
        if (failing := self._unreadable(now)) is not None:
            log.error("consumer.failing", topic=topic, reason=failing.cause, duration_ms=failing.seconds(now) * 1000)
        self.partitions.stalls.tell(topic, now, self.partitions.ours(), self._why())
        lasted = now - self._failing_since
        if self.partitions.failing and lasted >= REPORT_INTERVAL:
            log.warning(
                "record.retried", topic=topic, reason=self._cause, attempt=self._trouble, duration_ms=lasted * 1000
            )

    def _why(self) -> str:
        return self._cause or (STATEMENT_TOO_SLOW if self.partitions.open_offsets else "")

    def _unreadable(self, now: float) -> FailureStreak | None:
        """What makes reading fail for too long, or None."""
        consumer = self.partitions.consumer
        return None if consumer is None or consumer.failures.seconds(now) < UNREADABLE_AFTER else consumer.failures

    def unready(self, now: float, *, but_away: bool = False) -> str | None:
        """Why this runner needs somebody's attention, or None. ``now`` is the event loop's time.

        Trouble is a reason when a partition makes no progress for a minute. ``but_away``: not where a server is away, for who has other work too.
        """
        topic = self.subscription.topic.name
        if self.partitions.stopped:
            stopped = ", ".join(str(partition) for partition in sorted(self.partitions.stopped))
            return f"{topic}: {self.partitions.run_limit} dead letters in a row, stopped at partition {stopped}"
        moving = 0.0 if self.partitions.rebalancing_since is None else now - self.partitions.rebalancing_since
        if moving > UNREADABLE_AFTER:
            return f"{topic}: its partitions have been given out anew for {moving:.0f} s, and none has come"
        if (failing := self._unreadable(now)) is not None:
            return f"{topic}: cannot be read for {failing.seconds(now):.0f} s ({failing.cause})"
        if (
            self.partitions.commits_failing_since is not None
            and now - self.partitions.commits_failing_since > self.partitions.stalls.after
        ):
            return f"{topic}: nothing can be committed for {now - self.partitions.commits_failing_since:.0f} s"
        standing = self.partitions.stalls.too_long(now, self.partitions.ours())
        if but_away and self._away:
            standing = {p: seconds for p, seconds in standing.items() if p not in self.partitions.failing}
        return describe(topic, standing, self._why()) if standing else self.partitions.group_watch.why(topic, now)


def _of_its_kind(letter: DeadLetter) -> str:
    """What tells letters of one reason apart when they are counted."""
    if letter.error is not None:
        return letter.detail
    return _event_type(letter) or "" if letter.reason in _STRANGE else ""


def _event_type(letter: DeadLetter) -> str | None:
    try:
        return named_type(read_json_object(letter.record.value))
    except Unreadable:
        return None
