"""Which partitions stand still although records wait, and since when. Times are those of the event loop.

A partition stands still while the first record of it that is not done with stays the same: its batch comes again and again, a statement or a handler
hangs, or nothing is read of it though the brokers have more. Nothing waits in a quiet one.
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
    """By partition the first record that waits, and since when it is that one; ``after`` so many seconds that is too long."""

    after: float = STALLED_AFTER
    _places: dict[int, tuple[int, float]] = field(default_factory=dict)

    def wait_at(self, offsets: Mapping[int, int], now: float) -> None:
        """Records wait in these partitions, from these offsets on."""
        for partition, offset in offsets.items():
            if self._places.get(partition, (None, now))[0] != offset:
                self._places[partition] = offset, now

    def quiet(self, partitions: Collection[int]) -> None:
        """Nothing waits in these."""
        for partition in partitions:
            self._places.pop(partition, None)

    def clear(self) -> None:
        """They were given out anew."""
        self._places.clear()

    def too_long(self, now: float, partitions: Collection[int] | None = None) -> dict[int, float]:
        """Those (of ``partitions``) that stand still for longer than a minute, and for how many seconds."""
        return {
            partition: now - since
            for partition, (_offset, since) in sorted(self._places.items())
            if now - since > self.after and (partitions is None or partition in partitions)
        }

    def tell(self, topic: str, now: float, partitions: Collection[int] | None, cause: str) -> None:
        """One line for each that stands still."""
        for partition, seconds in self.too_long(now, partitions).items():
            log.error(
                "consumer.standing",
                topic=topic,
                partition=partition,
                offset=self._places[partition][0],
                reason=cause or "no_answer",
                duration_ms=seconds * 1000,
            )


def describe(topic: str, standing: Mapping[int, float], cause: str) -> str:
    """What readiness says of partitions that stand still."""
    longest = max(standing.values())
    which = ", ".join(str(partition) for partition in standing)
    whose = f"partition {which} has" if len(standing) == 1 else f"partitions {which} have"
    return f"{topic}: {whose} made no progress for {longest:.0f} s although records wait" + (
        f" ({cause})" if cause else ""
    )


@dataclass(slots=True)
class GroupWatch:
    """A member of the group that was given no partition: it looks whether others read what waits, for it may be the group that is broken."""

    stalls: Stalls = field(default_factory=Stalls)
    silent_since: float | None = None
    """Since when the group does not answer."""

    def given(self) -> None:
        """It has partitions."""
        self.stalls.clear()
        self.silent_since = None

    async def look(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        """Ask how far the group is in each partition of ``topic`` (its name on the broker), and where each ends."""
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
                ends = await consumer.end_offsets(places)
                begins = await consumer.beginning_offsets(places)
                reached = {place: await consumer.committed(place) for place in places}
        except (KafkaError, TimeoutError):
            if self.silent_since is None:
                self.silent_since = now
            return
        self.silent_since = None
        waits = {place.partition: max(reached[place] or 0, begins[place]) for place in places}
        self.stalls.quiet([place.partition for place in places if waits[place.partition] >= ends[place]])
        self.stalls.wait_at({p.partition: waits[p.partition] for p in places if waits[p.partition] < ends[p]}, now)

    def why(self, topic: str, now: float) -> str | None:
        """Why it cannot be that all is well, or None."""
        if self.silent_since is not None and now - self.silent_since > self.stalls.after:
            return f"{topic}: no partition is ours, and its group has not answered for {now - self.silent_since:.0f} s"
        standing = self.stalls.too_long(now)
        return describe(topic, standing, "no partition is ours") if standing else None
