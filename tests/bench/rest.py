"""Services at rest: how long each takes from the start of its process until it is ready, and what all of them spend
while nothing comes.

They start one after the other, on topics of their own and one database, as a new replica does beside running servers.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

from libs.common.clock import utc_now
from libs.common.events.topics import TOPICS
from tests.bench.figures import Better
from tests.bench.rounds import Bench
from tests.bench.stage import Running, Stage

SERVICES = ("ingest", "router", "whatsapp-sender", "sms-bridge", "portal", "inbox")
_SETTLE_SECONDS = 5.0
"""Groups are joined, first rounds of periodic tasks are over."""


def spent(service: str) -> str:
    """Milliseconds of processor time per second."""
    return f"at rest, processor time per second, {service}"


def ready(service: str) -> str:
    return f"start → ready, {service}"


def started(service: str) -> str:
    return f"start → ready, own processor time, {service}"


FIGURES: Mapping[str, tuple[str, Better]] = {
    name(service): ("ms", "less") for name in (spent, ready, started) for service in SERVICES
}
"""The unit of each figure, and which way is better."""


async def part(bench: Bench) -> None:
    """What services cost while nothing comes, and until they are ready. It has no floor."""
    try:
        for number in range(1, bench.size.rounds + 1):
            bench.say(f"rest, round {number}: {bench.size.few:,} conversations")
            for name, value in (await rest(bench.stage, bench.size.few, bench.size.rest_seconds)).items():
                bench.values(name).append(value)
    finally:
        for name, (unit, better) in FIGURES.items():
            bench.figure(name, unit, better)


async def rest(stage: Stage, population: int, seconds: float) -> dict[str, float]:
    """All figures, of one process of each service."""
    found: dict[str, float] = {}
    running: dict[str, Running] = {}
    async with stage.ground(population, TOPICS) as ground, AsyncExitStack() as services:
        for service in SERVICES:
            running[service] = await services.enter_async_context(ground.service(service, load=None))
            found[ready(service)] = running[service].ready_seconds * 1000
            found[started(service)] = running[service].processor_seconds() * 1000
        await asyncio.sleep(_SETTLE_SECONDS)
        before, began = {name: one.processor_seconds() for name, one in running.items()}, utc_now()
        await asyncio.sleep(seconds)
        passed = (utc_now() - began).total_seconds()
        for service, one in running.items():
            one.check()
            found[spent(service)] = (one.processor_seconds() - before[service]) / passed * 1000
    return found
