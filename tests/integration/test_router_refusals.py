"""A refused attempt is decided again, exactly once; on the real servers."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from libs.common.bridge import queries as slot_queries
from libs.common.bridge.slot import Slot
from libs.common.events.outbound import OutboundRefused, SmsCommand, WhatsappCommand
from libs.common.kafka.connection import KafkaConnection
from libs.common.redis import open_redis
from services.router.decide import decide
from services.router.recorded_decision import unpack
from tests.support.command import environment, transom
from tests.support.router import DAY, FALLBACK, NOW, OUTPUTS, TEMPLATE, Garage, Router, a_router
from tests.support.topics import OwnTopics

pytestmark = pytest.mark.usefixtures("log_lines")


async def decided(router: Router, garage: Garage, **changes: Any) -> dict[str, Any]:
    """An intent whose first attempt is decided and told."""
    async with router.pool.acquire() as db:
        await garage.store(db)
    intent = garage.intent(**changes)
    await router.decide(intent)
    return intent


async def refused_by_meta(router: Router, garage: Garage) -> None:
    await router.rows(
        "update conversations set last_refused_at = $1 where org_id = $2 and conversation_id = $3",
        *(NOW, garage.org_id, garage.conversation_id),
    )


async def test_a_session_that_meta_refused_becomes_a_bridge_once(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    before = await router.message(intent)
    await refused_by_meta(router, garage)
    refusal = garage.refusal(intent)
    published = await router.refuse(refusal)
    [decision], [command] = published["outbound.decisions.v1"], published["outbound.sms.v1"]
    assert (decision["attempt"], decision["route"], decision["window"]["open"]) == (2, "bridge", False)
    parsed = SmsCommand.decode(orjson.dumps(command))
    assert (parsed.attempt, parsed.sequence) == (2, before["sequence"])
    message = await router.message(intent)
    assert (message["attempt"], message["status"], message["reason"]) == (2, "pending", None)
    # redelivered, alone and doubled, even after the customer wrote again
    await router.rows("update conversations set last_customer_at = $1", NOW + timedelta(seconds=1))
    assert await router.refuse(refusal) == published
    assert await router.refuse(refusal, refusal) == published
    assert await router.rows("select attempt from decisions order by attempt") == [{"attempt": 1}, {"attempt": 2}]


async def test_a_decision_is_explained_with_the_refusal_that_it_follows(router: Router, database: str) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    await refused_by_meta(router, garage)
    await router.refuse(garage.refusal(intent))
    told = await asyncio.to_thread(transom, "explain", intent["intent_id"], env=environment(POSTGRES_DSN=database))
    story = [line for line in told.stdout.splitlines() if "  decided " in line or "  refused " in line]
    assert [line.split("  ", 2)[2].strip() for line in story] == [
        "attempt 1: session on whatsapp, because window_open",
        "attempt 1, because window_closed 131047",
        "attempt 2: bridge on sms, because window_expired",
    ]


async def test_what_is_wrong_with_an_intent_or_its_fallback_is_explained(router: Router, database: str) -> None:
    garage = Garage()
    wrong = await decided(router, garage, content={"kind": "text", "text": ""})
    bridged = garage.intent(fallback_template=FALLBACK | {"name": "unheard_of"})
    await router.rows("update conversations set last_customer_at = $1", NOW - 2 * DAY)
    await router.decide(bridged)
    said = []
    for intent in (wrong, bridged):
        told = await asyncio.to_thread(transom, "explain", intent["intent_id"], env=environment(POSTGRES_DSN=database))
        said += [line.split("  ", 2)[2].strip() for line in told.stdout.splitlines() if "  decided " in line]
    assert said == [
        "attempt 1: rejected, because invalid_intent (content.text: String should have at least 1 character)",
        "attempt 1: bridge on sms, because window_expired (fallback_template: template_not_approved)",
    ]


async def test_a_redelivered_intent_tells_its_first_attempt_again_whatever_came_after(router: Router) -> None:
    garage = Garage()
    async with router.pool.acquire() as db:
        await garage.store(db)
    intent = garage.intent()
    first = await router.decide(intent)
    await refused_by_meta(router, garage)
    await router.refuse(garage.refusal(intent))
    assert await router.decide(intent) == first


async def test_a_refused_session_whose_customer_has_no_phone_ends_silent(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    await refused_by_meta(router, garage)
    await router.rows("update customers set phone = null")
    published = await router.refuse(garage.refusal(intent))
    assert [(u["status"], u["reason"], u["seq"]) for u in published["delivery.updates.v1"]] == [
        ("failed", "window_expired_no_phone", 1)
    ]
    assert await router.refuse(garage.refusal(intent)) == published


async def test_a_template_that_was_paused_meanwhile_is_rejected(router: Router) -> None:
    garage = Garage()
    async with router.pool.acquire() as db:
        await garage.store(db)
        await garage.store_template(db)
    intent = garage.intent(content=TEMPLATE)
    await router.decide(intent)
    await router.rows("update templates set status = 'PAUSED'")
    published = await router.refuse(garage.refusal(intent, reason="template_not_approved", provider_code="132015"))
    assert [(d["attempt"], d["route"]) for d in published["outbound.decisions.v1"]] == [(2, "rejected")]
    assert [u["reason"] for u in published["delivery.updates.v1"]] == ["template_not_approved"]


async def test_a_paused_fallback_leaves_the_bridge(router: Router) -> None:
    garage = Garage.closed()
    async with router.pool.acquire() as db:
        await garage.store(db)
        await garage.store_template(db)
    intent = garage.intent(fallback_template=FALLBACK)
    await router.decide(intent)
    await router.rows("update templates set status = 'PAUSED'")
    published = await router.refuse(garage.refusal(intent, reason="template_not_approved"))
    assert [d["route"] for d in published["outbound.decisions.v1"]] == ["bridge"]


async def test_a_bridge_refused_because_the_window_is_open_goes_even_within_the_margin(router: Router) -> None:
    garage = Garage(last_customer_at=NOW - DAY + timedelta(seconds=10))
    intent = await decided(router, garage)
    async with router.pool.acquire() as db:  # what the bridge's gate does when it refuses
        assert await slot_queries.release(db, [Slot(garage.org_id, garage.conversation_id, UUID(intent["intent_id"]))])
    published = await router.refuse(garage.refusal(intent, reason="window_open", provider_code=None))
    [command] = published["outbound.whatsapp.v1"]
    assert WhatsappCommand.decode(orjson.dumps(command)).route == "session"
    [row] = await router.rows("select record, route, reason from decisions where attempt = 2")
    assert decide(*unpack(row["record"])).reason == row["reason"]
    assert row["record"]["refused"]["reason"] == "window_open"


async def test_the_third_refusal_ends_it_with_the_providers_code(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    for attempt in (1, 2):
        published = await router.refuse(garage.refusal(intent, attempt))
        assert [d["attempt"] for d in published["outbound.decisions.v1"]] == [attempt + 1]
    last = garage.refusal(intent, 3)
    published = await router.refuse(last)
    assert published["outbound.decisions.v1"] == published["outbound.whatsapp.v1"] == []
    [update] = published["delivery.updates.v1"]
    assert (update["status"], update["reason"], update["provider_code"]) == ("failed", "provider_refused", "131047")
    assert await router.refuse(last) == published
    message = await router.message(intent)
    assert (message["attempt"], message["seq"]) == (3, 1)


async def test_a_message_that_meta_throttles_again_and_again_waits_longer_each_time(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    waits = list[float]()
    for attempt in range(1, 7):
        throttled = garage.refusal(intent, attempt, reason="throttled", provider_code="131056")
        [command] = (await router.refuse(throttled))["outbound.whatsapp.v1"]
        waits.append((WhatsappCommand.decode(orjson.dumps(command)).not_before - NOW).total_seconds())  # type: ignore[operator]  # it is set
    assert waits == [30, 120, 480, 900, 900, 900]


async def test_late_and_early_refusals_change_nothing(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    nothing: dict[str, list[Any]] = {topic.name: [] for topic in OUTPUTS}
    assert await router.refuse(garage.refusal(intent, 2)) == nothing
    await router.rows("update messages set status = 'delivered', seq = 2, delivered_at = $1", NOW)
    assert await router.refuse(garage.refusal(intent)) == nothing
    assert (await router.message(intent))["attempt"] == 1


@pytest.mark.parametrize(
    ("arrival", "reopens"),
    [
        ("status = 'delivered', delivered_at = now()", True),
        ("status = 'read', read_at = now()", True),
        ("status = 'read', read_at = now(), read_channel = 'portal'", False),  # WhatsApp brought it to nobody
        ("status = 'failed', failed_at = now()", False),
    ],
)
async def test_a_refusal_is_disproved_where_the_message_arrived_before_the_router_read_it(
    router: Router, arrival: str, *, reopens: bool
) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    await router.rows(
        """insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence, account,
               template, command, state, due_at, expires_at, claimed_at, settled_at, created_at)
           values ($1, $2, 1, 'whatsapp', 'meta', $3, 1, 'a', false, '{}', 'accepted', $4, $4, $4, $4, $4)""",
        *(garage.org_id, UUID(intent["intent_id"]), garage.conversation_id, NOW),
    )
    await refused_by_meta(router, garage)
    await router.rows(f"update messages set seq = 2, {arrival}")
    assert await router.refuse(garage.refusal(intent)) == {topic.name: [] for topic in OUTPUTS}
    assert await router.rows("select last_refused_at as at from conversations") == [{"at": None if reopens else NOW}]


async def test_a_refusal_of_nothing_we_know_is_a_dead_letter_and_its_neighbours_go_on(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    stranger = garage.refusal({"intent_id": str(uuid4())})
    foreign = OutboundRefused(**garage.refusal(intent).model_dump() | {"org_id": "other"})
    rejected = await router.refuse_raw(stranger, garage.refusal(intent), foreign)
    assert [r.reason for r in rejected] == ["unknown_message", "unknown_message"]
    assert [d["attempt"] for d in (await router.published.new())["outbound.decisions.v1"]] == [2]


async def test_the_newest_silenced_intent_is_decided_again_when_its_bridge_failed(router: Router) -> None:
    garage = Garage.closed()
    async with router.pool.acquire() as db:
        await garage.store(db)
    bridge, older, newest = garage.intent(), garage.intent(), garage.intent()
    await router.decide(bridge, older, newest)
    slot = Slot(garage.org_id, garage.conversation_id, UUID(bridge["intent_id"]))
    async with router.pool.acquire() as db, db.transaction():
        assert await slot_queries.release(db, [slot]) == [slot]
        [silenced] = await slot_queries.newest_silenced(db, [slot])
    await router.deps.redis_gate.sync(released=[slot])
    assert str(silenced.intent_id) == newest["intent_id"]
    refusal = garage.refusal(newest, silenced.attempt, reason="slot_freed", provider_code=None)
    published = await router.refuse(refusal)
    assert [(d["attempt"], d["route"]) for d in published["outbound.decisions.v1"]] == [(2, "bridge")]
    assert (await router.message(newest))["status"] == "pending"
    assert await router.refuse(refusal) == published
    # the older one stays as it was: only the newest is decided again
    assert (await router.message(older))["reason"] == "window_expired_bridge_already_sent"


async def test_a_freed_slot_that_somebody_else_took_silences_again(router: Router) -> None:
    garage = Garage.closed()
    async with router.pool.acquire() as db:
        await garage.store(db)
    bridge, silenced = garage.intent(), garage.intent()
    await router.decide(bridge, silenced)
    published = await router.refuse(garage.refusal(silenced, reason="slot_freed", provider_code=None))
    assert [(d["attempt"], d["reason"]) for d in published["outbound.decisions.v1"]] == [(2, "bridge_already_sent")]
    assert [u["seq"] for u in published["delivery.updates.v1"]] == [2]


async def test_racing_routers_decide_a_refused_attempt_once(
    router: Router, kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str
) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    await refused_by_meta(router, garage)
    refusal = garage.refusal(intent)
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with open_redis(redis_url) as gate, a_router(connection, database, gate, router.published) as rival:
        await asyncio.gather(*(one.refuse_raw(refusal) for one in (router, rival) for _ in range(3)))
    published = await router.published.new()
    assert len({orjson.dumps(c, option=orjson.OPT_SORT_KEYS) for c in published["outbound.sms.v1"]}) == 1
    assert await router.rows("select count(*) as n from decisions") == [{"n": 2}]
