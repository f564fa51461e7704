"""Parked texts and the bell through the running API, from the customer's message to the intent."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.clock import utc_now
from libs.common.directory import erasure
from libs.common.events.content import ERASED
from libs.common.events.inbound import InboundMessage
from libs.common.events.outbound import DeliveryUpdate, WindowState
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, INBOX_NOTICES, OUTBOUND_INTENTS, Topic
from libs.common.kafka.producer import Producer, Record
from tests.support import world
from tests.support.databases import somebody_waits
from tests.support.erased import whom
from tests.support.inbox import ADVISOR, TECHNICIAN, RunningInbox
from tests.support.published import published_on
from tests.support.waiting import DEADLINE_SECONDS

TEXT = {"kind": "text", "text": "See you on Monday?"}


async def a_conversation(inbox: RunningInbox, org_id: str, *, is_open: bool = False) -> UUID:
    customer, conversation = uuid4(), uuid4()
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org_id)
        await world.a_customer(db, org_id, customer, None)
        wrote = utc_now() - timedelta(minutes=1) if is_open else utc_now() - timedelta(days=2)
        await world.a_conversation(db, org_id, conversation, customer, number, last_customer_at=wrote)
    return conversation


async def a_failed_text(inbox: RunningInbox, org_id: str, conversation: UUID, text: str) -> DeliveryUpdate:
    """A text of the AI that found the window closed, and what is published of it."""
    message_id = uuid4()
    async with inbox.pool.acquire() as db:
        await db.execute(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor,"
            " status, reason, seq, failed_at, occurred_at, received_at) values ($1, $2, $3, 'out', 'whatsapp', 'text',"
            " $4, 'ai', 'failed', 'window_expired_no_phone', 1, now(), now(), now())",
            *(org_id, message_id, conversation, {"kind": "text", "text": text}),
        )
    return DeliveryUpdate(
        message_id=message_id,
        org_id=org_id,
        conversation_id=conversation,
        channel="whatsapp",
        seq=1,
        status="failed",
        reason="window_expired_no_phone",
        at=utc_now(),
    )


async def published(inbox: RunningInbox, topic: Topic, org_id: str, at_least: int) -> list[dict[str, Any]]:
    """The organisation's events on a topic, once there are so many."""
    async with (
        published_on(inbox.kafka.bootstrap, inbox.kafka.topic_prefix, [topic]) as seen,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        while True:
            ours = [event for event in await seen.events(topic) if event["org_id"] == org_id]
            if len(ours) >= at_least:
                return ours
            await asyncio.sleep(0.02)


async def publish(inbox: RunningInbox, topic: Topic, event: DeliveryUpdate | InboundMessage) -> None:
    async with Producer(inbox.kafka) as producer:
        await producer.publish([Record(topic, str(event.conversation_id).encode(), event.encode())])


async def test_what_fails_is_offered_and_told_and_goes_by_policy_when_the_customer_writes(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org(policy={"release": "send"})
    conversation = await a_conversation(inbox, org_id)
    failed = await a_failed_text(inbox, org_id, conversation, "Your Golf is ready.")
    await publish(inbox, DELIVERY_UPDATES, failed)
    (notice,) = await published(inbox, INBOX_NOTICES, org_id, 1)
    assert (notice["type"], notice["message_id"]) == ("delivery.failed.v1", str(failed.message_id))
    api = inbox.api(org_id)
    (waits,) = (await api.get(f"/v1/conversations/{conversation}/parked")).json()["items"]
    assert (waits["message_id"], waits["kind"], waits["reason"]) == (
        str(failed.message_id),
        "failed",
        "window_expired_no_phone",
    )
    await api.post(f"/v1/conversations/{conversation}/parked", json={"content": TEXT})
    wrote = utc_now()
    async with inbox.pool.acquire() as db:
        await db.execute(
            "update conversations set last_customer_at = $2 where conversation_id = $1", conversation, wrote
        )
    await publish(
        inbox,
        INBOUND_MESSAGES,
        InboundMessage(
            message_id=uuid4(),
            org_id=org_id,
            conversation_id=conversation,
            customer_id=uuid4(),
            channel="whatsapp",
            provider_id="wamid.1",
            content={"kind": "text", "text": "Hello"},
            reply_to=None,
            sent_at=wrote,
            received_at=wrote,
            window=WindowState(opened_at=wrote, closes_at=wrote + timedelta(days=1), open=True),
        ),
    )
    (intent,) = await published(inbox, OUTBOUND_INTENTS, org_id, 1)
    assert intent["content"]["text"] == "Your Golf is ready.\n\nSee you on Monday?"
    assert (await api.get(f"/v1/conversations/{conversation}/parked")).json() == {"items": [], "next": None}


async def test_a_text_is_kept_sent_and_not_sent_twice(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org()
    conversation, api = await a_conversation(inbox, org_id, is_open=True), inbox.api(org_id, ADVISOR)
    path = f"/v1/conversations/{conversation}/parked"
    once = {"idempotency-key": "k-1"}
    kept = [await api.post(path, json={"content": TEXT}, headers=once) for _ in range(2)]
    assert [answer.status_code for answer in kept] == [201, 201]
    assert kept[0].json() == kept[1].json()
    other = await api.post(path, json={"content": TEXT | {"text": "Another."}}, headers=once)
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    one = f"{path}/{kept[0].json()['message_id']}"
    sent = [await api.post(one, json={"action": "send"}) for _ in range(2)]
    assert [answer.status_code for answer in sent] == [202, 202]
    (intent,) = await published(inbox, OUTBOUND_INTENTS, org_id, 1)
    assert {answer.json()["intent_id"] for answer in sent} == {intent["intent_id"]}
    assert intent["actor"] == {"kind": "staff", "user_id": "advisor-1", "capabilities": ["messages.send"]}
    gone = await api.post(one, json={"action": "drop"})
    assert (gone.status_code, gone.json()["detail"]) == (409, "the text was sent")


async def test_what_postgresql_cannot_store_is_replaced_in_a_kept_text(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org()
    conversation, api = await a_conversation(inbox, org_id, is_open=True), inbox.api(org_id, ADVISOR)
    path = f"/v1/conversations/{conversation}/parked"
    odd = {"content": TEXT | {"text": "Half\x00way"}}
    kept = [await api.post(path, json=odd, headers={"idempotency-key": "k-1"}) for _ in range(2)]
    assert [answer.status_code for answer in kept] == [201, 201]
    [waiting] = (await api.get(path)).json()["items"]
    assert waiting["content"]["text"] == "Half\ufffdway"
    edited = {"action": "send", "content": TEXT | {"text": "Ready\x00"}}
    assert (await api.post(f"{path}/{kept[0].json()['message_id']}", json=edited)).status_code == 202


async def test_no_text_is_kept_for_a_customer_who_was_erased(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org()
    api, conversation = inbox.api(org_id), await a_conversation(inbox, org_id)

    async def keeps(key: str) -> tuple[int, str | None]:
        answer = await api.post(
            f"/v1/conversations/{conversation}/parked", json={"content": TEXT}, headers={"idempotency-key": key}
        )
        return answer.status_code, answer.json().get("detail")

    assert await keeps("before") == (201, None)
    found = await whom(inbox.pool, org_id, conversation)
    async with inbox.pool.acquire() as db:
        async with db.transaction():
            await erasure.forget_person(db, found, utc_now())
            meanwhile = asyncio.create_task(keeps("meanwhile"))
            await somebody_waits(db)
        refused = 409, "the customer was erased, and nothing can be sent to them"
        assert [await meanwhile, await keeps("before"), await keeps("after")] == [refused] * 3
        kept = await db.fetch("select content from parked_messages where conversation_id = $1", conversation)
    assert [row["content"] for row in kept] == [ERASED]


async def test_a_text_is_dropped_and_stays_so(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org()
    conversation, api = await a_conversation(inbox, org_id), inbox.api(org_id)
    path = f"/v1/conversations/{conversation}/parked"
    kept = (await api.post(path, json={"content": TEXT})).json()["message_id"]
    for _again in range(2):
        assert (await api.post(f"{path}/{kept}", json={"action": "drop"})).status_code == 204
    refused = await api.post(f"{path}/{kept}", json={"action": "send"})
    assert (refused.status_code, refused.json()["detail"]) == (409, "the text was dropped")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "content"),
        ({"content": {"kind": "text", "text": ""}}, "content.text"),
        ({"content": {"kind": "text", "text": "x" * 4097}}, "content.text"),
        ({"content": {"kind": "template", "name": "x", "language": "en"}}, "content"),
        ({"content": {"kind": "bridge"}}, "content"),
        ({"content": {"kind": "audio", "media_id": "1", "caption": "Listen"}}, "content.caption"),
        ({"content": TEXT, "org_id": "other"}, "org_id"),
        ({"content": TEXT, "actor": {"kind": "ai"}}, "actor"),
        ({"content": TEXT, "intent_id": str(uuid4())}, "intent_id"),
    ],
)
async def test_what_cannot_wait_is_refused_and_the_field_is_named(
    inbox: RunningInbox, body: dict[str, Any], field: str
) -> None:
    org_id = await inbox.an_org()
    conversation, api = await a_conversation(inbox, org_id), inbox.api(org_id)
    answer = await api.post(f"/v1/conversations/{conversation}/parked", json=body)
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]
    assert (await api.get(f"/v1/conversations/{conversation}/parked")).json()["items"] == []


async def test_who_may_not_send_sees_what_waits_and_another_organisation_sees_nothing(inbox: RunningInbox) -> None:
    org_id, other_org = await inbox.an_org(), await inbox.an_org("Other")
    conversation, owner = await a_conversation(inbox, org_id), inbox.api(org_id)
    path = f"/v1/conversations/{conversation}/parked"
    kept = (await owner.post(path, json={"content": TEXT})).json()["message_id"]
    technician = inbox.api(org_id, TECHNICIAN, "technician-1")
    assert len((await technician.get(path)).json()["items"]) == 1
    for way, body in ((path, {"content": TEXT}), (f"{path}/{kept}", {"action": "send"})):
        assert (await technician.post(way, json=body)).status_code == 403
        stranger = inbox.api(other_org)
        answer, unknown = (
            await stranger.post(way, json=body),
            await stranger.post(f"/v1/conversations/{uuid4()}/parked", json={"content": TEXT}),
        )
        assert (answer.status_code, answer.json()) == (unknown.status_code, unknown.json())
        assert answer.status_code == 404
    assert (await inbox.api(other_org).get(path)).status_code == 404
    assert len((await owner.get(path)).json()["items"]) == 1


async def test_the_bell_of_a_member(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org()
    api = inbox.api(org_id)
    assert (await api.get("/v1/notices")).json() == {"items": [], "next": None, "new": 0, "failures": True}
    conversation = await a_conversation(inbox, org_id)
    failed = [await a_failed_text(inbox, org_id, conversation, "One.") for _ in range(2)]
    for update in failed:
        await publish(inbox, DELIVERY_UPDATES, update)
    await published(inbox, INBOX_NOTICES, org_id, 2)
    bell = (await api.get("/v1/notices?limit=1")).json()
    assert (bell["new"], bell["items"][0]["new"], len(bell["items"])) == (2, True, 1)
    rest = (await api.get(f"/v1/notices?limit=1&cursor={bell['next']}")).json()
    told = [bell["items"][0], rest["items"][0]]
    assert {notice["message_id"] for notice in told} == {str(update.message_id) for update in failed}
    assert rest["next"] is None
    stranger = await inbox.api(org_id, user_id="marek").get(f"/v1/notices?cursor={bell['next']}")
    assert (stranger.status_code, stranger.json()["errors"][0]["field"]) == (422, "cursor")
    assert (await api.post("/v1/notices/seen", json={})).status_code == 204
    assert (await api.get("/v1/notices")).json()["new"] == 0
    assert (await api.put("/v1/notices/settings", json={"failures": False})).status_code == 204
    silent = (await api.get("/v1/notices")).json()
    assert (silent["items"], silent["failures"]) == ([], False)
    assert len((await inbox.api(org_id, user_id="marek").get("/v1/notices")).json()["items"]) == 0


async def test_the_thread_says_what_became_of_a_failed_text(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org()
    conversation, api = await a_conversation(inbox, org_id, is_open=True), inbox.api(org_id)
    failed = await a_failed_text(inbox, org_id, conversation, "One.")
    path = f"/v1/conversations/{conversation}"
    assert (await api.get(f"{path}/messages")).json()["items"][0]["parked"] is None
    await publish(inbox, DELIVERY_UPDATES, failed)
    await published(inbox, INBOX_NOTICES, org_id, 1)
    (message,) = (await api.get(f"{path}/messages")).json()["items"]
    assert message["parked"] == {"state": "waiting", "intent_id": None}
    sent = (await api.post(f"{path}/parked/{failed.message_id}", json={"action": "send"})).json()
    (message,) = (await api.get(f"{path}/messages")).json()["items"]
    assert (message["status"], message["parked"]) == ("failed", {"state": "sent", "intent_id": sent["intent_id"]})


async def test_numbers_in_what_waits_are_masked_for_who_may_not_see_them(inbox: RunningInbox) -> None:
    org_id = await inbox.an_org()
    conversation, owner = await a_conversation(inbox, org_id), inbox.api(org_id)
    path = f"/v1/conversations/{conversation}/parked"
    card = {
        "kind": "contacts",
        "contacts": [{"name": {"formatted_name": "Kim"}, "phones": [{"phone": "+447700900999"}]}],
    }
    for content in ({"kind": "text", "text": "Call +447700900999"}, card):
        assert (await owner.post(path, json={"content": content})).status_code == 201
    assert "447700900999" in (await owner.get(path)).text
    masked = await inbox.api(org_id, TECHNICIAN, "technician-1").get(path)
    assert len(masked.json()["items"]) == 2
    assert "7700900999" not in masked.text
