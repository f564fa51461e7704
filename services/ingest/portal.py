"""What customers do in the portal: they write, they read, they sign in, they ask for a link.

Rule 1: a text becomes an inbound message of its conversation, once for each form that was posted. It says where the
        customer wrote last. It opens no WhatsApp window, and it is no sign of life of a phone.
Rule 2: what the portal showed becomes ``read``, whatever became of it before: the customer has it. This holds only for
        messages of the event's own organisation and conversation that the portal shows (``portal_view``).
Rule 3: a time that lies ahead counts as now, so that no event holds a channel alive or a customer active for longer.
Rule 4: a wish for a fresh link is no visit: it may be anybody's who holds an old code. It becomes one intent of kind
        ``bridge`` an hour and conversation. The router decides it like any other bridge, so at most one SMS goes in a
        hold, to the phone on file. A wish that is an hour old has expired.
Rule 5: of a customer who was erased no words are stored, and not when they were here.
Rule 6: nothing is published before it is committed. A redelivery publishes the same under the same ids.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.touched import touch
from libs.common.events.content import ERASED, OutBridge
from libs.common.events.intents import LINK_WANTED, Actor, Intent
from libs.common.events.portal import PortalEvent, PortalLinkWanted, PortalMessage, PortalRead
from libs.common.events.topics import OUTBOUND_INTENTS
from libs.common.ids import MessageKey, portal_provider_id, wanted_link_id
from libs.common.kafka.producer import Record
from libs.common.kafka.records import Received, Reject
from libs.common.sanitize import sanitize
from libs.common.sending.status_effects import StatusEvents, told_of
from libs.common.thread.message_status import Reached, advance
from libs.common.thread.messages import delivery_update, lock_messages, write_states
from services.ingest import portal_queries as queries
from services.ingest.events import inbound_record, status_records
from services.ingest.portal_queries import PortalPlace, PortalText
from services.ingest.worker_deps import Deps, window_of

LINK_WANTED_FOR = timedelta(hours=1)
"""How long a wish for a link holds."""

Placed = tuple[PortalEvent, PortalPlace]


async def on_portal(batch: Sequence[Received[PortalEvent]], deps: Deps) -> list[Reject]:
    """Store what customers wrote and read in the portal, then publish it.

    Rejects what names a conversation that its organisation does not have.
    """
    now = deps.now()
    events = [received.value for received in batch]
    async with deps.pool.acquire() as db:
        places = await queries.places(db, [(event.org_id, event.conversation_id) for event in events])
        placed = [(event, place) for event, place in zip(events, places, strict=True) if place is not None]
        seen = _seen(placed, now)
        await queries.saw(db, seen)
        await touch(db, [(org_id, customer_id) for org_id, customer_id, _ in seen])
        async with db.transaction():
            read = await _read(db, placed, now)
        stored = await queries.store_texts(db, _texts(placed, now), now)
    records = status_records(read)
    records += [inbound_record(one, window_of(one.opened_at, one, deps), now) for one in stored]
    records += _wishes(placed, now)
    await deps.producer.publish(records)
    return [
        Reject(received.record, "unknown_conversation", "the organisation has no such conversation")
        for received, place in zip(batch, places, strict=True)
        if place is None
    ]


def _seen(placed: Sequence[Placed], now: datetime) -> list[tuple[str, UUID, datetime]]:
    """When each customer was last in the portal, by any of the events."""
    latest: dict[tuple[str, UUID], datetime] = {}
    for event, place in placed:
        if isinstance(event, PortalLinkWanted):
            continue
        key = event.org_id, place.customer_id
        at = min(event.at, now)
        latest[key] = max(latest.get(key, at), at)
    return [(*key, at) for key, at in latest.items()]


async def _read(db: Connection, placed: Sequence[Placed], now: datetime) -> StatusEvents:
    """Move what was read; the newest status of each message that was named rightly. Call inside a transaction."""
    readings = _readings(placed, now)
    messages = await lock_messages(db, set(readings))
    ours = {key for key, message in messages.items() if message.conversation_id in readings[key]}
    read = StatusEvents()
    for key in sorted(await queries.shown_of(db, ours)):
        message = messages[key]
        conversation_id = message.conversation_id
        if conversation_id is None:
            continue
        at = readings[key][conversation_id]
        message.state = advance(message.state, Reached(message.state.attempt, "read", at))
        if message.written.status != "read" and message.channel != "portal":
            message.read_channel = "portal"
        if (update := delivery_update(message)) is not None:
            read.updates.append(update)
            read.told.append(told_of(message, update, "read", is_new=message.state is not message.written))
    await write_states(db, messages.values())
    return read


def _readings(placed: Sequence[Placed], now: datetime) -> Mapping[MessageKey, Mapping[UUID, datetime]]:
    """By message, and by the conversation under which it was named, when it was read first."""
    readings: dict[MessageKey, dict[UUID, datetime]] = {}
    for event, place in placed:
        if isinstance(event, PortalRead):
            for message_id in event.message_ids:
                times = readings.setdefault((event.org_id, message_id), {})
                at = min(event.at, now)
                times[place.conversation_id] = min(times.get(place.conversation_id, at), at)
    return readings


def _texts(placed: Sequence[Placed], now: datetime) -> list[PortalText]:
    """Each text once: of a form that was posted again with the same text the first event counts."""
    texts: dict[str, PortalText] = {}
    for event, place in placed:
        if isinstance(event, PortalMessage):
            provider_id = portal_provider_id(
                event.org_id, event.conversation_id, event.session, event.client_id, event.text
            )
            content: dict[str, Any] = {"kind": "text", "text": sanitize(event.text)}
            if place.erased:
                content = dict(ERASED)
            text = PortalText(
                *(event.org_id, place.conversation_id, place.identity_version, provider_id),
                *(content, min(event.at, now)),
            )
            texts.setdefault(provider_id, text)
    return list(texts.values())


def _wishes(placed: Sequence[Placed], now: datetime) -> list[Record]:
    """The intents that ask for links. Within an hour all wishes of a conversation are the same intent."""
    intents: dict[UUID, Intent] = {}
    for event, place in placed:
        if isinstance(event, PortalLinkWanted):
            at = min(event.at, now)
            hour = int(at.timestamp() // LINK_WANTED_FOR.total_seconds())
            intent = Intent(
                intent_id=wanted_link_id(event.org_id, event.conversation_id, hour),
                org_id=event.org_id,
                conversation_id=place.conversation_id,
                actor=Actor(kind="system", capabilities=[LINK_WANTED]),
                content=OutBridge(),
                created_at=at,
                expires_at=at + LINK_WANTED_FOR,
            )
            intents.setdefault(intent.intent_id, intent)
    return [
        Record(OUTBOUND_INTENTS, str(intent.conversation_id).encode(), intent.encode()) for intent in intents.values()
    ]
