"""Watches the topics as any other client would, and waits for what the story says must happen."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from libs.common.kafka.connection import KafkaConnection

TOPICS = ("inbound.messages.v1", "outbound.decisions.v1", "delivery.updates.v1")
Happened = Mapping[str, Any]


class StoryError(Exception):
    """Something that the story promises did not happen. The message says what was expected and what was seen instead."""


class Witness:
    """Everything told on the public topics since it came, and a voice to say intents. An async context manager."""

    def __init__(self, kafka: KafkaConnection, org_id: str) -> None:
        self._prefix = prefix = kafka.topic_prefix
        self._org_id = org_id
        self._seen: list[tuple[str, Happened]] = []
        self._news = asyncio.Condition()
        self._consumer = AIOKafkaConsumer(
            *(prefix + topic for topic in TOPICS), auto_offset_reset="earliest", **kafka.client_options()
        )
        self._producer = AIOKafkaProducer(acks="all", **kafka.client_options())
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        await self._producer.start()
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
        await self._producer.stop()
        await self._consumer.stop()

    async def say(self, topic: str, event: Happened, key: str) -> None:
        """Publish an event, acknowledged."""
        await self._producer.send_and_wait(self._prefix + topic, orjson.dumps(event), key=key.encode())

    async def sees(self, topic: str, what: str, is_it: Callable[[Happened], bool], seconds: float = 15.0) -> Happened:
        """The first event of our org on ``topic`` for which ``is_it``. Raises StoryError, naming ``what``, after ``seconds``."""
        async with self._news:
            try:
                async with asyncio.timeout(seconds):
                    while (found := self._first(topic, is_it)) is None:
                        await self._news.wait()
            except TimeoutError:
                seen = [self._brief(event) for where, event in self._seen if where == topic][-5:]
                raise StoryError(
                    f"expected {what} on {topic} within {seconds:.0f} s; last seen there: {seen or 'nothing'}"
                ) from None
        return found

    def count(self, topic: str, is_it: Callable[[Happened], bool]) -> int:
        """How many such events were told so far."""
        return sum(where == topic and is_it(event) for where, event in self._seen)

    def _first(self, topic: str, is_it: Callable[[Happened], bool]) -> Happened | None:
        return next((event for where, event in self._seen if where == topic and is_it(event)), None)

    async def _listen(self) -> None:
        async for record in self._consumer:
            event = orjson.loads(record.value)
            if event.get("org_id") == self._org_id:
                async with self._news:
                    self._seen.append((record.topic.removeprefix(self._prefix), event))
                    self._news.notify_all()

    @staticmethod
    def _brief(event: Happened) -> dict[str, Any]:
        told = ("intent_id", "message_id", "attempt", "route", "status", "reason", "provider_code")
        return {name: event[name] for name in told if event.get(name) is not None}
