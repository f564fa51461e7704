"""Staff hold conversations: what stands, what is told of it, what the router does, and what a merge leaves."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.common.db.pool import Pool
from libs.common.directory import holds
from libs.common.directory.holds import Hold, HoldChange, Said
from libs.common.directory.merge import Merge, merge_customers
from libs.common.events.directory import ConversationHeld, ConversationReleased, decode_directory_change
from libs.common.events.topics import DIRECTORY_CHANGES
from services.router.decide import decide
from services.router.recorded_decision import unpack
from tests.support import world
from tests.support.ingest import ORG, Ingest, now
from tests.support.router import DAY, NOW, Garage, Router, stored
from tests.support.webhooks import NUMBER

pytestmark = pytest.mark.usefixtures("log_lines")

HOUR = timedelta(hours=1)


async def say(pool: Pool, garage: Garage, *, at: datetime = NOW, until: datetime | None = None, by: str = "u1") -> Said:
    async with pool.acquire() as db, db.transaction():
        said = await holds.say(db, Hold(garage.org_id, garage.conversation_id, by, at, until))
    assert said is not None
    return said


async def standing(pool: Pool, garage: Garage) -> Hold | None:
    async with pool.acquire() as db:
        return await holds.standing(db, garage.org_id, garage.conversation_id)


async def tell(pool: Pool, *told: HoldChange) -> list[int]:
    async with pool.acquire() as db, db.transaction():
        return await holds.apply(db, told)


def held(garage: Garage, *, at: datetime = NOW, until: datetime = NOW + HOUR, by: str = "u2") -> ConversationHeld:
    where: dict[str, Any] = {"org_id": garage.org_id, "conversation_id": garage.conversation_id}
    return ConversationHeld(**where, at=at, until=until, user_id=by)


def released(garage: Garage, *, at: datetime = NOW) -> ConversationReleased:
    return ConversationReleased(org_id=garage.org_id, conversation_id=garage.conversation_id, at=at)


async def test_the_ai_is_silent_in_a_held_conversation_until_it_is_released_or_its_time_is_over(router: Router) -> None:
    garage = await stored(router, Garage())
    await say(router.pool, garage, until=NOW + HOUR)
    staff = {"kind": "staff", "user_id": "u1", "capabilities": ["messages.send"]}
    intent = garage.intent()
    published = await router.decide(intent, garage.intent(actor=staff), garage.intent(actor={"kind": "system"}))
    assert [(d["route"], d["reason"]) for d in published["outbound.decisions.v1"]] == [
        ("silent", "conversation_held"),
        ("session", "window_open"),
        ("session", "window_open"),
    ]
    [update] = published["delivery.updates.v1"]
    assert (update["status"], update["reason"]) == ("failed", "conversation_held")
    assert (await router.message(intent))["reason"] == "conversation_held"
    for row in await router.rows("select route, reason, record from decisions"):
        decision = decide(*unpack(row["record"]))
        assert (decision.route, decision.reason) == (row["route"], row["reason"])
    for at, reason in ((HOUR - timedelta(microseconds=1), "conversation_held"), (HOUR, "window_open")):
        [decided] = (await router.at(NOW + at).decide(garage.intent()))["outbound.decisions.v1"]
        assert decided["reason"] == reason
    await say(router.pool, garage)
    [decided] = (await router.decide(garage.intent()))["outbound.decisions.v1"]
    assert decided["reason"] == "window_open"


async def test_a_held_conversation_buys_no_bridge_and_takes_no_slot(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    await say(router.pool, garage, until=NOW + HOUR)
    published = await router.decide(garage.intent())
    assert published["outbound.sms.v1"] == []
    assert await router.rows("select from bridge_slots") == []


async def test_a_hold_is_of_one_conversation_of_one_organisation(router: Router) -> None:
    garage, other = await stored(router, Garage()), await stored(router, Garage(phone="+447700900998"))
    await say(router.pool, garage, until=NOW + HOUR)
    async with router.pool.acquire() as db, db.transaction():
        foreign = Hold(other.org_id, garage.conversation_id, "u1", NOW, NOW + HOUR)
        assert await holds.say(db, foreign) is None
        assert await holds.say(db, foreign._replace(conversation_id=uuid4())) is None
    assert await tell(router.pool, held(replace(garage, org_id=other.org_id))) == [0]
    [decided] = (await router.decide(other.intent()))["outbound.decisions.v1"]
    assert decided["reason"] == "window_open"
    assert (await standing(router.pool, garage)) == Hold(garage.org_id, garage.conversation_id, "u1", NOW, NOW + HOUR)


async def test_a_second_message_prolongs_a_hold_and_only_the_first_found_the_conversation_free(router: Router) -> None:
    garage = await stored(router, Garage())
    assert (await say(router.pool, garage, until=NOW + HOUR)).was_free
    second = await say(router.pool, garage, at=NOW + HOUR / 2, until=NOW + 2 * HOUR, by="u2")
    assert (second.stands.user_id, second.stands.until, second.was_free) == ("u2", NOW + 2 * HOUR, False)
    assert (await say(router.pool, garage, at=NOW + 2 * HOUR, until=NOW + 3 * HOUR)).was_free


async def test_a_persons_word_counts_though_another_systems_clock_is_ahead(router: Router) -> None:
    garage = await stored(router, Garage())
    await tell(router.pool, held(garage, at=NOW + DAY, until=NOW + 9 * DAY))
    stands = (await say(router.pool, garage)).stands
    assert (stands.until, stands.at > NOW + DAY) == (None, True)
    await tell(router.pool, held(garage, at=NOW + DAY, until=NOW + 9 * DAY))
    assert (await standing(router.pool, garage)) == stands


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
async def test_the_newest_word_stands_in_whatever_order_and_batches_words_come(
    router: Router, order: tuple[int, ...]
) -> None:
    garage = await stored(router, Garage())
    words: list[HoldChange] = [
        held(garage, until=NOW + HOUR),
        released(garage, at=NOW + timedelta(minutes=1)),
        held(garage, at=NOW + timedelta(minutes=2), until=NOW + 5 * HOUR, by="u9"),
    ]
    expected = Hold(garage.org_id, garage.conversation_id, "u9", NOW + timedelta(minutes=2), NOW + 5 * HOUR)
    assert await tell(router.pool, *(words[n] for n in order)) == []
    assert await standing(router.pool, garage) == expected
    assert await tell(router.pool, held(garage, at=NOW - DAY, by="a\x00b")) == []
    for n in order:
        assert await tell(router.pool, words[n]) == []
    assert await standing(router.pool, garage) == expected
    lines = await router.rows("select action, detail from audit_log where action in ('hold', 'release') order by at")
    assert [line["action"] for line in lines] == ["hold", "hold", "release", "hold"]
    assert [line["detail"]["user_id"] for line in lines] == ["a\ufffdb", "u2", None, "u9"]


async def test_what_stands_is_published_until_it_is_marked_and_its_own_event_marks_it_too(router: Router) -> None:
    garage = await stored(router, Garage())
    first = (await say(router.pool, garage, until=NOW + HOUR)).stands
    second = (await say(router.pool, garage, at=NOW + timedelta(minutes=1))).stands
    async with router.pool.acquire() as db:
        await holds.mark_published(db, [first])  # a process that published the older word marks it now
        assert await holds.unpublished(db, 10) == [second]
        assert await holds.unpublished(db, 10) == [second]
        event = second.event()
        assert isinstance(event, ConversationReleased)
        assert await tell(router.pool, decoded(event)) == []
        assert await holds.unpublished(db, 10) == []
    assert await standing(router.pool, garage) == second
    assert len(await router.rows("select from audit_log where action = 'release'")) == 1


def decoded(event: HoldChange) -> HoldChange:
    """The event after its way through the topic."""
    found = decode_directory_change(event.encode())
    assert isinstance(found, HoldChange)
    return found


async def test_what_came_to_nothing_is_released_unless_somebody_spoke_since(router: Router) -> None:
    garage = await stored(router, Garage())
    first = (await say(router.pool, garage, until=NOW + HOUR)).stands
    async with router.pool.acquire() as db:
        await holds.take_back(db, first)
        stands = await holds.standing(db, garage.org_id, garage.conversation_id)
        assert stands is not None
        assert (stands.until, stands.at > first.at) == (None, True)
        again = (await say(router.pool, garage, at=NOW + HOUR, until=NOW + 2 * HOUR)).stands
        await holds.take_back(db, first)
        assert await holds.standing(db, garage.org_id, garage.conversation_id) == again


MERGES: list[tuple[timedelta | None, timedelta | None, timedelta | None]] = [
    (HOUR, None, HOUR),
    (None, HOUR, HOUR),
    (HOUR, 2 * HOUR, 2 * HOUR),
    (2 * HOUR, HOUR, 2 * HOUR),
    (None, None, None),
]


@pytest.mark.parametrize(("of_loser", "of_winner", "expected"), MERGES)
async def test_a_merge_keeps_the_hold_that_lasts_longer_and_publishes_it_for_the_joint_thread(
    router: Router, of_loser: timedelta | None, of_winner: timedelta | None, expected: timedelta | None
) -> None:
    loser = await stored(router, Garage())
    winner = await stored(router, Garage(org_id=loser.org_id, number=loser.number, phone="+447700900111"))
    for garage, until in ((loser, of_loser), (winner, of_winner)):
        if until is not None:
            await say(router.pool, garage, until=NOW + until)
    async with router.pool.acquire() as db:
        await holds.mark_published(db, await holds.unpublished(db, 10))
        async with db.transaction():
            await merge_customers(db, [Merge(loser.org_id, loser.customer_id, winner.customer_id)])
        stands = await holds.standing(db, winner.org_id, winner.conversation_id)
        assert stands == await holds.standing(db, loser.org_id, loser.conversation_id)
        assert (None if stands is None else stands.until) == (None if expected is None else NOW + expected)
        moved = expected is not None and expected == of_loser
        assert await holds.unpublished(db, 10) == ([stands] if moved else [])
    [decided] = (await router.decide(loser.intent()))["outbound.decisions.v1"]
    assert decided["reason"] == ("window_open" if expected is None else "conversation_held")


async def test_ingest_applies_another_systems_words_once_and_buries_only_those_of_unknown_conversations(
    ingest: Ingest,
) -> None:
    customer, conversation, at = uuid4(), uuid4(), now()
    async with ingest.pool.acquire() as db:
        await world.a_customer(db, ORG, customer, "+447700900999")
        await world.a_conversation(db, ORG, conversation, customer, NUMBER)
    event = ConversationHeld(org_id=ORG, conversation_id=conversation, user_id="crm-1", at=at, until=at + HOUR)
    older = ConversationReleased(org_id=ORG, conversation_id=conversation, at=at - HOUR)
    strange = event.model_copy(update={"conversation_id": uuid4()})
    await ingest.publish_changes(event, event, older, strange)
    assert await ingest.reasons(DIRECTORY_CHANGES, 1) == ["unknown_conversation"]
    row = await ingest.row("select org_id, user_id, at, until_at, published from conversation_holds")
    assert tuple(row) == (ORG, "crm-1", at, at + HOUR, True)
    assert len(await ingest.rows("select from audit_log where action = 'hold'")) == 1
