"""Heads of conversations say what lists need, whatever was published in which order."""

import asyncio
import random
import string
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from libs.common.db.pool import open_pool
from libs.common.db.shares import Shares
from libs.common.directory import holds
from libs.common.directory.merge import Merge, merge_customers
from libs.common.events.directory import ConversationHeld, CustomerUpserted
from libs.common.events.outbound import DeliveryUpdate
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import RawRecord, Received
from services.inbox.conversation_queries import mark_read, one
from services.inbox.heads import refresh
from services.inbox.notices import Notices
from services.inbox.touched import tell_touched
from services.inbox.worker import WorkerDeps, on_changes, on_updates
from tests.support import databases, world
from tests.support.erased import erase
from tests.support.inbox_world import HOUR, MINUTE, RULE, InboxWorld, an_inbox_world, nothing_waits
from tests.support.parked import parked_texts

_LONG_READ = "select toast_blks_read + toast_blks_hit from pg_statio_user_tables where relname = 'messages'"


@pytest_asyncio.fixture(scope="module")
async def garage(postgres_dsn: str, database_template: str) -> AsyncIterator[InboxWorld]:
    async with an_inbox_world(postgres_dsn, database_template) as made:
        yield made


def _deps(garage: InboxWorld) -> WorkerDeps:
    producer = Producer(KafkaConnection("localhost:9"))  # nothing here is published
    parked = parked_texts(garage.pool, producer, garage.pool.now)
    return WorkerDeps(
        garage.pool, RULE, parked, Notices(garage.pool, producer, garage.pool.now, RULE, Shares(garage.pool, 2))
    )


async def test_a_head_names_the_newest_message_and_since_when_an_answer_is_wanted(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, "First", ago=30 * MINUTE)
    last = await garage.hears(thread, "Second", ago=20 * MINUTE)
    head = await garage.head(thread)
    assert head["last_message_id"] == last
    assert head["inbound_sequence"] == head["last_sequence"]
    assert head["unanswered_since"] == garage.now - 30 * MINUTE
    assert head["channel"] == "whatsapp"
    assert head["last_customer_at"] == garage.now - 20 * MINUTE


async def test_an_answer_of_staff_or_ai_ends_the_wait_and_a_failed_one_does_not(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=30 * MINUTE)
    await garage.says(thread, status="failed", reason="provider_refused", ago=9 * MINUTE)
    assert (await garage.head(thread))["unanswered_since"] == garage.now - 30 * MINUTE
    await garage.says(thread, actor="system", ago=8 * MINUTE)
    assert (await garage.head(thread))["unanswered_since"] is not None
    await garage.says(thread, actor="ai", status="pending", ago=7 * MINUTE)
    assert (await garage.head(thread))["unanswered_since"] is None
    await garage.hears(thread, ago=MINUTE)
    assert (await garage.head(thread))["unanswered_since"] == garage.now - MINUTE


async def test_a_failure_counts_until_something_sent_after_it_has_gone(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=HOUR)
    await garage.says(
        thread, status="failed", reason="provider_refused", ago=20 * MINUTE, failed_at=garage.now - 10 * MINUTE
    )
    await garage.says(thread, ago=15 * MINUTE)  # sent before the failure was known
    assert (await garage.head(thread))["failed_sequence"] is not None
    await garage.says(thread, ago=MINUTE)
    assert (await garage.head(thread))["failed_sequence"] is None


@pytest.mark.parametrize("messages", [1, 100])
async def test_a_thread_that_was_erased_waits_for_nothing_and_nothing_of_it_has_failed(
    garage: InboxWorld, messages: int
) -> None:
    _, thread = await garage.customer()
    await garage.says(thread, status="failed", reason="provider_refused", ago=9 * MINUTE, failed_at=garage.now)
    for _ in range(messages):
        await garage.hears(thread, ago=MINUTE)
    asked = ("inbound_sequence", "unanswered_since", "unread_since", "failed_sequence")
    before = await garage.head(thread)
    assert all(before[name] is not None for name in asked[:3])
    await erase(garage.pool, garage.org, thread)
    await tell_touched(garage.pool, RULE, nothing_waits)
    head = await garage.head(thread)
    assert {name: head[name] for name in asked} == dict.fromkeys(asked)
    assert head["last_message_id"] == before["last_message_id"]


async def test_a_head_is_computed_without_reading_long_texts(database: str) -> None:
    """On one connection: another one might tell what it has read in between."""
    async with open_pool(database, application_name="test", size=1) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, "acme", "106400000000001")
        garage = InboxWorld(pool, "acme", "106400000000001")
        _, thread = await garage.customer()
        await garage.hears(thread, "".join(random.choices(string.printable, k=4000)))  # is not packed

        async def blocks() -> int:
            await db.execute("select pg_stat_force_next_flush()")
            return int(await db.fetchval(_LONG_READ))

        async with pool.acquire() as db:
            before = await blocks()
            await refresh(db, [("acme", thread)], RULE)
            after = await blocks()
            await db.fetchval("select length(content ->> 'text') from messages")
            assert before == after < await blocks()


async def test_an_ai_that_held_back_has_not_failed(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.says(thread, actor="ai", status="failed", reason="conversation_held")
    assert (await garage.head(thread))["failed_sequence"] is None


async def test_a_wish_for_a_bridge_that_was_sent_has_not_failed(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.says(thread, {"kind": "bridge"}, status="failed", reason="window_expired_bridge_sent")
    assert (await garage.head(thread))["failed_sequence"] is None
    await garage.says(thread, {"kind": "bridge"}, status="failed", reason="window_expired_bridge_failed")
    assert (await garage.head(thread))["failed_sequence"] is not None


async def test_reactions_and_notices_leave_nothing_unread(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, {"kind": "reaction", "message_id": "wamid.x", "emoji": "👍"})
    await garage.hears(thread, {"kind": "unsupported", "type": "system", "raw": {"wa_id": "447700900999"}})
    head = await garage.head(thread)
    assert head["inbound_sequence"] is None
    assert head["unanswered_since"] is None
    assert head["unread_since"] is None
    assert head["last_message_id"] is not None


async def test_a_refusal_by_meta_closes_the_window_of_the_head(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=3 * HOUR)
    assert (await garage.head(thread))["closed_early"] is False
    refused = garage.now - HOUR
    async with garage.pool.acquire() as db:
        await db.execute(
            "update conversations set first_refused_at = $2, last_refused_at = $2 where conversation_id = $1",
            *(thread, refused),
        )
    await on_updates([_update(garage, thread)], _deps(garage))
    assert (await garage.head(thread))["closed_early"] is True
    await garage.hears(thread, ago=MINUTE)
    assert (await garage.head(thread))["closed_early"] is False


async def test_many_messages_after_the_customers_last_one_keep_it(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=HOUR)
    before = await garage.head(thread)
    async with garage.pool.acquire() as db:
        await db.execute(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor,"
            " status, occurred_at, received_at) select $1, gen_random_uuid(), $2, 'out', 'whatsapp', 'template', '{}',"
            " 'system', 'sent', now(), now() from generate_series(1, 150)",
            *(garage.org, thread),
        )
        await refresh(db, [(garage.org, thread)], RULE)
    after = await garage.head(thread)
    assert after["inbound_sequence"] == before["inbound_sequence"]
    assert after["last_sequence"] > before["last_sequence"]


async def test_the_same_events_again_and_side_by_side_change_nothing(garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread)
    await garage.says(thread, status="sent")
    before = await garage.head(thread)
    await asyncio.gather(*(on_updates([_update(garage, thread)] * 3, _deps(garage)) for _ in range(4)))
    assert await garage.head(thread) == before


async def test_a_late_reader_of_an_old_state_never_wins(garage: InboxWorld) -> None:
    """Whoever computes a head waits for the one before, and reads the thread after that."""
    _, thread = await garage.customer()
    await garage.hears(thread)
    async with garage.pool.acquire() as first, garage.pool.acquire() as watching:
        transaction = first.transaction()
        await transaction.start()
        await refresh(first, [(garage.org, thread)], RULE)
        second = asyncio.create_task(on_updates([_update(garage, thread)], _deps(garage)))
        await databases.somebody_waits(first)
        message = uuid4()
        await watching.execute(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor,"
            " status, occurred_at, received_at) values ($1, $2, $3, 'out', 'whatsapp', 'text', '{}', 'ai', 'sent',"
            " now(), now())",
            *(garage.org, message, thread),
        )
        await transaction.commit()
        await second
    assert (await garage.head(thread))["last_message_id"] == message


async def test_a_merged_conversation_has_one_head_that_says_what_both_said(garage: InboxWorld) -> None:
    loser_customer, loser = await garage.customer("Kim")
    winner_customer, winner = await garage.customer("Kim B")
    async with garage.pool.acquire() as db:  # the pair of one number: the loser's is moved into the winner's
        await garage.hears(winner, "Old", ago=5 * HOUR)
        newest = await garage.hears(loser, "New", ago=MINUTE)
        await garage.says(winner, status="failed", reason="provider_refused", ago=2 * HOUR)
        async with db.transaction():
            await merge_customers(db, [Merge(garage.org, loser_customer, winner_customer)])
        assert await db.fetchval("select count(*) from conversation_heads where conversation_id = $1", loser) == 0
        await refresh(db, [(garage.org, loser)], RULE)
    head = await garage.head(winner)
    assert head["unread_since"] is not None
    assert head["inbound_at"] == garage.now - MINUTE
    assert head["failed_sequence"] is not None
    assert newest is not None


@pytest.mark.parametrize(
    ("read", "unread"),
    [
        ({"loser": True, "winner": True}, False),
        ({"loser": True, "winner": False}, True),
        ({"loser": False, "winner": True}, True),
        ({"loser": False, "winner": False}, True),
    ],
)
async def test_a_merged_thread_is_unread_where_one_of_both_was(
    garage: InboxWorld, read: dict[str, bool], *, unread: bool
) -> None:
    (loser_customer, loser), (winner_customer, winner) = await garage.customer("Kim"), await garage.customer("Kim B")
    user = f"user-{uuid4().hex}"
    for thread in (winner, loser):
        await garage.hears(thread)
    async with garage.pool.acquire() as db:
        await db.execute(
            "insert into members (org_id, user_id, first_seen_at, seen_at) values ($1, $2, now(), now())",
            *(garage.org, user),
        )
        for name, thread in (("loser", loser), ("winner", winner)):
            if read[name]:
                await mark_read(db, garage.org, user, thread)
        async with db.transaction():
            await merge_customers(db, [Merge(garage.org, loser_customer, winner_customer)])
        row = await one(db, garage.org, user, loser, garage.now)
    assert row is not None
    assert row.conversation_id == winner
    assert row.unread is unread


async def test_of_several_threads_that_become_one_all_must_have_been_read(garage: InboxWorld) -> None:
    people = [await garage.customer(f"Kim {number}") for number in range(3)]
    readers = {user: f"{user}-{uuid4().hex}" for user in ("all", "most")}
    for _, thread in people:
        await garage.hears(thread)
    async with garage.pool.acquire() as db:
        for user in readers.values():
            await db.execute(
                "insert into members (org_id, user_id, first_seen_at, seen_at) values ($1, $2, now(), now())",
                *(garage.org, user),
            )
        for number, (_, thread) in enumerate(people):
            await mark_read(db, garage.org, readers["all"], thread)
            if number != 1:
                await mark_read(db, garage.org, readers["most"], thread)
        (first, _), (second, _), (third, kept) = people
        async with db.transaction():
            await merge_customers(db, [Merge(garage.org, first, third), Merge(garage.org, second, third)])
        rows = {user: await one(db, garage.org, id_, kept, garage.now) for user, id_ in readers.items()}
    assert {user: row is not None and row.unread for user, row in rows.items()} == {"all": False, "most": True}


async def test_a_changed_name_is_found_also_before_ingest_has_stored_it(garage: InboxWorld) -> None:
    customer, thread = await garage.customer("Old Name", "+447700900555")
    change = CustomerUpserted(
        org_id=garage.org, at=garage.now + timedelta(days=1), customer_id=customer, name="Zoë Quandt", phone=None
    )
    await on_changes([Received(change, _record())], _deps(garage))
    async with garage.pool.acquire() as db:
        words = await db.fetchval(
            "select tsvector_to_array(words) from customer_words where customer_id = $1", customer
        )
    assert "acme/quandt" in words
    assert "acme/zoe" in words
    assert "acme/+900555" in words
    assert thread


async def test_who_waited_for_a_merge_computes_the_head_of_the_thread_that_remains(garage: InboxWorld) -> None:
    (first, gone), (second, kept) = [await garage.customer() for _ in range(2)]
    for thread in (gone, kept):
        await garage.hears(thread)
    async with garage.pool.acquire() as merging, merging.transaction():
        await merge_customers(merging, [Merge(garage.org, first, second)])
        late = asyncio.create_task(on_updates([_update(garage, gone)], _deps(garage)))
        await databases.somebody_waits(merging)
    await late
    async with garage.pool.acquire() as db:
        found = await db.fetch(
            "select conversation_id from conversation_heads where conversation_id = any($1)", [gone, kept]
        )
    assert [row["conversation_id"] for row in found] == [kept]


async def test_a_merge_and_the_worker_take_heads_in_one_order(garage: InboxWorld) -> None:
    (kept, second), (gone, first) = sorted([(await garage.customer())[::-1] for _ in range(2)])
    for thread in (kept, gone):
        await garage.hears(thread)

    async def merge() -> None:
        async with garage.pool.acquire() as db, db.transaction():
            await merge_customers(db, [Merge(garage.org, first, second)])

    lock = "select from conversation_heads where conversation_id = $1 for update"
    async with garage.pool.acquire() as worker, worker.transaction():
        await worker.execute(lock, kept)
        merging = asyncio.create_task(merge())
        await databases.somebody_waits(worker)
        await worker.execute(lock, gone)
    await merging


async def test_a_hold_of_another_system_is_there_when_it_is_told_also_before_ingest_has_stored_it(
    garage: InboxWorld,
) -> None:
    _, thread = await garage.customer()
    word = ConversationHeld(
        org_id=garage.org, conversation_id=thread, user_id="kim", at=garage.now, until=garage.now + HOUR
    )
    await on_changes([Received(word, _record())] * 2, _deps(garage))
    async with garage.pool.acquire() as db:
        stands = await holds.standing(db, garage.org, thread)
    assert stands is not None
    assert stands.until == garage.now + HOUR


def _update(garage: InboxWorld, thread: UUID) -> Received[DeliveryUpdate]:
    update = DeliveryUpdate(
        message_id=uuid4(),
        org_id=garage.org,
        conversation_id=thread,
        channel="whatsapp",
        seq=1,
        status="sent",
        at=garage.now,
    )
    return Received(update, _record())


def _record() -> RawRecord:
    return RawRecord("delivery.updates.v1", 0, 0, 0, None, b"{}")
