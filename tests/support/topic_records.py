"""Every record of a system's topics, commands and dead letters among them, in the order in which they came."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import orjson

from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.records import RawRecord
from libs.common.kafka.topic_tail import TopicTail
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

    @classmethod
    def of(cls, record: RawRecord) -> Self:
        headers = {key: (value or b"").decode(errors="replace") for key, value in record.headers}
        return cls(
            record.topic, record.partition, record.offset, record.key, record.value, headers, _object(record.value)
        )


class Listener:
    """Hears everything under a prefix from its beginning. An async context manager."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._heard: list[Heard] = []
        self._news = asyncio.Condition()
        self._tail = TopicTail(KafkaConnection(bootstrap, prefix), EVERY_TOPIC, Heard.of, offsets={})
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._tail.__aenter__()
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
        await self._tail.__aexit__(kind, error, trace)

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

    async def _listen(self) -> None:
        async for heard in self._tail:
            async with self._news:
                self._heard.append(heard)
                self._news.notify_all()


def _object(value: bytes | None) -> Mapping[str, Any]:
    try:
        found = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
