"""The batch handlers of ingest.

Rule 1: nothing is published before thread and window are committed. Events are built from recorded rows, so a
        redelivery publishes the same under the same ids.
Rule 2: a message of a group is stored in the group's thread and nowhere else. It changes no customer, window or
        address, and an intent for its conversation is rejected by the router (``unknown_conversation``).
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import datetime
from uuid import UUID

from libs.common import metrics
from libs.common.directory import changes, holds, templates
from libs.common.directory.address_marks import clear
from libs.common.directory.holds import Hold, HoldChange
from libs.common.directory.organisations import RefusedChange
from libs.common.directory.reports import SignOfLife, TemplateNews
from libs.common.directory.touched import touch
from libs.common.events.directory import DirectoryChange
from libs.common.kafka.producer import Record
from libs.common.kafka.records import RawRecord, Received, Reject
from libs.common.logging import get_logger
from libs.common.providers import Provider
from libs.common.sending.status_effects import StatusEvents, receive_statuses
from libs.common.sending.statuses import find_sends
from services.ingest import consent, identity, learned_ids, queries, sms, staff
from services.ingest.events import closing, inbound_record, status_records
from services.ingest.identity import OfCustomer
from services.ingest.items import (
    CustomerCall,
    CustomerMessage,
    CustomerPreference,
    GroupMessage,
    IdentityChange,
    Ignored,
    Item,
    MessageStatus,
    NumberErrors,
    StaffEcho,
    StaffEchoes,
)
from services.ingest.parse import parse
from services.ingest.queries import Place, StoredMessage
from services.ingest.worker_deps import Deps, window_of

log = get_logger()

_OF_CUSTOMER = (CustomerMessage, CustomerCall, IdentityChange)


def read_webhook(record: RawRecord, deps: Deps) -> Item:
    """What a record of ``webhooks.v1`` says. Raises Undecodable."""
    return parse(record.value, reaction_opens=deps.reaction_opens)


async def on_webhooks(batch: Sequence[Received[Item]], deps: Deps) -> list[Reject]:
    """Store customers' messages and the statuses of ours, then publish them.

    Rejects records for numbers that are not ours.
    """
    await deps.priority.wait_for_edge(len(batch))
    texted, of_nobody = await deps.sms_gate.admit(batch)
    rejects = [*await deps.gate.reject(batch), *of_nobody]
    rejected = {(one.record.partition, one.record.offset) for one in rejects}
    items = [one.value for one in batch if not rejected or (one.record.partition, one.record.offset) not in rejected]
    records: list[Record] = []
    held = await _store_turns(items, records, deps)
    if preferences := [item for item in items if isinstance(item, CustomerPreference)]:
        await consent.store_preferences(deps.pool, preferences, deps.now())
    if news := [item for item in items if isinstance(item, TemplateNews)]:
        async with deps.pool.acquire() as db, db.transaction():
            await templates.record_news(db, news)
    if of_groups := [item for item in items if isinstance(item, GroupMessage)]:
        records += await _store_of_groups(of_groups, deps)
    joins: list[UUID] = []
    if texted:
        published, joins = await sms.store_batch(texted, deps)
        records += published
    if statuses := [item for item in items if isinstance(item, MessageStatus)]:
        records += status_records(await _apply(statuses, deps))
    if troubles := [item for item in items if isinstance(item, NumberErrors)]:
        await deps.troubles.take(deps.pool, troubles)
    for item in items:
        if isinstance(item, Ignored):
            _ignore(item.kind)
            if item.unknown is not None:
                _tell_unknown(*item.unknown, deps)
    await deps.producer.publish(records)
    await sms.mark_published(joins, deps)
    await staff.mark_published(held, deps)
    return rejects


async def _store_turns(items: Sequence[Item], records: list[Record], deps: Deps) -> list[Hold]:
    """Store what customers did and what staff wrote on the phone. Adds what is to be published to ``records``.

    Returns the holds among it.
    """
    held: list[Hold] = []
    for said, echoes in _turns(items):
        if said:
            messages = [item for item in said if isinstance(item, CustomerMessage)]
            await learned_ids.learn_from_messages(deps.pool, messages, deps.now())
            records += await _store(await _placed(said, deps), deps)
        if echoes:
            told, holding = await staff.store_echoes(echoes, deps)
            records += told
            held += holding
    return held


def _turns(items: Sequence[Item]) -> Iterator[tuple[list[OfCustomer], list[StaffEcho]]]:
    """What customers did and what staff wrote on the phone, in turns.

    In each the customers' come first. What was written to a customer and what they write then are in different turns.
    """
    said: list[OfCustomer] = []
    echoes: list[StaffEcho] = []
    reached: set[tuple[str, str | None]] = set()
    for item in items:
        if isinstance(item, StaffEchoes):
            echoes += item.echoes
            reached |= {(item.phone_number_id, one) for echo in item.echoes for one in echo.sender.ids if one}
        elif isinstance(item, _OF_CUSTOMER):
            if reached and not reached.isdisjoint((item.phone_number_id, one) for one in item.sender.ids):
                yield said, echoes
                said, echoes, reached = [], [], set()
            said.append(item)
    if said or echoes:
        yield said, echoes


def _ignore(kind: str) -> None:
    metrics.WEBHOOKS_IGNORED.labels(kind=kind).inc()
    log.debug("webhook.received", source="meta", outcome="ignored", kind=kind)


def _tell_unknown(source: Provider, word: str, deps: Deps) -> None:
    def write(times: int) -> None:
        log.warning("status.unknown", source=source, outcome="ignored", status=word, times=times)

    deps.unknown_words.report(source, write)


async def _placed(items: Sequence[OfCustomer], deps: Deps) -> list[tuple[OfCustomer, Place]]:
    """The messages and calls with their organisation and conversation. Unknown customers are created.

    Changes of identity are applied. A notice is left out where the customer has no thread, and a call and a notice of
    before where they were erased.
    """
    placed: list[tuple[OfCustomer, Place]] = []
    for item, place in zip(items, await identity.places(deps.pool, items, deps.now()), strict=True):
        if isinstance(item, IdentityChange) and item.notice is None:
            continue
        if place is None:
            _ignore("call" if isinstance(item, CustomerCall) else "notice")
        else:
            placed.append((item, place))
    return placed


async def _store(placed: Sequence[tuple[OfCustomer, Place]], deps: Deps) -> list[Record]:
    """Store each message once and move the windows; the records to publish."""
    if not placed:
        return []
    unique: dict[object, tuple[OfCustomer, Place]] = {}
    for number, (item, place) in enumerate(placed):
        message = item.notice if isinstance(item, IdentityChange) else item
        key = (item.phone_number_id, message.provider_id) if isinstance(message, CustomerMessage) else number
        unique.setdefault(key, (item, place))
    messages = list(unique.values())
    keywords = any(isinstance(item, CustomerMessage) and "keyword" in item.content for item, _ in messages)
    async with deps.pool.acquire() as db, db.transaction() if keywords else nullcontext():
        stored = await queries.store_messages(db, messages)
        await clear(db, _signs_of_life(placed))
        if keywords:
            await consent.store_keywords(db, stored)
        await touch(db, _callers(stored))
    now = deps.now()
    opened: set[UUID] = set()
    records: list[Record] = []
    for (_, place), one in zip(messages, stored, strict=True):
        window = window_of(one.opened_at, one, deps)
        is_open = window.is_open(now)
        opens = place.conversation_id not in opened and is_open and not _was_open(one, deps, now)
        moves = one.message_id is None and is_open and one.opened_before != one.opened_at  # a call has no other line
        if opens or moves:
            log.info(
                "window.opened",
                org_id=one.org_id,
                conversation_id=str(place.conversation_id),
                channel="whatsapp",
                outcome="opened" if opens else "moved",
                **closing(window, now),
            )
        if opens:
            opened.add(place.conversation_id)
        if one.message_id is not None:
            records.append(inbound_record(one, window, now))
    return records


def _signs_of_life(placed: Sequence[tuple[OfCustomer, Place]]) -> list[SignOfLife]:
    """The addresses from which customers wrote or called: marks on them are cleared."""
    return [
        SignOfLife(place.org_id, "whatsapp", address, item.at)
        for item, place in placed
        for address in item.sender.ids
        if address is not None
    ]


def _callers(stored: Sequence[StoredMessage]) -> list[tuple[str, UUID]]:
    """The customers who called. Of a call nothing is published."""
    return [(one.org_id, one.customer_id) for one in stored if one.message_id is None and one.customer_id is not None]


def _was_open(one: StoredMessage, deps: Deps, now: datetime) -> bool:
    """Whether the window was open before this batch."""
    return one.opened_before == one.opened_at or window_of(one.opened_before, one, deps).is_open(now)


async def _store_of_groups(messages: Sequence[GroupMessage], deps: Deps) -> list[Record]:
    unique: dict[tuple[str, str], GroupMessage] = {}
    for one in messages:
        unique.setdefault((one.phone_number_id, one.provider_id), one)
    async with deps.pool.acquire() as db, db.transaction():
        stored = await queries.store_of_groups(db, list(unique.values()))
    now = deps.now()
    return [inbound_record(one, None, now) for one in stored]


async def _apply(statuses: Sequence[MessageStatus], deps: Deps) -> StatusEvents:
    reported = [one.status for one in statuses]
    async with deps.pool.acquire() as db, db.transaction():
        now = deps.now()
        known = await find_sends(db, reported, now)
        await learned_ids.learn_from_statuses(db, statuses, known.sends, now)
        return await receive_statuses(db, reported, now, known)


async def on_changes(batch: Sequence[Received[DirectoryChange]], deps: Deps) -> list[Reject]:
    """Apply the directory's changes. Rejects those that were refused.

    Holds of conversations have a transaction of their own: they lock what the others may lock after something else.
    """
    async with deps.pool.acquire() as db:
        async with db.transaction():
            refused = await changes.apply(db, [received.value for received in batch], platform_host=deps.platform_host)
        told = [(i, one.value) for i, one in enumerate(batch) if isinstance(one.value, HoldChange)]
        async with db.transaction():
            unknown = await holds.apply(db, [change for _, change in told])
    lost = {one.index: one for one in refused}
    for place in unknown:
        index = told[place][0]
        detail = "the organisation has no such conversation"
        lost.setdefault(index, RefusedChange(index, "unknown_conversation", detail))
    for index, received in enumerate(batch):
        if index not in lost:
            log.info("directory.applied", org_id=received.value.org_id, kind=received.value.type)
    return [Reject(batch[one.index].record, one.reason, one.detail) for one in lost.values()]
