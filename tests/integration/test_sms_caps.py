"""The limits of SMS on real servers: countries, an organisation's day, a conversation's hour."""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.kafka.connection import KafkaConnection
from libs.common.redis import open_redis
from libs.common.sending import sms_caps
from tests.support import world
from tests.support.databases import somebody_waits
from tests.support.published import Events
from tests.support.reconciling import arrives, reconciled
from tests.support.router import NOW, Garage, Router, a_router, stored
from tests.support.topics import OwnTopics

pytestmark = pytest.mark.usefixtures("log_lines")

HOUR = timedelta(hours=1)
TO_SAY = {"channel": "sms"}
NONSENSE = {"sms_countries": "anything", "sms_daily_segments": [], "sms_hourly_answers": -9}


async def with_policy(router: Router, garage: Garage, policy: dict[str, Any], **columns: Any) -> Garage:
    await router.rows(
        "update orgs set policy = $2, country = $3 where org_id = $1", garage.org_id, policy, columns.get("country")
    )
    return garage


async def conversations(router: Router, garage: Garage, number: int) -> list[UUID]:
    """So many more silent customers of the garage, each with a conversation whose window is closed."""
    found = [uuid4() for _ in range(number)]
    async with router.pool.acquire() as db:
        for place, conversation in enumerate(found):
            customer = uuid4()
            await world.a_customer(db, garage.org_id, customer, f"+4477009{place:05}", {})
            await world.a_conversation(
                db,
                garage.org_id,
                conversation,
                customer,
                garage.number,
                last_customer_at=NOW - timedelta(days=2),
                last_inbound_at=NOW - timedelta(days=2),
            )
    return found


def reasons(published: Events) -> list[tuple[str, str]]:
    return [(d["route"], d["reason"]) for d in published["outbound.decisions.v1"]]


async def test_sixty_four_racing_bridges_of_two_routers_stay_within_the_day(
    router: Router, kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str
) -> None:
    garage = await with_policy(router, await stored(router, Garage.closed()), {"sms_daily_segments": 10})
    intents = [garage.intent(conversation_id=str(one)) for one in await conversations(router, garage, 64)]
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with open_redis(redis_url) as redis, a_router(connection, database, redis, router.published) as rival:
        await asyncio.gather(
            *(one.handle(*intents[at : at + 4]) for at in range(0, 64, 4) for one in (router, rival)),
            *(one.handle(intent) for intent in intents[::7] for one in (router, rival)),
        )
    published = await router.published.new()
    commands = {command["message_id"] for command in published["outbound.sms.v1"]}
    decided = {d["intent_id"]: (d["route"], d["reason"]) for d in published["outbound.decisions.v1"]}
    assert len(commands) == 10
    assert Counter(decided.values()) == {("bridge", "window_expired"): 10, ("silent", "spend_cap_reached"): 54}
    [day] = await router.rows("select segments, bridges from sms_days where org_id = $1", garage.org_id)
    assert (day["segments"], day["bridges"]) == (10, 10)
    [slots] = await router.rows("select count(*) as held from bridge_slots where org_id = $1", garage.org_id)
    assert slots["held"] == 10
    tomorrow = await router.at(NOW + timedelta(days=1)).decide(intents[-1] | {"intent_id": str(uuid4())})
    assert ("silent", "spend_cap_reached") not in reasons(tomorrow)


async def test_a_thousand_answers_to_a_machine_are_six_in_an_hour_and_twenty_in_a_day(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    sent = 0
    for hour in range(6):
        at = router.at(NOW + hour * (HOUR + timedelta(minutes=1)))
        published = await at.decide(*[garage.intent(**TO_SAY) for _ in range(25)])
        found = Counter(reasons(published))
        silent = found.pop(("silent", "spend_cap_reached"))
        assert found[("session", "live_channel")] == min(6, 20 - sent)
        assert silent == 25 - found[("session", "live_channel")]
        sent += found[("session", "live_channel")]
    assert sent == 20
    [row] = await router.rows("select cardinality(decided_at) as kept from sms_answers")
    assert row["kept"] == 20


@pytest.mark.parametrize(
    ("phone", "policy", "country", "reason"),
    [
        ("+447781123456", {}, None, "live_channel"),  # Guernsey, from a number of +44
        ("+353851234567", {}, None, "country_not_allowed"),
        ("+353851234567", {}, "IE", "live_channel"),
        ("+353851234567", {"sms_countries": ["GB", "IE"]}, None, "live_channel"),
        ("+447781123456", {"sms_countries": ["IE"]}, "GB", "country_not_allowed"),
        ("+447781123456", NONSENSE, None, "live_channel"),
        ("+442071838750", {}, None, "no_phone"),
    ],
)
async def test_an_sms_goes_to_the_organisations_countries_and_to_no_landline(
    router: Router, phone: str, policy: dict[str, Any], country: str | None, reason: str
) -> None:
    garage = await stored(router, Garage.closed(phone=phone))
    await with_policy(router, garage, policy, country=country)
    published = await router.decide(garage.intent(**TO_SAY))
    assert [found for _, found in reasons(published)] == [reason]
    [row] = await router.rows("select record from decisions where org_id = $1", garage.org_id)
    assert isinstance(row["record"]["facts"]["sms_countries"], list)


async def test_a_command_says_for_how_much_it_counts_and_when(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    await router.rows("insert into rate_card values ('2026-01-01', 'sms', 'sms', 'GB', 'GBP', 0.04)")
    text = {"kind": "text", "text": "a" * 459}
    published = await router.decide(garage.intent(content=text, **TO_SAY))
    [command] = published["outbound.sms.v1"]
    assert (command["segments"], command["day"]) == (3, "2026-11-22")
    [day] = await router.rows("select day, segments from sms_days")
    assert (str(day["day"]), day["segments"]) == ("2026-11-22", 3)
    [row] = await router.rows("select record from decisions")
    assert (row["record"]["facts"]["sms_segments"], row["record"]["facts"]["sms_estimate"]) == (3, "0.120000 GBP")


async def test_days_and_answers_are_forgotten(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    await router.decide(garage.intent(**TO_SAY))
    async with router.pool.acquire() as db:
        assert [await sms_caps.forget_days(db, NOW, 10), await sms_caps.forget_answers(db, NOW, 10)] == [0, 0]
        later = NOW + timedelta(days=1)
        assert [await sms_caps.forget_days(db, later, 10), await sms_caps.forget_answers(db, later, 10)] == [1, 1]


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("kind", [{}, TO_SAY])
async def test_an_sms_that_ends_before_any_call_gives_its_segments_back_and_is_no_answer(
    router: Router, *, waiting: bool, kind: dict[str, Any]
) -> None:
    garage = await stored(router, Garage.closed())
    text = {"kind": "text", "text": "a" * 300}
    kept, *over = [
        garage.intent(content=text, conversation_id=str(one)) for one in await conversations(router, garage, 3)
    ]
    published = await router.decide(*(intent | kind for intent in (kept, *over)))
    of_each = 2 if kind else 1
    for command in published["outbound.sms.v1"]:
        if waiting or command["message_id"] == kept["intent_id"]:
            await arrives(router, command)
    await router.rows(
        "update sends set state = 'accepted', settled_at = $2, published = true where message_id = $1",
        UUID(kept["intent_id"]),
        NOW,
    )
    ended = await reconciled(router, 25 * HOUR)
    reasons_told = sorted(u["reason"] for u in ended["delivery.updates.v1"])
    assert reasons_told == ["intent_expired", "intent_expired", "unknown_outcome"]
    [day] = await router.rows("select segments, bridges from sms_days")
    assert (day["segments"], day["bridges"]) == (of_each, 0 if kind else 1)
    answered = await router.rows("select conversation_id from sms_answers where cardinality(decided_at) > 0")
    assert [str(row["conversation_id"]) for row in answered] == ([kept["conversation_id"]] if kind else [])
    await reconciled(router, 30 * HOUR)
    assert (await router.rows("select segments from sms_days"))[0]["segments"] == of_each


async def test_an_sms_that_may_have_been_bought_keeps_its_segments_and_one_claimed_later_frees_the_later_day(
    router: Router,
) -> None:
    garage = await stored(router, Garage.closed())
    unclear, late = [garage.intent(conversation_id=str(one)) for one in await conversations(router, garage, 2)]
    for command in (await router.decide(unclear, late))["outbound.sms.v1"]:
        await arrives(router, command)
    # one was called and nobody knows; the other was throttled on the next day, where it is counted since
    await router.rows("update sends set resends = 1 where message_id = $1", UUID(unclear["intent_id"]))
    await router.rows(
        "update sends set claimed_at = $2 where message_id = $1", UUID(late["intent_id"]), NOW + 20 * HOUR
    )
    await router.rows("update sms_days set segments = 1, bridges = 1")
    await router.rows("insert into sms_days values ($1, $2, 1, 1)", garage.org_id, (NOW + 20 * HOUR).date())
    ended = await reconciled(router, 25 * HOUR)
    assert sorted(u["reason"] for u in ended["delivery.updates.v1"]) == ["intent_expired", "unknown_outcome"]
    days = await router.rows("select segments, bridges from sms_days order by day")
    assert [(day["segments"], day["bridges"]) for day in days] == [(1, 1), (0, 0)]


async def test_the_reconciler_waits_for_a_day_before_it_locks_sends_behind_the_one_that_it_ends(router: Router) -> None:
    """As a sender does. In the other order each might wait for the other."""
    garage = await stored(router, Garage.closed())
    first, second = garage.intent(**TO_SAY), garage.intent(**TO_SAY)
    for command in (await router.decide(first, second))["outbound.sms.v1"]:
        await arrives(router, command)
    await router.rows("update sends set expires_at = $2 where message_id = $1", UUID(first["intent_id"]), NOW + HOUR)
    await router.rows("update sends set deferred_until = 'infinity' where message_id = $1", UUID(second["intent_id"]))
    async with router.pool.acquire() as db:
        async with db.transaction():
            await db.execute("select from sms_days for update")
            ending = asyncio.create_task(reconciled(router, HOUR + timedelta(minutes=2)))
            await somebody_waits(db)
            await router.rows("select from sends where deferred_until is not null for update nowait")
        await ending
    rows = await router.rows("select state, deferred_until from sends order by sequence")
    assert [(row["state"], row["deferred_until"]) for row in rows] == [("failed", None), ("pending", None)]
    assert (await router.rows("select segments from sms_days"))[0]["segments"] == 1
