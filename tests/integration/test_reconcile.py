"""Whatever is lost after the decision: it goes out again, or it ends and is told, once."""

import asyncio
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import orjson
import pytest

from libs.common.bridge.slot import Slot
from libs.common.directory.merge import Merge, merge_customers
from libs.common.errors import Transient
from libs.common.kafka.connection import KafkaConnection
from libs.common.redis import open_redis
from services.router.reconcile import PUBLISHED, Reconciler
from tests.support.reconciling import AFTER, HOUR, arrives, lost, nothing, reconcile, reconciled, send_states
from tests.support.router import DAY, NOW, Garage, Router, a_router, stored
from tests.support.scraped import scraped
from tests.support.topics import OwnTopics

KINDS: dict[str, dict[str, Any]] = {
    "session": {},
    "bridge": {},
    "sms": {"channel": "sms"},
    "brief": {"expires_at": "2026-11-22T12:40:00Z"},
}
STEP = {
    "nothing": "with s as (update sends set state = 'accepted', settled_at = $2, published = true"
    " where message_id = $1),"
    " b as (update bridge_slots set held_until = $2 where intent_id = $1)"
    " update messages set status = 'delivered', seq = 2, delivered_at = $2 where message_id = $1",
    "the answer": "with b as (update bridge_slots set held_until = $2 where intent_id = $1)"
    " update sends set state = 'accepted', settled_at = $2::timestamptz + interval '20 hours' where message_id = $1",
    "every status": "with b as (update bridge_slots set held_until = $2 where intent_id = $1)"
    " update sends set state = 'accepted', settled_at = $2, published = true where message_id = $1",
    "the refusal": "with b as (delete from bridge_slots where intent_id = $1)"
    " update sends set state = 'rerouted', settled_at = $2, published = true, outcome = '{\"reason\":"
    ' "transient"}\' where message_id = $1',
    "its call": (
        "update sends set state = 'claimed', claimed_at = $2, lease_until = $2, claim_id = uuidv7()"
        " where message_id = $1"
    ),
    "its outcome": (
        "update sends set state = 'unknown', claimed_at = $2, lease_until = $2, unknown_since = $2"
        " where message_id = $1"
    ),
    "the sender": "update sends set due_at = $2 where message_id = $1",
}
"""What its sender wrote before it was gone for good. A bridge that was accepted has its hold."""


async def test_a_command_that_became_no_send_goes_out_again_as_it_stands_and_ever_more_rarely(router: Router) -> None:
    _, published = await lost(router, await stored(router, Garage()))
    counted = scraped("transom_reconciled_total", outcome="published")
    assert nothing(await reconciled(router, AFTER / 2))
    for times, after in enumerate((AFTER, 2 * AFTER, 5 * AFTER, 14 * AFTER), 1):
        again = await reconciled(router, after)
        assert scraped("transom_reconciled_total", outcome="published") == counted + times
        assert again["outbound.whatsapp.v1"] == published["outbound.whatsapp.v1"]
        assert again["outbound.decisions.v1"] == again["delivery.updates.v1"] == []
        assert nothing(await reconciled(router, after + AFTER / 2))


async def test_a_round_publishes_so_many_again_and_no_more_and_ends_whatever_is_due(router: Router) -> None:
    garage = await stored(router, Garage())
    brief = garage.intent(expires_at="2026-11-22T12:00:30Z")
    await router.decide(brief, *(garage.intent() for _ in range(PUBLISHED + 100)))
    await Reconciler(router.at(NOW + AFTER).deps, AFTER).find_unsent()
    await router.rows(  # it is the last in turn
        "update stale_attempts set due_at = due_at - interval '1 second' where message_id <> $1",
        UUID(brief["intent_id"]),
    )
    published = await reconciled(router, AFTER)
    assert len(published["outbound.whatsapp.v1"]) == PUBLISHED
    assert [update["message_id"] for update in published["delivery.updates.v1"]] == [brief["intent_id"]]
    not_looked_at = await router.rows("select message_id from stale_attempts where tries = 0")
    assert len(not_looked_at) == 100
    published = await reconciled(router, 2 * AFTER)
    again = {command["message_id"] for command in published["outbound.whatsapp.v1"]}
    assert len(again) == PUBLISHED  # those that waited, and of the others as many as there is room for
    assert {str(row["message_id"]) for row in not_looked_at} <= again


async def test_a_command_that_its_sender_has_is_left_to_it(router: Router) -> None:
    _, published = await lost(router, await stored(router, Garage()))
    [command] = published["outbound.whatsapp.v1"]
    await arrives(router, command)
    assert nothing(await reconciled(router, AFTER))
    assert await router.rows("select * from stale_attempts") == []


async def test_a_command_that_comes_after_it_was_published_again_is_followed_up_no_more(router: Router) -> None:
    _, published = await lost(router, await stored(router, Garage()))
    await reconciled(router, AFTER)
    await arrives(router, published["outbound.whatsapp.v1"][0])
    assert nothing(await reconciled(router, 3 * AFTER))
    assert nothing(await reconciled(router, 23 * HOUR))


@pytest.mark.parametrize(
    ("changes", "deadline"), [({}, DAY), ({"expires_at": "2026-11-22T12:30:00Z"}, timedelta(minutes=30))]
)
async def test_at_its_deadline_it_ends_is_told_once_and_a_command_that_turns_up_sends_nothing(
    router: Router, changes: dict[str, str], deadline: timedelta
) -> None:
    intent, published = await lost(router, await stored(router, Garage()), **changes)
    await reconciled(router, AFTER)
    await reconciled(router, deadline - timedelta(seconds=1))
    assert (await router.message(intent))["status"] == "pending"
    ended = await reconciled(router, deadline)  # not an hour later, though it was published a second ago
    [update] = ended["delivery.updates.v1"]
    assert (update["message_id"], update["status"], update["reason"], update["seq"]) == (
        intent["intent_id"],
        "failed",
        "intent_expired",
        1,
    )
    assert ended["outbound.whatsapp.v1"] == []
    await arrives(router, published["outbound.whatsapp.v1"][0])
    assert await send_states(router) == ["failed"]
    assert nothing(await reconciled(router, deadline + 3 * HOUR))
    assert await router.rows("select * from stale_attempts") == []


async def test_what_ended_and_was_not_told_is_told_by_whoever_comes_next(router: Router) -> None:
    intent, _ = await lost(router, await stored(router, Garage()))
    await reconciled(router, AFTER)
    deps = router.at(NOW + DAY).deps
    await deps.producer.__aexit__()  # Kafka is gone between the commit and the telling
    with pytest.raises(Transient):
        await Reconciler(deps, AFTER).follow()
    assert (await router.message(intent))["status"] == "failed"
    await deps.producer.__aenter__()
    published = await reconciled(router, DAY + 2 * HOUR)
    assert [(u["message_id"], u["seq"]) for u in published["delivery.updates.v1"]] == [(intent["intent_id"], 1)]
    assert nothing(await reconciled(router, DAY + 5 * HOUR))


async def test_the_slot_of_a_bridge_that_never_was_is_given_back_at_its_deadline_and_whom_it_silenced_goes(
    router: Router,
) -> None:
    garage = await stored(router, Garage.closed())
    bridge, silenced = garage.intent(), garage.intent()
    published = await router.decide(bridge, silenced)
    assert [d["route"] for d in published["outbound.decisions.v1"]] == ["bridge", "silent"]
    assert (await reconciled(router, AFTER))["outbound.sms.v1"] == published["outbound.sms.v1"]
    ended = await reconciled(router, DAY + HOUR)
    assert {u["message_id"]: u["reason"] for u in ended["delivery.updates.v1"]} == {
        bridge["intent_id"]: "intent_expired"
    }
    [command] = ended["outbound.sms.v1"]
    assert (command["message_id"], command["attempt"], command["route"]) == (silenced["intent_id"], 2, "bridge")
    [slot] = await router.rows("select intent_id from bridge_slots")
    assert slot["intent_id"] == UUID(silenced["intent_id"])
    assert await router.rows("select * from refusals") == []


async def test_bridges_that_never_were_of_two_conversations_that_are_one_give_their_slot_back(router: Router) -> None:
    one = await stored(router, Garage.closed())
    other = await stored(router, Garage.closed(org_id=one.org_id, number=one.number, phone="+447700900111"))
    await router.decide(one.intent(), other.intent())  # the commands are lost
    await reconciled(router, AFTER)
    await router.rows("update messages set status = 'read', read_at = $1", NOW)  # in the portal
    async with router.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(one.org_id, one.customer_id, other.customer_id)])
    assert await router.rows("select from bridge_slots") != []
    await reconciled(router, DAY + HOUR)
    assert await router.rows("select from bridge_slots") == []


async def test_an_accepted_message_of_which_nothing_is_heard_ends_as_unknown_and_proof_still_wins(
    router: Router,
) -> None:
    intent, published = await lost(router, await stored(router, Garage()))
    await arrives(router, published["outbound.whatsapp.v1"][0])
    await router.rows("update sends set state = 'accepted', settled_at = $1, published = true", NOW + HOUR)
    assert nothing(await reconciled(router, 25.5 * HOUR))
    published = await reconciled(router, 27 * HOUR)
    assert [(u["status"], u["reason"]) for u in published["delivery.updates.v1"]] == [("failed", "unknown_outcome")]
    assert (await router.message(intent))["reason"] == "unknown_outcome"


async def test_a_bridge_that_may_have_arrived_keeps_its_slot_where_its_send_ends_without_a_sender(
    router: Router,
) -> None:
    garage = await stored(router, Garage.closed())
    published = await router.decide(garage.intent(), silenced := garage.intent())
    await arrives(router, published["outbound.sms.v1"][0])
    await router.rows("update sends set expires_at = $1, resends = 1", NOW + HOUR)  # its first call had no answer
    ended = await reconciled(router, 2 * HOUR)
    assert [u["reason"] for u in ended["delivery.updates.v1"]] == ["unknown_outcome"]
    assert ended["outbound.sms.v1"] == []
    [slot] = await router.rows("select held_until from bridge_slots")
    assert slot["held_until"] == NOW + 2 * HOUR + DAY
    later = await router.at(NOW + 3 * HOUR).decide(garage.intent())
    assert [d["route"] for d in later["outbound.decisions.v1"]] == ["silent"]
    assert (await router.message(silenced))["attempt"] == 1


async def test_a_send_that_nobody_decided_on_ends_as_well(router: Router) -> None:
    garage = await stored(router, Garage())
    command = {
        "org_id": garage.org_id,
        "message_id": str(UUID(int=9)),
        "attempt": 1,
        "sequence": 1,
        "conversation_id": str(garage.conversation_id),
        "phone_number_id": garage.number,
    }
    await arrives(router, command)
    assert nothing(await reconciled(router, 26 * HOUR))
    assert await send_states(router) == ["failed"]
    assert await router.rows("select * from stale_attempts") == []


async def test_a_send_that_still_waits_after_its_deadline_has_no_sender_and_ends_with_its_slot(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    intent = garage.intent()
    published = await router.decide(intent)
    await arrives(router, published["outbound.sms.v1"][0])
    behind = garage.intent(content={"kind": "text", "text": "And the bill."})
    await router.rows("update sends set expires_at = $1", NOW + HOUR)
    assert nothing(await reconciled(router, HOUR + AFTER / 2))
    ended = await reconciled(router, HOUR + AFTER)
    assert [u["reason"] for u in ended["delivery.updates.v1"]] == ["intent_expired"]
    assert await send_states(router) == ["failed"]
    assert await router.rows("select * from bridge_slots") == []
    assert [d["route"] for d in (await router.decide(behind))["outbound.decisions.v1"]] == ["bridge"]


@pytest.mark.parametrize("state", ["claimed", "unknown"])
async def test_a_call_without_an_answer_is_its_senders_for_a_day_after_its_deadline_and_keeps_its_slot(
    router: Router, state: str
) -> None:
    garage = await stored(router, Garage.closed())
    intent, published = await lost(router, garage)
    await arrives(router, published["outbound.sms.v1"][0], NOW)
    await router.rows(
        "update sends set state = $1, claimed_at = $2, lease_until = $2, claim_id = uuidv7(),"
        " unknown_since = case $1 when 'unknown' then $2::timestamptz end",
        state,
        NOW,
    )
    for hours in (26, 48):
        assert nothing(await reconciled(router, hours * HOUR))
    assert (await router.message(intent))["status"] == "pending"
    ended = await reconciled(router, 50 * HOUR)
    assert [(u["status"], u["reason"]) for u in ended["delivery.updates.v1"]] == [("failed", "unknown_outcome")]
    assert await send_states(router) == ["failed"]
    [slot] = await router.rows("select held_until from bridge_slots")
    assert slot["held_until"] == NOW + 50 * HOUR + DAY


async def test_the_slot_is_free_again_though_redis_has_not_heard_of_it(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    bridge, _ = await lost(router, garage)
    await reconciled(router, DAY + HOUR)
    slot = Slot(garage.org_id, garage.conversation_id, UUID(bridge["intent_id"]))
    await router.deps.redis_gate.sync(held=[slot])  # as it stands where Redis was away when the slot was given back
    told = await router.at(NOW + DAY + HOUR).decide(garage.intent())
    assert [d["route"] for d in told["outbound.decisions.v1"]] == ["bridge"]


async def test_at_the_first_start_what_got_lost_lately_is_found_before_all_that_is_old(router: Router) -> None:
    garage = await stored(router, Garage())
    old, _ = await lost(router, garage)
    await router.rows("update decisions set decided_at = $1", NOW - 90 * DAY)
    intent, _ = await lost(router, garage)
    deps = router.at(NOW + AFTER).deps
    await Reconciler(deps, AFTER).find_unsent()
    assert [r["message_id"] for r in await router.rows("select message_id from stale_attempts")] == [
        UUID(intent["intent_id"])
    ]
    published = await reconciled(router, AFTER)
    assert [u["message_id"] for u in published["delivery.updates.v1"]] == [old["intent_id"]]


async def test_whatever_is_lost_at_whichever_step_every_intent_ends_in_time(router: Router) -> None:
    """A session, a bridge, plain text by SMS, one with a deadline of its own; each with every loss."""
    lossy: dict[str, tuple[str, str]] = {}
    intents = []
    for kind, loss in product(KINDS, (*STEP, "the command")):
        garage = await stored(router, Garage.closed() if kind == "bridge" else Garage())
        intents.append(garage.intent(**KINDS[kind]))
        lossy[intents[-1]["intent_id"]] = kind, loss
    published = await router.decide(*intents)
    commands = [*published["outbound.whatsapp.v1"], *published["outbound.sms.v1"]]
    assert len(commands) == len(intents)
    for command in commands:
        _, loss = lossy[command["message_id"]]
        if loss != "the command":
            await arrives(router, command)
            await router.rows(STEP[loss], UUID(command["message_id"]), NOW)
    for after in (AFTER, HOUR, 2 * HOUR, DAY + HOUR, 26 * HOUR, 28 * HOUR, 52 * HOUR, 80 * HOUR):
        await reconciled(router, after)
    left = await router.rows("select message_id, status from messages where status in ('pending', 'sent')")
    assert [(lossy[str(row["message_id"])], row["status"]) for row in left] == []
    assert await router.rows("select * from bridge_slots where held_until = 'infinity'") == []
    assert await router.rows("select * from stale_attempts") == await router.rows("select * from refusals") == []


async def test_two_reconcilers_at_once_do_it_once(
    router: Router, kafka_bootstrap: str, topics: OwnTopics, database: str, redis_url: str
) -> None:
    garage = await stored(router, Garage.closed())
    await router.decide(garage.intent(), garage.intent())
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with open_redis(redis_url) as gate, a_router(connection, database, gate, router.published) as rival:
        for after in (AFTER, DAY + HOUR):
            rounds = (reconcile(one, NOW + after) for one in (router, rival) for _ in range(3))
            await asyncio.gather(*rounds)
            published = await router.published.new()
            assert len(published["outbound.sms.v1"]) == 1
    assert len({orjson.dumps(d) for d in published["outbound.decisions.v1"]}) == 1
