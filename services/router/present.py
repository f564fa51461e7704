"""What stands recorded, as the events to publish. Pure.

Rule 1: nothing is told that is not recorded; a redelivered intent tells the same again.
Rule 2: the router tells the statuses that it set itself: of silent and rejected intents, and of what only the portal shows. A message that
        moved on meanwhile tells its latest rung instead.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from libs.common.events.outbound import Channel, DeliveryUpdate, OutboundDecision, Route
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_DECISIONS, OUTBOUND_SMS, OUTBOUND_WHATSAPP, Topic
from services.router.outcome import Outcome
from services.router.record import dumps

Event = tuple[Topic, bytes, bytes]
"""Topic, key, value."""


class Told(NamedTuple):
    """A message's newest rung."""

    channel: Channel
    seq: int
    status: str
    reason: str | None
    provider_code: str | None
    at: datetime


class Standing(NamedTuple):
    """One decision as it stands recorded. ``window``: its JSON object or a fragment of one; ``told``: None while the message is pending."""

    org_id: str
    intent_id: UUID
    attempt: int
    conversation_id: UUID | None
    route: Route
    channel: Channel | None
    reason: str
    window: Any
    command: bytes | None
    decided_at: datetime
    told: Told | None

    @property
    def key(self) -> tuple[str, UUID]:
        return self.org_id, self.intent_id


def just_recorded(row: Outcome, seq: int | None, now: datetime) -> Standing:
    """What stands after ``row`` was written at ``now``; ``seq`` is the message's afterwards, None where there is no message."""
    return Standing(
        org_id=row.org_id,
        intent_id=row.intent_id,
        attempt=row.attempt,
        conversation_id=row.conversation_id,
        route=row.route,
        channel=row.channel,
        reason=row.reason,
        window=None if row.window is None else orjson.Fragment(row.window),
        command=None if row.command is None else row.command.encode(),
        decided_at=now,
        told=None
        if row.status == "pending" or seq is None
        else Told(row.message_channel, seq, row.status, row.failure, None, now),
    )


def present(found: Standing) -> Iterator[Event]:
    """The decision, the command and the update that follow from what stands recorded."""
    key = str(found.conversation_id or found.intent_id).encode()
    yield OUTBOUND_DECISIONS, key, _decision(found)
    if found.command is not None:
        yield (OUTBOUND_SMS if found.channel == "sms" else OUTBOUND_WHATSAPP), key, found.command
    elif found.told is not None:
        yield DELIVERY_UPDATES, key, _update(found, found.told)


def _decision(found: Standing) -> bytes:
    return dumps(
        {
            "type": OutboundDecision.TYPE,
            "intent_id": found.intent_id,
            "attempt": found.attempt,
            "org_id": found.org_id,
            "conversation_id": found.conversation_id,
            "route": found.route,
            "channel": found.channel,
            "reason": found.reason,
            "window": found.window,
            "decided_at": found.decided_at,
        }
    )


def _update(found: Standing, told: Told) -> bytes:
    return dumps(
        {
            "type": DeliveryUpdate.TYPE,
            "message_id": found.intent_id,
            "org_id": found.org_id,
            "conversation_id": found.conversation_id,
            "channel": told.channel,
            "seq": told.seq,
            "status": told.status,
            "reason": told.reason,
            "provider_code": told.provider_code,
            "at": told.at,
        }
    )
