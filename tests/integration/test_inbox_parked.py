"""Texts that could not go wait, and go once: as one message, in their order, whatever ends a process in between."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.directory.touched import touch
from libs.common.ids import release_intent_id
from libs.common.kafka.connection import KafkaConnection
from services.inbox.touched import tell_touched
from tests.support.parked import (
    MINUTE,
    RULE,
    STAFF,
    Waiting,
    a_person,
    a_router_of_texts,
    releases_left,
    texts_that_wait,
)
from tests.support.router import DAY, NOW, Router

TEXT = {"kind": "text", "text": "See you on Monday."}


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


# ── What waits, and who is offered it ───────────────────────────────────────────────────────────────────────────────


async def test_texts_that_found_the_window_closed_wait_in_their_order(waiting: Waiting) -> None:
    first = await waiting.fails("The clutch is done.")
    await waiting.fails("The flywheel is worn.", actor={"kind": "ai"})
    one, two = await waiting.offered()
    assert (one.content["text"], one.actor, one.user_id) == ("The clutch is done.", "staff", "priya")
    assert (two.content["text"], two.actor, two.user_id) == ("The flywheel is worn.", "ai", None)
    assert (one.message_id, one.kind, one.reason) == (first, "failed", "window_expired_bridge_already_sent")


async def test_a_failure_that_is_told_again_parks_nothing_again(waiting: Waiting) -> None:
    failed = await waiting.fails("One.")
    await waiting.parked.drop(*waiting.key, [failed])
    await waiting.parked.on_failures([(waiting.garage.org_id, failed)])
    assert await waiting.offered() == []


async def test_what_failed_for_another_reason_waits_for_nothing(waiting: Waiting) -> None:
    await waiting.fails("Too late.", expires_at=(waiting.now - MINUTE).isoformat())
    await waiting.fails("Before the calendar.", expires_at="0001-01-01T00:00:00+14:00")
    await waiting.fails("By SMS.", channel="sms")
    await waiting.do(
        "insert into consents (org_id, customer_id, category, allowed, at) values ($1, $2, 'whatsapp', false, $3)",
        *(waiting.garage.org_id, waiting.garage.customer_id, NOW),
    )
    await waiting.fails("Not wanted.")
    assert await waiting.offered() == []


async def test_by_default_texts_are_offered_and_nothing_is_sent(waiting: Waiting) -> None:
    await waiting.fails("One.")
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    assert await waiting.intents() == []
    assert await waiting.texts_offered() == ["One."]


async def test_a_text_is_offered_until_its_expiry_and_not_from_then_on(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    expires_at = waiting.now + timedelta(hours=2)
    failed = await waiting.fails("Until noon.", expires_at=expires_at.isoformat())
    waiting.now = expires_at - timedelta(seconds=1)
    assert await waiting.texts_offered() == ["Until noon."]
    waiting.now = expires_at
    assert await waiting.offered() == []
    await waiting.do(
        "update conversations set last_customer_at = $2 where conversation_id = $1", waiting.key[1], waiting.now
    )
    await waiting.parked.send_open([waiting.key])
    assert await waiting.parked.send(waiting.person(), waiting.key[1], [failed]) == "expired"
    assert await waiting.intents() == []


async def test_what_the_customer_read_in_the_portal_is_neither_offered_nor_sent(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    read = await waiting.fails("Read.")
    await waiting.fails("Not read.")
    await waiting.do("update messages set status = 'read' where message_id = $1", read)
    assert await waiting.texts_offered() == ["Not read."]
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["Not read."]
    assert await waiting.parked.send(waiting.person(), waiting.key[1], [read]) == "arrived"


async def test_what_a_page_of_the_portal_showed_is_not_sent_though_its_reading_was_never_told(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.fails("On the page.")
    await waiting.do(
        "insert into portal_sessions (session_hash, org_id, conversation_id, host, phone, created_at, seen_at, ends_at)"
        " values ('s', $1, $2, 'tflow.link', '+447700900999', $3, $3, $3)",
        *(*waiting.key, waiting.now),
    )
    waiting.now += MINUTE
    await waiting.fails("After it.")
    assert await waiting.texts_offered() == ["After it."]
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["After it."]


# ── By policy ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_by_policy_all_go_as_one_message_the_oldest_first_and_each_keeps_its_own_end(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    failed = [await waiting.fails(text) for text in ("One.", "Two.", "Three.")]
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["One.\n\nTwo.\n\nThree."]
    (intent,) = await waiting.intents()
    assert intent["intent_id"] == str(release_intent_id(waiting.garage.org_id, failed))
    assert intent["actor"] == {"kind": "staff", "user_id": "priya", "capabilities": ["messages.send"]}
    ends = await waiting.router.rows("select status, reason from messages where message_id = any ($1)", failed)
    assert {(row["status"], row["reason"]) for row in ends} == {("failed", "window_expired_bridge_already_sent")}
    assert await waiting.offered() == []
    assert await releases_left(waiting) == 0


async def test_a_call_that_opens_the_window_releases_by_policy_though_no_message_comes(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    await waiting.kim_writes()  # as far as the window goes, a call is the same
    async with waiting.router.pool.acquire() as db:
        await touch(db, [(waiting.garage.org_id, waiting.garage.customer_id)])
    await tell_touched(waiting.router.pool, RULE, waiting.parked.send_open)
    assert await waiting.sent() == ["One."]


async def test_what_fails_into_an_open_window_is_not_released_into_the_same_one_again_and_again(
    waiting: Waiting,
) -> None:
    await waiting.policy(release="send")
    await waiting.kim_writes()
    await waiting.do(
        "insert into address_marks (org_id, channel, address, reason, source, at, until)"
        " values ($1, 'whatsapp', $2, 'unreachable', 'status', $3, $4)",
        *(waiting.garage.org_id, waiting.garage.phone, waiting.now, waiting.now + DAY),
    )
    await waiting.fails("One.")
    await waiting.fails("Two.")
    assert await waiting.intents() == []
    assert await waiting.texts_offered() == ["One.", "Two."]
    await waiting.do("delete from address_marks where org_id = $1", waiting.garage.org_id)
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["One.\n\nTwo."]


async def test_a_message_that_was_on_its_way_while_a_text_was_decided_releases_it_whenever_its_failure_is_told(
    waiting: Waiting,
) -> None:
    await waiting.policy(release="send")
    intent = waiting.garage.intent(created_at=waiting.now.isoformat(), actor=STAFF)
    await waiting.decided(intent)
    await waiting.do(  # sent before the text by the customer's clock, in whole seconds, and received after it
        "update conversations set last_customer_at = $3 where org_id = $1 and conversation_id = $2",
        *(*waiting.key, waiting.now - timedelta(seconds=2)),
    )
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == []
    await waiting.parked.on_failures([(waiting.garage.org_id, UUID(intent["intent_id"]))])
    assert await waiting.sent() == [intent["content"]["text"]]


async def test_what_a_release_carried_no_later_one_carries(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    waiting.now += 2 * DAY
    await waiting.fails("Two.")
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["One.", "Two."]


async def test_while_the_window_is_closed_nothing_goes_by_policy(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    await waiting.parked.send_open([waiting.key])
    await waiting.kim_writes()
    waiting.now += DAY
    await waiting.parked.send_open([waiting.key])
    assert await waiting.intents() == []
    assert await waiting.texts_offered() == ["One."]


async def test_a_text_whose_failure_comes_late_goes_into_the_window_that_is_open_by_then(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    intent = waiting.garage.intent(created_at=waiting.now.isoformat())
    await waiting.decided(intent)
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    await waiting.parked.on_failures([(waiting.garage.org_id, UUID(intent["intent_id"]))])
    assert await waiting.sent() == ["Your Golf is ready."]


async def test_while_staff_hold_the_conversation_texts_are_offered_and_not_sent(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    await waiting.kim_writes()
    await waiting.do(
        "insert into conversation_holds (org_id, conversation_id, user_id, at, until_at) values ($1, $2, 'a', $3, $4)",
        *(*waiting.key, waiting.now, waiting.now + timedelta(hours=1)),
    )
    await waiting.parked.send_open([waiting.key])
    assert await waiting.intents() == []
    assert await waiting.texts_offered() == ["One."]
    waiting.now += timedelta(hours=1)
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["One."]


async def test_a_release_expires_with_the_first_text_that_it_carries(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    expires_at = waiting.now + timedelta(hours=2)
    await waiting.fails("One.")
    await waiting.fails("Two.", expires_at=expires_at.isoformat())
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    (intent,) = await waiting.intents()
    assert intent["expires_at"] == expires_at.isoformat().replace("+00:00", "Z")


# ── For a person ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_text_that_staff_keep_is_not_attempted_and_stands_in_no_thread(waiting: Waiting) -> None:
    kept = uuid4()
    content = {"kind": "text", "text": "See you on Monday."}
    for _again in range(2):
        assert await waiting.parked.keep(waiting.key[0], "priya", waiting.key[1], kept, content) is None
    assert await waiting.texts_offered() == ["See you on Monday."]
    assert await waiting.intents() == []
    assert await waiting.router.rows("select 1 from messages where org_id = $1", waiting.key[0]) == []
    other = {"kind": "text", "text": "Another."}
    assert await waiting.parked.keep(waiting.key[0], "priya", waiting.key[1], kept, other) == "differs"


async def test_what_staff_keep_goes_with_what_failed_in_the_order_of_writing(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    content = {"kind": "text", "text": "Two."}
    await waiting.parked.keep(waiting.key[0], "priya", waiting.key[1], uuid4(), content)
    waiting.now += MINUTE
    await waiting.fails("Three.")
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["One.\n\nTwo.\n\nThree."]


async def test_what_staff_keep_while_the_window_is_open_goes_at_once_by_policy(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    await waiting.kim_writes()
    content = {"kind": "text", "text": "Now."}
    await waiting.parked.keep(waiting.key[0], "priya", waiting.key[1], uuid4(), content)
    assert await waiting.sent() == ["Now."]


async def test_a_person_sends_one_and_the_other_still_waits(waiting: Waiting) -> None:
    one, two = await waiting.fails("One."), await waiting.fails("Two.", actor={"kind": "ai"})
    await waiting.kim_writes()
    sent = await waiting.parked.send(waiting.person("marek"), waiting.key[1], [two])
    assert sent == [intent_id := release_intent_id(waiting.garage.org_id, [two])]
    assert await waiting.sent() == ["Two."]
    assert [text.message_id for text in await waiting.offered()] == [one]
    (intent,) = await waiting.intents()
    assert intent["intent_id"] == str(intent_id)
    assert intent["actor"] == {"kind": "staff", "user_id": "marek", "capabilities": ["messages.send"]}
    assert await waiting.parked.send(waiting.person(), waiting.key[1], [two]) == [intent_id]
    assert len(await waiting.intents()) == 1


async def test_a_persons_release_holds_the_ai_and_is_written_down_and_one_by_policy_does_neither(
    waiting: Waiting,
) -> None:
    await waiting.policy(release="send")
    await waiting.fails("One.")
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    holds = "select user_id from conversation_holds where org_id = $1 and conversation_id = $2"
    assert await waiting.router.rows(holds, *waiting.key) == []
    await waiting.policy()
    failed = await waiting.parked.keep(waiting.key[0], "priya", waiting.key[1], (kept := uuid4()), TEXT)
    assert failed is None
    [intent_id] = await waiting.sends([kept], "marek")
    assert await waiting.router.rows(holds, *waiting.key) == [{"user_id": "marek"}]
    [line] = await waiting.router.rows(
        "select detail from audit_log where org_id = $1 and action = 'send'", waiting.key[0]
    )
    assert (line["detail"]["user_id"], line["detail"]["intent_id"]) == ("marek", str(intent_id))


async def test_an_edited_text_goes_instead_of_the_one_that_waited(waiting: Waiting) -> None:
    failed = await waiting.fails("It is redy.")
    await waiting.kim_writes()
    edited = {"kind": "text", "text": "It is ready."}
    await waiting.parked.send(waiting.person(), waiting.key[1], [failed], edited)
    assert await waiting.sent() == ["It is ready."]
    assert await waiting.offered() == []


async def test_what_was_dropped_is_not_sent_and_what_was_sent_is_not_dropped(waiting: Waiting) -> None:
    await waiting.policy(release="send")
    one, two = await waiting.fails("One."), await waiting.fails("Two.")
    for _again in range(2):
        assert await waiting.parked.drop(*waiting.key, [one]) is None
    assert await waiting.parked.send(waiting.person(), waiting.key[1], [one]) == "dropped"
    await waiting.kim_writes()
    await waiting.parked.send_open([waiting.key])
    assert await waiting.sent() == ["Two."]
    assert await waiting.parked.drop(*waiting.key, [two]) == release_intent_id(waiting.garage.org_id, [two])


async def test_another_organisation_knows_none_of_it(waiting: Waiting) -> None:
    failed = await waiting.fails("One.")
    conversation_id = waiting.key[1]
    assert await waiting.parked.waiting([("other", conversation_id)]) == {}
    assert await waiting.parked.drop("other", conversation_id, [failed]) == "unknown"
    assert await waiting.parked.send(a_person("other", "eve"), conversation_id, [failed]) == "unknown"
    content = {"kind": "text", "text": "x"}
    assert await waiting.parked.keep("other", "eve", conversation_id, uuid4(), content) == "unknown"
    assert await waiting.texts_offered() == ["One."]


async def test_a_conversation_keeps_a_hundred_texts_and_says_so(waiting: Waiting) -> None:
    answers = [
        await waiting.parked.keep(
            waiting.key[0], "priya", waiting.key[1], uuid4(), {"kind": "text", "text": str(number)}
        )
        for number in range(101)
    ]
    assert [answer for answer in answers if answer is not None] == ["too_many"]
    assert answers[-1] == "too_many"
