"""The partitions of one topic that are ours: how far each is committed, where reading goes on, which ones are stopped."""

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
from libs.common.kafka.stalls import GroupWatch, Stalls
from libs.common.logging import get_logger

log = get_logger()

COMMIT_TIMEOUT = 10.0
POSITION_TIMEOUT = 0.5
ENDS_TIMEOUT = 5.0
ENDS_KEPT, ENDS_APART_MS = 16, 250
STOP_BASE, STOP_CAP = timedelta(seconds=1), timedelta(minutes=1)


class InFlight:
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
    """After how many dead letters in a row, of those that stop, a partition is stopped."""
    find_consumer: Callable[[], AIOKafkaConsumer | None] = lambda: None
    """Asked each time: FastStream may hand over the first batch before its start has returned."""
    runs: dict[int, int] = field(default_factory=dict)
    """Dead letters in a row so far, of those that stop."""
    stopped: dict[int, int] = field(default_factory=dict)
    """Partitions with too many dead letters in a row, and the offset where each stands."""
    stop_base: timedelta = STOP_BASE
    """How long the first stop of a partition lasts; each one after it twice as long, up to ``STOP_CAP``, until something was read."""
    assignment: int = 0
    """Grows whenever the partitions are given out anew."""
    rebalancing_since: float | None = None
    """Since when they are being given out, in the event loop's time; None while it is known which are ours."""
    pending_commits: dict[int, int] = field(default_factory=dict)
    """Handled up to here, but the commit failed."""
    commits_failing_since: float | None = None
    """Since when commits fail, in the event loop's time."""
    open_offsets: dict[int, int] = field(default_factory=dict)
    """Partitions in which reading has gone on although a record waits to be tried again, and where that stands."""
    stalls: Stalls = field(default_factory=Stalls)
    group_watch: GroupWatch = field(default_factory=GroupWatch)
    in_flight: InFlight = field(default_factory=InFlight)
    failing: set[int] = field(default_factory=set)
    """Partitions whose last batch ended in expected trouble."""
    processed: dict[int, int] = field(default_factory=dict)
    """The first offset that is not done, of partitions that a batch was of."""
    _ends: dict[int, deque[tuple[int, int]]] = field(default_factory=dict)
    """Where the end of a partition was, as the brokers said lately, and when they did (epoch, ms, of this host)."""
    _stops: dict[int, int] = field(default_factory=dict)
    """How often in a row a partition was stopped."""
    _again_at: dict[int, float] = field(default_factory=dict)
    """When a stopped partition is tried again, in the event loop's time."""
    _lagging: set[int] = field(default_factory=set)
    """Partitions whose lag is told."""
    _committing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def rebalancing(self) -> bool:
        """They are being given out just now."""
        return self.rebalancing_since is not None

    @property
    def consumer(self) -> AIOKafkaConsumer | None:
        return self.find_consumer()

    def restrict_fetch(self) -> None:
        """Let the consumer read, from now on, only partitions of which no batch is in hand."""
        if self.consumer is not None:
            self.consumer.in_flight = self.in_flight

    async def commit(self, next_offsets: Mapping[int, int]) -> None:
        """Commit these offsets and the pending ones.

        What fails is counted, logged and stays pending. Without ``retry_commits`` the records would come again after the next start or rebalance, which
        handlers bear.
        """
        assignment = self.assignment
        async with self._committing:  # one after the other, or an older offset could overtake a newer one
            if assignment != self.assignment:
                return  # given out anew while this one waited: perhaps no longer ours, and then no commit with it would pass any more
            self.pending_commits |= next_offsets
            if not self.pending_commits or self.consumer is None:
                return
            pending_commits = dict(self.pending_commits)
            try:
                async with asyncio.timeout(COMMIT_TIMEOUT):
                    await self.consumer.commit(
                        {self._on_broker(partition): offset for partition, offset in pending_commits.items()}
                    )
            except (KafkaError, TimeoutError) as error:
                metrics.COMMIT_FAILURES.labels(self.topic).inc()
                log.warning("offsets.commit_failed", topic=self.topic, reason=type(error).__name__)
                if assignment == self.assignment:
                    if self.commits_failing_since is None:
                        self.commits_failing_since = asyncio.get_running_loop().time()
                    return
            self.commits_failing_since = None
            self.pending_commits.clear()  # committed, or no longer ours to commit

    async def retry_commits(self) -> None:
        """Commit the pending offsets. On a topic without new records no batch would."""
        if self.pending_commits:
            await self.commit({})

    def rewind(self, batch: RawBatch, goes_on_at: Mapping[int, int]) -> None:
        """Let every partition of ``batch`` go on from there, or from its first record."""
        ends = {raw.partition: raw.offset + 1 for raw in batch}
        for partition, first in firsts(batch).items():
            offset = goes_on_at.get(partition, first)
            if offset != ends[partition]:
                self._seek(partition, offset)

    def rewind_to_open(self, partitions: AbstractSet[int]) -> AbstractSet[int]:
        """Read these again from the record that waits to be tried again, unless a batch of them is in hand; returns which are."""
        turned = (partitions - self.in_flight.partitions) & self.open_offsets.keys()
        for partition in turned:
            self._seek(partition, self.open_offsets[partition])
        return turned

    def _seek(self, partition: int, offset: int) -> None:
        if self.consumer is not None:
            with suppress(IllegalStateError):  # no longer ours: whoever has it reads from the committed offset
                self.consumer.seek(self._on_broker(partition), offset)

    def stop(self, partition: int, offset: int) -> None:
        """Read no more of a partition for a while. It is told when it begins, and from then on by ``log_stopped``."""
        self.stopped[partition] = offset
        stops = self._stops[partition] = self._stops.get(partition, 0) + 1
        wait = backoff(stops, base=self.stop_base, cap=STOP_CAP, jitter=random.random)
        self._again_at[partition] = asyncio.get_running_loop().time() + wait.total_seconds()
        self._hold()
        if stops == 1:
            self._log_stopped(partition, offset)

    def readable(self, partitions: AbstractSet[int]) -> None:
        """Something of these was read: their next stop is a first one."""
        for partition in partitions:
            self._stops.pop(partition, None)

    def retry_stopped(self, at: float) -> None:
        """Read on where a stop has lasted long enough; ``at`` is the event loop's time."""
        for partition in [partition for partition in self.stopped if self._again_at.get(partition, at) <= at]:
            offset = self.stopped.pop(partition)
            self.runs[partition] = 0
            place = self._on_broker(partition)
            if self.consumer is not None and place in self.consumer.assignment():
                self.consumer.resume(place)
            log.info("consumer.resumed", topic=self.topic, partition=partition, offset=offset)
        metrics.PARTITIONS_STOPPED.labels(self.topic).set(len(self.stopped))

    def log_stopped(self) -> None:
        """One line per stopped partition."""
        for partition, offset in self.stopped.items():
            self._log_stopped(partition, offset)

    def _log_stopped(self, partition: int, offset: int) -> None:
        log.error(
            "consumer.stopped",
            topic=self.topic,
            partition=partition,
            offset=offset,
            reason="dlq_run_limit",
            records=self.run_limit,
            attempt=self._stops.get(partition, 1),
        )

    def on_revoked(self) -> None:
        """The partitions are being given out anew: what is under way may no longer be committed."""
        self.assignment += 1
        if self.rebalancing_since is None:
            self.rebalancing_since = asyncio.get_running_loop().time()
        self.pending_commits.clear()
        self.open_offsets.clear()
        self.commits_failing_since = None
        self.stalls.clear()
        self.group_watch.given()
        self.failing.clear()
        self.processed.clear()
        self._ends.clear()

    def on_assigned(self, assigned: set[TopicPartition]) -> None:
        """A stopped partition that comes back to us stays stopped; one that went elsewhere is another's concern."""
        self.rebalancing_since = None
        ours = {partition.partition for partition in assigned}
        self.stopped = {partition: offset for partition, offset in self.stopped.items() if partition in ours}
        self.runs = {partition: run for partition, run in self.runs.items() if partition in self.stopped}
        self._stops = {partition: stops for partition, stops in self._stops.items() if partition in ours}
        self._hold()
        for partition in self._lagging - ours:
            metrics.LAG.remove(self.topic, str(partition))
        self._lagging &= ours

    async def behind(self) -> dict[int, float]:
        """Our partitions, and how many seconds ago the brokers named the latest end of each up to which all is done; infinity where none is.

        No record's own time counts: its producer's clock may be wrong. Nothing is said while they are given out anew: a batch that this crosses is
        given up and not set back.
        From the moment it is read, a batch is in hand until it is done or given back to Kafka: aiokafka moves the position, FastStream
        hands over and the runner takes without letting anybody else run.
        """
        consumer = self.consumer
        if consumer is None or self.rebalancing:
            return {}
        found: dict[int, float] = {}
        for place in consumer.assignment():
            position = await self._position(place)
            if self.rebalancing:
                return {}
            self._note_end(place)
            partition, now_ms = place.partition, self.now().timestamp() * 1000
            waits = partition in self.in_flight.partitions or partition in self.open_offsets
            done = self.processed.get(partition) if waits else position
            ages = [now_ms - at_ms for at_ms, end in self._ends.get(partition, ()) if done is not None and end <= done]
            # a clock of this host that was put back makes an old word look like one of the future
            found[partition] = min((age / 1000 for age in ages if age >= 0), default=math.inf)
        return found

    def _note_end(self, place: TopicPartition) -> None:
        """Remember where the end of this partition is by what the brokers said with the latest records."""
        try:
            end, at_ms = (
                (None, None)
                if self.consumer is None
                else (self.consumer.highwater(place), self.consumer.last_poll_timestamp(place))
            )
        except AssertionError:  # aiokafka asserts that it is still ours
            return
        if end is None or at_ms is None:
            return
        noted = self._ends.setdefault(place.partition, deque(maxlen=ENDS_KEPT))
        if not noted or abs(at_ms - noted[-1][0]) >= ENDS_APART_MS:
            noted.append((at_ms, end))

    def measure(self, batch: RawBatch, next_offsets: Mapping[int, int]) -> None:
        """Count what is done, and remember how far it came."""
        begun = firsts(batch)
        done = [raw for raw in batch if raw.offset < next_offsets.get(raw.partition, begun[raw.partition])]
        metrics.RECORDS_HANDLED.labels(self.topic).inc(len(done))
        left = {p: self.open_offsets.get(p, next_offsets.get(p, first)) for p, first in begun.items()}
        self.processed |= left
        ends = {raw.partition: raw.offset + 1 for raw in batch}
        self.stalls.quiet([partition for partition, offset in left.items() if offset == ends[partition]])
        waits = {partition: offset for partition, offset in left.items() if offset < ends[partition]}
        self.stalls.wait_at(waits, asyncio.get_running_loop().time())
        for partition in begun:
            self._note_end(self._on_broker(partition))

    async def measure_lag(self) -> None:
        """Tell how far behind its end each partition is; asks the brokers, which alone know it of one that is not being read."""
        consumer, assignment = self.consumer, self.assignment
        if consumer is None or self.rebalancing:
            return
        ours = consumer.assignment()
        if not ours:
            await self.group_watch.look(consumer, self.source_topic)
            return
        self.group_watch.given()
        with suppress(KafkaError, TimeoutError):  # away: others tell
            async with asyncio.timeout(ENDS_TIMEOUT):
                ends = await consumer.end_offsets(list(ours))
            for place, end in ends.items():
                reached = self.processed.get(place.partition)
                if reached is None:
                    reached = await self._position(place)
                if assignment != self.assignment:
                    return
                await self._watch(place, end)
                if reached is not None:
                    metrics.LAG.labels(self.topic, str(place.partition)).set(max(0, end - reached))
                    self._lagging.add(place.partition)

    async def _watch(self, place: TopicPartition, end: int) -> None:
        """A partition of which nothing is in hand stands still when reading does not come to its end."""
        position = await self._position(place)
        left_alone = self.in_flight.partitions | self.stopped.keys() | self.open_offsets.keys()
        if position is None or place.partition in left_alone:
            return
        if position >= end:
            self.stalls.quiet([place.partition])
        else:
            self.stalls.wait_at({place.partition: position}, asyncio.get_running_loop().time())

    def ours(self) -> AbstractSet[int] | None:
        """The numbers of our partitions; None where there is no consumer yet."""
        return None if self.consumer is None else {place.partition for place in self.consumer.assignment()}

    async def _position(self, place: TopicPartition) -> int | None:
        """From where on a partition is read next; None when that is not known, or the partition not ours any more."""
        if self.consumer is None:
            return None
        try:
            async with asyncio.timeout(POSITION_TIMEOUT):
                return int(await self.consumer.position(place))
        except (KafkaError, TimeoutError):
            return None

    def _hold(self) -> None:
        metrics.PARTITIONS_STOPPED.labels(self.topic).set(len(self.stopped))
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
