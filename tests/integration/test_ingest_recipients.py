"""What Meta says of a customer beside their messages: cards, statuses, replies. One customer, whatever comes first."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.clock import utc_now
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, WEBHOOKS
from libs.common.sending.status_effects import store_provider_ids
from libs.common.sending.statuses import ProviderId
from tests.support.ingest import ORG, Ingest, now
from tests.support.merges import all_moved
from tests.support.webhooks import NUMBER, a_contact, a_message, a_status, a_value, a_webhook, of_messages

PHONE, WA_ID, BSUID = "+447700900888", "447700900888", "GB.13000000000000000005"
BY_BSUID = {"from": None, "from_user_id": BSUID}
CARD = [{"user_id": BSUID}]


async def written_to(ingest: Ingest, wamid: str) -> UUID:
    """A first contact: a template of ours to somebody who never wrote; the conversation."""
    customer_id, conversation_id, message_id = uuid4(), uuid4(), uuid4()
    async with ingest.pool.acquire() as db, db.transaction():
        await db.execute(
            "insert into customers (customer_id, org_id, phone, origin) values ($1, $2, $3, 'outbound')",
            customer_id,
            ORG,
            PHONE,
        )
        await db.execute(
            "insert into customer_identities (org_id, kind, value, customer_id, since, source)"
            " values ($1, 'phone', $2, $3, now(), 'intent')",
            ORG,
            PHONE,
            customer_id,
        )
        await db.execute(
            "insert into conversations (conversation_id, org_id, customer_id, phone_number_id) values ($1, $2, $3, $4)",
            conversation_id,
            ORG,
            customer_id,
            NUMBER,
        )
        await db.execute(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content,"
            " status, occurred_at, received_at)"
            " values ($1, $2, $3, 'out', 'whatsapp', 'template', '{}', 'pending', now(), now())",
            ORG,
            message_id,
            conversation_id,
        )
        await store_provider_ids(
            db, [ProviderId("whatsapp", "meta", NUMBER, wamid, ORG, message_id, message_id, 1)], utc_now()
        )
    return conversation_id


async def posted(ingest: Ingest, status: dict[str, Any], **parts: Any) -> None:
    """A status; None for a name leaves it out."""
    await ingest.post(a_webhook(a_value(statuses=[{k: v for k, v in status.items() if v is not None}], **parts)))


async def people(ingest: Ingest) -> list[tuple[str | None, str | None]]:
    rows = await ingest.rows("select name, phone from customers order by 1, 2")
    return [(row["name"], row["phone"]) for row in rows]


async def test_a_status_that_tells_both_ids_makes_the_reply_by_user_id_the_customers(ingest: Ingest) -> None:
    conversation_id = await written_to(ingest, "wamid.1")
    await posted(ingest, a_status("wamid.1", "delivered", now(), recipient_id=WA_ID, recipient_user_id=BSUID))
    await ingest.published.events(DELIVERY_UPDATES, 1)
    await ingest.post(of_messages(a_message(now(), "Yes", **BY_BSUID), contacts=CARD))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert published["conversation_id"] == str(conversation_id)
    assert await people(ingest) == [(None, PHONE)]


async def test_whoever_answers_a_first_contact_has_the_name_of_their_card(ingest: Ingest) -> None:
    await written_to(ingest, "wamid.1")
    await posted(ingest, a_status("wamid.1", "delivered", now(), recipient_id=WA_ID, recipient_user_id=BSUID))
    await ingest.published.events(DELIVERY_UPDATES, 1)
    await ingest.post(of_messages(a_message(now(), "Yes", **{"from": WA_ID}), contacts=[a_contact(WA_ID, BSUID)]))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    assert await people(ingest) == [("Kim", PHONE)]


async def test_a_reply_before_the_status_that_tells_both_ids_joins_when_it_is_told(ingest: Ingest) -> None:
    conversation_id = await written_to(ingest, "wamid.1")
    await ingest.post(of_messages(a_message(now(), "Yes", **BY_BSUID), contacts=CARD))
    (apart,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert apart["conversation_id"] != str(conversation_id)
    await posted(ingest, a_status("wamid.1", "delivered", now(), recipient_id=WA_ID, recipient_user_id=BSUID))
    await ingest.published.events(DELIVERY_UPDATES, 1)
    await ingest.post(of_messages(a_message(now(), "Hello?", **BY_BSUID), contacts=CARD))
    (_, joined) = await ingest.published.events(INBOUND_MESSAGES, 2)
    async with ingest.pool.acquire() as db:
        await all_moved(db)
    threads = await ingest.rows("select distinct conversation_id from messages where org_id = $1", ORG)
    assert [row["conversation_id"] for row in threads] == [UUID(joined["conversation_id"])]
    assert await people(ingest) == [(None, PHONE)]
    alias = await ingest.row("select conversation_id from conversation_aliases")
    assert str(alias["conversation_id"]) == joined["conversation_id"]


async def test_a_reply_to_our_message_by_an_unknown_user_id_is_whom_we_wrote_to(ingest: Ingest) -> None:
    conversation_id = await written_to(ingest, "wamid.1")
    reply = a_message(now(), "Yes", context={"from": "447700900123", "id": "wamid.1"}, **BY_BSUID)
    await ingest.post(of_messages(reply, contacts=CARD))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert published["conversation_id"] == str(conversation_id)


async def test_a_reply_tells_which_message_it_answers_by_our_id_too(ingest: Ingest) -> None:
    await written_to(ingest, "wamid.1")
    ours = await ingest.row("select message_id from provider_ids where provider_id = 'wamid.1'")
    own = a_message(now(), "When?")
    replies = [a_message(now(), "That one", context={"id": quoted}) for quoted in ("wamid.1", own["id"], "wamid.other")]
    await ingest.post(of_messages(own, *replies))
    published = {one["provider_id"]: one for one in await ingest.published.events(INBOUND_MESSAGES, 4)}
    told = [published[reply["id"]].get("reply_to_message_id") for reply in replies]
    assert told == [str(ours["message_id"]), published[own["id"]]["message_id"], None]
    assert "reply_to_message_id" not in published[own["id"]]


async def test_a_reply_by_a_user_id_that_is_somebodys_stays_theirs(ingest: Ingest) -> None:
    conversation_id = await written_to(ingest, "wamid.1")
    await ingest.post(of_messages(a_message(now(), "Hello", **BY_BSUID), contacts=CARD))
    await ingest.published.events(INBOUND_MESSAGES, 1)  # in one batch with it the reply would say whose the user id is
    reply = a_message(now(), "Yes", context={"from": "447700900123", "id": "wamid.1"}, **BY_BSUID)
    await ingest.post(of_messages(reply, contacts=CARD))
    first, second = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert first["conversation_id"] == second["conversation_id"] != str(conversation_id)


async def test_a_single_card_names_the_sender_whatever_number_of_the_line_it_has(ingest: Ingest) -> None:
    at = now() - timedelta(minutes=5)
    card = a_contact("551190000001", "BR.13000000000000000009", "Ana")
    await ingest.post(of_messages(a_message(at, "Oi", **{"from": "5511990000001"}), contacts=[card]))
    for sender in ({"from": "551190000001"}, {"from": "5511990000001"}, BY_BSUID | {"from_user_id": card["user_id"]}):
        await ingest.post(of_messages(a_message(now(), "Oi", **sender), contacts=[]))
    published = await ingest.published.events(INBOUND_MESSAGES, 4)
    assert len({one["conversation_id"] for one in published}) == 1
    assert [name for name, _ in await people(ingest)] == ["Ana"]


@pytest.mark.parametrize("card", [{"wa_id": WA_ID}, {"user_id": BSUID}, {}, "x", {"wa_id": 5, "profile": None}])
async def test_a_status_with_any_card_is_applied(ingest: Ingest, card: Any) -> None:
    await written_to(ingest, "wamid.1")
    unknown = a_status("wamid.unknown", "delivered", now(), recipient_id=None)
    ours = a_status("wamid.1", "failed", now(), errors=[{"code": 131051}], recipient_id=None)
    statuses = [{k: v for k, v in status.items() if v is not None} for status in (unknown, ours)]
    assert await ingest.post(a_webhook(a_value(statuses=statuses, contacts=[card]))) == 200
    (published,) = await ingest.published.events(DELIVERY_UPDATES, 1)
    assert (published["status"], published["provider_code"]) == ("failed", "131051")
    assert await ingest.published.records(WEBHOOKS.dlq) == []
