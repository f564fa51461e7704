"""Sessions, and one bridge per conversation however many intents race for it, on real servers."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
import redis.asyncio

from libs.common.bridge import queries as slot_queries
from libs.common.bridge.redis_gate import redis_key
from libs.common.bridge.slot import Silenced, Slot
from libs.common.events.outbound import OutboundDecision, SmsCommand, WhatsappCommand
from libs.common.kafka.connection import KafkaConnection
from libs.common.redis import open_redis
from services.router.fact_queries import attempts_of
from services.router.worker import decide_and_record
from tests.support.databases import somebody_waits
from tests.support.published import Published
from tests.support.router import NOW, POOL_SIZE, Garage, Router, a_router, as_received, stored
from tests.support.statements import statements_of
from tests.support.topics import OwnTopics

pytestmark = pytest.mark.usefixtures("log_lines")

REFUSED_BY_REDIS = 2
"""Statements of a batch whose bridges Redis refuses: the facts, the decisions."""
ASKED_OF_POSTGRES = 10
"""Of any other batch with a bridge: begin, days, answers, rates, conversations, slots, days and commit beside these."""


async def test_an_open_window_makes_a_session_and_a_whatsapp_command(router: Router) -> None:
    garage = await stored(router, Garage())
    intent = garage.intent()
    published = await router.decide(intent)
    [decision], [command] = published["outbound.decisions.v1"], published["outbound.whatsapp.v1"]
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
    assert published["delivery.updates.v1"] == published["outbound.sms.v1"] == []
    message = await router.message(intent)
    assert (message["status"], message["seq"], message["sequence"]) == ("pending", 0, parsed.sequence)


async def test_two_intents_for_one_closed_conversation_in_one_batch_make_one_bridge(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    first, second = garage.intent(), garage.intent()
    published = await router.decide(first, second)
    assert [(d["intent_id"], d["route"], d["reason"]) for d in published["outbound.decisions.v1"]] == [
        (first["intent_id"], "bridge", "window_expired"),
        (second["intent_id"], "silent", "bridge_already_sent"),
    ]
    [command] = published["outbound.sms.v1"]
    parsed = SmsCommand.decode(orjson.dumps(command))
    assert (parsed.route, parsed.org_name, parsed.whatsapp_number, parsed.portal_host) == (
        "bridge",
        "AcmeMotors",
        "+447700900123",
        "tflow.link",
    )
    assert (parsed.from_number, parsed.to) == (garage.sms_number, garage.phone)
    [update] = published["delivery.updates.v1"]
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


async def test_racing_routers_decide_the_same_intent_once_and_tell_the_same(
    router: Router, kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str
) -> None:
    garage = await stored(router, Garage())
    intents = [garage.intent() for _ in range(50)]
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with open_redis(redis_url) as gate, a_router(connection, database, gate, router.published) as rival:
        await asyncio.gather(router.handle(*intents), rival.handle(*reversed(intents)))
        published = await router.decide(*intents)
    commands = {orjson.dumps(c, option=orjson.OPT_SORT_KEYS) for c in published["outbound.whatsapp.v1"]}
    assert len(commands) == len(intents)
    assert len({orjson.dumps(d, option=orjson.OPT_SORT_KEYS) for d in published["outbound.decisions.v1"]}) == len(
        intents
    )


async def test_redis_wiped_between_two_intents_still_makes_one_bridge(router: Router, redis_url: str) -> None:
    garage = await stored(router, Garage.closed())
    first, second = garage.intent(), garage.intent()
    await router.handle(first)
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as plain:
        await plain.flushdb()
        published = await router.decide(second)
        assert len(published["outbound.sms.v1"]) == 1
        assert [d["route"] for d in published["outbound.decisions.v1"]] == ["bridge", "silent"]
        # Redis knows the holder again, so that it refuses the next one
        assert await plain.get(redis_key(garage.conversation_id)) == first["intent_id"]
        async with statements_of(router.pool, size=POOL_SIZE) as sent:
            await router.handle(garage.intent())
        assert len(sent) == REFUSED_BY_REDIS


async def test_a_slot_that_redis_alone_calls_taken_is_free(router: Router, redis_url: str) -> None:
    garage = await stored(router, Garage.closed())
    intent = garage.intent()
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as plain:
        await plain.set(redis_key(garage.conversation_id), str(uuid4()))
        published = await router.decide(intent)
        assert [d["route"] for d in published["outbound.decisions.v1"]] == ["bridge"]
        assert await plain.get(redis_key(garage.conversation_id)) == intent["intent_id"]


async def test_our_own_id_in_redis_after_a_lost_reply_is_ours(router: Router, redis_url: str) -> None:
    garage = await stored(router, Garage.closed())
    intent = garage.intent()
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as plain:
        await plain.set(redis_key(garage.conversation_id), intent["intent_id"])
        published = await router.decide(intent)
        assert [d["route"] for d in published["outbound.decisions.v1"]] == ["bridge"]
        assert await plain.get(redis_key(garage.conversation_id)) == intent["intent_id"]


async def test_of_fifty_racing_intents_one_bridges_and_what_redis_refuses_asks_postgres_for_no_slot(
    router: Router, kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str
) -> None:
    garage = await stored(router, Garage.closed())
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with (
        open_redis(redis_url) as redis,
        a_router(connection, database, redis, router.published) as rival,
        statements_of(router.pool, rival.pool, size=POOL_SIZE) as sent,
    ):
        await _race(garage, router, rival)
        first_race = len(sent)
        for _ in range(4):
            await _race(garage, router, rival)
    published = await router.published.new()
    assert len(published["outbound.sms.v1"]) == 1
    assert Counter(d["route"] for d in published["outbound.decisions.v1"]) == {"bridge": 1, "silent": 49}
    assert first_race <= 2 * ASKED_OF_POSTGRES
    assert len(sent) - first_race == 8 * REFUSED_BY_REDIS
    assert not [s for s in sent[first_race:] if "insert into bridge_slots" in s or "BEGIN" in s]


async def test_without_redis_fifty_racing_intents_ask_postgres_for_every_batch(
    kafka_bootstrap: str, topics: OwnTopics, database: str, own_valkey: Any, router_published: Published
) -> None:
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with (
        open_redis(own_valkey.address) as redis,
        a_router(connection, database, redis, router_published) as router,
        a_router(connection, database, redis, router_published) as rival,
        statements_of(router.pool, rival.pool, size=POOL_SIZE) as sent,
    ):
        garage = await stored(router, Garage.closed())
        own_valkey.kill()
        sent.clear()
        for _ in range(5):
            await _race(garage, router, rival)
    published = await router_published.new()
    assert len(published["outbound.sms.v1"]) == 1
    assert Counter(d["route"] for d in published["outbound.decisions.v1"]) == {"bridge": 1, "silent": 49}
    assert len(sent) <= 10 * ASKED_OF_POSTGRES


async def _race(garage: Garage, *routers: Router) -> None:
    """One batch of five intents for each router, at the same time."""
    await asyncio.gather(*(router.handle(*(garage.intent() for _ in range(5))) for router in routers))


async def test_a_slot_that_is_given_back_while_redis_still_refuses_goes_to_the_intent(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    holder, intent = garage.intent(), garage.intent()
    await router.handle(holder)
    async with router.pool.acquire() as db, db.transaction():
        await slot_queries.release(db, [_slot(garage, holder)])
        deciding = asyncio.create_task(router.handle(intent))
        await somebody_waits(db)
    await deciding
    published = await router.published.new()
    assert [d["route"] for d in published["outbound.decisions.v1"]] == ["bridge", "bridge"]


async def test_an_intent_that_redis_refuses_is_seen_by_who_gives_the_slot_back(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    holder, intent = garage.intent(), garage.intent()
    await router.handle(holder)

    async def give_back() -> list[Silenced]:
        async with router.pool.acquire() as db, db.transaction():
            await slot_queries.release(db, [_slot(garage, holder)])
            return await slot_queries.newest_silenced(db, [_slot(garage, holder)])

    [received] = as_received([intent])
    async with router.pool.acquire() as db, db.transaction():
        attempts = await attempts_of(db, [(received.value, 1)], router.deps.rule, NOW)
        await decide_and_record(db, attempts, router.deps, NOW)
        giving_back = asyncio.create_task(give_back())
        await somebody_waits(db)
    assert [str(silenced.intent_id) for silenced in await giving_back] == [intent["intent_id"]]


def _slot(garage: Garage, intent: dict[str, Any]) -> Slot:
    return Slot(garage.org_id, garage.conversation_id, UUID(intent["intent_id"]))


async def test_a_first_contact_that_bridges_holds_the_slot_of_its_new_conversation(router: Router) -> None:
    known = await stored(router, Garage.closed())
    garage = Garage(org_id=known.org_id, customer_id=uuid4(), phone=None, sms_number=known.sms_number)
    await stored(router, garage)
    first, second, third = (garage.first_contact(known.phone or "") for _ in range(3))
    published = await router.decide(first, second)
    told_later = await router.decide(third)
    assert [d["route"] for d in published["outbound.decisions.v1"]] == ["bridge", "silent"]
    assert [d["route"] for d in told_later["outbound.decisions.v1"]] == ["silent"]
