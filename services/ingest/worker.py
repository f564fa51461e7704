"""The batch handlers: understand was before, here it is stored and then told.

Store, then tell: nothing is published before the thread and the window are committed, and what is published is what stands recorded, now or
from an earlier try. A redelivery tells the same again under the same ids.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple, Self
from uuid import UUID

import orjson

from libs.common import metrics
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.directory import changes, templates
from libs.common.directory.address_marks import clear
from libs.common.directory.reports import SignOfLife, TemplateNews
from libs.common.errors import Transient
from libs.common.events.directory import DirectoryChange
from libs.common.events.inbound import InboundMessage
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, OUTBOUND_REFUSED
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.records import RawRecord, Received, Reject
from libs.common.logging import get_logger
from libs.common.open_service import OpenService
from libs.common.sending.status_effects import StatusEvents, receive_statuses
from libs.common.window import Window
from services.ingest import (
    consent,
    groups,
    identify,
    queries,
    recipients,
    sender_ids,
    translate,
)
from services.ingest.identify import Changed, Place, Wanted
from services.ingest.numbers import Gate
from services.ingest.precedence import Precedence
from services.ingest.understand import understand
from services.ingest.understood import (
    CustomerCall,
    CustomerMessage,
    CustomerPreference,
    GroupMessage,
    IdentityChange,
    MessageStatus,
    NotForUs,
    Understood,
)

log = get_logger()


@dataclass(frozen=True, slots=True)
class Deps:
    """What the worker works with.

    ``window`` is WINDOW_SECONDS, ``doubt`` WINDOW_DOUBT_SECONDS, ``reaction_opens`` REACTION_OPENS_WINDOW.
    """

    pool: Pool
    producer: Producer
    window: timedelta
    doubt: timedelta
    now: Clock
    gate: Gate
    precedence: Precedence = field(default_factory=Precedence)
    reaction_opens: bool = False

    @classmethod
    def of(
        cls,
        opened: OpenService,
        window: timedelta,
        doubt: timedelta,
        precedence: Precedence,
        *,
        reaction_opens: bool,
    ) -> Self:
        """On the servers of the service."""
        pool = opened.pool
        return cls(pool, opened.producer, window, doubt, pool.now, Gate(pool), precedence, reaction_opens)


def read_webhook(record: RawRecord, deps: Deps) -> Understood:
    """What a record of ``webhooks.v1`` says. Raises Undecodable."""
    return understand(record.value, reaction_opens=deps.reaction_opens)


class _Item(NamedTuple):
    """What a customer did, the record that told it, and whose it is; ``did`` None: a change of identity without a message."""

    record: RawRecord
    did: CustomerMessage | CustomerCall | None
    asked: Wanted | Changed


async def on_webhooks(batch: Sequence[Received[Understood]], deps: Deps) -> list[Reject]:
    """Store what customers said and how far our messages came; tell what stands recorded. Returns what is for no number of ours."""
    await deps.precedence.give_way(len(batch))
    refused = await deps.gate.refuse(batch)
    strangers = {(one.record.partition, one.record.offset) for one in refused}
    ours = [one for one in batch if (one.record.partition, one.record.offset) not in strangers]
    items, statuses, group = _sorted_out(ours)
    told: list[Record] = []
    if items:
        await sender_ids.learn(
            deps.pool, [item.did for item in items if isinstance(item.did, CustomerMessage)], deps.now()
        )
        told += await _store(await _placed(items, deps), deps)
    if preferences := [one.value for one in ours if isinstance(one.value, CustomerPreference)]:
        await consent.hear_preferences(deps.pool, preferences)
    if news := [one.value for one in ours if isinstance(one.value, TemplateNews)]:
        async with deps.pool.acquire() as db, db.transaction():
            await templates.record_news(db, news)
    told += await groups.store(deps.pool, group, deps.now())
    if statuses:
        told += _tell(await _apply(statuses, deps))
    await deps.producer.publish(told)
    return refused


def _sorted_out(
    batch: Sequence[Received[Understood]],
) -> tuple[list[_Item], list[Received[MessageStatus]], list[GroupMessage]]:
    items: list[_Item] = []
    statuses: list[Received[MessageStatus]] = []
    group: list[GroupMessage] = []
    for received in batch:
        match received.value:
            case CustomerMessage() | CustomerCall() as did:
                asked = Wanted("", did.phone_number_id, did.sender, did.at, did.received_at)
                items.append(_Item(received.record, did, asked))
            case IdentityChange(number, before, now, at, received_at, notice, alarm):
                changed = Changed("", number, before, now, at, received_at, alarm)
                items.append(_Item(received.record, notice, changed))
            case MessageStatus() as status:
                statuses.append(Received(status, received.record))
            case GroupMessage() as said:
                group.append(said)
            case CustomerPreference() | TemplateNews():
                continue
            case NotForUs(kind):
                metrics.WEBHOOKS_IGNORED.labels(kind=kind).inc()
                log.debug("webhook.received", source="meta", outcome="ignored", kind=kind)
    return items, statuses, group


async def _placed(items: Sequence[_Item], deps: Deps) -> list[tuple[_Item, Place]]:
    """The items with their organisation and conversation; unknown customers become known. Notices of nobody who has a thread are left out."""
    found = await identify.places(deps.pool, [item.asked for item in items], deps.now())
    placed: list[tuple[_Item, Place]] = []
    for item, place in zip(items, found, strict=True):
        if item.did is not None and place is not None:
            placed.append((item, place))
        elif item.did is not None:
            metrics.WEBHOOKS_IGNORED.labels(kind="notice").inc()
            log.debug("webhook.received", source="meta", outcome="ignored", kind="notice")
    return placed


async def _store(items: Sequence[tuple[_Item, Place]], deps: Deps) -> list[Record]:
    """Store each message once, move the windows; the records that tell it."""
    unique: dict[object, queries.Entry] = {}
    for number, (item, place) in enumerate(items):
        entry = _entry(item, place)
        unique.setdefault(number if entry.provider_id is None else (entry.account, entry.provider_id), entry)
    entries = list(unique.values())
    if not entries:
        return []
    keywords = consent.has_keyword(entries)
    async with deps.pool.acquire() as db, db.transaction() if keywords else nullcontext():
        standing = await queries.record(db, entries)
        if any(one.conversation_id is None for one in standing):
            raise Transient("who is who was settled anew meanwhile")
        await clear(db, _signs(items))
        if keywords:
            await consent.hear_keywords(db, entries, standing)
        before = [
            (entry.org_id, entry.account, entry.provider_id)
            for entry, one in zip(entries, standing, strict=True)
            if one.message_id is None and entry.provider_id is not None
        ]
        earlier = await queries.recorded(db, before) if before else {}
    now = deps.now()
    told: list[Record] = []
    opened: set[UUID] = set()
    for entry, one in zip(entries, standing, strict=True):
        window = _window(one.opened_at, one, deps)
        if (
            one.opened_before != one.opened_at
            and entry.conversation_id not in opened
            and window.is_open(now)
            and not _window(one.opened_before, one, deps).is_open(now)
        ):
            opened.add(entry.conversation_id)
            log.info(
                "window.opened", org_id=entry.org_id, conversation_id=str(entry.conversation_id), channel="whatsapp"
            )
        if entry.provider_id is not None:
            told.append(_inbound(entry, one, earlier.get((entry.account, entry.provider_id)), window, now))
    return told


def _signs(items: Iterable[tuple[_Item, Place]]) -> list[SignOfLife]:
    """Whoever writes or calls can be reached where they wrote from."""
    return [
        SignOfLife(place.org_id, "whatsapp", address, item.did.at)
        for item, place in items
        if item.did is not None
        for address in item.did.sender.ids
        if address is not None
    ]


def _window(last_customer_at: datetime | None, one: queries.Standing, deps: Deps) -> Window:
    return Window(last_customer_at, deps.window, deps.doubt, one.refused_at, one.first_refused_at, one.last_refused_at)


def _entry(item: _Item, place: Place) -> queries.Entry:
    wa_id, bsuid = item.asked.sender.ids if isinstance(item.asked, Wanted) else (None, None)
    match item.did:
        case CustomerMessage() as said:
            return queries.Entry(
                *place,
                said.phone_number_id,
                said.provider_id,
                said.content["kind"],
                said.content,
                said.reply_to,
                said.at,
                said.received_at,
                said.opens,
                wa_id,
                bsuid,
            )
        case _:
            at = item.asked.at
            return queries.Entry(
                *place,
                item.asked.phone_number_id,
                None,
                None,
                None,
                None,
                at,
                None,
                opens=True,
                wa_id=wa_id,
                bsuid=bsuid,
            )


def _inbound(
    entry: queries.Entry, one: queries.Standing, earlier: queries.Recorded | None, window: Window, now: datetime
) -> Record:
    """``inbound.messages.v1`` as ``InboundMessage`` declares it, written as plain JSON because this is the way of every message."""
    if earlier is not None:
        message_id, conversation_id, content = earlier.message_id, earlier.conversation_id, earlier.content
        reply_to, at, received_at = earlier.reply_to, earlier.at, earlier.received_at
    elif one.message_id is not None:
        message_id, conversation_id, content = one.message_id, entry.conversation_id, entry.content or {}
        reply_to, at, received_at = entry.reply_to, entry.at, entry.received_at or now
    else:
        raise Transient("a message is being stored by somebody else")
    said, beside = translate.told(content)
    conversation = str(conversation_id)
    told = str(message_id)
    value = {
        "type": InboundMessage.TYPE,
        "message_id": told,
        "org_id": entry.org_id,
        "conversation_id": conversation,
        "customer_id": str(one.customer_id),
        "channel": "whatsapp",
        "provider_id": entry.provider_id,
        "content": said,
        **beside,
        "reply_to": reply_to,
        "sent_at": at,
        "received_at": received_at,
        "window": {"opened_at": window.last_customer_at, "closes_at": window.closes_at, "open": window.is_open(now)},
    }
    log.info(
        "message.received",
        org_id=entry.org_id,
        conversation_id=conversation,
        message_id=told,
        channel="whatsapp",
        kind=content["kind"],
        outcome="stored" if earlier is None else "known",
        lag_ms=round((now - received_at).total_seconds() * 1000),
    )
    return Record(INBOUND_MESSAGES, conversation.encode(), orjson.dumps(value, option=orjson.OPT_UTC_Z))


async def _apply(statuses: Sequence[Received[MessageStatus]], deps: Deps) -> StatusEvents:
    """Fold the statuses into the thread."""
    if not statuses:
        return StatusEvents()
    async with deps.pool.acquire() as db, db.transaction():
        await recipients.learn(db, [one.value for one in statuses], deps.now())
        return await receive_statuses(db, [one.value.status for one in statuses], deps.now())


def _tell(effects: StatusEvents) -> list[Record]:
    told: list[Record] = []
    for update in effects.updates:
        metrics.STATUSES.labels(channel=update.channel or "none", status=update.status).inc()
        log.info(
            "status.applied",
            org_id=update.org_id,
            conversation_id=None if update.conversation_id is None else str(update.conversation_id),
            message_id=str(update.message_id),
            channel=update.channel,
            status=update.status,
            reason=update.reason,
            provider_code=update.provider_code,
        )
        told.append(
            Record(DELIVERY_UPDATES, str(update.conversation_id or update.message_id).encode(), update.encode())
        )
    for refusal in effects.refusals:
        log.info(
            "send.refused",
            org_id=refusal.org_id,
            conversation_id=str(refusal.conversation_id),
            intent_id=str(refusal.intent_id),
            attempt=refusal.attempt,
            reason=refusal.reason,
            provider_code=refusal.provider_code,
        )
        told.append(Record(OUTBOUND_REFUSED, str(refusal.conversation_id).encode(), refusal.encode()))
    return told


async def on_changes(batch: Sequence[Received[DirectoryChange]], deps: Deps) -> list[Reject]:
    """Apply the directory's changes. Returns those that nobody could apply."""
    async with deps.pool.acquire() as db, db.transaction():
        refused = await changes.apply(db, [received.value for received in batch])
    lost = {one.index: one for one in refused}
    for index, received in enumerate(batch):
        if index not in lost:
            log.info("directory.applied", org_id=received.value.org_id, kind=received.value.type)
    return [Reject(batch[one.index].record, one.reason, one.detail) for one in refused]
