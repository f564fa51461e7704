"""kill -9 at the worst moments. Nothing is lost, and nobody gets anything twice."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any
from uuid import UUID

import pytest

from libs.common.ids import callback_data
from tests.support.garages import LATE, Customer, Garage, a_garage, bridge_of
from tests.support.load import under_load
from tests.support.system import System

STALLED = 600.0
PATIENT = {
    "SEND_TIMEOUT_SECONDS": "300",
    "SEND_LEASE_SECONDS": "301",
    "SEND_GRACE_SECONDS": "302",
    "SMS_GRACE_SECONDS": "303",
}
"""A claim lasts until the test has looked, however slow the machine is; then the test ends it (``leases_end``)."""


def callback(garage: Garage, intent: Mapping[str, Any]) -> str:
    """What the first attempt of an intent takes to Meta, to be echoed."""
    return callback_data(garage.org_id, UUID(intent["intent_id"]), 1)


async def test_a_whatsapp_sender_killed_between_claim_and_result_sends_each_message_once(system: System) -> None:
    garage = await a_garage(system)
    reached, missed = await asyncio.gather(*(garage.customer_who_wrote() for _ in range(2)))
    await system.services["whatsapp-sender"].stop()
    await system.start("whatsapp-sender", **PATIENT)
    await stall(system, "meta", reached, missed)
    intents = [reached.intent("The first."), missed.intent("The second.")]
    await system.intend(*intents)
    await both_claimed(system, intents, reached.whatsapps)
    await system.services["whatsapp-sender"].kill()
    await leases_end(system, intents)
    await system.sandbox.clear_faults()  # the kill may have come before the second call
    await system.start("whatsapp-sender")
    for intent in intents:
        await system.reaches(intent["intent_id"], "read")
    await system.quiet()
    assert [sent["callback"] for sent in await reached.whatsapps()] == [callback(garage, intents[0])]
    assert [sent["callback"] for sent in await missed.whatsapps()] == [callback(garage, intents[1])]
    assert await resends(system, intents) == [0, 1]


async def test_an_sms_bridge_killed_between_claim_and_result_sends_each_bridge_once(system: System) -> None:
    garage = await a_garage(system)
    reached, missed = await asyncio.gather(*(garage.customer_who_wrote(LATE) for _ in range(2)))
    await system.services["sms-bridge"].stop()
    await system.start("sms-bridge", **PATIENT)
    await stall(system, "twilio", reached, missed)
    intents = [reached.intent("The first."), missed.intent("The second.")]
    await system.intend(*intents)
    await both_claimed(system, intents, reached.texts)
    await system.services["sms-bridge"].kill()
    await leases_end(system, intents)
    await system.sandbox.clear_faults()  # the kill may have come before the second call
    await system.start("sms-bridge")
    for intent in intents:
        assert await system.fails(intent["intent_id"]) == "window_expired_bridge_sent"
        await system.reaches(bridge_of(intent["intent_id"]), "delivered")
    await system.quiet()
    assert [len(await customer.texts()) for customer in (reached, missed)] == [1, 1]
    assert await resends(system, intents) == [0, 1]
    charged = "select count(*) from charges where org_id = $1"
    assert await system.value(charged, garage.org_id) == 2


async def test_an_answer_that_was_lost_on_the_way_is_settled_by_evidence(system: System) -> None:
    garage = await a_garage(system)
    kim, lee = await garage.customer_who_wrote(), await garage.customer_who_wrote(LATE)
    await system.sandbox.fault("meta", "drop_answer", to=kim.phone)
    await system.sandbox.fault("twilio", "drop_answer", to=lee.phone)
    session, bridged = await system.intend(kim.intent(), lee.intent())
    await system.reaches(session, "read")
    assert await system.fails(bridged) == "window_expired_bridge_sent"
    await system.quiet()
    assert (len(await kim.whatsapps()), len(await lee.texts())) == (1, 1)


async def test_a_router_killed_under_load_loses_nothing_and_doubles_nothing(system: System) -> None:
    load = await under_load(await a_garage(system))
    async with load.until_it_fell():
        await system.services["router"].kill()
    await system.start("router")
    await load.settles()


async def test_senders_and_ingest_killed_under_load_lose_nothing_and_double_nothing(system: System) -> None:
    load = await under_load(await a_garage(system))
    victims = ("ingest", "whatsapp-sender", "sms-bridge")
    async with load.until_it_fell():
        await asyncio.gather(*(system.services[name].kill() for name in victims))
    await system.start("ingest")
    await system.delivered()
    await system.start("whatsapp-sender", "sms-bridge")
    await load.settles()


STEPS = ("before it joins", "as it joins", "with its place", "at its first batch", "as it drains")
GROUP_OF = {
    "router": "outbound.intents.v1",
    "ingest": "webhooks.v1",
    "whatsapp-sender": "outbound.whatsapp.v1",
    "sms-bridge": "outbound.sms.v1",
}


@pytest.mark.proof
@pytest.mark.timeout(600)
async def test_services_killed_at_every_step_of_a_restart_come_up_in_the_end_and_lose_nothing(system: System) -> None:
    load = await under_load(await a_garage(system))
    async with load.until_it_fell():
        for step in STEPS:
            for name in GROUP_OF:
                await system.services[name].kill()
                system.services[name].start(system.env)
            await asyncio.gather(*(comes_to(system, name, step) for name in GROUP_OF))
        for name in GROUP_OF:
            await system.services[name].kill()
        await system.start(*GROUP_OF)
    await load.settles()


async def comes_to(system: System, name: str, step: str) -> None:
    """Return when a service that was started is at this step; fail when it has ended instead."""
    service = system.services[name]
    if step == "before it joins":
        return
    if step == "as it joins":

        async def joins() -> bool:
            state, members = await system.group(GROUP_OF[name])
            assert service.runs, f"{name} has ended"
            return state in ("PreparingRebalance", "CompletingRebalance") and members > 1

        # Where the session of the one before has ended already it has its place at once, and nobody sees it ask.
        await comes_first(joins, service.ready)
        return
    await service.ready()
    if step == "at its first batch" and name != "sms-bridge":  # of which there is one per conversation
        committed = await system.behind([GROUP_OF[name]])

        async def works() -> bool:
            now = await system.behind([GROUP_OF[name]])
            return now != committed or not any(behind for behind, _end in now.values())  # nothing was left for it

        await in_the_end(works)
    if step == "as it drains":
        service.terminate()
        await asyncio.sleep(0.1)


async def comes_first(holds: Callable[[], Awaitable[bool]], other: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Wait for either; whether it was the first that came true."""
    asks, has = asyncio.create_task(in_the_end(holds)), asyncio.create_task(other())
    done, rest = await asyncio.wait({asks, has}, return_when=asyncio.FIRST_COMPLETED)
    for one in rest:
        one.cancel()
    for one in done:
        one.result()
    return asks in done


async def in_the_end(holds: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it holds. Four services that start at once keep a slow machine busy, so the limit is the test's."""
    while not await holds():  # noqa: ASYNC110 -- it happens in other processes
        await asyncio.sleep(0.05)


async def stall(system: System, provider: Any, reached: Customer, missed: Customer) -> None:
    """The next call for each hangs: one was processed, one was not."""
    for customer, sent in ((reached, True), (missed, False)):
        await system.sandbox.fault(provider, "stall", to=customer.phone, seconds=STALLED, sent=sent, calls=1)


async def both_claimed(system: System, intents: list[dict[str, Any]], arrived: Any) -> None:
    """Both calls are under way, and the first has reached its customer."""
    ids = [intent["intent_id"] for intent in intents]

    async def claimed() -> bool:
        count = "select count(*) from sends where message_id = any($1::uuid[]) and state = 'claimed'"
        return bool(await arrived()) and await system.value(count, ids) == len(ids)

    await system.until(claimed, "two calls hang")


async def leases_end(system: System, intents: list[dict[str, Any]]) -> None:
    """The claims of one that was killed are over, as they are in the end."""
    ids = [intent["intent_id"] for intent in intents]
    await system.rows("update sends set lease_until = now() where message_id = any($1::uuid[])", ids)
    await system.rows("update send_claims set lease_until = now() where message_ids && $1::uuid[]", ids)


async def resends(system: System, intents: list[dict[str, Any]]) -> list[int]:
    found = [
        await system.value("select resends from sends where message_id = $1::uuid", i["intent_id"]) for i in intents
    ]
    assert await system.value(
        "select count(*) from sends where message_id = any($1::uuid[]) and state = 'accepted'",
        [intent["intent_id"] for intent in intents],
    ) == len(intents)
    return found


@pytest.mark.proof
@pytest.mark.timeout(600)
async def test_a_service_killed_twice_in_a_row_waits_for_its_place_in_the_group(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote()
    router = system.services["router"]

    async def joins() -> bool:
        return await system.group(GROUP_OF["router"]) == ("PreparingRebalance", 2)

    await router.kill()
    router.start(system.env)
    # On a slow machine the killed one's session may end before the next one joins: then once more.
    while not await comes_first(joins, router.ready):
        await router.kill()
        router.start(system.env)
    await router.kill()
    router.start(system.env)
    await router.ready()
    await system.reaches(await kim.is_sent("Here we are again."), "read")
