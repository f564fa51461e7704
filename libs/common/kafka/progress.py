"""The metrics that say how far this process is with a topic.

They are Unix times (docs/decisions/0017): while nothing is measured they stay as they are, and so grow old.
"""

import asyncio
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from aiokafka import ConsumerRecord

from libs.common import metrics
from libs.common.clock import Clock
from libs.common.kafka.caught_up import CaughtUp


@dataclass(slots=True)
class Progress:
    """One topic. From its making on the metrics say that nothing is known since then."""

    topic: str
    now: Clock
    partitions: dict[int, CaughtUp] = field(default_factory=dict)
    """Those that are assigned. One that a rebalance leaves here keeps what is known of it."""

    def __post_init__(self) -> None:
        self.show_standing(0.0)
        self._show_caught_up(0.0)

    def assigned(self, ours: AbstractSet[int]) -> None:
        """These are assigned now."""
        now = asyncio.get_running_loop().time()
        self.partitions = {partition: self.partitions.get(partition, CaughtUp(now)) for partition in ours}

    def begin(self, batch: "Sequence[ConsumerRecord[bytes, bytes]]") -> None:
        """Note since when the first record of each partition waits, of those that were never caught up yet."""
        if all(one.proved for one in self.partitions.values()):
            return
        now, wall = asyncio.get_running_loop().time(), self.now().timestamp()
        for partition, raw in {raw.partition: raw for raw in reversed(batch)}.items():
            if raw.timestamp >= 0 and (caught_up := self.partitions.get(partition)) is not None:
                caught_up.first_record(now - (wall - raw.timestamp / 1000))

    def note(self, partition: int, end: int, asked_at: float, processed: int) -> None:
        """The brokers were asked at ``asked_at`` (event loop) and named this end. ``processed``: the next offset."""
        caught_up = self.partitions.setdefault(partition, CaughtUp(asked_at))
        caught_up.asked(asked_at, end)
        caught_up.handled(processed)

    def show(self, standing: float) -> None:
        """Tell what was noted. ``standing``: for how many seconds records have waited without progress."""
        self.show_standing(standing)
        if self.partitions:
            self._show_caught_up(asyncio.get_running_loop().time() - min(one.until for one in self.partitions.values()))

    def show_without_partitions(self, standing: float) -> None:
        """The same of a member without partitions, whose group has stood for so long."""
        self.show_standing(standing)
        self._show_caught_up(standing)

    def show_standing(self, seconds: float) -> None:
        """Tell since when records have waited without progress; the present where none does."""
        metrics.PROGRESS.labels(self.topic).set(self.now().timestamp() - seconds)

    def _show_caught_up(self, seconds: float) -> None:
        metrics.CAUGHT_UP.labels(self.topic).set(self.now().timestamp() - seconds)
