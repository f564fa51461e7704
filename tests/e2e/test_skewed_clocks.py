"""Two replicas of every service, one on a host a minute ahead, one on a host a minute behind; leases and graces of
seconds.

What is judged by a host's own clock would be two minutes off here: leases stolen early, graces that are over before
they begin.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.conftest import SHORT, Place
from tests.support.garages import LATE, a_garage
from tests.support.servers import RunServers
from tests.support.system import CONSUMED, SERVICES, System
from tests.support.times import judged_by_the_database, now_of

pytestmark = pytest.mark.proof
PATIENT = {"SEND_TIMEOUT_SECONDS": "10", "SEND_LEASE_SECONDS": "11", "SEND_GRACE_SECONDS": "30"}
PATIENT |= {"SMS_GRACE_SECONDS": "30"}
"""Far less than the clocks are apart, and more than a busy machine is late."""


@pytest_asyncio.fixture
async def skewed(a_place: Place, run_servers: RunServers, tmp_path: Path) -> AsyncIterator[System]:
    """A system of which every service runs a minute ahead and a minute behind."""
    system = System(await a_place("skew"), run_servers.watchdog, tmp_path, **SHORT | PATIENT)
    for service in SERVICES:
        system.services[service].ahead = 60.0
    async with system:
        for service in SERVICES:
            system.add(service, f"{service}-behind").ahead = -60.0
        await system.start(*(f"{service}-behind" for service in SERVICES))

        async def shared() -> bool:
            return {await system.members(topic) for topic in CONSUMED} == {2}

        await system.until(shared, "two of each share every topic")
        yield system


@pytest.mark.timeout(300)
async def test_no_lease_is_stolen_no_grace_is_short_and_no_slot_ends_early(skewed: System) -> None:
    system = skewed
    began = await now_of(system)
    garage = await a_garage(system)
    customers = [await garage.customer_who_wrote() for _ in range(20)]
    late = [await garage.customer_who_wrote(LATE) for _ in range(8)]

    # calls that take most of their lease, while both sweepers look every second
    await system.sandbox.fault("meta", "slow", seconds=6, calls=20)
    slow = [customer.intent("Your Golf is ready.") for customer in customers]
    bridged = [customer.intent("Shall we keep it overnight?") for customer in late]
    silenced = [customer.intent("Are you there?") for customer in late]
    await system.intend(*slow, *bridged, *silenced)
    await system.quiet()
    assert await system.value("select count(*) from sends where resends > 0 or unknown_since is not null") == 0
    assert [len(await customer.texts()) for customer in late] == [1] * len(late)

    # answers that are lost, fewer than make an account rest, and statuses that come within the grace
    await system.sandbox.hold_webhooks()
    for customer in customers[:3]:
        await system.sandbox.fault("meta", "drop_answer", calls=1, to=customer.phone)
    lost = [customer.intent("Your keys are at the desk.") for customer in customers[:3]]
    await system.intend(*lost)
    unknown = "select count(*) from sends where state = 'unknown'"

    async def all_unknown() -> bool:
        return bool(await system.value(unknown) == len(lost))

    await system.until(all_unknown, "every answer is lost")
    await asyncio.sleep(4)  # four looks of each sweeper
    assert await system.value(unknown) == len(lost)
    await system.sandbox.release_webhooks()
    await system.quiet()

    calls = Counter(str(one["callback"]) for one in [*await system.sandbox.messages(), *await system.sandbox.sms()])
    assert [callback for callback, times in calls.items() if times > 1] == []
    read = "select count(*) from messages where org_id = $1 and direction = 'out' and status = 'read'"
    assert await system.value(read, garage.org_id) == len(slow) + len(lost)
    await judged_by_the_database(system, garage.org_id, began)
    assert not system.leaks()
    for name, service in system.services.items():
        (*_, told) = [line for line in system.lines(name) if line["event"] == "clock.apart"]
        assert round(float(told["detail"].split()[0]), -1) == service.ahead
    assert [line for line in system.lines() if line["event"] in {"task.failed", "service.failed"}] == []
