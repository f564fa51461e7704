"""The bridge slots of two conversations that become one: whatever becomes of either bridge, one conversation gets one
in 24 hours. On real servers.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.bridge import queries as slot_queries
from libs.common.bridge.slot import Slot
from libs.common.directory.merge import Merge, merge_customers
from libs.common.events.outbound import SmsCommand
from tests.support import world as seeds
from tests.support.databases import somebody_waits
from tests.support.sandbox import CUSTOMER, NUMBER_ID
from tests.support.sms_world import HOLD, ORG, SmsWorld

HOUR = timedelta(hours=1)
OTHER, THIRD = "+447700900888", "+447700900777"


async def someone_else(world: SmsWorld, phone: str = OTHER, conversation_id: UUID | None = None) -> SmsWorld:
    """Another customer of the garage, with a conversation of their own."""
    own = conversation_id or uuid4()
    other = replace(world, customer_id=uuid4(), conversation_id=own, sequence=world.sequence + 1_000)
    columns = {"wa_id": phone[1:], "last_customer_at": world.clock() - timedelta(hours=25)}
    async with world.pool.acquire() as db:
        await seeds.a_customer(db, ORG, other.customer_id, phone)
        await seeds.a_conversation(db, ORG, other.conversation_id, other.customer_id, NUMBER_ID, **columns)
    return other


async def become_one(loser: SmsWorld, winner: SmsWorld) -> None:
    async with winner.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(ORG, loser.customer_id, winner.customer_id)])
    loser.customer_id = winner.customer_id


async def refusing(sandbox: SandboxClient, *phones: str) -> None:
    """The provider refuses what goes to these numbers for a reason that is neither theirs nor the country's."""
    for phone in phones:
        await sandbox.fault("twilio", "fail", code=21617, http_status=400, to=phone)


async def in_flight(*bridges: tuple[SmsWorld, SmsCommand]) -> None:
    """Claimed and called; the answers are in hand, and not recorded."""
    for world, command in bridges:
        await world.accept(command)
    world, _ = bridges[0]
    assert await world.line.call_once() == len(bridges)


async def holder(world: SmsWorld, after: timedelta = timedelta(0)) -> UUID | None:
    """Whose bridge holds the slot of the conversation then: what another bridge is told that asks for it."""
    asks = Slot(ORG, world.conversation_id, uuid4())
    async with world.pool.acquire() as db:
        undone = db.transaction()
        await undone.start()
        held = await slot_queries.take(db, [asks], world.clock() + after)
        await undone.rollback()
    return None if held[world.conversation_id] == asks.intent_id else held[world.conversation_id]


async def how_it_ended(world: SmsWorld, command: SmsCommand) -> str:
    message = await world.message(command.message_id)
    return str(message["reason"])


SENT, FAILED, SILENT = (f"window_expired_bridge_{how}" for how in ("sent", "failed", "already_sent"))


async def one_sent_and_one_in_flight(world: SmsWorld, accepted_of: str) -> tuple[SmsWorld, SmsCommand, SmsCommand]:
    """The joint conversation, the bridge that was accepted an hour ago, and the one whose answer came after the merge.

    ``accepted_of``: whose bridge the accepted one was, the ``loser``'s or the ``winner``'s.
    """
    other = await someone_else(world)
    sent = await world.decided()
    await world.send(sent)
    world.clock.forward(HOUR)
    late = await other.decided(to=OTHER)
    await in_flight((other, late))
    loser, winner = (world, other) if accepted_of == "loser" else (other, world)
    await become_one(loser, winner)
    await world.line.record()
    return winner, sent, late


@pytest.mark.parametrize("accepted_of", ["loser", "winner"])
async def test_a_bridge_that_is_refused_after_the_merge_leaves_the_slot_to_the_one_that_was_sent(
    world: SmsWorld, sandbox: SandboxClient, accepted_of: str
) -> None:
    await refusing(sandbox, OTHER)
    winner, sent, refused = await one_sent_and_one_in_flight(world, accepted_of)
    assert await how_it_ended(world, refused) == FAILED
    assert await holder(winner, HOLD - HOUR - timedelta(seconds=1)) == sent.message_id
    assert await holder(winner, HOLD - HOUR) is None


@pytest.mark.parametrize("accepted_of", ["loser", "winner"])
async def test_a_bridge_that_is_sent_after_the_merge_holds_the_slot_from_then(
    world: SmsWorld, accepted_of: str
) -> None:
    winner, _, late = await one_sent_and_one_in_flight(world, accepted_of)
    assert await how_it_ended(world, late) == SENT
    assert await holder(winner, HOLD - timedelta(seconds=1)) == late.message_id
    assert await holder(winner, HOLD) is None


async def test_a_bridge_that_waits_is_not_sent_once_the_customer_turns_out_to_have_got_one(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    other = await someone_else(world)
    await other.send(sent := await other.decided(to=OTHER))
    waits = await world.decided()
    await world.accept(waits)
    await become_one(other, world)
    assert await world.send() == 0
    assert await how_it_ended(world, waits) == SILENT
    assert len(await sandbox.sms()) == 1
    assert await holder(world, HOLD - timedelta(seconds=1)) == sent.message_id
    assert await holder(world, HOLD) is None


@pytest.mark.parametrize("refused", [[CUSTOMER], [OTHER], [CUSTOMER, OTHER], []])
async def test_of_two_bridges_in_flight_at_the_merge_each_counts(
    world: SmsWorld, sandbox: SandboxClient, refused: list[str]
) -> None:
    other = await someone_else(world)
    await refusing(sandbox, *refused)
    bridges = {CUSTOMER: await world.decided(), OTHER: await other.decided(to=OTHER)}
    silenced = await world.silenced(bridges[CUSTOMER])
    await in_flight((world, bridges[CUSTOMER]), (other, bridges[OTHER]))
    await become_one(other, world)
    await world.line.record()
    for phone, bridge in bridges.items():
        assert await how_it_ended(world, bridge) == (FAILED if phone in refused else SENT)
    sent = {bridge.message_id for phone, bridge in bridges.items() if phone not in refused}
    assert (await holder(world, HOLD - timedelta(seconds=1)) in sent) is bool(sent)
    assert await holder(world, HOLD) is None
    _, told = await world.published()
    assert [one.intent_id for one in told] == ([silenced] if CUSTOMER in refused else [])


@pytest.mark.parametrize("first", [CUSTOMER, OTHER])
async def test_the_refusal_of_one_leaves_the_slot_to_the_other_that_is_still_in_flight(
    world: SmsWorld, sandbox: SandboxClient, first: str
) -> None:
    other = await someone_else(world)
    bridges = {CUSTOMER: await world.decided(), OTHER: await other.decided(to=OTHER)}
    [last] = set(bridges) - {first}
    await sandbox.fault("twilio", "server_error", sent=True, to=last)
    await sandbox.fault("twilio", "server_error", endpoint="list")
    await refusing(sandbox, first)
    await in_flight((world, bridges[CUSTOMER]), (other, bridges[OTHER]))
    await become_one(other, world)
    await world.line.record()
    assert await how_it_ended(world, bridges[first]) == FAILED
    assert await holder(world, 2 * HOLD) == bridges[last].message_id
    await sandbox.clear_faults()
    await world.sweep()
    assert await how_it_ended(world, bridges[last]) == SENT
    assert await holder(world, HOLD - timedelta(seconds=1)) == bridges[last].message_id
    assert await holder(world, HOLD) is None


async def test_of_two_that_were_sent_the_later_counts_and_of_an_old_one_nothing_remains(world: SmsWorld) -> None:
    other, third = await someone_else(world), await someone_else(world, THIRD)
    await third.send(await third.decided(to=THIRD))
    world.clock.forward(HOLD)
    await world.send(await world.decided())
    world.clock.forward(HOUR)
    await other.send(later := await other.decided(to=OTHER))
    await become_one(other, world)
    await become_one(third, world)
    assert await holder(world, HOLD - timedelta(seconds=1)) == later.message_id
    assert await holder(world, HOLD) is None


async def test_three_that_are_one_have_the_slot_until_all_their_bridges_have_ended(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    other, third = await someone_else(world), await someone_else(world, THIRD)
    people = {CUSTOMER: world, OTHER: other, THIRD: third}
    bridges = {phone: await who.decided(to=phone) for phone, who in people.items()}
    await refusing(sandbox, CUSTOMER, OTHER, THIRD)
    await in_flight(*((people[phone], bridge) for phone, bridge in bridges.items()))
    await become_one(other, third)
    await become_one(third, world)
    assert await holder(world) is not None
    await world.line.record()
    assert [await how_it_ended(world, bridge) for bridge in bridges.values()] == [FAILED] * 3
    assert await holder(world) is None


@pytest.mark.parametrize("refused", [[], [OTHER]])
async def test_an_answer_that_is_recorded_while_its_conversation_is_being_merged_is_that_of_the_joint_one(
    world: SmsWorld, sandbox: SandboxClient, refused: list[str]
) -> None:
    """Its transaction has found the conversation under the old id, and waits for the merge."""
    other = await someone_else(world)
    await refusing(sandbox, *refused)
    bridge = await other.decided(to=OTHER)
    await in_flight((other, bridge))
    async with world.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(ORG, other.customer_id, world.customer_id)])
        recording: asyncio.Task[Any] = asyncio.create_task(world.line.record())
        await somebody_waits(db)
    await recording
    assert await how_it_ended(world, bridge) == (FAILED if refused else SENT)
    assert await holder(world) == (None if refused else bridge.message_id)
    assert await holder(world, HOLD) is None


async def test_a_bridge_that_waits_is_not_sent_while_one_of_the_same_customer_is_in_flight(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    other = await someone_else(world, conversation_id=UUID(int=2**128 - 1))  # so that the one that waits is the holder
    sent, waits = await other.decided(to=OTHER), await world.decided()
    await in_flight((other, sent))
    await world.accept(waits)
    await become_one(other, world)
    await world.line.call_once()
    await world.line.record()
    assert [await how_it_ended(world, one) for one in (sent, waits)] == [SENT, SILENT]
    assert len(await sandbox.sms()) == 1
