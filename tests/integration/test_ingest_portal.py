"""What customers write and read in the portal, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import orjson
import pytest
import pytest_asyncio

from libs.common.directory.merge import Merge, merge_customers
from libs.common.errors import Transient
from libs.common.events.intents import Intent, decode_intent
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, OUTBOUND_INTENTS
from libs.common.kafka.connection import KafkaConnection
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from services.ingest import portal_queries
from services.ingest.portal_queries import PortalText
from tests.support import world
from tests.support.erased import erase
from tests.support.ingest import DAY, ORG, now
from tests.support.messages_out import sent
from tests.support.portal import WRITTEN, PortalWorld, a_portal_world
from tests.support.topics import OwnTopics
from tests.support.webhooks import NUMBER

MINUTE = timedelta(minutes=1)
BRIDGED: tuple[str, str, tuple[str, str]] = ("failed", "window_expired_bridge_sent", ("bridge", "sms"))


@pytest_asyncio.fixture
async def portal(database: str, kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[PortalWorld]:
    await topics.create(WRITTEN)
    async with a_portal_world(database, KafkaConnection(kafka_bootstrap, topics.prefix)) as made:
        yield made


# ── Writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_text_becomes_an_inbound_message_and_says_where_the_customer_wrote_last(portal: PortalWorld) -> None:
    wrote = portal.writes("Can I come at five?")
    assert await portal.handle(wrote) == []
    (event,) = await portal.new(INBOUND_MESSAGES)
    assert event["content"] == {"kind": "text", "text": "Can I come at five?"}
    assert (event["channel"], event["conversation_id"]) == ("portal", str(portal.conversation_id))
    assert event["customer_id"] == str(portal.customer_id)
    assert wrote.session not in event["provider_id"]
    stored = await portal.message(UUID(event["message_id"]))
    assert (stored["direction"], stored["channel"], stored["occurred_at"]) == ("in", "portal", wrote.at)
    conversation = await portal.conversation()
    assert (conversation["last_inbound_channel"], conversation["last_inbound_at"]) == ("portal", wrote.at)
    assert (await portal.row("select customer_id from touched_customers"))["customer_id"] == portal.customer_id


async def test_a_text_opens_no_whatsapp_window_and_clears_no_mark_of_a_phone(portal: PortalWorld) -> None:
    async with portal.pool.acquire() as db:
        await db.execute(
            "insert into address_marks values"
            " ('acme', 'sms', '+447700900999', 'no_phone', null, 'status', now(), now() + interval '1 day')"
        )
    await portal.handle(portal.writes())
    (event,) = await portal.new(INBOUND_MESSAGES)
    assert event["window"]["open"] is False
    assert (await portal.conversation())["last_customer_at"] == portal.began
    assert (await portal.row("select count(*) as n from address_marks"))["n"] == 1


async def test_the_same_form_again_is_the_same_message_in_a_batch_and_in_a_redelivery(portal: PortalWorld) -> None:
    first, second = portal.writes("one", client_id="f-1"), portal.writes("two", client_id="f-2")
    again = portal.writes("one", client_id="f-1", at=now() + MINUTE)
    await portal.handle(first, second, again)
    await portal.handle(first, second, again)
    events = await portal.new(INBOUND_MESSAGES)
    assert [event["content"]["text"] for event in events] == ["one", "two", "one", "two"]
    assert events[:2] == events[2:]
    assert (await portal.row("select count(*) as n from messages"))["n"] == 2
    assert (await portal.conversation())["last_inbound_at"] == second.at


async def test_an_edited_text_of_the_same_form_is_another_message(portal: PortalWorld) -> None:
    first, edited = portal.writes("At nine?", client_id="f-1"), portal.writes("At ten?", client_id="f-1")
    await portal.handle(first)
    await portal.handle(edited, first)
    assert (await portal.row("select count(*) as n from messages"))["n"] == 2
    assert {event["content"]["text"] for event in await portal.new(INBOUND_MESSAGES)} == {"At nine?", "At ten?"}


async def test_two_workers_store_a_text_once(portal: PortalWorld) -> None:
    texts = [portal.writes(str(n), client_id=f"f-{n}") for n in range(20)]
    await asyncio.gather(portal.handle(*texts), portal.handle(*reversed(texts)))
    assert (await portal.row("select count(*) as n from messages"))["n"] == 20
    ids = {(event["content"]["text"], event["message_id"]) for event in await portal.new(INBOUND_MESSAGES)}
    assert len(ids) == 20


async def test_forms_of_two_sessions_and_of_two_conversations_may_have_the_same_name(portal: PortalWorld) -> None:
    other, customer = uuid4(), uuid4()
    async with portal.pool.acquire() as db:
        await world.a_customer(db, ORG, customer, "+447700900555")
        await world.a_conversation(db, ORG, other, customer, NUMBER)
    await portal.handle(
        portal.writes(client_id="f", session="a"),
        portal.writes(client_id="f", session="b"),
        portal.writes(client_id="f", session="a", conversation_id=other),
    )
    assert (await portal.row("select count(*) as n from messages"))["n"] == 3


async def test_an_older_text_moves_nothing_and_one_from_the_future_counts_as_now(portal: PortalWorld) -> None:
    clock = now()
    await portal.handle(portal.writes(at=clock + 300 * DAY), at=clock)
    assert (await portal.conversation())["last_inbound_at"] == clock
    async with portal.pool.acquire() as db:
        await db.execute("update conversations set last_inbound_channel = 'sms'")
    await portal.handle(portal.writes(at=clock - MINUTE), at=clock)
    conversation = await portal.conversation()
    assert (conversation["last_inbound_channel"], conversation["last_inbound_at"]) == ("sms", clock)
    assert (await portal.row("select last_seen_at from customers"))["last_seen_at"] == clock


async def test_a_text_from_before_the_only_word_of_its_customer_says_where_they_write(portal: PortalWorld) -> None:
    async with portal.pool.acquire() as db:  # as STOP by SMS leaves it
        await db.execute("update conversations set last_inbound_channel = null, last_inbound_at = $1", now())
    wrote = portal.writes(at=now() - MINUTE)
    await portal.handle(wrote)
    conversation = await portal.conversation()
    assert (conversation["last_inbound_channel"], conversation["last_inbound_at"]) == ("portal", wrote.at)


async def test_a_conversation_of_another_organisation_is_rejected_and_its_neighbours_go_on(portal: PortalWorld) -> None:
    async with portal.pool.acquire() as db:
        await world.an_org(db, "other", "106400000000555", sms_number="+447700900002", portal_host=None)
    rejected = await portal.handle(
        portal.writes(org_id="other"),
        portal.reads(uuid4(), org_id="other"),
        portal.signs_in(conversation_id=uuid4()),
        portal.writes("mine, with a nul \x00 byte"),
    )
    assert rejected == ["unknown_conversation"] * 3
    assert [event["content"]["text"] for event in await portal.new(INBOUND_MESSAGES)] == [
        "mine, with a nul \ufffd byte"
    ]


async def test_what_was_on_its_way_to_a_customer_who_was_erased_is_stored_without_its_words(
    portal: PortalWorld,
) -> None:
    before, after = portal.writes("Call me Quillonia"), portal.writes("Call me Quillonia")
    await portal.handle(before)
    await erase(portal.pool, ORG, portal.conversation_id)
    assert await portal.handle(before, after, portal.reads(uuid4()), portal.signs_in()) == []
    events = await portal.new(INBOUND_MESSAGES)
    assert [one["content"]["kind"] for one in events] == ["text", "unsupported", "unsupported"]
    assert [one["content"].get("erased") for one in events] == [None, True, True]
    messages = await portal.row("select count(*) as n, string_agg(m::text, ' ') as held from messages m")
    assert (messages["n"], "Quillonia" in messages["held"]) == (2, False)
    assert (await portal.row("select last_seen_at from customers"))["last_seen_at"] is None


async def test_no_text_is_stored_that_found_its_place_before_the_customer_was_erased(portal: PortalWorld) -> None:
    async with portal.pool.acquire() as db:
        (place,) = await portal_queries.places(db, [(ORG, portal.conversation_id)])
    assert place is not None
    await erase(portal.pool, ORG, portal.conversation_id)
    content = {"kind": "text", "text": "Quillonia"}
    text = PortalText(ORG, place.conversation_id, place.identity_version, "one", content, now())
    async with portal.pool.acquire() as db:
        with pytest.raises(Transient):
            await portal_queries.store_texts(db, [text], now())
    assert (await portal.row("select count(*) as n from messages"))["n"] == 0


async def test_a_conversation_that_was_merged_is_written_to_and_read_under_its_old_id(portal: PortalWorld) -> None:
    other, customer = uuid4(), uuid4()
    text = portal.writes("before and after", conversation_id=other, client_id="f-1")
    async with portal.pool.acquire() as db:
        await world.a_customer(db, ORG, customer, None)
        await world.a_conversation(db, ORG, other, customer, NUMBER)
    await portal.handle(text)
    read = await portal.a_message(*BRIDGED, conversation_id=other)
    async with portal.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(ORG, customer, portal.customer_id)])
    seen = await portal.row("select last_seen_at from customers where customer_id = $1", portal.customer_id)
    assert seen["last_seen_at"] == text.at
    assert await portal.handle(text, portal.reads(read, conversation_id=other)) == []
    first, second = await portal.new(INBOUND_MESSAGES)
    assert second == first | {
        "conversation_id": str(portal.conversation_id),
        "customer_id": str(portal.customer_id),
        "window": second["window"],
    }
    (update,) = await portal.new(DELIVERY_UPDATES)
    assert (update["status"], update["conversation_id"]) == ("read", str(portal.conversation_id))


# ── Reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_the_portal_shows_becomes_read_on_channel_portal(portal: PortalWorld) -> None:
    shown = [
        await portal.a_message(*BRIDGED),
        await portal.a_message("failed", "whatsapp_unreachable_bridge_already_sent", ("silent", None)),
        await portal.a_message("pending", None, ("bridge", "sms")),
        await portal.a_message("delivered", None, ("session", "whatsapp")),
        await portal.a_message("sent", None, ("session", "whatsapp"), ("session", "sms")),
        await portal.a_message("failed", "window_expired_no_phone", ("session", "portal"), ("silent", None)),
    ]
    before = [await portal.message(message_id) for message_id in shown]
    read = portal.reads(*shown)
    await portal.handle(read)
    await portal.handle(read, read)
    after = [await portal.message(message_id) for message_id in shown]
    assert [row["seq"] for row in after] == [row["seq"] + 1 for row in before]
    assert {(row["status"], row["read_at"]) for row in after} == {("read", read.at)}
    assert {(row["channel"], row["read_channel"]) for row in after} == {("whatsapp", "portal")}
    updates = await portal.new(DELIVERY_UPDATES)
    assert updates[: len(shown)] == updates[len(shown) :]
    assert {UUID(update["message_id"]) for update in updates} == set(shown)
    assert {(update["status"], update["channel"], update["reason"]) for update in updates} == {("read", "portal", None)}
    assert {update["conversation_id"] for update in updates} == {str(portal.conversation_id)}


async def test_an_answer_in_the_portal_becomes_read_there(portal: PortalWorld) -> None:
    message_id = await portal.a_message("sent", None, ("session", "portal"), channel="portal")
    await portal.handle(portal.reads(message_id))
    (update,) = await portal.new(DELIVERY_UPDATES)
    assert (update["status"], update["channel"], update["seq"]) == ("read", "portal", 2)


async def test_what_the_portal_does_not_show_stays_as_it_is(portal: PortalWorld) -> None:
    hidden = [
        await portal.a_message("failed", "not_permitted", ("rejected", None)),
        await portal.a_message("failed", "whatsapp_consent_off", ("silent", None)),
        await portal.a_message("failed", "window_expired_credit_exhausted", ("silent", None)),
        await portal.a_message("failed", "intent_expired", ("session", "portal"), ("silent", None)),
        await portal.a_message("pending", None, ("session", "whatsapp")),
        await portal.a_message("delivered", None, notification_type="bridge"),
    ]
    before = [await portal.message(message_id) for message_id in hidden]
    await portal.handle(portal.reads(*hidden))
    assert [await portal.message(message_id) for message_id in hidden] == before
    assert await portal.new(DELIVERY_UPDATES) == []


async def test_a_record_that_names_another_conversations_message_changes_nothing(portal: PortalWorld) -> None:
    other, customer = uuid4(), uuid4()
    async with portal.pool.acquire() as db:
        await world.a_customer(db, ORG, customer, "+447700900555")
        await world.a_conversation(db, ORG, other, customer, NUMBER)
    mine, theirs = await portal.a_message(*BRIDGED), await portal.a_message(*BRIDGED, conversation_id=other)
    await portal.handle(portal.reads(mine, theirs, uuid4()))
    assert (await portal.message(mine))["status"] == "read"
    assert (await portal.message(theirs))["status"] == "failed"
    assert [update["message_id"] for update in await portal.new(DELIVERY_UPDATES)] == [str(mine)]
    await portal.handle(portal.reads(mine, theirs, conversation_id=other))
    assert (await portal.message(theirs))["status"] == "read"


async def test_a_late_failure_of_the_provider_does_not_undo_what_was_read(portal: PortalWorld) -> None:
    message_id = await sent(portal.pool, portal.conversation_id, "wamid.1")
    delivered = ProviderStatus("whatsapp", "meta", NUMBER, "wamid.1", "sent", now())
    async with portal.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [delivered], now())
    await portal.handle(portal.reads(message_id))
    read = await portal.message(message_id)
    failed = ProviderStatus("whatsapp", "meta", NUMBER, "wamid.1", "failed", now(), code="131047")
    async with portal.pool.acquire() as db, db.transaction():
        events = await receive_statuses(db, [failed], now())
    assert events.refusals == []
    assert await portal.message(message_id) == read
    assert (read["status"], read["seq"]) == ("read", 2)


# ── Asking for a link ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_wishes_for_a_link_are_one_intent_an_hour_and_no_visit(portal: PortalWorld) -> None:
    clock = now().replace(minute=30)
    wish = portal.wants_a_link(at=clock)
    await portal.handle(*[wish] * 50, portal.wants_a_link(at=clock + MINUTE), at=clock + 2 * MINUTE)
    await portal.handle(wish, at=clock + 2 * MINUTE)
    first, again = await portal.new(OUTBOUND_INTENTS)
    assert first == again
    assert decode_intent(orjson.dumps(first)) == Intent.model_validate(first)
    assert (first["content"], first["actor"]["kind"]) == ({"kind": "bridge"}, "system")
    assert datetime.fromisoformat(first["expires_at"]) == clock + 60 * MINUTE
    await portal.handle(portal.wants_a_link(at=clock + 60 * MINUTE), at=clock + 60 * MINUTE)
    assert len({intent["intent_id"] for intent in await portal.new(OUTBOUND_INTENTS)}) == 2
    assert (await portal.row("select last_seen_at from customers"))["last_seen_at"] is None


# ── Signing in ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_sign_in_is_kept_with_the_customer_and_never_goes_back(portal: PortalWorld) -> None:
    late, early = now(), now() - DAY
    await portal.handle(portal.signs_in(at=late), portal.signs_in(at=early))
    await portal.handle(portal.signs_in(at=early))
    seen = await portal.row("select last_seen_at from customers where customer_id = $1", portal.customer_id)
    assert seen["last_seen_at"] == late
