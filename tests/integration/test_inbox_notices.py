"""Staff are told once: of a conversation that nobody reads, of a message that failed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.db.pool import open_pool
from libs.common.events.topics import INBOX_NOTICES
from libs.common.kafka.connection import KafkaConnection
from services.inbox import notice_queries
from services.inbox.heads import refresh
from services.inbox.notices import KEPT_FOR, LEFT_AFTER
from tests.support.databases import drop_database, make_database
from tests.support.inbox_world import HOUR, MINUTE, RULE
from tests.support.mortal import Killed, Life, MortalProducer
from tests.support.notices import Served, Told, a_garage, many_unread, rows
from tests.support.published import published_on
from tests.support.topics import OwnTopics

_SLOW = """
create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.006); return new; end $$;
create trigger slow before update on conversation_heads for each row execute function slow()
"""
STEPS = 6
"""More than a round on one conversation has."""


@pytest_asyncio.fixture(scope="module")
async def served(
    kafka_bootstrap: str, kafka_admin: AIOKafkaAdminClient, postgres_dsn: str, database_template: str
) -> AsyncIterator[Served]:
    topics = OwnTopics(kafka_admin, f"t-{uuid4().hex[:12]}.")
    await topics.create([INBOX_NOTICES])
    dsn = await make_database(postgres_dsn, database_template)
    async with (
        open_pool(dsn, application_name="test", size=6, command_seconds=10) as pool,
        MortalProducer(KafkaConnection(kafka_bootstrap, topics.prefix)) as producer,
        published_on(kafka_bootstrap, topics.prefix, [INBOX_NOTICES]) as published,
    ):
        yield Served(pool, producer, published)
    await drop_database(postgres_dsn, dsn)
    await topics.delete()


@pytest_asyncio.fixture
async def garage(served: Served) -> AsyncIterator[Told]:
    made = await a_garage(served)
    yield made
    async with served.pool.acquire() as db:  # what is left over tells nothing to the next test
        await db.execute("update conversation_heads set unread_since = null")


def instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


# ── Unread ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_conversation_that_nobody_reads_for_half_an_hour_is_told_once_and_stands_on_top(garage: Told) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=30 * MINUTE)
    await garage.hears(thread, "Hello?", ago=10 * MINUTE)
    for _again in range(3):
        await garage.round()
    since = garage.now - 30 * MINUTE
    assert await garage.events() == [
        {
            "type": "conversation.unread.v1",
            "org_id": garage.org,
            "conversation_id": str(thread),
            "since": instant(since),
        }
    ]
    assert (await garage.head(thread))["escalated_at"] == garage.now


async def test_before_its_time_nothing_is_told(garage: Told) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=30 * MINUTE - timedelta(seconds=1))
    await garage.round()
    assert await garage.events() == []
    garage.now += timedelta(seconds=1)
    await garage.round()
    assert len(await garage.events()) == 1


@pytest.mark.parametrize(
    ("policy", "minutes"), [(5, 5), (1440, 1440), (4, 30), (1441, 30), ("5", 30), (5.5, 30), (None, 30), ([], 30)]
)
async def test_the_policy_says_after_how_many_minutes(garage: Told, policy: object, minutes: int) -> None:
    await garage.policy(escalate_minutes=policy)
    _, thread = await garage.customer()
    await garage.hears(thread, ago=minutes * MINUTE - timedelta(seconds=1))
    await garage.round()
    assert await garage.events() == []
    garage.now += timedelta(seconds=1)
    await garage.round()
    assert len(await garage.events()) == 1


async def test_another_message_after_it_was_told_tells_nothing_more(garage: Told) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=40 * MINUTE)
    await garage.round()
    await garage.hears(thread, "Hello?")
    garage.now += 2 * HOUR
    await garage.round()
    assert len(await garage.events()) == 1


async def test_an_episode_began_with_its_first_message_however_many_came_since(garage: Told) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=40 * MINUTE)
    async with garage.pool.acquire() as db, db.transaction():
        await db.execute(
            "insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind,"
            " content, status, occurred_at, received_at) select $1, $2, 'in', 'whatsapp', 'meta', $3, 'w' || n, 'text',"
            " '{}', 'received', $4, $4 from generate_series(1, 120) n",
            *(garage.org, thread, garage.number, garage.now - MINUTE),
        )
        await refresh(db, [(garage.org, thread)], RULE)
    await garage.round()
    assert [event["since"] for event in await garage.events()] == [instant(garage.now - 40 * MINUTE)]
    await garage.is_read(thread)
    assert (await garage.head(thread))["unread_since"] is None


async def test_where_the_inbox_is_new_nothing_is_told_of_what_was_long_before_it(garage: Told) -> None:
    _, thread = await garage.customer()
    for at in (garage.now - timedelta(days=40), garage.now - timedelta(days=3)):
        async with garage.pool.acquire() as db:
            await db.execute(
                "insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id,"
                " kind, content, status, occurred_at, received_at) values ($1, $2, 'in', 'whatsapp', 'meta', $3, $4,"
                " 'text', '{}', 'received', $5, $5)",
                *(garage.org, thread, garage.number, uuid4().hex, at),
            )
    async with garage.pool.acquire() as db, db.transaction():
        await refresh(db, [(garage.org, thread)], RULE)
    await garage.round()
    assert await garage.events() == []
    await garage.hears(thread, "Hello again", ago=31 * MINUTE)
    await garage.round()
    assert [event["since"] for event in await garage.events()] == [instant(garage.now - 31 * MINUTE)]


async def test_who_reads_ends_the_episode_and_the_next_one_is_told_anew(garage: Told) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=40 * MINUTE)
    await garage.round()
    await garage.is_read(thread)
    assert (await garage.head(thread))["escalated_at"] is None
    garage.now += HOUR
    await garage.round()
    assert len(await garage.events()) == 1
    await garage.hears(thread, "And now?", ago=31 * MINUTE)
    await garage.round()
    assert [event["since"] for event in await garage.events()][1:] == [instant(garage.now - 31 * MINUTE)]


async def test_staff_who_answer_have_read_and_the_ai_has_not(garage: Told) -> None:
    _, answered = await garage.customer()
    _, by_ai = await garage.customer()
    for thread, actor in ((answered, "staff"), (by_ai, "ai")):
        await garage.hears(thread, ago=40 * MINUTE)
        await garage.says(thread, actor=actor, ago=20 * MINUTE)
    await garage.round()
    assert [event["conversation_id"] for event in await garage.events()] == [str(by_ai)]


async def test_after_an_outage_of_the_worker_nothing_is_told_that_was_answered_meanwhile(garage: Told) -> None:
    _, thread = await garage.customer()
    _, other = await garage.customer()
    await garage.hears(thread, ago=5 * HOUR)
    await garage.hears(other, ago=5 * HOUR)
    async with garage.pool.acquire() as db:  # stored by the router; no head was computed since
        await db.execute(
            "insert into messages (org_id, conversation_id, direction, channel, kind, content, actor, status,"
            " occurred_at, received_at) values ($1, $2, 'out', 'whatsapp', 'text', '{}', 'staff', 'read', $3, $3)",
            *(garage.org, thread, garage.now - 4 * HOUR),
        )
    await garage.round()
    assert [event["conversation_id"] for event in await garage.events()] == [str(other)]


@pytest.mark.parametrize("step", range(1, STEPS))
async def test_a_kill_between_any_two_steps_tells_it_all_the_same_and_as_one_episode(garage: Told, step: int) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, ago=40 * MINUTE)
    with suppress(Killed):
        await garage.notices(Life(ends_before=step)).escalate()
    for _again in range(2):
        garage.now += LEFT_AFTER + MINUTE
        await garage.round()
    events = await garage.events()
    assert {event["since"] for event in events} == {events[0]["since"]}
    assert len(events) == (2 if step == 4 else 1)  # the third step publishes; what is told twice is the same event
    [row] = await rows(garage, "select count(*) as n, bool_and(published) as published from inbox_notices", thread)
    assert (row["n"], row["published"]) == (1, True)


async def test_of_two_replicas_one_tells_it(garage: Told) -> None:
    for _ in range(20):
        _, thread = await garage.customer()
        await garage.hears(thread, ago=40 * MINUTE)
    await asyncio.gather(*(garage.notices().escalate() for _ in range(3)))
    events = await garage.events()
    assert len(events) == len({event["conversation_id"] for event in events}) == 20


async def test_a_flood_in_one_organisation_does_not_delay_another(served: Served) -> None:
    flooded, quiet = await a_garage(served, f"a-{uuid4().hex[:8]}"), await a_garage(served, f"z-{uuid4().hex[:8]}")
    await many_unread(flooded, 400)
    _, thread = await quiet.customer()
    await quiet.hears(thread, ago=31 * MINUTE)
    await quiet.notices()._step(200)
    assert len(await quiet.events()) == 1
    assert len(await quiet.events(flooded.org)) < 400
    await quiet.round()
    assert len(await quiet.events(flooded.org)) == 400


async def test_conversations_are_told_in_smaller_steps_where_one_is_too_slow_for_a_statement(
    served: Served, database: str
) -> None:
    """The same step was tried in each round: no organisation's staff were told anything any more."""
    async with open_pool(database, application_name="test", size=2, command_seconds=0.5) as pool:
        slow = Served(pool, served.producer, served.published)
        garages = [await a_garage(slow, f"{name}-{uuid4().hex[:8]}") for name in "abcd"]
        for garage in garages:
            await many_unread(garage, 50)
        async with pool.acquire() as db:
            await db.execute(_SLOW)
        notices = garages[0].notices()
        for _round in range(2):
            await notices.escalate()
        assert [len(await garage.events()) for garage in garages] == [50] * 4


@pytest.mark.proof
async def test_thousands_that_are_due_at_once_are_told_in_bounded_rounds(garage: Told) -> None:
    await many_unread(garage, 6_000)
    before = 0
    for _round in range(4):
        await garage.round()
        told = len(await garage.events())
        assert told - before <= 4_000
        before = told
    assert before == 6_000


# ── Failures ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_failed_message_is_told_once_however_often_it_is_published(garage: Told) -> None:
    _, thread = await garage.customer()
    update = await garage.fails(thread, provider_code="131026")
    for _again in range(3):
        await garage.notices().on_failures([update, update])
    assert await garage.events() == [
        {
            "type": "delivery.failed.v1",
            "org_id": garage.org,
            "conversation_id": str(thread),
            "message_id": str(update.message_id),
            "reason": "provider_refused",
            "provider_code": "131026",
        }
    ]


@pytest.mark.parametrize("step", range(1, STEPS))
async def test_a_kill_between_any_two_steps_tells_the_failure_when_it_is_delivered_again(
    garage: Told, step: int
) -> None:
    _, thread = await garage.customer()
    update = await garage.fails(thread)
    with suppress(Killed):
        await garage.notices(Life(ends_before=step)).on_failures([update])
    await garage.notices().on_failures([update])
    garage.now += LEFT_AFTER + MINUTE
    await garage.notices().publish_left()
    events = await garage.events()
    assert {event["message_id"] for event in events} == {str(update.message_id)}
    assert len(events) == (2 if step == 3 else 1)
    [row] = await rows(garage, "select count(*) as n, bool_and(published) as published from inbox_notices", thread)
    assert (row["n"], row["published"]) == (1, True)


async def test_what_is_no_failure_to_staff_is_not_told(garage: Told) -> None:
    _, thread = await garage.customer()
    held = await garage.fails(thread, "conversation_held", actor="ai")
    read = await garage.fails(thread)
    parent = await garage.fails(thread, "window_expired_bridge_failed")
    bridge = await garage.fails(
        thread, channel="sms", notification_type="bridge", actor="system", parent_id=parent.message_id
    )
    asked = await garage.fails(thread, "window_expired_bridge_sent", content={"kind": "bridge"})
    async with garage.pool.acquire() as db:
        await db.execute("update messages set status = 'read' where message_id = $1", read.message_id)
    await garage.notices().on_failures([held, read, parent, bridge, asked])
    assert [event["message_id"] for event in await garage.events()] == [str(parent.message_id)]


# ── The bell ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_bell_shows_what_is_new_until_the_member_has_looked(garage: Told) -> None:
    priya, marek = await garage.member(), await garage.member("marek")
    _, thread = await garage.customer("Kim")
    await garage.hears(thread, ago=40 * MINUTE)
    await garage.notices().on_failures([await garage.fails(thread)])
    await garage.round()
    bell = await garage.notices().bell(garage.org, priya)
    assert (bell.new, bell.failures) == (2, True)
    assert [(n.type, n.conversation_id, n.customer_name, n.is_new) for n in bell.notices] == [
        ("conversation.unread.v1", thread, "Kim", True),
        ("delivery.failed.v1", thread, "Kim", True),
    ]
    async with garage.pool.acquire() as db:
        await db.execute("update customers set name = '+447700900999' where org_id = $1", garage.org)
    assert {n.customer_name for n in (await garage.notices().bell(garage.org, priya)).notices} == {"•••• ••• 999"}
    async with garage.pool.acquire() as db:  # a short number is told by whose it is
        short = "update customers set name = 'Kim 12345678', phone = '+4512345678' where org_id = $1"
        await db.execute(short, garage.org)
    assert {n.customer_name for n in (await garage.notices().bell(garage.org, priya)).notices} == {"Kim •••• ••• 678"}
    await garage.notices().seen(garage.org, priya)
    bell = await garage.notices().bell(garage.org, priya)
    assert (bell.new, [n.is_new for n in bell.notices]) == (0, [False, False])
    assert (await garage.notices().bell(garage.org, marek)).new == 2
    await garage.notices().on_failures([await garage.fails(thread)])
    assert (await garage.notices().bell(garage.org, priya)).new == 1


async def test_who_switches_failures_off_is_not_told_of_them(garage: Told) -> None:
    priya = await garage.member()
    _, thread = await garage.customer()
    await garage.hears(thread, ago=40 * MINUTE)
    await garage.notices().on_failures([await garage.fails(thread)])
    await garage.round()
    await garage.notices().switch(garage.org, priya, failures=False)
    bell = await garage.notices().bell(garage.org, priya)
    assert (bell.new, bell.failures) == (1, False)
    assert [n.type for n in bell.notices] == ["conversation.unread.v1"]
    await garage.notices().switch(garage.org, priya, failures=True)
    assert (await garage.notices().bell(garage.org, priya)).new == 2


async def test_nobody_is_told_what_was_before_them_or_is_anothers(garage: Told, served: Served) -> None:
    _, thread = await garage.customer()
    await garage.notices().on_failures([await garage.fails(thread)])
    garage.now += MINUTE
    late = await garage.member("late", timedelta(0))
    other = await a_garage(served)
    stranger = await other.member("priya")
    assert (await garage.notices().bell(garage.org, late)).new == 0
    assert (await other.notices().bell(other.org, stranger)).new == 0
    assert (await other.notices().bell(garage.org, stranger)).notices == []


async def test_the_bell_goes_on_where_a_page_of_it_ended_and_counts_no_further_than_a_hundred(garage: Told) -> None:
    priya = await garage.member()
    _, thread = await garage.customer()
    updates = [await garage.fails(thread) for _ in range(3)]
    await garage.notices().on_failures(updates)
    first = await garage.notices().bell(garage.org, priya, limit=2)
    rest = await garage.notices().bell(garage.org, priya, before=first.notices[-1].notice_id, limit=2)
    told = [n.message_id for n in (*first.notices, *rest.notices)]
    assert told == sorted((u.message_id for u in updates), reverse=True)  # those of a batch are told by their ids
    async with garage.pool.acquire() as db:
        await db.execute(
            "insert into inbox_notices (org_id, type, conversation_id, message_id, at, published)"
            " select $1, 'delivery.failed.v1', $2, gen_random_uuid(), $3, true from generate_series(1, 150)",
            *(garage.org, thread, garage.now),
        )
    assert (await garage.notices().bell(garage.org, priya)).new == notice_queries.MOST_NEW


async def test_a_notice_of_a_later_release_is_left_to_it_and_holds_nothing_up(garage: Told) -> None:
    _, thread = await garage.customer()
    failed = await garage.fails(thread)
    async with garage.pool.acquire() as db:
        await db.execute("alter table inbox_notices drop constraint if exists inbox_notices_type_check")
        await db.execute(
            "insert into inbox_notices (org_id, type, conversation_id, at)"
            " values ($1, 'message.flagged.v1', $2, '2020-01-01')",
            *(garage.org, thread),
        )
        await db.execute(
            "insert into inbox_notices (org_id, type, conversation_id, message_id, reason, at)"
            " values ($1, 'delivery.failed.v1', $2, $3, 'provider_refused', '2020-01-02')",
            *(garage.org, thread, failed.message_id),
        )
    await garage.notices().publish_left()
    assert [event["message_id"] for event in await garage.events()] == [str(failed.message_id)]


async def test_old_notices_are_forgotten(garage: Told) -> None:
    _, thread = await garage.customer()
    await garage.notices().on_failures([await garage.fails(thread)])
    garage.now += KEPT_FOR
    await garage.notices().forget()
    assert len(await rows(garage, "select 1 from inbox_notices", thread)) == 1
    garage.now += MINUTE
    await garage.notices().forget()
    assert await rows(garage, "select 1 from inbox_notices", thread) == []
