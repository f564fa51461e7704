"""Texts that wait are sent once, whatever ends a process in between, whoever is away, and whose thread is merged."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.db.pool import Connection
from libs.common.directory.merge import Merge, merge_customers
from libs.common.ids import release_intent_id
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from services.inbox import parked_queries
from services.inbox.parked import LEFT_AFTER, NotPublished
from services.inbox.touched import tell_touched
from tests.support import world
from tests.support.databases import somebody_waits
from tests.support.inbox_world import RULE
from tests.support.logs import LogLines
from tests.support.mortal import Killed
from tests.support.parked import (
    MINUTE,
    Waiting,
    a_router_of_texts,
    parked_texts,
    releases_left,
    texts_that_wait,
)
from tests.support.router import Router

STEPS = 6
"""More than a release has."""


@pytest_asyncio.fixture(scope="module")
async def served(
    kafka_bootstrap: str, kafka_admin: AIOKafkaAdminClient, postgres_dsn: str, database_template: str, redis_server: str
) -> AsyncIterator[tuple[Router, KafkaConnection]]:
    asked = kafka_bootstrap, kafka_admin, postgres_dsn, database_template, redis_server
    async with a_router_of_texts(*asked) as made:
        yield made


@pytest_asyncio.fixture
async def waiting(served: tuple[Router, KafkaConnection]) -> AsyncIterator[Waiting]:
    async with texts_that_wait(*served) as made:
        yield made


async def lives_again(waiting: Waiting) -> None:
    """What happened is delivered again to the next process, and its tasks run once everything left is old."""
    org_id = waiting.garage.org_id
    failed = "select message_id from messages where status = 'failed' and org_id = $1"
    failures = await waiting.router.rows(failed, org_id)
    await waiting.parked.on_failures([(org_id, row["message_id"]) for row in failures])
    await waiting.parked.send_open([waiting.key])
    waiting.now += LEFT_AFTER + MINUTE
    await waiting.parked.publish_left()


# ── Kills, replicas, outages ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("step", range(1, STEPS))
async def test_a_kill_between_any_two_steps_of_a_release_by_policy_sends_each_text_once(
    waiting: Waiting, step: int
) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    await waiting.fails("Two.")
    await waiting.kim_writes()
    with waiting.killed_before(step) as life:
        try:
            await waiting.parked.send_open([waiting.key])
        except Killed:
            assert life.steps == step
        else:
            assert life.steps < step
    for _again in range(2):
        await lives_again(waiting)
        assert await waiting.sent() == ["One.\n\nTwo."]
    assert await releases_left(waiting) == 0


@pytest.mark.parametrize("step", range(1, STEPS))
async def test_a_kill_between_any_two_steps_of_parking_loses_no_text(waiting: Waiting, step: int) -> None:
    await waiting.policy(release="send")
    intent = waiting.garage.intent(created_at=waiting.now.isoformat())
    await waiting.decided(intent)
    await waiting.kim_writes()
    with waiting.killed_before(step), suppress(Killed):
        await waiting.parked.on_failures([(waiting.garage.org_id, UUID(intent["intent_id"]))])
    await lives_again(waiting)
    assert await waiting.sent() == ["Your Golf is ready."]


@pytest.mark.parametrize("step", range(1, STEPS))
async def test_a_kill_between_any_two_steps_of_a_persons_release_sends_the_text_once(
    waiting: Waiting, step: int
) -> None:
    await waiting.policy(release="send")
    failed = await waiting.fails("One.")
    await waiting.fails("Two.")
    await waiting.kim_writes()
    with waiting.killed_before(step), suppress(Killed):
        await waiting.parked.send(waiting.person(), waiting.key[1], [failed])
    await lives_again(waiting)
    sent = [text for message in await waiting.sent() for text in message.split("\n\n")]
    assert sorted(sent + await waiting.texts_offered()) == ["One.", "Two."]
    assert "One." in sent


async def test_of_replicas_and_people_that_release_at_once_one_does(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    failed = [await waiting.fails("One."), await waiting.fails("Two.")]
    await waiting.kim_writes()
    parked = waiting.parked
    await asyncio.gather(
        parked.send_open([waiting.key]),
        parked.send_open([waiting.key]),
        parked.send(waiting.person(), waiting.key[1], failed),
        parked.send(waiting.person("marek"), waiting.key[1], failed),
    )
    assert len({intent["intent_id"] for intent in await waiting.intents()}) == 1
    assert await waiting.sent() == ["One.\n\nTwo."]


async def test_where_kafka_is_away_the_person_is_told_and_the_text_waits_under_the_same_id(waiting: Waiting) -> None:
    failed = await waiting.fails("One.")
    await waiting.fails("Two.")
    await waiting.kim_writes()
    unreached = Producer(waiting.kafka)  # never started: as one whose brokers are away
    away = parked_texts(waiting.router.pool, unreached, lambda: waiting.now)
    with pytest.raises(NotPublished):
        await away.send(waiting.person(), waiting.key[1], [failed])
    assert await waiting.texts_offered() == ["One.", "Two."]
    assert await releases_left(waiting) == 0
    await waiting.policy(release="send")
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["One.", "Two."]
    assert str(release_intent_id(waiting.garage.org_id, [failed])) in {i["intent_id"] for i in await waiting.intents()}


async def test_an_intent_that_arrived_although_kafka_did_not_say_so_is_not_sent_again(waiting: Waiting) -> None:
    failed = await waiting.fails("One.")
    await waiting.kim_writes()
    unreached = Producer(waiting.kafka)
    away = parked_texts(waiting.router.pool, unreached, lambda: waiting.now)
    with pytest.raises(NotPublished):
        await away.send(waiting.person(), waiting.key[1], [failed])
    intent_id = release_intent_id(waiting.garage.org_id, [failed])
    await waiting.decided(waiting.garage.intent(intent_id=str(intent_id), content={"kind": "text", "text": "One."}))
    assert await waiting.offered() == []
    assert await waiting.parked.send(waiting.person(), waiting.key[1], [failed]) == [intent_id]
    assert await waiting.intents() == []


async def another(db: Connection, waiting: Waiting, **columns: Any) -> tuple[UUID, UUID]:
    """Another customer of the garage, and their conversation, with these columns."""
    customer, conversation = uuid4(), uuid4()
    await world.a_customer(db, waiting.garage.org_id, customer, None)
    await world.a_conversation(db, waiting.garage.org_id, conversation, customer, waiting.garage.number, **columns)
    return customer, conversation


async def test_a_merge_carries_what_waits_to_the_thread_that_remains(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    garage = waiting.garage
    async with waiting.router.pool.acquire() as db, db.transaction():
        other, conversation = await another(db, waiting)
        await merge_customers(db, [Merge(garage.org_id, garage.customer_id, other)])
    found = await waiting.parked.waiting([waiting.key])
    assert list(found) == [(garage.org_id, conversation)]
    await waiting.do("update conversations set last_customer_at = $2 where org_id = $1", garage.org_id, waiting.now)
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["One."]


async def test_what_waits_goes_where_its_thread_becomes_part_of_one_whose_window_is_open(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    garage = waiting.garage
    async with waiting.router.pool.acquire() as db, db.transaction():
        other, _ = await another(db, waiting, last_customer_at=waiting.now - MINUTE)
    await tell_touched(waiting.router.pool, RULE, waiting.parked.send_open)
    assert await waiting.sent() == []
    async with waiting.router.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(garage.org_id, garage.customer_id, other)])  # as by a status, which is no word
    await tell_touched(waiting.router.pool, RULE, waiting.parked.send_open)
    assert await waiting.sent() == ["One."]


async def test_a_text_that_fails_while_its_thread_is_being_merged_waits_in_the_one_that_remains(
    waiting: Waiting,
) -> None:
    intent = waiting.garage.intent(created_at=waiting.now.isoformat())
    await waiting.decided(intent)
    garage = waiting.garage
    async with waiting.router.pool.acquire() as db:
        other, conversation = await another(db, waiting)
        async with db.transaction():
            await merge_customers(db, [Merge(garage.org_id, garage.customer_id, other)])
            late = asyncio.create_task(waiting.parked.on_failures([(garage.org_id, UUID(intent["intent_id"]))]))
            await somebody_waits(db)
    await late
    assert list(await waiting.parked.waiting([waiting.key])) == [(garage.org_id, conversation)]


async def test_what_is_over_is_purged_and_nothing_else(waiting: Waiting) -> None:
    expires_at = waiting.now + timedelta(hours=2)
    await waiting.fails("One.", expires_at=expires_at.isoformat())
    await waiting.fails("Two.")
    for before, left in ((expires_at, {"One.", "Two."}), (expires_at + MINUTE, {"Two."})):
        async with waiting.router.pool.acquire() as db:
            await parked_queries.purge(db, before, 1000)
        rows = await waiting.router.rows(
            "select content ->> 'text' as text from parked_messages where org_id = $1", waiting.key[0]
        )
        assert {row["text"] for row in rows} == left


async def test_open_pages_are_told_whenever_what_waits_is_another(waiting: Waiting) -> None:
    org_id, conversation = waiting.key

    async def told() -> int:
        [row] = await waiting.router.rows(
            "select count(*) as n from inbox_changes"
            " where org_id = $1 and conversation_id = $2 and kind = 'conversation'",
            *waiting.key,
        )
        return int(row["n"])

    failed = await waiting.fails("One.")
    assert await told() == 1
    kept = uuid4()
    await waiting.parked.keep(org_id, "priya", conversation, kept, {"kind": "text", "text": "Two."})
    assert await told() == 2
    await waiting.parked.drop(org_id, conversation, [kept])
    assert await told() == 3
    await waiting.parked.send(waiting.person(), conversation, [failed])
    assert await told() == 4


async def test_what_a_later_release_has_parked_waits_and_holds_nothing_up(
    waiting: Waiting, log_lines: LogLines
) -> None:
    await waiting.policy(release="send")
    strange = await waiting.fails("One.")
    await waiting.fails("Two.")
    await waiting.do(
        "update parked_messages set content = $2 where message_id = $1", strange, {"kind": "image", "hologram": "x"}
    )
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["Two."]
    assert [text.message_id for text in await waiting.offered()] == [strange]
    assert log_lines.of("row.set_aside")[0]["message_id"] == str(strange)
