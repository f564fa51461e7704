"""What should never come, and comes all the same: it harms nobody else, and it is found again with its reason."""

import asyncio
import json
from functools import partial

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from libs.common.events.topics import DLQ_SUFFIX
from tests.support.garages import LATE, a_garage
from tests.support.raw_headers import send_stray_header
from tests.support.sandbox import APP_SECRET
from tests.support.system import CONSUMED, DAY, System
from tests.support.topic_records import TopicRecord
from tests.support.webhooks import a_message, as_body, of_messages, sign

POISON = {
    b"{not json": "not_json",
    b'{"text": "\xff"}': "not_utf8",
    b"[1, 2]": "not_an_object",
    None: "empty",
    b'{"type": "nobody.knows.v9", "intent_id": "0193f7a0-0000-7000-8000-000000000000", "org_id": "o"}': "unknown_type",
}

TOMORROW = "made.up.v2"


async def test_poison_on_every_topic_is_dead_lettered_with_its_origin_and_delays_no_neighbour(system: System) -> None:
    garage = await a_garage(system)
    kim, lee = garage.customer(), garage.customer()
    places = {}
    await system.quiet()  # nobody else writes between the look at an end and what is written there
    for topic, service in CONSUMED.items():
        for partition in (0, 1):
            start = (await system.behind([topic]))[topic, partition][1]
            await system.say(topic, *POISON, key="odd", partition=partition)
            for step, (value, reason) in enumerate(POISON.items()):
                places[topic, partition, start + step] = (value, reason, service)

    await system.sandbox.configure(day_seconds=DAY / 2)  # Meta refuses what we believe open: all topics have neighbours
    await kim.writes(ago=DAY * 0.75)
    refused = await kim.is_sent()
    assert await system.fails(refused) == "window_expired_bridge_sent"
    assert await system.way(refused, 2) == ("bridge", "sms", "window_expired")
    await lee.writes()
    await system.reaches(await lee.is_sent(), "read")
    change = {"type": "org.credit.v1", "org_id": garage.org_id, "at": "2026-11-22T10:00:00Z", "exhausted": True}
    await system.say("directory.changes.v1", change, key=garage.org_id)
    await system.quiet()
    assert await system.value("select credit_exhausted from orgs where org_id = $1", garage.org_id) is True

    for (topic, partition, offset), (value, reason, service) in places.items():
        origin = f"{system.servers.topic_prefix}{topic} {partition} {offset}"
        letter = await system.published.one(topic + DLQ_SUFFIX, partial(comes_from, origin))
        assert (letter.key, letter.value) == (b"odd", value)
        assert (letter.headers["reason"], letter.headers["service"]) == (reason, service)
        assert letter.headers["attempts"] == "1"
        assert letter.headers["failed_at"].endswith("+00:00")
        assert "nobody.knows" not in letter.headers["detail"]


def comes_from(origin: str, letter: TopicRecord) -> bool:
    return " ".join(letter.headers[f"source_{part}"] for part in ("topic", "partition", "offset")) == origin


async def test_records_of_tomorrow_stop_no_topic_however_many_and_are_told_by_their_type(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote()
    await asyncio.gather(
        *(system.say(topic, *120 * [{"type": TOMORROW}], key="odd", partition=0) for topic in CONSUMED)
    )
    await system.reaches(await kim.is_sent(), "read")
    await system.quiet()
    await asyncio.gather(*(system.services[service].ready() for service in set(CONSUMED.values())))
    told = [line for line in system.lines() if line["event"] == "record.dead_lettered" and line.get("kind") == TOMORROW]
    assert {(line["topic"], line["level"], line["reason"]) for line in told} == {
        (topic, "error", "unknown_type") for topic in CONSUMED
    }


async def test_a_header_that_is_not_text_costs_its_record_alone(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote()
    intents = [kim.intent(text) for text in ("The first.", "The second.", "The third.")]
    producer = AIOKafkaProducer(bootstrap_servers=system.servers.kafka_bootstrap)
    await producer.start()
    try:
        topic = system.servers.topic_prefix + "outbound.intents.v1"
        values = [json.dumps(intent).encode() for intent in intents]
        await send_stray_header(producer, topic, 0, key=b"k", values=values, stray=1, compressed=False)
    finally:
        await producer.stop()
    for intent in (intents[0], intents[2]):
        await system.reaches(intent["intent_id"], "read")
    letter = await system.published.one("outbound.intents.v1.dlq", intent_id=intents[1]["intent_id"])
    assert letter.headers["reason"] == "bad_header"


async def test_an_intent_that_can_be_answered_is_rejected_and_not_buried(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote()
    odd = kim.intent(content={"kind": "hologram"})
    empty = kim.intent(content={"kind": "text", "text": ""})
    unpermitted = kim.intent(actor="staff") | {"actor": {"kind": "staff", "user_id": "u", "capabilities": []}}
    reply = {"type": "reply", "reply": {"id": "1", "title": "A title of 22 letters!"}}
    wide = {"type": "button", "body": {"text": "Shall we?"}, "action": {"buttons": [reply]}}
    too_wide = kim.intent(content={"kind": "interactive", "interactive": wide})
    await system.intend(odd, empty, unpermitted, too_wide)
    for intent, reason in (
        *((odd, "unsupported_content"), (empty, "invalid_intent")),
        *((unpermitted, "not_permitted"), (too_wide, "invalid_intent")),
    ):
        assert await system.way(intent["intent_id"]) == ("rejected", None, reason)
        assert await system.fails(intent["intent_id"]) == reason
    await system.quiet()
    assert await kim.whatsapps() == []


@pytest.mark.parametrize(
    "signature",
    [None, "", "sha256=", "sha256=" + "0" * 64, "sha1=" + "0" * 40, "sha256=" + "é" * 64],
    ids=["missing", "empty", "bare", "wrong", "of another kind", "malformed"],
)
async def test_a_webhook_that_meta_did_not_sign_is_refused_and_leaves_nothing(
    system: System, signature: str | None
) -> None:
    garage = await a_garage(system)
    body = as_body(of_messages(a_message("1700000000", "Open, sesame"), number=garage.phone_number_id))
    system.private.add("Open, sesame")
    await system.quiet()
    before = await system.behind(["webhooks.v1"])
    headers = {} if signature is None else {"X-Hub-Signature-256": signature}
    async with aiohttp.ClientSession() as http:
        url = f"{system.env['TRANSOM_PUBLIC_URL']}/webhooks/meta"
        async with http.post(url, data=body, headers=headers) as answer:
            assert answer.status == 403
            assert APP_SECRET not in await answer.text()
        async with http.post(
            url, data=body + b" ", headers={"X-Hub-Signature-256": sign(body, APP_SECRET.encode())}
        ) as answer:
            assert answer.status == 403
        twilio = f"{system.env['TRANSOM_PUBLIC_URL']}/webhooks/twilio/status"
        async with http.post(twilio, data={"MessageSid": "SM1"}, headers={"X-Twilio-Signature": "AAAA"}) as answer:
            assert answer.status == 403
    assert await system.behind(["webhooks.v1"]) == before


async def test_a_webhook_for_a_number_nobody_has_is_a_dead_letter_and_a_loud_line(system: System) -> None:
    garage = await a_garage(system)
    stranger, kim = garage.customer(), garage.customer()
    wrote = await system.sandbox.customer_writes("999000111222333", stranger.phone, text="Hello?")
    await kim.writes()
    letter = await system.published.one(
        "webhooks.v1.dlq", lambda letter: wrote["wamid"].encode() in (letter.value or b"")
    )
    assert letter.headers["reason"] == "unknown_number"
    assert [
        line["level"]
        for line in system.lines()
        if line["event"] == "number.unknown" and line["phone_number_id"] == "999000111222333"
    ] == ["error"]
    assert await system.value("select count(*) from messages where provider_id = $1", wrote["wamid"]) == 0


async def test_a_closed_conversation_without_consent_or_number_stays_silent_with_its_reason(
    system: System,
) -> None:
    no_number = await (await a_garage(system, sms_active=False)).customer_who_wrote(LATE)
    assert await system.fails(await no_number.is_sent()) == "window_expired_sms_unavailable"

    garage = await a_garage(system)
    opted_out = garage.customer()
    who = {"org_id": garage.org_id, "customer_id": (await opted_out.writes(ago=LATE))["customer_id"]}
    change = {"type": "consent.changed.v1", "at": "2026-11-22T10:00:00Z", "category": "sms", "allowed": False} | who
    await system.say("directory.changes.v1", change, key=garage.org_id)
    await system.quiet()
    assert await system.fails(await opted_out.is_sent()) == "window_expired_sms_opted_out"
