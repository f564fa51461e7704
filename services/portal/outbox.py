"""What the portal publishes beside its answers: reads, sign-ins and wishes for links. No request waits for Kafka.

Rule 1: what is put here is offered again until it is acknowledged, or until the process ends. A page tells an unread
        message again when it is shown again, so the end of a process loses no reading for good.
Rule 2: an event stands here once, however often it is put while Kafka is away. A reading keeps its first time.
Rule 3: at most ``MOST`` wait. Over that the oldest is given up, and that is logged.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.errors import Transient
from libs.common.events.portal import MAX_READ, PortalEvent, PortalLinkWanted, PortalRead, PortalSignedIn
from libs.common.kafka.producer import Producer
from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger
from services.portal.publishing import publish

MOST = 50_000
"""Readings of one message each, sign-ins and wishes."""
_AT_ONCE = 5_000
_PAUSE_SECONDS = 1.0

Beside = PortalRead | PortalSignedIn | PortalLinkWanted

log = get_logger()
_throttle = LogThrottle(60.0)


class _Waiting(NamedTuple):
    """The key of what waits. ``message_id`` is of a reading alone."""

    kind: type[Beside]
    org_id: str
    conversation_id: UUID
    message_id: UUID | None = None


class Outbox:
    """One for a process. ``run`` publishes beside the service."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._waiting: dict[_Waiting, datetime] = {}
        self._some = asyncio.Event()
        self._is_away = False

    @property
    def is_away(self) -> bool:
        """Whether Kafka did not acknowledge the last time."""
        return self._is_away

    async def put(self, events: Iterable[Beside]) -> None:
        """Publish these soon. Returns at once."""
        for event in events:
            for key in _keys(event):
                if not isinstance(event, PortalRead) or key not in self._waiting:
                    self._waiting[key] = event.at
        while len(self._waiting) > MOST:
            del self._waiting[next(iter(self._waiting))]
            _report("full")
        if self._waiting:
            self._some.set()

    async def run(self) -> None:
        """Publish whatever is put; never returns."""
        while True:
            await self._some.wait()
            await self.flush()
            if self._is_away:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def flush(self) -> None:
        """Publish all that waits, unless Kafka is away."""
        while taken := dict(list(self._waiting.items())[:_AT_ONCE]):
            try:
                await publish(self._producer, _events(taken))
            except Transient:
                self._is_away = True
                _report("kafka_away")
                return
            self._is_away = False
            for key, at in taken.items():
                if self._waiting.get(key) == at:
                    del self._waiting[key]
        self._some.clear()


def _keys(event: Beside) -> list[_Waiting]:
    place = type(event), event.org_id, event.conversation_id
    return [_Waiting(*place, one) for one in event.message_ids] if isinstance(event, PortalRead) else [_Waiting(*place)]


def _events(waiting: Mapping[_Waiting, datetime]) -> list[PortalEvent]:
    """The events, with the readings of one conversation and moment together."""
    events: list[PortalEvent] = []
    read: dict[tuple[str, UUID, datetime], list[UUID]] = {}
    for (kind, org_id, conversation_id, message_id), at in waiting.items():
        if message_id is not None:
            read.setdefault((org_id, conversation_id, at), []).append(message_id)
        elif issubclass(kind, PortalSignedIn | PortalLinkWanted):
            events.append(kind(org_id=org_id, conversation_id=conversation_id, at=at))
    for (org_id, conversation_id, at), message_ids in read.items():
        for first in range(0, len(message_ids), MAX_READ):
            some = message_ids[first : first + MAX_READ]
            events.append(PortalRead(org_id=org_id, conversation_id=conversation_id, message_ids=some, at=at))
    return events


def _report(reason: str) -> None:
    _throttle.report(reason, lambda times: log.warning("portal.unpublished", reason=reason, times=times))
