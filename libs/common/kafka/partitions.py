"""The partitions of one topic that are assigned to us: where reading goes on, and which are stopped."""

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from libs.common import metrics
from libs.common.backoff import backoff
from libs.common.clock import Clock
from libs.common.kafka.commits import Commits
from libs.common.kafka.in_flight import InFlight
from libs.common.kafka.progress import Progress
from libs.common.kafka.stalls import GroupWatch, Stalls
from libs.common.logging import get_logger

log = get_logger()

ENDS_TIMEOUT = 5.0
ENDS_KEPT, ENDS_APART_MS = 16, 250
STOP_BASE, STOP_CAP = timedelta(seconds=1), timedelta(minutes=1)


RawBatch = Sequence["ConsumerRecord[bytes, bytes]"]


@dataclass(slots=True)
class Partitions:
    """``topic`` is the declared name, ``source_topic`` the name on the broker. Partitions are numbers.

    Times are those of the event loop, where nothing else is said.
    """

    topic: str
    source_topic: str
    now: Clock
    run_limit: int
    """A partition is stopped after so many stopping dead letters in a row."""
    find_consumer: Callable[[], AIOKafkaConsumer | None] = lambda: None
    """Called each time: FastStream may hand over the first batch before its start has returned."""
    runs: dict[int, int] = field(default_factory=dict)
    """Stopping dead letters in a row so far."""
    stopped: dict[int, int] = field(default_factory=dict)
    """Stopped partitions, and the offset at which each goes on."""
    stop_base: timedelta = STOP_BASE
    """How long the first stop of a partition lasts.

    Each one after it lasts twice as long, up to ``STOP_CAP``, until a record
    is handled or refused."""
    generation: int = 0
    """Grows with each rebalance."""
    rebalancing_since: float | None = None
    """Since when a rebalance is under way; None when none is."""
    commits: Commits = field(init=False)
    open_offsets: dict[int, int] = field(default_factory=dict)
    """Partitions that are read ahead although a record waits to be tried again, and the offset of that record."""
    stalls: Stalls = field(default_factory=Stalls)
    group_watch: GroupWatch = field(default_factory=GroupWatch)
    in_flight: InFlight = field(default_factory=InFlight)
    failing: set[int] = field(default_factory=set)
    """Partitions whose last batch ended with a retryable error."""
    processed: dict[int, int] = field(default_factory=dict)
    """The next offset to finish, of each partition of which a batch was read."""
    _noting: bool = False
    """``behind`` has been asked."""
    _ends: dict[int, deque[tuple[int, int]]] = field(default_factory=dict)
    """The latest ends of each partition: when it was named at the earliest (epoch, ms, this host), and the offset."""
    _heard: dict[int, int] = field(default_factory=dict)
    """When the latest answer of the brokers came whose end was noted."""
    _stops: dict[int, int] = field(default_factory=dict)
    """How many times in a row each partition was stopped."""
    _retry_at: dict[int, float] = field(default_factory=dict)
    """When each stopped partition is tried again."""
    _may_die: dict[int, int] = field(default_factory=dict)
    """How many may die until a partition's next stop, where that is not ``run_limit``."""
    _died: dict[int, int] = field(default_factory=dict)
    """How many had died when a partition was stopped last, since it was tried before."""
    progress: Progress = field(init=False)
    lag: dict[int, int] = field(default_factory=dict)
    """Partitions whose lag is in the metrics."""

    def __post_init__(self) -> None:
        self.progress = Progress(self.topic, self.now)
        self.commits = Commits(self.topic, self.source_topic, lambda: self.consumer)
        metrics.PARTITIONS_STOPPED.labels(self.topic).set(0)
        metrics.RECORDS_LOST.labels(self.topic)

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        return self.find_consumer()

    def restrict_fetch(self) -> None:
        """From now on the consumer reads no partition that is in flight."""
        if self.consumer is not None:
            self.consumer.in_flight = self.in_flight

    def take(self, batch: RawBatch) -> frozenset[int]:
        """A batch was read. Its partitions, which are in flight from now on.

        aiokafka's position is behind the batch already. So where a partition's first batch begins counts as processed.
        """
        begun = firsts(batch)
        self.processed = begun | self.processed
        return self.in_flight.take(begun.keys())

    def rewind(self, batch: RawBatch, next_offsets: Mapping[int, int]) -> None:
        """Read every partition of ``batch`` from the given offset on, or from its first record of the batch."""
        ends = {raw.partition: raw.offset + 1 for raw in batch}
        for partition, first in firsts(batch).items():
            offset = next_offsets.get(partition, first)
            if offset != ends[partition]:
                self._seek(partition, offset)

    def rewind_to_open(self, partitions: AbstractSet[int]) -> AbstractSet[int]:
        """Read these again from their open offsets, unless they are in flight. Returns those that are read again."""
        rewound = (partitions - self.in_flight.partitions) & self.open_offsets.keys()
        for partition in rewound:
            self._seek(partition, self.open_offsets[partition])
        return rewound

    def _seek(self, partition: int, offset: int) -> None:
        if self.consumer is not None:
            with suppress(
                IllegalStateError
            ):  # not assigned to us any more: its next owner reads from the committed offset
                self.consumer.seek(self._on_broker(partition), offset)

    def stop(self, partition: int, offset: int, *, unreadable: bool) -> None:
        """Pause a partition. The first stop is logged here; ``log_stopped`` repeats it.

        ``unreadable``: what nobody can read stopped it. That is of no use to anybody, and what comes behind it is. So
        twice as many may die before each further stop. After bugs of ours the limit stays: what they bury is of use.
        """
        self.stopped[partition] = offset
        stops = self._stops[partition] = self._stops.get(partition, 0) + 1
        wait = backoff(stops, base=self.stop_base, cap=STOP_CAP, jitter=random.random)
        self._retry_at[partition] = asyncio.get_running_loop().time() + wait.total_seconds()
        died = self._died[partition] = self._may_die.get(partition, self.run_limit)
        self._pause_stopped()
        if stops == 1:
            self._log_stopped(partition, offset)
        self._may_die[partition] = 2 * died if unreadable else self.run_limit

    def reset_stops(self, partitions: AbstractSet[int]) -> None:
        """A record of these was handled or refused: their next stop is a first one."""
        for partition in partitions:
            self._stops.pop(partition, None)
            self._may_die.pop(partition, None)

    def retry_stopped(self, at: float) -> None:
        """Resume the partitions whose stop is over at ``at``."""
        for partition in [partition for partition in self.stopped if self._retry_at.get(partition, at) <= at]:
            offset = self.stopped.pop(partition)
            self.runs[partition] = self.run_limit - self._may_die[partition]
            place = self._on_broker(partition)
            if self.consumer is not None and place in self.consumer.assignment():
                self.consumer.resume(place)
            log.info("consumer.resumed", topic=self.topic, partition=partition, offset=offset)
        metrics.PARTITIONS_STOPPED.labels(self.topic).set(len(self.stopped))

    def log_stopped(self) -> None:
        for partition, offset in self.stopped.items():
            self._log_stopped(partition, offset)

    def _log_stopped(self, partition: int, offset: int) -> None:
        log.error(
            "consumer.stopped",
            topic=self.topic,
            partition=partition,
            offset=offset,
            reason="dlq_run_limit",
            records=self._died.get(partition, self.run_limit),
            attempt=self._stops.get(partition, 1),
        )

    def on_revoked(self) -> None:
        """A rebalance begins: nothing that is in flight may be committed any more."""
        self.generation += 1
        if self.rebalancing_since is None:
            self.rebalancing_since = asyncio.get_running_loop().time()
        self.commits.forget()
        self.open_offsets.clear()
        self.stalls.clear()
        self.group_watch.clear()
        self.failing.clear()
        self.processed.clear()
        self._ends.clear()
        self._heard.clear()

    def on_assigned(self, assigned: set[TopicPartition]) -> None:
        """The rebalance is over. A stopped partition that is assigned to us again stays stopped."""
        self.rebalancing_since = None
        ours = {partition.partition for partition in assigned}
        self.stopped = {partition: offset for partition, offset in self.stopped.items() if partition in ours}
        self.runs = {partition: run for partition, run in self.runs.items() if partition in self.stopped}
        self._stops = {partition: stops for partition, stops in self._stops.items() if partition in ours}
        self._may_die = {partition: most for partition, most in self._may_die.items() if partition in self.stopped}
        self.progress.assigned(ours)
        self._pause_stopped()
        for partition in self.lag.keys() - ours:
            metrics.LAG.remove(self.topic, str(partition))
            del self.lag[partition]

    async def behind(self) -> dict[int, float]:
        """For each assigned partition the age in seconds of its latest end that is processed, by the brokers.

        It is infinite where no such end is known, and the answer is empty during a rebalance: a batch that crosses one
        is given up without a rewind. Records' own timestamps do not count, for a producer's clock may be wrong.

        From the moment it is read a batch is in flight until it is finished or rewound: between aiokafka's move of the
        position and ``InFlight.take`` no other task runs.
        """
        consumer = self.consumer
        if consumer is None or self.rebalancing_since is not None:
            return {}
        found: dict[int, float] = {}
        self._noting, positions = True, consumer.positions()
        for place in consumer.assignment():
            self._note_end(place)
            partition, now_ms = place.partition, self.now().timestamp() * 1000
            waits = partition in self.in_flight.partitions or partition in self.open_offsets
            done = self.processed.get(partition) if waits else positions.get(place)
            ages = [now_ms - at_ms for at_ms, end in self._ends.get(partition, ()) if done is not None and end <= done]
            # after this host's clock was set back, an old note seems to come from the future
            found[partition] = min((age / 1000 for age in ages if age >= 0), default=math.inf)
        return found

    def note_ends(self) -> None:
        """Note the ends that the brokers named last, where ``behind`` is asked.

        It is the more precise the more often this is called.
        """
        if self._noting and self.consumer is not None and self.rebalancing_since is None:
            for place in self.consumer.assignment():
                self._note_end(place)

    def _note_end(self, place: TopicPartition) -> None:
        """Note the end of this partition that the brokers named with its latest records.

        Their answer may have been read long after it was given, where this process stalled. But they were asked after
        the answer before was read, so that moment counts.
        """
        try:
            end, at_ms = (
                (None, None)
                if self.consumer is None
                else (self.consumer.highwater(place), self.consumer.last_poll_timestamp(place))
            )
        except AssertionError:  # aiokafka asserts that it is assigned to us
            return
        if end is None or at_ms is None:
            return
        before = self._heard.get(place.partition)
        if before is not None and abs(at_ms - before) < ENDS_APART_MS:
            return
        self._heard[place.partition] = at_ms
        if before is not None and before < at_ms:  # else this host's clock was put back meanwhile
            self._ends.setdefault(place.partition, deque(maxlen=ENDS_KEPT)).append((before, end))

    def measure(self, batch: RawBatch, next_offsets: Mapping[int, int]) -> None:
        """Count the finished records of ``batch``, and note how far each partition is processed."""
        begun = firsts(batch)
        done = [raw for raw in batch if raw.offset < next_offsets.get(raw.partition, begun[raw.partition])]
        metrics.RECORDS_HANDLED.labels(self.topic).inc(len(done))
        left = {p: self.open_offsets.get(p, next_offsets.get(p, first)) for p, first in begun.items()}
        self.processed |= left
        ends = {raw.partition: raw.offset + 1 for raw in batch}
        self.stalls.remove([partition for partition, offset in left.items() if offset == ends[partition]])
        waits = {partition: offset for partition, offset in left.items() if offset < ends[partition]}
        self.stalls.waits_at(waits, asyncio.get_running_loop().time())
        for partition in begun if self._noting else ():
            self._note_end(self._on_broker(partition))

    async def measure_lag(self) -> None:
        """Set the lag of each partition, and up to when all is handled.

        The ends come from the brokers, for aiokafka does not know those of a paused one. Where they do not answer, and
        during a rebalance, the metrics stay as they are: the times among them grow old.
        """
        consumer, generation, now = self.consumer, self.generation, asyncio.get_running_loop().time()
        if consumer is None or self.rebalancing_since is not None:
            return
        ours = consumer.assignment()
        if not ours:
            await self.group_watch.check(consumer, self.source_topic)
            if self.group_watch.silent_since is None:
                self.progress.show_without_partitions(self.group_watch.stalls.longest(now))
            return
        self.group_watch.clear()
        with suppress(KafkaError, TimeoutError):  # brokers that are away are reported elsewhere
            async with asyncio.timeout(ENDS_TIMEOUT):
                ends = await consumer.end_offsets(list(ours))
            if generation != self.generation:
                return
            positions = consumer.positions()
            for place, end in ends.items():
                position = positions.get(place)
                processed = self.processed.get(place.partition, position)
                self._watch_for_stall(place, position, end)
                if processed is not None:
                    self.lag[place.partition] = max(0, end - processed)
                    metrics.LAG.labels(self.topic, str(place.partition)).set(self.lag[place.partition])
                    self.progress.note(place.partition, end, now, processed)
            self.progress.show(self.stalls.longest(asyncio.get_running_loop().time(), self.assigned()))

    def _watch_for_stall(self, place: TopicPartition, position: int | None, end: int) -> None:
        """A partition that is not in flight has stalled when reading does not get to its end."""
        excluded = self.in_flight.partitions | self.stopped.keys() | self.open_offsets.keys()
        if position is None or place.partition in excluded:
            return
        if position >= end:
            self.stalls.remove([place.partition])
        else:
            self.stalls.waits_at({place.partition: position}, asyncio.get_running_loop().time())

    def assigned(self) -> AbstractSet[int] | None:
        """The partitions that are assigned to us; None before there is a consumer."""
        return None if self.consumer is None else {place.partition for place in self.consumer.assignment()}

    def _pause_stopped(self) -> None:
        metrics.PARTITIONS_STOPPED.labels(self.topic).set(len(self.stopped))
        if self.consumer is not None:
            held = {self._on_broker(partition) for partition in self.stopped}
            self.consumer.pause(*(held & self.consumer.assignment()))

    def _on_broker(self, partition: int) -> TopicPartition:
        return TopicPartition(self.source_topic, partition)


def firsts(batch: RawBatch) -> dict[int, int]:
    found: dict[int, int] = {}
    for raw in batch:
        found.setdefault(raw.partition, raw.offset)
    return found
