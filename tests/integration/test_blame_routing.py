"""What the router makes of a refusal, by whose fault it was; on the real servers."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from libs.common.directory.address_marks import clear, mark
from libs.common.directory.reports import Mark, SignOfLife
from libs.common.events.outbound import SmsCommand, WhatsappCommand
from services.router.decide import decide
from services.router.recorded_decision import unpack
from tests.support.router import DAY, FALLBACK, NOW, TEMPLATE, Garage, Router, stored

pytestmark = pytest.mark.usefixtures("log_lines")


async def decided(router: Router, garage: Garage, **changes: Any) -> dict[str, Any]:
    """An intent whose first attempt is decided and told."""
    await stored(router, garage)
    async with router.pool.acquire() as db:
        await garage.store_template(db)
    intent = garage.intent(**changes)
    await router.decide(intent)
    return intent


async def unreachable(router: Router, garage: Garage) -> None:
    """What follows from a 131026."""
    until = NOW + timedelta(days=3)
    async with router.pool.acquire() as db:
        await mark(
            db,
            [Mark(garage.org_id, "whatsapp", garage.phone or "", "unreachable", "131026", "status", NOW, until)],
        )


def ways(told: dict[str, list[dict[str, Any]]]) -> list[tuple[int, str, str]]:
    return [(d["attempt"], d["route"], d["reason"]) for d in told["outbound.decisions.v1"]]


async def test_whom_whatsapp_does_not_reach_in_an_open_window_gets_a_bridge_under_its_own_name(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    await unreachable(router, garage)
    published = await router.refuse(garage.refusal(intent, reason="unreachable", provider_code="131026"))
    assert ways(published) == [(2, "bridge", "whatsapp_unreachable")]
    [command] = published["outbound.sms.v1"]
    assert SmsCommand.decode(orjson.dumps(command)).reason == "whatsapp_unreachable"
    assert published["outbound.decisions.v1"][0]["window"]["open"] is True
    # others of the conversation do not buy the same failure
    other = garage.intent()
    assert ways(await router.decide(other)) == [(1, "silent", "bridge_already_sent")]
    assert (await router.message(other))["reason"] == "whatsapp_unreachable_bridge_already_sent"
    [row] = await router.rows("select record, reason from decisions where attempt = 2")
    assert decide(*unpack(row["record"])).reason == row["reason"]


async def test_a_mark_ends_with_a_sign_of_life_with_another_number_and_with_days(router: Router) -> None:
    garage = await stored(router, Garage())
    await unreachable(router, garage)
    assert ways(await router.decide(garage.intent()))[0][1] == "bridge"
    later = router.at(NOW + timedelta(days=3))
    await router.rows("update conversations set last_customer_at = $1", NOW + timedelta(days=3) - timedelta(hours=1))
    assert ways(await later.decide(garage.intent())) == [(1, "session", "window_open")]
    moved = Garage()
    await stored(router, moved)
    await unreachable(router, moved)
    await router.rows(
        "update customers set phone = '+447700900321', phone_at = $1 where org_id = $2", NOW, moved.org_id
    )
    assert ways(await router.decide(moved.intent())) == [(1, "session", "window_open")]
    alive = Garage()
    await stored(router, alive)
    await unreachable(router, alive)
    async with router.pool.acquire() as db:
        await clear(db, [SignOfLife(alive.org_id, "whatsapp", alive.phone or "", NOW)])
    assert ways(await router.decide(alive.intent())) == [(1, "session", "window_open")]


async def test_no_fallback_goes_to_whom_nothing_reaches(router: Router) -> None:
    garage = Garage.closed()
    intent = await decided(router, garage, fallback_template=FALLBACK)
    await unreachable(router, garage)
    published = await router.refuse(garage.refusal(intent, reason="unreachable", provider_code="131026"))
    assert ways(published) == [(2, "bridge", "window_expired")]


async def test_a_requested_template_is_rejected_once_its_address_was_marked_meanwhile(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage, content=TEMPLATE)
    await unreachable(router, garage)
    published = await router.refuse(garage.refusal(intent, reason="unreachable", provider_code="131026"))
    assert ways(published) == [(2, "rejected", "whatsapp_unreachable")]
    # one that is asked for knowingly is tried
    assert ways(await router.decide(garage.intent(content=TEMPLATE))) == [(1, "template", "template_requested")]


@pytest.mark.parametrize("code", ["132000", "131008", "132012", "131049", "130472"])
async def test_a_fallback_that_meta_does_not_take_leaves_the_bridge(router: Router, code: str) -> None:
    garage = Garage.closed()
    intent = await decided(router, garage, fallback_template=FALLBACK)
    published = await router.refuse(garage.refusal(intent, reason="template_refused", provider_code=code))
    assert ways(published) == [(2, "bridge", "window_expired")]


async def test_no_further_marketing_stands_in_for_a_text_within_a_day_of_metas_limit(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    async with router.pool.acquire() as db:
        await garage.store_template(db, category="MARKETING")
        await garage.store_template(db, name="news_of_the_car")
        asked = (
            "insert into consents (org_id, customer_id, category, allowed, at) values ($1, $2, 'marketing', true, $3)"
        )
        await db.execute(asked, garage.org_id, garage.customer_id, NOW)
        phone, until = garage.phone or "", NOW + DAY
        await mark(db, [Mark(garage.org_id, "marketing", phone, "marketing_limited", "131049", "status", NOW, until)])
    assert ways(await router.decide(garage.intent(content=TEMPLATE))) == [(1, "template", "template_requested")]
    other = garage.intent(fallback_template=FALLBACK | {"name": "news_of_the_car"})
    assert ways(await router.decide(other)) == [(1, "template", "fallback_template")]
    limited = garage.intent(fallback_template=FALLBACK)
    told = await router.decide(limited)
    assert ways(told) == [(1, "bridge", "window_expired")]
    assert told["outbound.decisions.v1"][0]["detail"] == "fallback_template: marketing_limited"
    [row] = await router.rows("select record, reason from decisions where intent_id = $1", UUID(limited["intent_id"]))
    assert decide(*unpack(row["record"])).reason == row["reason"]
    later = router.at(NOW + DAY)
    assert ways(await later.decide(garage.intent(fallback_template=FALLBACK))) == [(1, "template", "fallback_template")]


async def test_a_requested_template_that_meta_does_not_take_fails_with_the_code(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage, content=TEMPLATE)
    refusal = garage.refusal(intent, reason="template_refused", provider_code="132000")
    published = await router.refuse(refusal)
    assert [(u["reason"], u["provider_code"]) for u in published["delivery.updates.v1"]] == [
        ("provider_refused", "132000")
    ]
    assert ways(published) == []
    assert await router.refuse(refusal) == published


async def test_trouble_of_the_providers_own_is_tried_again_once(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    published = await router.refuse(garage.refusal(intent, reason="transient", provider_code="131000"))
    assert ways(published) == [(2, "session", "window_open")]
    published = await router.refuse(garage.refusal(intent, 2, reason="transient", provider_code="131000"))
    assert ways(published) == []
    [update] = published["delivery.updates.v1"]
    assert (update["status"], update["reason"], update["provider_code"]) == ("failed", "provider_refused", "131000")


async def test_a_fallback_at_which_meta_fails_twice_leaves_the_bridge_and_a_requested_template_ends(
    router: Router,
) -> None:
    garage = Garage.closed()
    for fields, ending in (
        ({"fallback_template": FALLBACK}, [(3, "bridge", "window_expired")]),
        ({"content": TEMPLATE}, []),
    ):
        intent = await decided(router, garage, **fields)
        told = await router.refuse(garage.refusal(intent, reason="transient", provider_code="131000"))
        assert [(attempt, route) for attempt, route, _ in ways(told)] == [(2, "template")]
        told = await router.refuse(garage.refusal(intent, 2, reason="transient", provider_code="131000"))
        assert ways(told) == ending


async def test_trouble_of_the_account_uses_up_no_attempt_for_a_day(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    for attempt in range(1, 7):
        told = await router.refuse(garage.refusal(intent, attempt, reason="account", provider_code="131042"))
        assert ways(told) == [(attempt + 1, "session", "window_open")]
    told = await router.refuse(garage.refusal(intent, 7, reason="transient", provider_code="131000"))
    assert ways(told) == [(8, "session", "window_open")]
    late = router.at(NOW + DAY)
    told = await late.refuse(garage.refusal(intent, 8, reason="account", provider_code="131042"))
    assert [(u["reason"], u["provider_code"]) for u in told["delivery.updates.v1"]] == [("provider_refused", "131042")]


async def test_a_refusal_in_doubt_is_answered_with_one_more_session_after_15_seconds_and_then_a_bridge(
    router: Router,
) -> None:
    garage = Garage(last_customer_at=NOW - timedelta(minutes=1))
    intent = await decided(router, garage)
    refused = "update conversations set first_refused_at = coalesce(first_refused_at, $1), last_refused_at = $1"
    await router.rows(refused, NOW - timedelta(seconds=30))
    told = await router.refuse(garage.refusal(intent))
    assert ways(told) == [(2, "session", "window_open")]
    command = WhatsappCommand.decode(orjson.dumps(told["outbound.whatsapp.v1"][0]))
    assert command.not_before == NOW + timedelta(seconds=15)
    assert ways(await router.decide(garage.intent())) == [(1, "session", "window_open")]  # others meanwhile
    await router.rows(refused, NOW + timedelta(seconds=15))
    told = await router.at(NOW + timedelta(seconds=16)).refuse(garage.refusal(intent, 2))
    assert ways(told) == [(3, "bridge", "window_expired")]


async def test_a_customer_who_wrote_after_the_send_is_answered_as_a_session_at_once(router: Router) -> None:
    garage = Garage(last_customer_at=NOW - timedelta(hours=23))
    intent = await decided(router, garage)
    await router.rows(
        "update conversations set last_customer_at = $1, last_refused_at = $2",
        NOW - timedelta(seconds=1),
        NOW - timedelta(seconds=3),
    )
    published = await router.refuse(garage.refusal(intent))
    assert ways(published) == [(2, "session", "window_open")]
    assert published["outbound.whatsapp.v1"][0]["not_before"] is None


async def test_a_failure_that_was_disproved_is_not_told_again(router: Router) -> None:
    garage = Garage()
    intent = await decided(router, garage)
    await router.rows(
        "update messages set status = 'read', seq = 3, read_at = $1, failed_at = $1, reason ="
        " 'provider_refused', provider_code = '131000'",
        NOW,
    )
    published = await router.refuse(garage.refusal(intent, reason="transient", provider_code="131000"))
    assert ways(published) == []
    assert published["delivery.updates.v1"] == []
