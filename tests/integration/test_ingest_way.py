"""The way of a webhook through a running ingest, on real Kafka and PostgreSQL."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from libs.common.events.inbound import InboundMessage, MetaWebhook
from libs.common.events.topics import INBOUND_MESSAGES, WEBHOOKS
from tests.support.ingest import DAY, Ingest, now
from tests.support.waiting import DEADLINE_SECONDS
from tests.support.webhooks import NUMBER, WA_ID, a_message, a_value, a_webhook, as_body, of_messages

CONVERSATION = "select * from conversations"


async def test_a_signed_webhook_is_stored_opens_the_window_and_is_told(ingest: Ingest) -> None:
    at = now()
    message = a_message(at, context={"id": "wamid.before"})
    assert await ingest.post(of_messages(message)) == 200
    (published,) = [InboundMessage.decode(r.value) for r in await ingest.published.records(INBOUND_MESSAGES, 1)]
    assert (published.org_id, published.channel, published.provider_id) == ("acme", "whatsapp", message["id"])
    assert published.content.model_dump() == {"kind": "text", "text": "Is my car ready?"}
    assert published.reply_to == "wamid.before"
    assert (published.sent_at, published.window.opened_at, published.window.closes_at, published.window.open) == (
        at,
        at,
        at + DAY,
        True,
    )
    row = await ingest.row("select * from messages")
    assert (row["message_id"], row["status"], row["direction"]) == (published.message_id, "received", "in")
    conversation = await ingest.row(CONVERSATION)
    assert conversation["conversation_id"] == published.conversation_id == row["conversation_id"]
    assert (conversation["last_customer_at"], conversation["last_inbound_channel"]) == (at, "whatsapp")
    customer = await ingest.row("select * from customers")
    assert (customer["customer_id"], customer["phone"], customer["name"], customer["origin"]) == (
        published.customer_id,
        f"+{WA_ID}",
        "Kim",
        "inbound",
    )
    assert await ingest.rows("select * from consents") == []
    (raw,) = await ingest.published.records(WEBHOOKS, 1)
    assert raw.key == f"{NUMBER}:{WA_ID}".encode()
    assert MetaWebhook.decode(raw.value).item == message
    (record,) = await ingest.published.records(INBOUND_MESSAGES, 1)
    assert record.key == str(published.conversation_id).encode()


async def test_duplicates_are_stored_once_and_told_under_the_same_id(ingest: Ingest) -> None:
    webhook = of_messages(a_message(now()))
    published: list[dict[str, Any]] = []
    while len(published) < 3:  # one after the other: copies in one batch are told once
        assert await ingest.post(webhook) == 200
        published = await ingest.published.events(INBOUND_MESSAGES, len(published) + 1)
    assert len({one["message_id"] for one in published}) == 1
    assert (
        published[0]
        == published[1] | {"window": published[0]["window"]}
        == published[2] | {"window": published[0]["window"]}
    )
    assert len(await ingest.rows("select * from messages")) == 1


async def test_messages_out_of_order_leave_the_window_at_the_newest(ingest: Ingest) -> None:
    at = now()
    await ingest.post(of_messages(a_message(at, "second"), a_message(at - timedelta(hours=2), "first")))
    await ingest.post(of_messages(a_message(at - timedelta(hours=5), "even earlier")))
    published = await ingest.published.events(INBOUND_MESSAGES, 3)
    assert [one["content"]["text"] for one in published] == ["second", "first", "even earlier"]
    assert all(one["window"]["open"] for one in published)
    assert (await ingest.row(CONVERSATION))["last_customer_at"] == at


async def test_a_week_old_webhook_opens_nothing(ingest: Ingest) -> None:
    at = now() - timedelta(days=7)
    await ingest.post(of_messages(a_message(at)))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert published["window"]["open"] is False
    assert (await ingest.row(CONVERSATION))["last_customer_at"] == at


async def test_a_timestamp_from_the_future_counts_as_a_minute_from_now_at_most(ingest: Ingest) -> None:
    before = now()
    await ingest.post(of_messages(a_message(before + timedelta(days=300))))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    opened = (await ingest.row(CONVERSATION))["last_customer_at"]
    assert before + timedelta(seconds=60) <= opened <= now() + timedelta(seconds=62)


async def test_a_copy_of_a_message_from_the_future_moves_the_window_no_further(ingest: Ingest) -> None:
    webhook = of_messages(a_message(now() + timedelta(days=300)))
    await ingest.post(webhook)
    await ingest.published.events(INBOUND_MESSAGES, 1)
    await ingest.post(webhook)
    first, copy = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert copy["window"] == first["window"]
    assert (await ingest.row(CONVERSATION))["last_customer_at"] == datetime.fromisoformat(first["sent_at"])


async def test_any_text_is_stored_and_told(ingest: Ingest) -> None:
    texts = ["Zürich 🚗👩‍🔧", "zero \x00 byte", "half a pair \ud83d end", "line\nbreak \u2028 \u202e rtl"]
    raw = a_message(now(), "x")
    body = as_body(of_messages(*[raw | {"id": f"wamid.{i}", "text": {"body": text}} for i, text in enumerate(texts)]))
    assert b"\\ud83d end" in body
    assert await ingest.post(body) == 200
    published = await ingest.published.events(INBOUND_MESSAGES, 4)
    expected = [text.replace("\x00", "\ufffd").replace("\ud83d end", "\ufffd end") for text in texts]
    assert [one["content"]["text"] for one in published] == expected
    stored = await ingest.rows("select content from messages order by sequence")
    assert [row["content"]["text"] for row in stored] == expected


async def test_a_webhook_for_nobodys_number_is_a_dead_letter_and_its_neighbours_go_on(ingest: Ingest) -> None:
    stranger = a_value(number="999", messages=[a_message(now(), "whose?")], contacts=[])
    status = a_value(number="998", statuses=[{"id": "wamid.x", "status": "sent", "timestamp": "1790000000"}])
    ours = a_value(messages=[a_message(now(), "ours")], contacts=[])
    assert await ingest.post(a_webhook(ours, stranger, status, ours | {"messages": [a_message(now(), "too")]})) == 200
    published = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert [one["content"]["text"] for one in published] == ["ours", "too"]
    assert await ingest.reasons(WEBHOOKS, 2) == ["unknown_number", "unknown_number"]
    letters = await ingest.published.records(WEBHOOKS.dlq, 2)
    assert MetaWebhook.decode(letters[0].value).phone_number_id == "999"
    assert len(await ingest.rows("select * from messages")) == 2
    assert await ingest.rows("select * from early_statuses") == []


async def test_what_nobody_understands_is_a_dead_letter_with_a_reason(ingest: Ingest) -> None:
    for body in ([1], {"object": "page"}, "text", a_webhook({"x": 1}, field="brand_new")):
        assert await ingest.post(body) == 200
    await ingest.post(of_messages(a_message("soon"), a_message(now(), id=None), a_message(now(), "fine")))
    assert (await ingest.published.events(INBOUND_MESSAGES, 1))[0]["content"]["text"] == "fine"
    assert await ingest.reasons(WEBHOOKS, 6) == [
        "not_a_webhook",
        "not_a_webhook",
        "not_a_webhook",
        "unknown_field",
        "bad_timestamp",
        "no_id",
    ]


async def test_records_that_no_edge_wrote_are_dead_letters_too(ingest: Ingest) -> None:
    topic = f"{ingest.prefix}{WEBHOOKS.name}"
    for value in (b"\xff", b"{", b"[]", b"{}", orjson.dumps({"type": "webhook.telex.v1"})):
        await ingest.producer.send_and_wait(topic, value)
    await ingest.post(of_messages(a_message(now())))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    assert await ingest.reasons(WEBHOOKS, 5) == ["not_utf8", "not_json", "not_an_object", "no_type", "unknown_type"]


async def test_many_new_customers_at_once_are_each_one_customer(ingest: Ingest) -> None:
    at = now()
    messages = [a_message(at, from_=None, **{"from": f"4477009{i:05}"}) for i in range(300)]
    values = [a_value(messages=[message], contacts=[]) for message in messages]
    posts = [ingest.post(a_webhook(*values[i : i + 60])) for i in range(0, 300, 60)]
    again = [
        ingest.post(
            a_webhook(
                *[
                    value | {"messages": [a_message(at, **{"from": m["messages"][0]["from"]})]}
                    for value in values
                    for m in [value]
                ][:60]
            )
        )
    ]
    assert set(await asyncio.gather(*posts, *again)) == {200}
    published = await ingest.published.events(INBOUND_MESSAGES, 360)
    assert len({one["conversation_id"] for one in published}) == 300
    assert len({UUID(one["customer_id"]) for one in published}) == 300
    assert len(await ingest.rows("select * from customers")) == 300


async def test_a_thousand_updates_in_one_post_are_a_thousand_records(ingest: Ingest) -> None:
    at = now()
    assert await ingest.post(of_messages(*[a_message(at, f"{i}") for i in range(1000)])) == 200
    published = await ingest.published.events(INBOUND_MESSAGES, 1000)
    assert [one["content"]["text"] for one in published] == [str(i) for i in range(1000)]


async def test_ingest_says_that_it_is_caught_up(ingest: Ingest) -> None:
    await ingest.post(of_messages(a_message(now())))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await ingest.rows("select * from progress where caught_up_at > since"):  # noqa: ASYNC110 -- a row, not an event
            await asyncio.sleep(0.1)
