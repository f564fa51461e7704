"""A refusal that got lost on the way to the router is decided on all the same, and told once."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from libs.common.errors import Transient
from libs.common.events.outbound import OutboundRefused
from libs.common.sending import refusals
from libs.common.sending.status_effects import receive_statuses, store_provider_ids
from libs.common.sending.statuses import ProviderId
from libs.common.thread.message_status import ProviderStatus
from services.router.reconcile import Reconciler
from tests.support.reconciling import AFTER, HOUR, arrives, lost, nothing, reconciled
from tests.support.router import NOW, Garage, Router, stored
from tests.support.waiting import eventually_true


async def test_a_refusal_that_got_lost_is_decided_on(router: Router) -> None:
    garage = await stored(router, Garage())
    intent, _ = await lost(router, garage)
    refusal = garage.refusal(intent)
    await router.rows("update conversations set identity_changed_at = $1", NOW)
    async with router.pool.acquire() as db:
        await refusals.keep(db, [refusal], NOW)
    assert nothing(await reconciled(router, AFTER / 2))
    published = await reconciled(router, AFTER)
    assert [(d["attempt"], d["route"]) for d in published["outbound.decisions.v1"]] == [(2, "bridge")]
    assert nothing(await reconciled(router, AFTER * 1.5))


async def test_a_refusal_that_came_by_kafka_is_kept_no_longer(router: Router) -> None:
    garage = await stored(router, Garage())
    intent, _ = await lost(router, garage)
    async with router.pool.acquire() as db:
        await refusals.keep(db, [garage.refusal(intent), garage.refusal({"intent_id": str(UUID(int=7))})], NOW)
    await router.refuse(garage.refusal(intent))
    assert [row["intent_id"] for row in await router.rows("select intent_id from refusals")] == [UUID(int=7)]
    await reconciled(router, 2 * AFTER)  # nobody knows the other one
    assert await router.rows("select * from refusals") == []


async def test_a_refusal_of_tomorrow_waits_for_a_router_that_reads_it_and_its_neighbours_go_on(router: Router) -> None:
    garage = await stored(router, Garage())
    (strange, _), (plain, _) = await lost(router, garage), await lost(router, garage)
    async with router.pool.acquire() as db:
        await refusals.keep(db, [garage.refusal(strange), garage.refusal(plain)], NOW)
    await router.rows(
        """update refusals set event = event || '{"reason": "made_up_later"}' where intent_id = $1""",
        UUID(strange["intent_id"]),
    )
    published = await reconciled(router, AFTER)
    assert [d["intent_id"] for d in published["outbound.decisions.v1"]] == [plain["intent_id"]]
    [waiting] = await router.rows("select intent_id from refusals")
    assert waiting["intent_id"] == UUID(strange["intent_id"])


async def test_what_its_send_gave_back_and_nobody_kept_is_decided_on_a_day_later(router: Router) -> None:
    garage = await stored(router, Garage())
    intent, published = await lost(router, garage)
    await arrives(router, published["outbound.whatsapp.v1"][0])
    await router.rows(
        """update sends set state = 'rerouted', settled_at = $1, published = true,
                  outcome = '{"answer": "rerouted", "reason": "consent_off", "code": null}'""",
        NOW,
    )
    await router.rows(
        "insert into consents values ($1, $2, 'whatsapp', false, now())", garage.org_id, garage.customer_id
    )
    published = await reconciled(router, 26 * HOUR)
    assert [(d["attempt"], d["reason"]) for d in published["outbound.decisions.v1"]] == [(2, "whatsapp_consent_off")]
    assert (await router.message(intent))["status"] == "failed"


async def test_a_refusal_by_a_late_status_is_kept_until_it_is_decided_on(router: Router) -> None:
    garage = await stored(router, Garage())
    intent, published = await lost(router, garage)
    await arrives(router, published["outbound.whatsapp.v1"][0])
    message_id = UUID(intent["intent_id"])
    wamid = ProviderId("whatsapp", "meta", garage.number, "wamid.1", garage.org_id, message_id, message_id, 1)
    failed = ProviderStatus(
        "whatsapp", "meta", garage.number, "wamid.1", "failed", NOW + timedelta(seconds=5), "131047"
    )
    async with router.pool.acquire() as db, db.transaction():
        await router.rows(
            "update sends set state = 'accepted', claimed_at = $1, settled_at = $1, published = true", NOW
        )
        await store_provider_ids(db, [wamid], NOW)
        [refusal] = (await receive_statuses(db, [failed], NOW)).refusals
    assert refusal.reason == "window_closed"
    published = await reconciled(router, AFTER)
    assert [(d["attempt"], d["route"]) for d in published["outbound.decisions.v1"]] == [(2, "bridge")]


async def test_a_router_that_dies_between_deciding_on_a_refusal_and_telling_it_tells_it_later(router: Router) -> None:
    garage = await stored(router, Garage())
    await lost(router, garage)
    intent, _ = await lost(router, garage)
    await router.rows("update conversations set identity_changed_at = $1", NOW)
    async with router.pool.acquire() as db:
        await refusals.keep(db, [garage.refusal(intent)], NOW)
    deps = router.at(NOW + AFTER).deps
    await deps.producer.__aexit__()
    with pytest.raises(Transient):
        await Reconciler(deps, AFTER).decide()
    assert (await router.message(intent))["attempt"] == 2
    await deps.producer.__aenter__()
    published = await reconciled(router, 2 * AFTER)
    assert [(d["intent_id"], d["attempt"]) for d in published["outbound.decisions.v1"]] == [(intent["intent_id"], 2)]
    assert {c["message_id"] for c in published["outbound.sms.v1"]} == {intent["intent_id"]}
    assert await router.rows("select * from refusals") == []


async def test_a_router_that_dies_while_it_decides_on_what_its_send_gave_back_tells_it_later(router: Router) -> None:
    intent, published = await lost(router, garage := await stored(router, Garage()))
    await arrives(router, published["outbound.whatsapp.v1"][0])
    await router.rows(
        """update sends set state = 'rerouted', settled_at = $1, published = true,
                  outcome = '{"answer": "rerouted", "reason": "consent_off", "code": null}'""",
        NOW,
    )
    await router.rows(
        "insert into consents values ($1, $2, 'whatsapp', false, now())", garage.org_id, garage.customer_id
    )
    deps = router.at(NOW + 26 * HOUR).deps
    await Reconciler(deps, AFTER).find_unheard()
    await deps.producer.__aexit__()
    with pytest.raises(Transient):
        await Reconciler(deps, AFTER).follow()
    assert (await router.message(intent))["status"] == "failed"
    await deps.producer.__aenter__()
    published = await reconciled(router, 26 * HOUR + AFTER)
    assert [u["reason"] for u in published["delivery.updates.v1"]] == ["whatsapp_consent_off"]
    assert await router.rows("select * from refusals") == []


async def test_a_refusal_that_comes_by_kafka_while_the_reconciler_decides_on_it_is_no_stranger(router: Router) -> None:
    intent, _ = await lost(router, garage := await stored(router, Garage()))
    refusal = garage.refusal(intent)
    await router.rows("update conversations set identity_changed_at = $1", NOW)
    async with router.pool.acquire() as db, db.transaction():
        await db.execute("select from messages where org_id = $1 for update", garage.org_id)
        rivals = [asyncio.create_task(router.refuse_raw(refusal)) for _ in range(2)]
        lock = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"

        async def both_wait() -> bool:
            return len(await router.rows(lock)) == len(rivals)

        await eventually_true(both_wait, "both wait for the message")
    assert await asyncio.gather(*rivals) == [[], []]
    published = await router.published.new()
    assert {(d["attempt"], d["route"]) for d in published["outbound.decisions.v1"]} == {(2, "bridge")}


def test_a_refusal_kept_is_the_event() -> None:
    refusal = Garage().refusal({"intent_id": str(UUID(int=1))})
    assert OutboundRefused.model_validate(refusal.model_dump(mode="json")) == refusal
