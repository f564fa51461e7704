"""An ear on every topic of a system: what was told, command or dead letter, in the order in which it came."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from libs.common.kafka.lenient import allow_stray_header_keys
from tests.support.topics import EVERY_TOPIC

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One record; ``event`` is its value where that is a JSON object, else empty."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]
    event: Mapping[str, Any]


class Listener:
    """Hears everything under a prefix from its beginning. An async context manager."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        allow_stray_header_keys()
        self._prefix = prefix
        self._heard: list[Heard] = []
        self._news = asyncio.Condition()
        self._consumer = AIOKafkaConsumer(
            *(prefix + topic.name for topic in EVERY_TOPIC),
            bootstrap_servers=bootstrap,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
            metadata_max_age_ms=2_000,  # partitions may be added
        )
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
        await self._consumer.stop()

    def all(self, topic: str, **fields: object) -> list[Heard]:
        """What was heard so far on a topic with these values in these fields of the event."""
        return [one for one in self._heard if one.topic == topic and fields.items() <= one.event.items()]

    async def hears(
        self, topic: str, is_it: Callable[[Heard], bool] = lambda _: True, *, times: int = 1, **fields: object
    ) -> Heard:
        """The ``times``-th such record, once it is there."""
        found: list[Heard] = []

        def enough() -> bool:
            found[:] = [one for one in self.all(topic, **fields) if is_it(one)]
            return len(found) >= times

        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._news:
                await self._news.wait_for(enough)
        except TimeoutError:
            last = [dict(one.event) or one.headers for one in self.all(topic)[-5:]]
            raise AssertionError(
                f"{len(found)} of {times} heard on {topic} with {fields}; last there: {last}"
            ) from None
        return found[times - 1]

    async def ends(self, name: str) -> dict[TopicPartition, int]:
        """The end of each partition of a topic, by its name on the broker."""
        partitions = self._consumer.partitions_for_topic(name) or set()
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(
            [TopicPartition(name, partition) for partition in partitions]
        )
        return found

    async def _listen(self) -> None:
        async for record in self._consumer:
            headers = {key: value.decode(errors="replace") for key, value in record.headers}
            topic = record.topic.removeprefix(self._prefix)
            heard = Heard(
                topic, record.partition, record.offset, record.key, record.value, headers, _object(record.value)
            )
            async with self._news:
                self._heard.append(heard)
                self._news.notify_all()


def _object(value: bytes | None) -> Mapping[str, Any]:
    try:
        found = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
