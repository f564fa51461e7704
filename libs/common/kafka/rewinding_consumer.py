"""The consumer that FastStream reads with."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError

from libs.common.kafka.aiokafka_patches import FencedError, fetched_of, free, positions_of
from libs.common.kafka.in_flight import InFlight
from libs.common.periodic import until_beat

QUIET_SECONDS = 60.0
IDLE_SECONDS = 2.0
"""How long a consumer waits for records at once while none is in flight. It wakes when one comes."""
BETWEEN_ROUNDS_SECONDS = 0.1
"""The wait between two rounds that read the partitions one by one."""


@dataclass(slots=True)
class FailureStreak:
    """Failures with successes in between: one partition cannot be read and fails now and then, while the others go on.

    Times are those of the event loop. A streak is over ``QUIET_SECONDS`` after its last failure.
    """

    cause: str = ""
    _since: float = 0.0
    _last: float | None = None

    def failed(self, at: float, cause: str) -> None:
        if self._last is None or at - self._last > QUIET_SECONDS:
            self._since = at
        self._last, self.cause = at, cause

    def goes_on(self, now: float) -> bool:
        return self._last is not None and now - self._last <= QUIET_SECONDS

    def seconds(self, now: float) -> float:
        """How long the streak has lasted; 0 when it is over."""
        return now - self._since if self.goes_on(now) else 0.0


class RewindingConsumer(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka has no types
    """A consumer that skips no record when ``getmany`` raises, and reads no partition that is ``in_flight``.

    With ``auto_offset_reset="none"`` reading begins at the oldest record where nothing is committed, and where what was
    to be read next was deleted. Both are told: aiokafka's own reset passes over them without a word.

    aiokafka moves on behind the records that a failing ``getmany`` had already taken from other partitions. Here every
    partition goes back to where it was, whatever the reason (a checksum, for instance), and ``failures`` says for how
    long reading has failed. At rest it waits for ``IDLE_SECONDS``, however often FastStream wants to look: looking 100
    times a second costs a service more than anything else at rest.

    aiokafka gives what it has fetched of one partition to its end before it goes on to the next. Here the partitions
    take turns while more waits than one call returns. So a flood of some delays the others by one round, and a
    conversation's next records come when those before them are worked off. After a failure they are read one by one for
    ``QUIET_SECONDS``, so that one which fails each time holds up no other.
    """

    in_flight: InFlight | None = None

    def __init__(
        self,
        *topics: str,
        fail: Callable[[BaseException], None] = lambda _: None,
        lost: Callable[[TopicPartition, int, int], None] = lambda *_: None,
        uncommitted: Callable[[TopicPartition, int, int], None] = lambda *_: None,
        **options: Any,
    ) -> None:
        """``fail`` is called when another process has taken the place in the group.

        ``lost``: what was to be read next is not there any more. It is given the partition, the offset at which reading
        stood, and the one of the oldest record that is left.
        ``uncommitted``: nothing is committed of a partition with records. It is given the partition, the offset of the
        oldest record, and the number of records.
        """
        super().__init__(*topics, **options)
        self.fail = fail
        self.lost = lost
        self.uncommitted = uncommitted
        self.failures = FailureStreak()
        self._had_their_turn: set[TopicPartition] = set()

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset to read of each assigned partition that has one."""
        return positions_of(self)

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        while self.in_flight is not None and (held := self.in_flight.partitions):
            free = [each for each in self.assignment() if each.partition not in held]
            if found := await self._read_beside(self.in_flight, free, max_records):
                return found
        idle_ms = round(until_beat(IDLE_SECONDS) * 1000)
        return await self._read_in_turn(*partitions, timeout_ms=max(timeout_ms, idle_ms), max_records=max_records)

    async def _read_beside(
        self, in_flight: InFlight, free: Sequence[TopicPartition], max_records: int | None
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        """What comes on the free partitions before others are given back, or within ``IDLE_SECONDS``.

        A reading that is broken off has taken nothing: aiokafka takes what has come without waiting in between. It is
        no task of its own, or others would run between aiokafka's move of the position and ``InFlight.take``.
        """
        async with in_flight.until_given_back():
            if free:
                idle_ms = round(IDLE_SECONDS * 1000)
                return await self._read_in_turn(*free, timeout_ms=idle_ms, max_records=max_records)
            await asyncio.sleep(IDLE_SECONDS)
        return {}

    async def _read_in_turn(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int | None
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        """What has come on partitions that still have their turn in this round, or else on any."""
        if self.failures.goes_on(asyncio.get_running_loop().time()):
            return await self._read_one_by_one(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        found: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = {}
        if self._had_their_turn:
            others = {*(partitions or self.assignment())} - self._had_their_turn
            if others:
                found = await self.read_or_rewind(*others, timeout_ms=0, max_records=max_records)
            if not found:
                self._had_their_turn.clear()
        if not found:
            found = await self.read_or_rewind(*partitions, timeout_ms=timeout_ms, max_records=max_records)
            if max_records is None or sum(map(len, found.values())) < max_records:
                return found  # nothing is left that waits
        self._had_their_turn |= found.keys()
        return found

    async def _read_one_by_one(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int | None
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        """What has come on the first partition that has anything and still has its turn."""
        for partition in {*(partitions or self.assignment())} - self._had_their_turn:
            self._had_their_turn.add(partition)
            if found := await self.read_or_rewind(partition, timeout_ms=0, max_records=max_records):
                return found
        self._had_their_turn.clear()
        await asyncio.sleep(min(timeout_ms / 1000, BETWEEN_ROUNDS_SECONDS))
        return {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from there. What was fetched and is dropped, megabytes at a time in an outage, is freed at once."""
        fetched = fetched_of(self, partition)
        super().seek(partition, offset)
        free(fetched)

    async def read_or_rewind(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int | None
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        """What aiokafka's ``getmany`` returns; nothing where a partition had to be given another place.

        When it raises, these partitions are read again from where they were.
        """
        before = self.positions()
        try:
            return await self._read(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        except Exception as error:
            if isinstance(error, FencedError):
                self.fail(error)
            self.failures.failed(asyncio.get_running_loop().time(), type(error).__name__)
            self._rewind(before, partitions)
            raise

    async def _read(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int | None
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        places: dict[TopicPartition, int | None]
        try:
            found: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=max_records
            )
        except NoOffsetForPartitionError as error:
            places = dict.fromkeys(error.args)
        except OffsetOutOfRangeError as error:
            (places,) = error.args
        else:
            return found
        await self._begin_at_the_oldest(places)  # aiokafka raises these two only where it has taken nothing
        return {}

    def _rewind(self, before: Mapping[TopicPartition, int], asked: Sequence[TopicPartition]) -> None:
        """Seek back, never ahead: a rebalance or the retry of a record may have set a partition back meanwhile."""
        now = self.positions()
        for partition, position in before.items():
            if position <= now.get(partition, -1) and (not asked or partition in asked):
                self.seek(partition, position)

    async def _begin_at_the_oldest(self, places: Mapping[TopicPartition, int | None]) -> None:
        """Read these partitions from their oldest record; by partition the offset at which reading stood, if any."""
        ends = await self.end_offsets(list(places))
        for place, first in (await self.beginning_offsets(list(places))).items():
            if place not in self.assignment():
                continue
            self.seek(place, first)
            if (stood := places[place]) is not None:
                self.lost(place, stood, first)
            elif records := ends[place] - first:
                self.uncommitted(place, first, records)
