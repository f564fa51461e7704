"""Every record of a system's topics, dead letters included, in the order of their arrival."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from deploy.local.seen_records import SeenRecords
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.records import RawRecord
from libs.common.kafka.topic_tail import TopicTail
from tests.support.topics import EVERY_TOPIC

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """One record; ``event`` is its value where that is a JSON object, else empty."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]
    event: Mapping[str, Any]

    @classmethod
    def of(cls, record: RawRecord) -> Self:
        headers = {key: (value or b"").decode(errors="replace") for key, value in record.headers}
        return cls(
            record.topic, record.partition, record.offset, record.key, record.value, headers, _object(record.value)
        )


class TopicRecords(SeenRecords[TopicRecord]):
    """Reads every topic under a prefix from its beginning. An async context manager."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        super().__init__(TopicTail(KafkaConnection(bootstrap, prefix), EVERY_TOPIC, TopicRecord.of, offsets={}))
        self._ends: dict[tuple[str, int], int] = {}
        self._counted = 0

    def read_to(self, topic: str, partition: int) -> int:
        """The offset behind the last record that was read of a partition; 0 where none was."""
        for one in self._seen[self._counted :]:
            self._ends[one.topic, one.partition] = one.offset + 1
        self._counted = len(self._seen)
        return self._ends.get((topic, partition), 0)

    def all(self, topic: str, **fields: object) -> list[TopicRecord]:
        """The records of a topic so far whose events have these values in these fields."""
        return [one for one in self._seen if one.topic == topic and fields.items() <= one.event.items()]

    async def one(
        self, topic: str, is_it: Callable[[TopicRecord], bool] = lambda _: True, *, times: int = 1, **fields: object
    ) -> TopicRecord:
        """The ``times``-th such record, once it is there."""
        found: list[TopicRecord] = []

        def enough() -> bool:
            found[:] = [one for one in self.all(topic, **fields) if is_it(one)]
            return len(found) >= times

        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._grown:
                await self._grown.wait_for(enough)
        except TimeoutError:
            last = [dict(one.event) or one.headers for one in self.all(topic)[-5:]]
            raise AssertionError(
                f"{len(found)} of {times} records on {topic} with {fields}; last there: {last}"
            ) from None
        return found[times - 1]


def _object(value: bytes | None) -> Mapping[str, Any]:
    try:
        found = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
