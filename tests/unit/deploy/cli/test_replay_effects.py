"""A replay waits for what it has published, and for nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from aiokafka import TopicPartition

from deploy.cli.replay.effects import Effects
from deploy.cli.replay.selection import Feed
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.producer import Record

MINE, STANDING = TopicPartition("webhooks.v1", 0), TopicPartition("webhooks.v1", 1)


class Everything:
    """Producer, consumer, readers and pool of a run that publishes to one of two partitions."""

    groups = {"ingest": "ingest"}  # noqa: RUF012

    def __init__(self) -> None:
        self.waited: list[Mapping[TopicPartition, int]] = []

    async def publish(self, records: Sequence[Record]) -> frozenset[TopicPartition]:
        return frozenset([MINE] if records else [])

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: {MINE: 7, STANDING: 1_000}[place] for place in places}

    async def handled(self, ends: Mapping[TopicPartition, int]) -> None:
        self.waited.append(ends)


class OwnEffects(Effects):
    async def _rows(self, _subjects: Any) -> Any:
        return {}


async def test_a_partition_that_stands_still_elsewhere_is_not_waited_for() -> None:
    every = cast("Any", Everything())
    effects = OwnEffects(WEBHOOKS, every, _connection=every, _pool=every, _consumer=every, _letters_from={})
    await effects.feed(every, [Feed(Record(WEBHOOKS, b"k", b"{}"), "", None, None, {})])
    assert every.waited == [{MINE: 7}]
