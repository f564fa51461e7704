"""Intents become decisions, commands and updates, once, on the real servers."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from libs.common.directory.merge import Merge, merge_customers
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision, SmsCommand, WhatsappCommand
from services.router.decide import decide
from services.router.recorded_decision import unpack
from tests.support import world
from tests.support.databases import somebody_waits
from tests.support.router import FALLBACK, NOW, TEMPLATE, Garage, Router, stored, waba_of

pytestmark = pytest.mark.usefixtures("log_lines")


EVENTS = {e.TYPE: e for e in (OutboundDecision, WhatsappCommand, SmsCommand, DeliveryUpdate)}


async def test_an_intent_id_twice_in_a_batch_is_one_message_whatever_its_content(router: Router) -> None:
    garage = await stored(router, Garage())
    intent = garage.intent()
    other = intent | {"content": {"kind": "text", "text": "Something else."}}
    published = await router.decide(intent, other, intent)
    assert len(published["outbound.decisions.v1"]) == 1
    [command] = published["outbound.whatsapp.v1"]
    assert command["content"]["text"] == "Your Golf is ready."
    again = await router.decide(other)
    assert again["outbound.whatsapp.v1"] == [command]


async def test_the_same_id_of_two_tenants_is_two_messages(router: Router) -> None:
    one, two = await stored(router, Garage()), await stored(router, Garage(phone="+447700900998"))
    intent_id = str(uuid4())
    published = await router.decide(one.intent(intent_id=intent_id), two.intent(intent_id=intent_id))
    assert {c["org_id"] for c in published["outbound.whatsapp.v1"]} == {one.org_id, two.org_id}


async def test_a_redelivered_batch_tells_the_same_decisions_commands_and_updates(router: Router) -> None:
    open_, closed = await stored(router, Garage()), await stored(router, Garage.closed(phone="+447700900998"))
    batch = [
        open_.intent(),
        closed.intent(),
        closed.intent(),
        open_.intent(channel="portal"),
        open_.intent(content={"kind": "hologram"}),
        open_.intent(content={"kind": "text", "text": "a\x00b"}),
        open_.first_contact(content={"kind": "text", "text": "hello"}),
    ]
    first = await router.decide(*batch)
    # the customer writes meanwhile: facts that would change the decisions
    await router.rows("update conversations set last_customer_at = $1", NOW)
    assert await router.at(NOW + timedelta(minutes=1)).decide(*batch) == first
    assert {topic: len(events) for topic, events in first.items()} == {
        "outbound.decisions.v1": 7,
        "outbound.whatsapp.v1": 2,
        "outbound.sms.v1": 1,
        "delivery.updates.v1": 4,
    }


async def test_a_first_contact_opens_a_conversation_once(router: Router) -> None:
    garage = await stored(router, Garage())
    async with router.pool.acquire() as db:
        await garage.store_template(db)
    published = await router.decide(
        garage.first_contact(content=TEMPLATE), garage.first_contact("00447700900555"), garage.first_contact("x")
    )
    template, silent, rejected = published["outbound.decisions.v1"]
    assert (template["route"], silent["reason"], rejected["reason"]) == (
        "template",
        "never_contacted",
        "invalid_intent",
    )
    assert template["conversation_id"] == silent["conversation_id"] != str(garage.conversation_id)
    assert rejected["conversation_id"] is None
    [command] = published["outbound.whatsapp.v1"]
    assert command["to"] == "+447700900555"
    assert command["conversation_id"] == template["conversation_id"]
    assert command["content"] == TEMPLATE
    [customer] = await router.rows("select * from customers where phone = '+447700900555'")
    assert (customer["org_id"], customer["origin"]) == (garage.org_id, "outbound")
    again = await router.decide(garage.first_contact(content=TEMPLATE))
    assert again["outbound.decisions.v1"][0]["conversation_id"] == template["conversation_id"]
    assert again["outbound.decisions.v1"][0]["window"] == {"opened_at": None, "closes_at": None, "open": False}


async def test_a_first_contact_to_a_known_customer_uses_their_conversation(router: Router) -> None:
    garage = await stored(router, Garage())
    assert garage.phone is not None
    published = await router.decide(garage.first_contact(garage.phone))
    assert published["outbound.decisions.v1"][0]["conversation_id"] == str(garage.conversation_id)
    assert published["outbound.decisions.v1"][0]["reason"] == "window_open"


async def test_a_first_contact_by_the_former_id_of_a_number_is_with_the_number_as_it_is_now(router: Router) -> None:
    """The platform may hold the id that the number had in another WABA."""
    garage = await stored(router, Garage())
    moved = Garage().number
    async with router.pool.acquire() as db, db.transaction():
        await world.a_number(db, garage.org_id, moved, waba=waba_of(moved), display_number="+447700900123")
        await replace(garage, number=moved).store_template(db)
    published = await router.decide(garage.first_contact(content=TEMPLATE))
    [command] = published["outbound.whatsapp.v1"]
    assert command["phone_number_id"] == moved
    assert await router.rows(
        "select phone_number_id from conversations where conversation_id = $1", UUID(command["conversation_id"])
    ) == [{"phone_number_id": moved}]


async def test_nothing_reaches_across_tenants(router: Router) -> None:
    mine, theirs = await stored(router, Garage()), await stored(router, Garage(phone="+447700900998"))
    published = await router.decide(
        mine.intent(conversation_id=str(theirs.conversation_id)),
        mine.first_contact(to={"phone_number_id": theirs.number, "phone": "+447700900111"}),
        mine.intent(org_id="nobody"),
    )
    assert {d["reason"] for d in published["outbound.decisions.v1"]} == {"unknown_conversation"}
    assert {d["conversation_id"] for d in published["outbound.decisions.v1"]} == {None}
    assert published["outbound.whatsapp.v1"] == []
    assert {u["reason"] for u in published["delivery.updates.v1"]} == {"unknown_conversation"}
    assert await router.rows("select 1 from customers where phone = '+447700900111'") == []


async def test_an_alias_leads_to_the_conversation_it_became(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    alias = uuid4()
    await router.rows(
        "insert into conversation_aliases (alias, org_id, conversation_id) values ($1, $2, $3)",
        *(alias, garage.org_id, garage.conversation_id),
    )
    published = await router.decide(garage.intent(conversation_id=str(alias)), garage.intent())
    assert {d["conversation_id"] for d in published["outbound.decisions.v1"]} == {str(garage.conversation_id)}
    assert [d["route"] for d in published["outbound.decisions.v1"]] == ["bridge", "silent"]


async def test_a_conversation_that_is_being_merged_gives_no_slot_that_would_be_left_behind(router: Router) -> None:
    loser = await stored(router, Garage.closed())
    winner = Garage.closed(org_id=loser.org_id, number=loser.number, phone="+447700900111")
    await stored(router, winner)
    async with router.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(loser.org_id, loser.customer_id, winner.customer_id)])
        deciding = asyncio.create_task(router.handle(loser.intent()))
        await somebody_waits(db)
    await deciding
    [decision] = (await router.published.new())["outbound.decisions.v1"]
    assert (decision["route"], decision["conversation_id"]) == ("bridge", str(winner.conversation_id))
    slots = await router.rows("select conversation_id from bridge_slots")
    assert [slot["conversation_id"] for slot in slots] == [winner.conversation_id]


async def test_a_first_contact_to_a_customer_who_is_being_merged_is_with_whom_they_became(router: Router) -> None:
    loser = await stored(router, Garage())
    winner = await stored(router, Garage(org_id=loser.org_id, number=loser.number, phone="+447700900111"))
    other = Garage().number
    async with router.pool.acquire() as db:
        await world.a_number(db, loser.org_id, other, waba=waba_of(other), display_number="+447700900124")
        async with db.transaction():
            await merge_customers(db, [Merge(loser.org_id, loser.customer_id, winner.customer_id)])
            intent = loser.first_contact(to={"phone_number_id": other, "phone": loser.phone})
            deciding = asyncio.create_task(router.handle(intent))
            await somebody_waits(db)
    await deciding
    [decision] = (await router.published.new())["outbound.decisions.v1"]
    assert await router.rows(
        "select customer_id, phone_number_id from conversations where conversation_id = $1",
        UUID(decision["conversation_id"]),
    ) == [{"customer_id": winner.customer_id, "phone_number_id": other}]


async def test_an_id_that_another_message_has_is_rejected_and_leaves_it_alone(router: Router) -> None:
    garage = await stored(router, Garage())
    taken = uuid4()
    await router.rows(
        "insert into messages (org_id, message_id, direction, channel, kind, content, status, occurred_at, received_at)"
        " values ($1, $2, 'in', 'whatsapp', 'text', '{}', 'received', $3, $3)",
        *(garage.org_id, taken, NOW),
    )
    published = await router.decide(garage.intent(intent_id=str(taken)))
    assert [d["reason"] for d in published["outbound.decisions.v1"]] == ["invalid_intent"]
    assert published["delivery.updates.v1"] == published["outbound.whatsapp.v1"] == []
    assert (await router.message({"org_id": garage.org_id, "intent_id": str(taken)}))["status"] == "received"


REJECTED: list[tuple[dict[str, Any], str]] = [
    ({"content": {"kind": "hologram"}}, "unsupported_content"),
    ({"content": {"kind": "text", "text": ""}}, "invalid_intent"),
    ({"content": {"kind": "text", "text": "x" * 4097}}, "invalid_intent"),
    ({"created_at": "yesterday"}, "invalid_intent"),
    ({"actor": None}, "invalid_intent"),
    ({"channel": "sms", "content": {"kind": "image", "link": "https://example.org/x.jpg"}}, "unsupported_content"),
    ({"actor": {"kind": "staff"}}, "not_permitted"),
    ({"content": TEMPLATE | {"name": "unheard_of"}}, "template_not_approved"),
    ({"content": TEMPLATE | {"parameters": {"customer_name": "a\tb"}}}, "template_parameters"),
]


@pytest.mark.parametrize(
    ("changes", "reason"), REJECTED, ids=[f"{n} {reason}" for n, (_, reason) in enumerate(REJECTED)]
)
async def test_what_cannot_go_is_rejected_recorded_and_told(
    router: Router, changes: dict[str, Any], reason: str
) -> None:
    garage = await stored(router, Garage())
    async with router.pool.acquire() as db:
        await garage.store_template(db)
    intent = garage.intent(**changes)
    published = await router.decide(intent)
    assert [(d["route"], d["channel"], d["reason"]) for d in published["outbound.decisions.v1"]] == [
        ("rejected", None, reason)
    ]
    [update] = published["delivery.updates.v1"]
    assert DeliveryUpdate.decode(orjson.dumps(update)).reason == reason
    message = await router.message(intent)
    assert (message["status"], message["reason"]) == ("failed", reason)


async def test_an_expired_intent_is_silent_under_its_own_reason(router: Router) -> None:
    garage = await stored(router, Garage())
    published = await router.decide(garage.intent(expires_at="2026-11-22T12:00:00Z"))
    assert [(u["status"], u["reason"]) for u in published["delivery.updates.v1"]] == [("failed", "intent_expired")]


@pytest.mark.parametrize("expires_at", ["2026-12-06T10:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-12:00"])
async def test_an_intent_that_would_wait_for_longer_than_seven_days_is_brought_to_them(
    router: Router, expires_at: str
) -> None:
    garage = await stored(router, Garage())
    intent = garage.intent(created_at="2026-11-22T10:00:00Z", expires_at=expires_at)
    [command] = (await router.decide(intent))["outbound.whatsapp.v1"]
    assert command["expires_at"] == "2026-11-29T10:00:00Z"
    [row] = await router.rows("select record, command from decisions")
    assert row["record"]["intent"]["expires_at"] == row["command"]["expires_at"] == "2026-11-29T10:00:00Z"


async def test_a_portal_message_is_sent_by_being_stored(router: Router) -> None:
    garage = await stored(router, Garage())
    published = await router.decide(garage.intent(channel="portal"))
    [update] = published["delivery.updates.v1"]
    assert (update["channel"], update["status"], update["seq"], update["at"]) == (
        "portal",
        "sent",
        1,
        "2026-11-22T12:00:00Z",
    )


@pytest.mark.parametrize("created_at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_a_clock_that_was_never_set_puts_the_message_where_it_was_decided(
    router: Router, created_at: str
) -> None:
    garage = await stored(router, Garage())
    intent = garage.intent(created_at=created_at)
    [decision] = (await router.decide(intent))["outbound.decisions.v1"]
    assert decision["route"] == "session"
    assert (await router.message(intent))["occurred_at"] == NOW


async def test_text_on_sms_goes_as_it_is(router: Router) -> None:
    garage = await stored(router, Garage(last_inbound_channel="sms"))
    published = await router.decide(garage.intent())
    [command] = published["outbound.sms.v1"]
    parsed = SmsCommand.decode(orjson.dumps(command))
    assert (parsed.route, parsed.text, parsed.to) == ("session", "Your Golf is ready.", garage.phone)


async def test_a_fallback_template_goes_instead_and_the_thread_keeps_the_text(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    async with router.pool.acquire() as db:
        await garage.store_template(db)
    intent = garage.intent(fallback_template=FALLBACK)
    published = await router.decide(intent)
    [command] = published["outbound.whatsapp.v1"]
    assert (command["route"], command["content"]) == ("template", TEMPLATE)
    message = await router.message(intent)
    assert (message["kind"], message["content"]["text"]) == ("text", "Your Golf is ready.")


async def test_odd_but_valid_content_is_stored_and_sent(router: Router) -> None:
    garage = await stored(router, Garage())
    wild = {"name": {"formatted_name": "Bo"}, "n": 2**63, "nested": {"null": None, "text": "\x00"}}
    raw = garage.intent(
        content={"kind": "contacts", "contacts": [wild | {"n": 1}]}, created_at="0001-01-01T00:30:00+14:00"
    )
    published = await router.decide(raw, garage.intent(org_id=garage.org_id, actor={"kind": "ai", "user_id": "a\x00b"}))
    [command, _] = published["outbound.whatsapp.v1"]
    assert command["content"]["contacts"][0]["nested"] == {"null": None, "text": "\ufffd"}


async def test_every_decision_recorded_can_be_taken_again_from_its_row(router: Router) -> None:
    open_, closed = await stored(router, Garage()), await stored(router, Garage.closed(phone="+447700900998"))
    intents = [
        open_.intent(),
        closed.intent(),
        closed.intent(),
        open_.intent(content=TEMPLATE),
        open_.first_contact(),
        {**open_.intent(), "actor": 1},
    ]
    await router.handle(*intents)
    rows = await router.rows("select * from decisions")
    assert len(rows) == len(intents)
    for row in rows:
        decision = decide(*unpack(row["record"]))
        assert (decision.route, decision.channel, decision.reason) == (row["route"], row["channel"], row["reason"])


async def test_two_hundred_mixed_intents_add_up(router: Router) -> None:
    garages = [
        await stored(router, Garage(phone=f"+44770090{n:04d}") if n % 2 else Garage.closed(phone=f"+44770090{n:04d}"))
        for n in range(10)
    ]
    kinds: list[dict[str, Any]] = [
        {},
        {"channel": "sms"},
        {"channel": "portal"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"content": {"kind": "x"}},
    ]
    intents = [garages[n % 10].intent(**kinds[n % 5]) for n in range(200)]
    batches = [intents[:70], intents[50:150], intents[150:]]
    await asyncio.gather(*(router.handle(*batch) for batch in batches))
    published = await router.published.new()
    decided = {d["intent_id"]: d for d in published["outbound.decisions.v1"]}
    commanded = {c["message_id"] for topic in ("outbound.whatsapp.v1", "outbound.sms.v1") for c in published[topic]}
    ended = {u["message_id"] for u in published["delivery.updates.v1"]}
    assert decided.keys() == {i["intent_id"] for i in intents} == commanded | ended
    assert not commanded & ended
    placed = {(c["message_id"], c["sequence"]) for c in published["outbound.whatsapp.v1"]}
    assert len(placed) == len({message_id for message_id, _ in placed}) == len({sequence for _, sequence in placed})
    for topic in published.values():
        for event in topic:
            EVENTS[event["type"]].decode(orjson.dumps(event))


async def test_messages_of_a_conversation_are_numbered_in_the_order_of_deciding(router: Router) -> None:
    garage = await stored(router, Garage())
    intents = [garage.intent() for _ in range(30)]
    published = await router.decide(*intents)
    commands = published["outbound.whatsapp.v1"]
    assert [c["message_id"] for c in commands] == [i["intent_id"] for i in intents]
    assert [c["sequence"] for c in commands] == sorted(c["sequence"] for c in commands)
