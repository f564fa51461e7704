"""Staff are told once: of a conversation that nobody reads, of a message that failed."""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from libs.common.db.pool import open_pool
from services.inbox.heads import refresh
from services.inbox.notices import KEPT_FOR, LEFT_AFTER
from tests.support.databases import slow_down
from tests.support.inbox_world import HOUR, MINUTE, RULE
from tests.support.mortal import Killed, Life
from tests.support.notices import Served, Told, a_garage, garage, many_unread, rows, served

__all__ = ["garage", "served"]

STEPS = 6
"""More than a round on one conversation has."""


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


@pytest.mark.parametrize(("organisations", "unread"), [(4, 50), (104, 1)], ids=["few", "more than one step looks at"])
async def test_conversations_are_told_in_smaller_steps_where_one_is_too_slow_for_a_statement(
    served: Served, database: str, organisations: int, unread: int
) -> None:
    """The same step was tried in each round: no organisation's staff were told anything any more."""
    async with open_pool(database, application_name="test", size=2, command_seconds=0.5) as pool:
        slow = Served(pool, served.producer, served.published)
        garages = [await a_garage(slow, f"g{place:03}-{uuid4().hex[:8]}") for place in range(organisations)]
        for garage in garages:
            await many_unread(garage, unread)
        async with pool.acquire() as db:
            await slow_down(db, "update", "conversation_heads", 0.006)
        notices = garages[0].notices()
        for _round in range(2):
            await notices.escalate()
        assert [len(await garage.events()) for garage in garages] == [unread] * organisations


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
