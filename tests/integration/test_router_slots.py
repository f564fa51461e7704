"""Sessions, and one bridge per conversation whoever races for it, on the real servers."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import redis.asyncio

from libs.common.bridge.redis_gate import redis_key
from libs.common.events.outbound import OutboundDecision, SmsCommand, WhatsappCommand
from libs.common.kafka.connection import KafkaConnection
from libs.common.redis import open_redis
from tests.support.router import Garage, Router, Told, a_router, stored
from tests.support.topics import OwnTopics

pytestmark = pytest.mark.usefixtures("log_lines")


async def test_an_open_window_makes_a_session_and_a_whatsapp_command(router: Router) -> None:
    garage = await stored(router, Garage())
    intent = garage.intent()
    told = await router.decide(intent)
    [decision], [command] = told["outbound.decisions.v1"], told["outbound.whatsapp.v1"]
    assert OutboundDecision.decode(orjson.dumps(decision)).route == "session"
    assert decision == {
        "type": "outbound.decision.v1",
        "intent_id": intent["intent_id"],
        "attempt": 1,
        "org_id": garage.org_id,
        "conversation_id": str(garage.conversation_id),
        "route": "session",
        "channel": "whatsapp",
        "reason": "window_open",
        "window": {"opened_at": "2026-11-22T11:00:00Z", "closes_at": "2026-11-23T11:00:00Z", "open": True},
        "decided_at": "2026-11-22T12:00:00Z",
    }
    parsed = WhatsappCommand.decode(orjson.dumps(command))
    assert (parsed.to, parsed.recipient, parsed.phone_number_id) == (garage.phone, None, garage.number)
    assert parsed.content == {"kind": "text", "text": "Your Golf is ready.", "preview_url": False}
    assert told["delivery.updates.v1"] == told["outbound.sms.v1"] == []
    message = await router.message(intent)
    assert (message["status"], message["seq"], message["sequence"]) == ("pending", 0, parsed.sequence)


async def test_two_intents_for_one_closed_conversation_in_one_batch_make_one_bridge(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    first, second = garage.intent(), garage.intent()
    told = await router.decide(first, second)
    assert [(d["intent_id"], d["route"], d["reason"]) for d in told["outbound.decisions.v1"]] == [
        (first["intent_id"], "bridge", "window_expired"),
        (second["intent_id"], "silent", "bridge_already_sent"),
    ]
    [command] = told["outbound.sms.v1"]
    parsed = SmsCommand.decode(orjson.dumps(command))
    assert (parsed.route, parsed.org_name, parsed.whatsapp_number, parsed.portal_host) == (
        "bridge",
        "AcmeMotors",
        "+447700900123",
        "tflow.link",
    )
    assert (parsed.from_number, parsed.to) == (garage.sms_number, garage.phone)
    [update] = told["delivery.updates.v1"]
    assert (update["message_id"], update["status"], update["reason"], update["seq"]) == (
        second["intent_id"],
        "failed",
        "window_expired_bridge_already_sent",
        1,
    )
    [row] = await router.rows("select slot_holder from decisions where intent_id = $1", UUID(second["intent_id"]))
    assert str(row["slot_holder"]) == first["intent_id"]
    [slot] = await router.rows("select intent_id, held_until = 'infinity' as unsent from bridge_slots")
    assert (str(slot["intent_id"]), slot["unsent"]) == (first["intent_id"], True)


async def test_of_two_racing_routers_one_bridges(
    router: Router, kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str
) -> None:
    garage = await stored(router, Garage.closed())
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with open_redis(redis_url) as gate, a_router(connection, database, gate, router.told) as rival:
        for _ in range(5):
            await asyncio.gather(*(one.handle(garage.intent()) for one in (router, rival) for _ in range(3)))
    told = await router.told.new()
    assert len(told["outbound.sms.v1"]) == 1
    assert Counter(d["route"] for d in told["outbound.decisions.v1"]) == {"bridge": 1, "silent": 29}


async def test_racing_routers_decide_the_same_intent_once_and_tell_the_same(
    router: Router, kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str
) -> None:
    garage = await stored(router, Garage())
    intents = [garage.intent() for _ in range(50)]
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with open_redis(redis_url) as gate, a_router(connection, database, gate, router.told) as rival:
        await asyncio.gather(router.handle(*intents), rival.handle(*reversed(intents)))
        told = await router.decide(*intents)
    commands = {orjson.dumps(c, option=orjson.OPT_SORT_KEYS) for c in told["outbound.whatsapp.v1"]}
    assert len(commands) == len(intents)
    assert len({orjson.dumps(d, option=orjson.OPT_SORT_KEYS) for d in told["outbound.decisions.v1"]}) == len(intents)


async def test_redis_wiped_between_two_intents_still_makes_one_bridge(router: Router, redis_url: str) -> None:
    garage = await stored(router, Garage.closed())
    first, second = garage.intent(), garage.intent()
    await router.handle(first)
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as plain:
        await plain.flushdb()
        told = await router.decide(second)
        assert len(told["outbound.sms.v1"]) == 1
        assert [d["route"] for d in told["outbound.decisions.v1"]] == ["bridge", "silent"]
        # what Redis gave away by mistake was taken back
        assert await plain.get(redis_key(garage.conversation_id)) is None


async def test_a_slot_that_redis_alone_calls_taken_is_free(router: Router, redis_url: str) -> None:
    garage = await stored(router, Garage.closed())
    intent = garage.intent()
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as plain:
        await plain.set(redis_key(garage.conversation_id), str(uuid4()))
        told = await router.decide(intent)
        assert [d["route"] for d in told["outbound.decisions.v1"]] == ["bridge"]
        assert await plain.get(redis_key(garage.conversation_id)) == intent["intent_id"]


async def test_our_own_id_in_redis_after_a_lost_reply_is_ours(router: Router, redis_url: str) -> None:
    garage = await stored(router, Garage.closed())
    intent = garage.intent()
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as plain:
        await plain.set(redis_key(garage.conversation_id), intent["intent_id"])
        told = await router.decide(intent)
        assert [d["route"] for d in told["outbound.decisions.v1"]] == ["bridge"]
        assert await plain.get(redis_key(garage.conversation_id)) == intent["intent_id"]


async def test_without_redis_postgres_alone_keeps_it_to_one_bridge(
    kafka_bootstrap: str, topics: OwnTopics, database: str, own_valkey: Any, router_told: Told
) -> None:
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with (
        open_redis(own_valkey.address, probe_seconds=60) as gate,
        a_router(connection, database, gate, router_told) as router,
    ):
        garage = await stored(router, Garage.closed())
        own_valkey.kill()
        for _ in range(4):
            await router.handle(garage.intent())
    seen = await router_told.new()
    assert [d["route"] for d in seen["outbound.decisions.v1"]] == ["bridge", "silent", "silent", "silent"]
