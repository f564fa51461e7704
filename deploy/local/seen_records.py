"""The records of some topics as far as they were read, for callers that wait for one."""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from libs.common.kafka.topic_tail import TopicTail

T = TypeVar("T")


class SeenRecords(Generic[T]):
    """Reads ``tail`` beside the caller while it is entered. An async context manager."""

    def __init__(self, tail: TopicTail[T]) -> None:
        self._tail = tail
        self._seen: list[T] = []
        self._grown = asyncio.Condition()
        """Notified with every record."""

    async def __aenter__(self) -> Self:
        await self._tail.__aenter__()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        await self._tail.__aexit__(kind, error, trace)

    async def _read(self) -> None:
        async for one in self._tail:
            async with self._grown:
                self._seen.append(one)
                self._grown.notify_all()
