"""What is said in a group stays the group's, on real servers."""

from datetime import timedelta

from libs.common.events.inbound import InboundMessage
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES
from tests.support.ingest import Ingest, now
from tests.support.webhooks import WA_ID, a_message, a_status, a_value, a_webhook, of_messages

GROUP = "Y2FwaV9ncm91cDpodW50MDE"


async def test_a_message_in_a_group_lands_in_the_groups_thread_and_opens_no_window(ingest: Ingest) -> None:
    await ingest.post(of_messages(a_message(now() - timedelta(days=2), "Is my car ready?")))
    (private,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    said = a_message(now(), "See you all at nine", group_id=GROUP)
    await ingest.post(of_messages(said))
    await ingest.published.events(INBOUND_MESSAGES, 2)  # copies in one batch are told once
    await ingest.post(of_messages(said, a_message(now(), "And bring the keys", group_id=GROUP)))
    published = await ingest.published.events(INBOUND_MESSAGES, 4)
    first, again, second = published[1:]
    assert first == again
    assert {one["conversation_id"] for one in (first, second)} != {private["conversation_id"]}
    assert first["conversation_id"] == second["conversation_id"]
    assert (first["group_id"], first["customer_id"]) == (GROUP, private["customer_id"])
    assert first["content"] == {"kind": "text", "text": "See you all at nine"}
    assert first["window"] == {"opened_at": None, "closes_at": None, "open": False}
    thread = await ingest.row(
        "select count(*) from messages where conversation_id = $1::uuid", private["conversation_id"]
    )
    assert thread["count"] == 1
    window = await ingest.row("select last_customer_at, last_inbound_at from conversations")
    assert window["last_customer_at"] == window["last_inbound_at"] < now() - timedelta(days=1)


async def test_whoever_is_known_from_a_group_alone_becomes_no_customer(ingest: Ingest) -> None:
    stranger = a_message(now(), "Hello", group_id=GROUP, **{"from": None, "from_user_id": "GB.1"})
    await ingest.post(of_messages(stranger, contacts=[{"user_id": "GB.1"}]))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert InboundMessage.model_validate(published).customer_id is None
    assert await ingest.rows("select from customers") == []
    assert await ingest.rows("select from conversations") == []


async def test_a_groups_receipts_touch_nobodys_message(ingest: Ingest) -> None:
    receipt = a_status("wamid.group", "read", now(), recipient_type="group", recipient_participant_id=WA_ID)
    await ingest.post(a_webhook(a_value(statuses=[receipt])))
    await ingest.post(of_messages(a_message(now())))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    assert await ingest.published.records(DELIVERY_UPDATES) == []
    assert await ingest.rows("select from early_statuses") == []
