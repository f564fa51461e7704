"""The batch handlers of the inbox: what lists, search and streams need beside the thread.

Rule 1: a batch is one transaction, which computes anew what its events touch. So a redelivery changes nothing, and the
        order of topics does not matter.
Rule 2: the feed is written last: whoever is told of a change reads what is stored with it.
Rule 3: what is to be published is stored with the rest, and published from there after the commit.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from libs.common.db.pool import Pool
from libs.common.directory import holds
from libs.common.directory.holds import HoldChange
from libs.common.events.directory import ConversationReleased, CustomerUpserted, DirectoryChange
from libs.common.events.inbound import InboundMessage
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision
from libs.common.kafka.records import Received
from services.inbox import feed_queries
from services.inbox.feed import changes_of
from services.inbox.heads import refresh
from services.inbox.notices import Notices
from services.inbox.parked import ParkedTexts
from services.inbox.windows import WindowRule
from services.inbox.word_queries import write_customers, write_words

Keys = list[tuple[str, UUID]]


@dataclass(frozen=True, slots=True)
class WorkerDeps:
    """What the handlers work with."""

    pool: Pool
    rule: WindowRule
    parked: ParkedTexts
    notices: Notices


async def on_inbound(batch: Sequence[Received[InboundMessage]], deps: WorkerDeps) -> None:
    """Customers' messages: new heads, new words, perhaps new customers."""
    events = [one.value for one in batch]
    touched = [(event.org_id, event.conversation_id) for event in events]
    await _store(deps, events, touched, messages=[(event.org_id, event.message_id) for event in events])
    await deps.parked.send_open(set(touched))


async def on_decisions(batch: Sequence[Received[OutboundDecision]], deps: WorkerDeps) -> None:
    """Decisions on outbound messages: each is in its thread by now, and may be the first to a new customer."""
    events = [one.value for one in batch]
    touched = [(event.org_id, event.conversation_id) for event in events if event.conversation_id is not None]
    await _store(deps, events, touched, messages=[(event.org_id, event.intent_id) for event in events])


async def on_updates(batch: Sequence[Received[DeliveryUpdate]], deps: WorkerDeps) -> None:
    """New statuses. The bridge SMS of a failed message is in the thread by now, and what failed may wait or be told.

    Of what staff wrote on the phone nothing else is published: its words are written here.
    """
    events = [one.value for one in batch]
    touched = [(event.org_id, event.conversation_id) for event in events if event.conversation_id is not None]
    echoes = [(event.org_id, event.message_id) for event in events if event.author is not None]
    await _store(deps, events, touched, messages=echoes)
    await deps.parked.on_failures({(event.org_id, event.message_id) for event in events if event.status == "failed"})
    await deps.notices.on_failures(events)


async def on_changes(batch: Sequence[Received[DirectoryChange]], deps: WorkerDeps) -> None:
    """Names and numbers of customers, and who holds a conversation.

    A word of another system about a hold may be read here before ingest has stored it. It is stored first, by the rule
    that ingest has: who is told of it sees it, and what waits for it goes.
    """
    events = [one.value for one in batch]
    people = [event for event in events if isinstance(event, CustomerUpserted)]
    words = [event for event in events if isinstance(event, HoldChange)]
    if words:
        async with deps.pool.acquire() as db, db.transaction():
            await holds.apply(db, words)
    if people or words:
        held = [(event.org_id, event.conversation_id) for event in words]
        await _store(deps, events, held, customers=people)
    released = {(one.org_id, one.conversation_id) for one in events if isinstance(one, ConversationReleased)}
    await deps.parked.send_open(released)


async def _store(
    deps: WorkerDeps,
    events: Sequence[object],
    touched: Keys,
    *,
    messages: Collection[tuple[str, UUID]] = (),
    customers: Sequence[CustomerUpserted] = (),
) -> None:
    """Store what these events change, in one transaction. Locks are taken in the order of the calls."""
    async with deps.pool.acquire() as db, db.transaction():
        await refresh(db, touched, deps.rule)
        if messages:
            await write_words(db, messages)
        if messages or customers:
            await write_customers(db, touched, customers)
        await feed_queries.add(db, changes_of(events))
