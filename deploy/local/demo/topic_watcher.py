"""Reads the public topics as any other client does, and waits for the events that the story expects."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import orjson

from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, OUTBOUND_DECISIONS, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.records import RawRecord
from libs.common.kafka.topic_tail import TopicTail

PublicEvent = Mapping[str, Any]
_BRIEF = ("intent_id", "message_id", "attempt", "route", "status", "reason", "provider_code")


class StoryError(Exception):
    """A step of the story did not happen. The message says what was expected and what was seen instead."""


class TopicWatcher:
    """The events of some organisations that were published since the watcher was entered. An async context manager."""

    def __init__(self, kafka: KafkaConnection, org_ids: Collection[str]) -> None:
        self._org_ids = frozenset(org_ids)
        self._seen: list[tuple[str, PublicEvent]] = []
        self._grown = asyncio.Condition()
        self._tail = TopicTail(kafka, (INBOUND_MESSAGES, OUTBOUND_DECISIONS, DELIVERY_UPDATES), self._decode)
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._tail.__aenter__()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        await self._tail.__aexit__(kind, error, trace)

    async def wait_for(
        self, topic: Topic, what: str, matches: Callable[[PublicEvent], bool], seconds: float = 15.0
    ) -> PublicEvent:
        """The first event on ``topic`` that matches. Raises StoryError, which names ``what``, after ``seconds``."""
        async with self._grown:
            try:
                async with asyncio.timeout(seconds):
                    while not (found := [event for event in self._on(topic) if matches(event)]):
                        await self._grown.wait()
            except TimeoutError:
                seen = [
                    {name: event[name] for name in _BRIEF if event.get(name) is not None} for event in self._on(topic)
                ]
                raise StoryError(
                    f"expected {what} on {topic.name} within {seconds:.0f} s; last seen there: {seen[-5:] or 'nothing'}"
                ) from None
        return found[0]

    def _on(self, topic: Topic) -> list[PublicEvent]:
        return [event for name, event in self._seen if name == topic.name]

    def _decode(self, record: RawRecord) -> tuple[str, PublicEvent] | None:
        event = orjson.loads(record.value or b"{}")
        return (record.topic, event) if event.get("org_id") in self._org_ids else None

    async def _read(self) -> None:
        async for one in self._tail:
            async with self._grown:
                self._seen.append(one)
                self._grown.notify_all()
