"""Every service twice, on hosts whose clocks are a minute apart: they share the work and do nothing twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from tests.support.accounts import endings
from tests.support.garages import FILLED, LATE, Customer, a_garage, bridge_of
from tests.support.system import CONSUMED, SERVICES, System
from tests.support.times import judged_by_the_database, now_of

AT_WORK = {
    "ingest": {"webhook.received", "message.received", "status.applied"},
    "router": {"intent.decided"},
    "whatsapp-sender": {"send.accepted"},
    "sms-bridge": {"send.accepted", "bridge.sent"},
}
CUSTOMERS = 8


@pytest_asyncio.fixture
async def doubled(system: System) -> AsyncIterator[System]:
    """The system with a second process of every service on a host that is a minute ahead, the partitions shared between
    the two.
    """
    names = {service: f"{service}-2" for service in SERVICES}
    for service, name in names.items():
        system.add(service, name).ahead = 60.0
    await system.start(*names.values())

    async def shared() -> bool:
        return {await system.members(topic) for topic in CONSUMED} == {2}

    await system.until(shared, "two of each share every topic")
    yield system
    await asyncio.gather(*(system.services.pop(name).stop() for name in names.values()))


@pytest.mark.timeout(300)
async def test_a_day_on_two_replicas_of_every_service_happens_once(doubled: System) -> None:
    system = doubled
    near, far = await a_garage(system, "Near"), await a_garage(system, "Far")
    await system.sandbox.number(  # its webhooks come in by the other edge
        far.phone_number_id,
        waba_id=far.waba_id,
        display_number=far.display_number,
        webhook_url=f"{system.services['ingest-2'].url}/webhooks/meta",
    )
    began = await now_of(system)
    before = {name: len(system.lines(name)) for name in system.services}
    told: list[dict[str, Any]] = []
    open_, closed, strangers = [], [], []
    for garage in (near, far):
        some = await asyncio.gather(*(garage.customer_who_wrote() for _ in range(CUSTOMERS)))
        late = await asyncio.gather(*(garage.customer_who_wrote(LATE) for _ in range(CUSTOMERS)))
        new = [garage.customer() for _ in range(2)]
        intents = [
            *(one.intent("Your Golf is ready.") for one in some),
            *(one.intent("It is on the SMS too.", channel="sms") for one in some[:2]),
            *(one.intent("Shall we keep it overnight?") for one in late),
            *(one.intent("Are you there?") for one in late),
            *(one.intent(actor="staff", content={"kind": "template", **FILLED}) for one in late[:2]),
            *(one.first_contact() for one in new),
        ]
        await system.intend(*intents)
        await asyncio.gather(*(one.writes("Thanks!") for one in some[:2]))
        told += intents
        open_ += some
        closed += late
        strangers += new
        await endings_of(system, garage.org_id, intents)

    for customer in closed:
        assert len(await customer.texts()) == 1, "one bridge in a day"
    for customer in strangers:
        assert await customer.texts() == []
        assert await customer.whatsapps() == []
    await calls_are_single(system, told, [*open_, *closed])
    await rungs_are_told_once(system, told)
    for garage in (near, far):
        await judged_by_the_database(system, garage.org_id, began)
    for name in system.services:
        events = {line["event"] for line in system.lines(name)[before[name] :]}
        assert events & AT_WORK[name.removesuffix("-2")], f"{name} had no part in it"


async def endings_of(system: System, org_id: str, intents: list[dict[str, Any]]) -> None:
    """Every intent of the garage comes to its end, once."""

    async def ended() -> bool:
        pending = (
            "select count(*) from messages where org_id = $1 and direction = 'out'"
            " and status not in ('read', 'delivered', 'failed')"
        )
        stored = "select count(*) from decisions where org_id = $1 and attempt = 1"
        counted = await system.value(stored, org_id), await system.value(pending, org_id)
        return counted == (len(intents), 0)

    await system.until(ended, "every intent ends")
    await system.quiet()
    whatsapps = [intent for intent in intents if intent.get("channel") != "sms"]
    found = await endings(system, whatsapps)
    assert found == {
        ("read", None): CUSTOMERS + 2,
        ("failed", "window_expired_bridge_sent"): CUSTOMERS,
        ("failed", "window_expired_bridge_already_sent"): CUSTOMERS,
        ("failed", "window_expired_never_contacted"): 2,
    }


async def calls_are_single(system: System, intents: list[dict[str, Any]], customers: list[Customer]) -> None:
    """One call for each message and attempt, whoever made it."""
    sent = [*await system.sandbox.messages(), *await system.sandbox.sms()]
    ours = {customer.phone for customer in customers}
    calls = Counter(
        str(one["callback"]) for one in sent if (one["to"] if "to" in one else one["message"]["to"]) in ours
    )
    assert calls
    assert {callback: times for callback, times in calls.items() if times > 1} == {}
    bridged = {bridge_of(intent["intent_id"]) for intent in intents}
    known = {intent["intent_id"] for intent in intents} | bridged
    assert {message for message in known if sum(message in callback for callback in calls) > 1} == set()


async def rungs_are_told_once(system: System, intents: list[Mapping[str, Any]] | list[dict[str, Any]]) -> None:
    """Each status of each message was told by one of the replicas, not by both.

    A webhook that its edge took late was posted again, and a repeat tells the newest status again.
    """
    late = {
        item["subject"]
        for webhook in await system.sandbox.webhooks()
        if len(webhook["attempts"]) > 1
        for item in webhook["items"]
    }
    sent = [*await system.sandbox.messages(), *await system.sandbox.sms()]
    repeated = [str(one["callback"]) for one in sent if one.get("wamid", one.get("sid")) in late]
    for intent in intents:
        for message_id in (intent["intent_id"], bridge_of(intent["intent_id"])):
            record = system.published.all("delivery.updates.v1", message_id=message_id)
            rungs = Counter(one.event["seq"] for one in record)
            if not any(message_id in callback for callback in repeated):
                assert set(rungs.values()) <= {1}, f"{message_id}: {[one.event for one in record]}"
        decisions = Counter(
            one.event["attempt"] for one in system.published.all("outbound.decisions.v1", intent_id=intent["intent_id"])
        )
        assert set(decisions.values()) == {1}
