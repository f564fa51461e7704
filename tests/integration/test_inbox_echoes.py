"""What staff wrote on the phone, as the inbox shows it: in the thread, in lists, in streams, to agents."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio

from libs.common.events.outbound import DeliveryUpdate
from libs.common.events.topics import DELIVERY_UPDATES
from libs.common.kafka.producer import Producer
from tests.support.inbox import RunningInbox
from tests.support.inbox_garage import conversations_of
from tests.support.inbox_streams import reading
from tests.support.inbox_thread import InboxThread, a_thread, publishing
from tests.support.waiting import eventually_true

MINUTE = timedelta(minutes=1)
_ECHO = """
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
    content, actor, status, seq, attempt, sent_at, occurred_at, received_at)
values ($1, $2, $3, 'out', 'whatsapp', 'meta', $4, $5, $6, $7, 'staff', 'sent', 1, 0, $8, $8, $8)
"""
_UNANSWERED = "select unanswered_since from conversation_heads where org_id = $1 and conversation_id = $2"
_UNREAD = "select unread_since from conversation_heads where org_id = $1 and conversation_id = $2"


@pytest_asyncio.fixture(scope="module")
async def producer(inbox: RunningInbox) -> AsyncIterator[Producer]:
    async with publishing(inbox) as made:
        yield made


async def is_echoed(
    kim: InboxThread, text: str = "It is.", *, at: datetime | None = None, content: dict[str, Any] | None = None
) -> UUID:
    """Staff wrote on the phone, as ingest stores and tells it."""
    message_id, said, now = uuid4(), content or {"kind": "text", "text": text}, at or kim.inbox.pool.now()
    of = kim.org_id, message_id, kim.conversation_id
    await kim.run(_ECHO, *of, kim.number, f"wamid.{uuid4().hex}", said["kind"], said, now)
    event = DeliveryUpdate(
        message_id=message_id,
        org_id=kim.org_id,
        conversation_id=kim.conversation_id,
        channel="whatsapp",
        seq=1,
        status="sent",
        author="phone_app",
        at=now,
    )
    await kim.publish(DELIVERY_UPDATES, event)
    return message_id


async def test_it_is_a_message_of_staff_from_the_phone_app(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    await kim.customer_writes(publish=False)
    message_id = await is_echoed(kim)
    path = f"/v1/conversations/{kim.conversation_id}/messages"
    for language, name in (("en", "Phone app"), ("de", "App auf dem Handy")):
        answer = await inbox.api(kim.org_id).get(path, headers={"accept-language": language})
        message = answer.json()["items"][0]
        assert (message["message_id"], message["status"]) == (str(message_id), "sent")
        assert message["author"] == {"kind": "staff", "user_id": None, "name": name}
    page = await (await inbox.staff(kim.org_id)).client.get(f"/inbox/{kim.conversation_id}")
    assert "Phone app" in page.text
    assert "wamid" not in page.text


async def test_an_open_page_is_told_and_the_search_finds_it(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    await kim.customer_writes()
    async with reading(inbox.api(kim.org_id)) as olga:
        message_id = await is_echoed(kim, "The gearbox is dry.")
        assert (await olga.until(message_id))[-1].name == "message"
    assert await conversations_of(inbox.api(kim.org_id), q="gearbox") == [kim.conversation_id]


async def test_an_agent_reads_it_as_a_message_of_staff(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    await kim.customer_writes(publish=False)
    await is_echoed(kim, "It is ready, come by.")
    client = inbox.api(kim.org_id, ["messages.view"], "agent")
    found = (await client.get(f"/v1/conversations/{kim.conversation_id}/context")).json()
    assert [(one["role"], one["text"]) for one in found["messages"]] == [
        ("customer", "Is it ready?"),
        ("staff", "It is ready, come by."),
    ]


async def test_it_ends_the_wait_for_an_answer(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    of = kim.org_id, kim.conversation_id
    await kim.customer_writes(at=inbox.pool.now() - MINUTE)
    await eventually_true(lambda: kim.run(_UNANSWERED, *of))
    await is_echoed(kim)
    await eventually_true(lambda: _is_none(kim, _UNANSWERED))
    assert await kim.run(_UNREAD, *of) is None


async def test_what_comes_late_answers_what_was_there_when_it_was_written(
    inbox: RunningInbox, producer: Producer
) -> None:
    kim, now = await a_thread(inbox, producer), inbox.pool.now()
    await kim.customer_writes("First", at=now - 3 * MINUTE)
    await kim.customer_writes("Another question", at=now - MINUTE)
    message_id = await is_echoed(kim, at=now - 2 * MINUTE)
    async with reading(inbox.api(kim.org_id)) as olga:
        await is_echoed(kim, content={"kind": "unsupported", "type": "revoke"}, at=now)
        wrote = await kim.customer_writes("Hello?", at=now)
        await olga.until(wrote)
    assert message_id
    of = kim.org_id, kim.conversation_id
    assert await kim.run(_UNANSWERED, *of) == now - MINUTE
    assert await kim.run(_UNREAD, *of) == now - MINUTE


async def test_a_question_in_the_second_of_an_echo_still_waits(inbox: RunningInbox, producer: Producer) -> None:
    kim, now = await a_thread(inbox, producer), inbox.pool.now()
    await is_echoed(kim, at=now)
    await kim.customer_writes("And my bike?", at=now)
    await eventually_true(lambda: kim.run(_UNANSWERED, kim.org_id, kim.conversation_id))
    assert await kim.run(_UNREAD, kim.org_id, kim.conversation_id) == now


async def test_a_failed_one_is_no_text_that_waits(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    message_id = await is_echoed(kim)
    async with reading(inbox.api(kim.org_id)) as olga:
        await kim.run("update messages set provider_code = '131047' where message_id = $1", message_id)
        await kim.moves(message_id, "failed", "provider_refused")
        await olga.until(message_id)
    assert await kim.run("select count(*) from parked_messages where message_id = $1", message_id) == 0


async def _is_none(kim: InboxThread, statement: str) -> bool:
    return await kim.run(statement, kim.org_id, kim.conversation_id) is None
