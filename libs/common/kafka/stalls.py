"""Partitions that make no progress although records wait. Times are those of the event loop.

A partition has stalled while its first unfinished record stays the same: its batch is retried again and again, a
statement or a handler hangs, or the partition is not read although the brokers have more.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.common.logging import get_logger

log = get_logger()

STALLED_AFTER = 60.0
_ASK_SECONDS = 5.0


@dataclass(slots=True)
class Stalls:
    """By partition its first unfinished record, and since when it is that one.

    It has stalled after ``after`` seconds.
    """

    after: float = STALLED_AFTER
    _waiting: dict[int, tuple[int, float]] = field(default_factory=dict)

    def waits_at(self, offsets: Mapping[int, int], now: float) -> None:
        """Records wait in these partitions, from these offsets on."""
        for partition, offset in offsets.items():
            if self._waiting.get(partition, (None, now))[0] != offset:
                self._waiting[partition] = offset, now

    def remove(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._waiting.pop(partition, None)

    def clear(self) -> None:
        """Forget all: a rebalance begins."""
        self._waiting.clear()

    def stalled(self, now: float, partitions: Collection[int] | None = None) -> dict[int, float]:
        """Those (of ``partitions``) that have stalled, and for how many seconds."""
        return {
            partition: now - since
            for partition, (_offset, since) in sorted(self._waiting.items())
            if now - since > self.after and (partitions is None or partition in partitions)
        }

    def longest(self, now: float, partitions: Collection[int] | None = None) -> float:
        """For how many seconds records have waited without progress where that is longest; 0 where none waits."""
        waiting = [now - since for p, (_, since) in self._waiting.items() if partitions is None or p in partitions]
        return max(waiting, default=0.0)

    def log(self, topic: str, now: float, partitions: Collection[int] | None, cause: str) -> None:
        for partition, seconds in self.stalled(now, partitions).items():
            log.error(
                "consumer.standing",
                topic=topic,
                partition=partition,
                offset=self._waiting[partition][0],
                reason=cause or "no_answer",
                duration_ms=seconds * 1000,
            )


def describe(topic: str, stalled: Mapping[int, float], cause: str) -> str:
    """Stalled partitions in the words of readiness."""
    longest = max(stalled.values())
    which = ", ".join(str(partition) for partition in stalled)
    whose = f"partition {which} has" if len(stalled) == 1 else f"partitions {which} have"
    return f"{topic}: {whose} made no progress for {longest:.0f} s although records wait" + (
        f" ({cause})" if cause else ""
    )


@dataclass(slots=True)
class GroupWatch:
    """For a member without partitions: whether the others of its group make progress. The group may be broken."""

    stalls: Stalls = field(default_factory=Stalls)
    silent_since: float | None = None
    """Since when the brokers do not answer about the group."""

    def clear(self) -> None:
        """Forget all: it has partitions, or a rebalance begins."""
        self.stalls.clear()
        self.silent_since = None

    async def check(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        """Compare the group's offset with the end of each partition of ``topic`` (its name on the broker)."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
                ends = await consumer.end_offsets(places)
                begins = await consumer.beginning_offsets(places)
                committed = {place: await consumer.committed(place) for place in places}
        except (KafkaError, TimeoutError):
            if self.silent_since is None:
                self.silent_since = now
            return
        self.silent_since = None
        waits = {place.partition: max(committed[place] or 0, begins[place]) for place in places}
        self.stalls.remove([place.partition for place in places if waits[place.partition] >= ends[place]])
        self.stalls.waits_at({p.partition: waits[p.partition] for p in places if waits[p.partition] < ends[p]}, now)

    def unready(self, topic: str, now: float) -> str | None:
        """Why the group makes no progress, or None."""
        if self.silent_since is not None and now - self.silent_since > self.stalls.after:
            return f"{topic}: no partition is ours, and its group has not answered for {now - self.silent_since:.0f} s"
        stalled = self.stalls.stalled(now)
        return describe(topic, stalled, "no partition is ours") if stalled else None
