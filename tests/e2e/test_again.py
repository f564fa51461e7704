"""The same once more: redeliveries, duplicates, odd orders, races. One outcome, one message, one SMS."""

import asyncio
import json
from typing import Any

import redis.asyncio as redis

from tests.support.accounts import endings
from tests.support.garages import LATE, a_garage
from tests.support.system import DAY, SERVICES, System

SENT, SILENT = ("failed", "window_expired_bridge_sent"), ("failed", "window_expired_bridge_already_sent")


async def test_intents_and_webhooks_that_come_again_change_nothing(system: System) -> None:
    garage = await a_garage(system)
    kim, lee = await garage.customer_who_wrote(), await garage.customer_who_wrote(LATE)
    intents = [
        kim.intent("The first."),
        lee.intent("The second."),
        lee.intent("The third."),
        kim.intent("The fourth.", channel="sms"),
    ]
    await system.intend(*intents)
    await system.quiet()
    before = await everything(system)

    for record in system.published.all("webhooks.v1", phone_number_id=garage.phone_number_id):
        await system.say("webhooks.v1", record.value, key=(record.key or b"").decode(), partition=record.partition)
    changed = [intent | {"content": {"kind": "text", "text": "Something else"}} for intent in intents]
    for times, again in ((2, intents), (3, changed)):  # one after the other: copies in one batch are answered once
        await system.intend(*again)
        for intent in intents:
            await system.published.one("outbound.decisions.v1", times=times, intent_id=intent["intent_id"])
    await system.quiet()

    assert await everything(system) == before
    for intent in intents:
        published = [
            record.event for record in system.published.all("outbound.decisions.v1", intent_id=intent["intent_id"])
        ]
        assert all(decision == published[0] for decision in published)


async def test_the_whole_past_again_has_the_same_outcomes(system: System) -> None:
    garage = await a_garage(system)
    kim, lee = await garage.customer_who_wrote(), await garage.customer_who_wrote(LATE)
    await system.sandbox.configure(day_seconds=DAY / 2)
    max_ = await garage.customer_who_wrote(DAY * 0.75)
    intents = [
        kim.intent("The first."),
        lee.intent("The second."),
        lee.intent("The third."),
        max_.intent("The fourth."),
        kim.first_contact(),
    ]
    await system.intend(*intents)
    await system.quiet()
    before = await everything(system)

    await asyncio.gather(*(system.services[name].stop() for name in SERVICES))
    await system.forget_offsets()
    assert sum(lag for lag, _ in (await system.behind(["outbound.intents.v1"])).values()) >= len(intents)
    await system.start(*SERVICES)
    for intent in intents:
        await system.published.one("outbound.decisions.v1", times=2, intent_id=intent["intent_id"], attempt=1)
    await system.quiet()

    assert await everything(system) == before
    stands = await system.value(
        "select coalesce(jsonb_object_agg(alias, conversation_id), '{}') from conversation_aliases"
    )
    merged = stands if isinstance(stands, dict) else json.loads(stands)
    told: dict[tuple[Any, ...], Any] = {}
    for record in system.published.all("outbound.decisions.v1"):
        conversation_id = record.event["conversation_id"]
        # of a conversation that an earlier test merged, the repeat names the one that stands
        decision = {**record.event, "conversation_id": merged.get(conversation_id, conversation_id)}
        key = decision["org_id"], decision["intent_id"], decision["attempt"]
        assert told.setdefault(key, decision) == decision


async def test_webhooks_twice_and_backwards_count_once_and_forwards(system: System) -> None:
    garage = await a_garage(system)
    kim = await garage.customer_who_wrote()
    await system.quiet()  # nothing else is held
    await system.sandbox.hold_webhooks()
    intent_id = await kim.is_sent()
    wrote = await system.sandbox.customer_writes(garage.phone_number_id, kim.phone, text="Thanks!")

    async def all_held() -> bool:
        return int((await system.sandbox.outstanding())["held"]) == 4

    await system.until(all_held, "three statuses and a message are held")
    await system.sandbox.release_webhooks("reversed", times=2)
    await system.reaches(intent_id, "read")
    await system.quiet()

    assert (
        len(
            {
                record.event["message_id"]
                for record in system.published.all("inbound.messages.v1", provider_id=wrote["wamid"])
            }
        )
        == 1
    )
    assert [row[:3] for row in await kim.thread()] == [
        ("in", "whatsapp", "received"),
        ("out", "whatsapp", "read"),
        ("in", "whatsapp", "received"),
    ]
    rungs = [record.event["status"] for record in system.published.all("delivery.updates.v1", message_id=intent_id)]
    ladder = ["sent", "delivered", "read"]
    assert rungs == sorted(rungs, key=ladder.index)
    stamped = (
        "select sent_at is not null and delivered_at is not null and read_at is not null from messages"
        " where message_id = $1::uuid"
    )
    assert await system.value(stamped, intent_id) is True


async def test_a_late_refusal_of_meta_becomes_a_bridge_and_closes_the_window_until_the_customer_writes(
    system: System,
) -> None:
    garage = await a_garage(system)
    await system.sandbox.configure(day_seconds=DAY / 2)
    kim = await garage.customer_who_wrote(DAY * 0.75)
    first = await kim.is_sent("The first.")
    assert await system.way(first) == ("session", "whatsapp", "window_open")
    assert await system.way(first, 2) == ("bridge", "sms", "window_expired")
    assert await system.fails(first) == "window_expired_bridge_sent"
    second = await kim.is_sent("The second.")
    assert await system.way(second) == ("silent", None, "bridge_already_sent")
    assert (await system.decided(second))["window"]["open"] is False

    async def a_second_later() -> bool:
        passed = (
            "select now() >= date_trunc('second', last_refused_at) + interval '1 second' from conversations"
            " where conversation_id = $1::uuid"
        )
        return bool(await system.value(passed, kim.conversation_id))

    await system.until(a_second_later, "Meta's clock, which counts seconds, tells the two apart")
    await kim.writes("Here I am.")
    third = await kim.is_sent("The third.")
    assert await system.way(third) == ("session", "whatsapp", "window_open")
    await system.reaches(third, "read")
    await system.quiet()
    assert len(await kim.texts()) == 1
    assert [sent["failure"] for sent in await kim.whatsapps()] == [131047, None]


async def test_a_refusal_at_once_is_decided_again_just_the_same(system: System) -> None:
    garage = await a_garage(system)
    await system.sandbox.configure(day_seconds=DAY / 2, reengagement="sync")
    kim = await garage.customer_who_wrote(DAY * 0.75)
    intent_id = await kim.is_sent()
    assert await system.way(intent_id, 2) == ("bridge", "sms", "window_expired")
    assert await system.fails(intent_id) == "window_expired_bridge_sent"
    assert len(await kim.texts()) == 1


async def test_two_intents_for_a_closed_conversation_in_one_batch_make_one_bridge(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote(LATE)
    intents = [kim.intent(text) for text in ("The first.", "The second.", "The third.")]
    await system.say_at_once("outbound.intents.v1", *intents, partition=0)
    for intent in intents:
        await system.reaches(intent["intent_id"], "failed")
    await system.quiet()
    assert await endings(system, intents) == {SENT: 1, SILENT: 2}
    assert [(await system.way(intent["intent_id"]))[0] for intent in intents] == ["bridge", "silent", "silent"]
    assert len(await kim.texts()) == 1


async def test_two_routers_that_race_for_closed_conversations_make_one_bridge_each(system: System) -> None:
    garage = await a_garage(system)
    customers = await asyncio.gather(*(garage.customer_who_wrote(LATE) for _ in range(20)))
    system.add("router", "router-2")
    await system.start("router-2")

    async def both_work() -> bool:
        return await system.members("outbound.intents.v1") == 2

    await system.until(both_work, "two routers share the intents")
    pairs = [(customer.intent("The first."), customer.intent("The second.")) for customer in customers]
    await asyncio.gather(
        system.say("outbound.intents.v1", *(one for one, _ in pairs), partition=0),
        system.say("outbound.intents.v1", *(two for _, two in pairs), partition=1),
    )
    intents = [intent for pair in pairs for intent in pair]
    for intent in intents:
        await system.reaches(intent["intent_id"], "failed")
    await system.quiet()
    assert await endings(system, intents) == {SENT: 20, SILENT: 20}
    assert [len(await customer.texts()) for customer in customers] == [1] * 20
    for log in ("router", "router-2"):
        assert any(line["event"] == "intent.decided" for line in system.lines(log))
    await system.services.pop("router-2").stop()


async def test_redis_wiped_between_two_intents_brings_no_second_bridge(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote(LATE)
    first = await kim.is_sent("The first.")
    assert await system.fails(first) == "window_expired_bridge_sent"
    async with redis.Redis.from_url(system.servers.redis_url) as cache:
        await cache.flushdb()
    second = await kim.is_sent("The second.")
    assert await system.way(second) == ("silent", None, "bridge_already_sent")
    await system.quiet()
    assert len(await kim.texts()) == 1


async def everything(system: System) -> dict[str, Any]:
    """All that a redelivery could spoil: every outcome, every call to a provider, every charge.

    Prices are looked up minutes after a send, whatever comes again: of an SMS the estimate counts.
    """
    tables = {
        "messages": (
            "select org_id, message_id, sequence, status, reason, seq, attempt from messages"
            " order by org_id, message_id"
        ),
        "decisions": (
            "select org_id, intent_id, attempt, route, reason, decided_at from decisions"
            " order by org_id, intent_id, attempt"
        ),
        "sends": (
            "select org_id, message_id, attempt, state, tries, resends from sends order by org_id, message_id, attempt"
        ),
        "slots": "select conversation_id, intent_id, held_until from bridge_slots order by conversation_id",
        "charges": (
            "select org_id, message_id, attempt, case channel when 'sms' then estimate end from charges"
            " order by org_id, message_id, attempt"
        ),
        "customers": "select customer_id, phone from customers order by customer_id",
        "windows": (
            "select conversation_id, last_customer_at, identity_changed_at, first_refused_at, last_refused_at"
            " from conversations order by conversation_id"
        ),
    }
    found: dict[str, Any] = {name: [tuple(row) for row in await system.rows(sql)] for name, sql in tables.items()}
    found["whatsapp"] = [sent["wamid"] for sent in await system.sandbox.messages()]
    found["sms"] = [sent["sid"] for sent in await system.sandbox.sms()]
    return found
