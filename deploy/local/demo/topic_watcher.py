"""Reads the public topics as any other client does, and waits for the events that the story expects."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

import orjson

from deploy.local.seen_records import SeenRecords
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    INBOUND_MESSAGES,
    OUTBOUND_DECISIONS,
    OUTBOUND_INTENTS,
    Topic,
)
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.records import RawRecord
from libs.common.kafka.topic_tail import TopicTail

PublicEvent = Mapping[str, Any]
_PATIENCE_SECONDS = 15.0
_BRIEF = ("intent_id", "message_id", "attempt", "route", "status", "reason", "provider_code")


class StoryError(Exception):
    """A step of the story did not happen. The message says what was expected and what was seen instead."""


class TopicWatcher(SeenRecords[tuple[str, PublicEvent]]):
    """The events of some organisations that were published since the watcher was entered. An async context manager."""

    def __init__(self, kafka: KafkaConnection, org_ids: Collection[str]) -> None:
        topics = (INBOUND_MESSAGES, OUTBOUND_INTENTS, OUTBOUND_DECISIONS, DELIVERY_UPDATES)
        super().__init__(TopicTail(kafka, topics, self._decode))
        self._org_ids = frozenset(org_ids)

    async def wait_for(self, topic: Topic, what: str, matches: Callable[[PublicEvent], bool]) -> PublicEvent:
        """The first event on ``topic`` that matches. Raises StoryError, which names ``what``, after a time."""
        async with self._grown:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    while not (found := [event for event in self._on(topic) if matches(event)]):
                        await self._grown.wait()
            except TimeoutError:
                seen = [
                    {name: event[name] for name in _BRIEF if event.get(name) is not None} for event in self._on(topic)
                ]
                raise StoryError(
                    f"expected {what} on {topic.name} within {_PATIENCE_SECONDS:.0f} s;"
                    f" last seen there: {seen[-5:] or 'nothing'}"
                ) from None
        return found[0]

    def _on(self, topic: Topic) -> list[PublicEvent]:
        return [event for name, event in self._seen if name == topic.name]

    def _decode(self, record: RawRecord) -> tuple[str, PublicEvent] | None:
        event = orjson.loads(record.value or b"{}")
        return (record.topic, event) if event.get("org_id") in self._org_ids else None
