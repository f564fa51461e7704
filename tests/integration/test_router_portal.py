"""Answers in the portal: given by recording them, and decided again where they stay unread."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from libs.common.bridge import queries as slot_queries
from libs.common.bridge.slot import Slot
from libs.common.db.columns import as_columns
from libs.common.events.intents import LINK_WANTED
from services.router.portal_unread import UnreadAnswers
from services.router.reconcile import Reconciler
from tests.support.published import Events
from tests.support.reconciling import AFTER, nothing
from tests.support.router import NOW, Garage, Router, stored

MINUTE = timedelta(minutes=1)
PORTAL: dict[str, Any] = {"last_inbound_channel": "portal", "last_customer_at": NOW - timedelta(hours=30)}


async def in_portal(router: Router, **changes: Any) -> Garage:
    """A customer whose window is closed and who wrote in the portal a minute ago."""
    garage = await stored(router, Garage(**PORTAL | changes))
    await router.rows("update conversations set last_inbound_at = $1", NOW - MINUTE)
    return garage


async def looked_at(router: Router, after: timedelta) -> Events:
    """What is published by a look at the answers so long after NOW, and by a look at the refusals."""
    later = router.at(NOW + after)
    await UnreadAnswers(later.deps, AFTER).refuse()
    await Reconciler(later.deps, AFTER).decide()
    return await router.published.new()


async def was_read(router: Router, intent: Mapping[str, Any]) -> None:
    await router.rows(
        "update messages set status = 'read', read_at = now(), seq = seq + 1 where message_id = $1",
        UUID(intent["intent_id"]),
    )


def decisions(published: Events) -> list[tuple[int, str, str]]:
    return [(d["attempt"], d["route"], d["reason"]) for d in published["outbound.decisions.v1"]]


async def test_an_answer_is_given_by_recording_it(router: Router) -> None:
    garage = await in_portal(router, phone=None)
    intent, asked = garage.intent(), garage.intent(channel="portal")
    published = await router.decide(intent, asked)
    assert decisions(published) == [(1, "session", "live_channel")] * 2
    assert published["outbound.whatsapp.v1"] == published["outbound.sms.v1"] == []
    updates = published["delivery.updates.v1"]
    assert [(u["status"], u["channel"], u["seq"]) for u in updates] == [("sent", "portal", 1)] * 2
    message = await router.message(intent)
    assert (message["channel"], message["status"], message["sent_at"]) == ("portal", "sent", NOW)
    again = await router.decide(intent)
    assert again["delivery.updates.v1"] == [u for u in updates if u["message_id"] == intent["intent_id"]]
    assert len(await router.rows("select * from portal_answers")) == 2


async def test_an_unread_answer_is_decided_again_as_if_the_portal_were_not_live(router: Router) -> None:
    garage = await in_portal(router)
    intent, asked = garage.intent(), garage.intent(channel="portal")
    await router.decide(intent)
    assert nothing(await looked_at(router, timedelta(0)))
    assert nothing(await looked_at(router, 30 * MINUTE - timedelta(seconds=1)))
    published = await looked_at(router, 30 * MINUTE)
    assert decisions(published) == [(2, "bridge", "window_expired")]
    assert [command["message_id"] for command in published["outbound.sms.v1"]] == [intent["intent_id"]]
    [record] = await router.rows("select record from decisions where attempt = 2")
    assert record["record"]["refused"]["reason"] == "portal_unread"
    message = await router.message(intent)
    assert (message["status"], message["channel"], message["attempt"], message["seq"]) == ("pending", "whatsapp", 2, 1)
    assert await router.rows("select * from portal_answers") == []
    assert nothing(await looked_at(router, 60 * MINUTE))
    await router.decide(asked)
    assert decisions(await looked_at(router, 60 * MINUTE)) == [(2, "silent", "bridge_already_sent")]


async def test_it_goes_by_whatsapp_where_the_window_is_open(router: Router) -> None:
    garage = await in_portal(router, last_customer_at=NOW - timedelta(hours=1))
    await router.decide(garage.intent())
    published = await looked_at(router, 30 * MINUTE)
    assert decisions(published) == [(2, "session", "window_open")]
    assert len(published["outbound.whatsapp.v1"]) == 1


async def test_what_was_read_meanwhile_is_left_alone(router: Router) -> None:
    garage = await in_portal(router)
    early, late = garage.intent(), garage.intent()
    await router.decide(early, late)
    await was_read(router, early)
    await UnreadAnswers(router.at(NOW + 31 * MINUTE).deps, AFTER).refuse()
    await was_read(router, late)  # refused already, and not decided on
    assert nothing(await looked_at(router, 32 * MINUTE))
    assert await router.rows("select * from portal_answers") == await router.rows("select * from refusals") == []


async def test_an_organisation_says_how_long_and_a_bad_value_counts_as_thirty_minutes(router: Router) -> None:
    garage = await in_portal(router)
    await router.rows("""update orgs set policy = '{"portal_unread_minutes": 5}'""")
    await router.decide(garage.intent())
    assert nothing(await looked_at(router, 4 * MINUTE))
    assert decisions(await looked_at(router, 5 * MINUTE)) == [(2, "bridge", "window_expired")]
    for value in ("1e400", '"5"', "true", "null", "[5]", "-5"):
        await router.rows(
            "update orgs set policy = jsonb_build_object('portal_unread_minutes', $1::text::jsonb)", value
        )
        await router.decide(garage.intent())
        assert nothing(await looked_at(router, 29 * MINUTE))
        assert decisions(await looked_at(router, 30 * MINUTE)) == [(2, "silent", "bridge_already_sent")]


async def test_a_silent_end_and_an_expiry_end_it(router: Router) -> None:
    garage = await in_portal(router, phone=None)
    expires_at = (NOW + 10 * MINUTE).isoformat()
    silent, expired = garage.intent(), garage.intent(expires_at=expires_at)
    await router.decide(silent, expired)
    published = await looked_at(router, 30 * MINUTE)
    assert sorted(decisions(published)) == [(2, "silent", "intent_expired"), (2, "silent", "no_phone")]
    updates = {u["message_id"]: (u["status"], u["reason"], u["seq"]) for u in published["delivery.updates.v1"]}
    assert updates == {
        silent["intent_id"]: ("failed", "window_expired_no_phone", 2),
        expired["intent_id"]: ("failed", "intent_expired", 2),
    }


async def test_two_replicas_decide_each_answer_once_and_a_kill_between_two_steps_loses_none(
    router: Router,
) -> None:
    garage = await in_portal(router)
    intents = [garage.intent() for _ in range(40)]
    await router.decide(*intents)
    later = router.at(NOW + 31 * MINUTE)
    await asyncio.gather(*(UnreadAnswers(later.deps, AFTER).refuse() for _ in range(3)))
    # here the process ends: the refusals stand
    assert len(await router.rows("select * from refusals")) == 40
    await asyncio.gather(*(Reconciler(later.deps, AFTER).decide() for _ in range(3)))
    published = await router.published.new()
    assert sorted(d["intent_id"] for d in published["outbound.decisions.v1"]) == sorted(i["intent_id"] for i in intents)
    assert [len(published[topic]) for topic in ("outbound.sms.v1", "delivery.updates.v1")] == [1, 39]


async def test_answers_that_wait_long_hold_up_none_that_are_due(router: Router) -> None:
    """A thousand answers of an organisation that waits a week are looked at once, and put off."""
    garage = await in_portal(router)
    await router.rows("""update orgs set policy = '{"portal_unread_minutes": 10080}'""")
    intent = garage.intent()
    await router.decide(intent)
    many = [(garage.org_id, UUID(int=n), 1, NOW - MINUTE) for n in range(1, 1001)]
    await router.rows(
        "insert into portal_answers select * from unnest($1::text[], $2::uuid[], $3::int[], $4::timestamptz[])",
        *as_columns(many),
    )
    await looked_at(router, MINUTE)
    [left] = await router.rows("select message_id, due_at from portal_answers")
    assert left == {"message_id": UUID(intent["intent_id"]), "due_at": NOW + timedelta(days=7)}


async def test_a_bridge_that_was_asked_for_is_a_bridge_like_any_other(router: Router) -> None:
    garage = await in_portal(router)
    system = {"kind": "system", "capabilities": [LINK_WANTED]}
    asked, again = (garage.intent(content={"kind": "bridge"}, actor=system) for _ in range(2))
    published = await router.decide(asked)
    assert decisions(published) == [(1, "bridge", "window_expired")]
    (command,) = published["outbound.sms.v1"]
    assert (command["route"], command["text"], command["to"]) == ("bridge", None, garage.phone)
    assert decisions(await router.decide(again)) == [(1, "silent", "bridge_already_sent")]
    assert (await router.message(asked))["kind"] == "bridge"


async def test_a_slot_that_is_given_back_passes_over_what_was_read_in_the_portal(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    holder, unread, read = garage.intent(), garage.intent(), garage.intent()
    for intent in (holder, unread, read):
        await router.decide(intent)
    await was_read(router, read)
    slot = Slot(garage.org_id, garage.conversation_id, UUID(holder["intent_id"]))
    async with router.pool.acquire() as db, db.transaction():
        silenced = await slot_queries.newest_silenced(db, await slot_queries.release(db, [slot]))
    assert [str(one.intent_id) for one in silenced] == [unread["intent_id"]]
    [freed] = [one.freed(NOW) for one in silenced]
    assert decisions(await router.refuse(freed)) == [(2, "bridge", "window_expired")]
    freed_too_late = freed.model_copy(update={"intent_id": UUID(read["intent_id"])})
    assert nothing(await router.refuse(freed_too_late))
