"""Delays at a pace: webhook → answered, → window visible; intent → command, → provider call.

And what the services weigh at rest.

Everything runs at once, as it does in production: ingest, router, whatsapp_sender, on this machine's cores together
with their servers. The floors stand in for them one by one, in the same chains.

Rule 1: topics are warm. Every partition of an input first gets more than ``FILLED_BYTES``, and working that off fills
        the outputs: a partition's first index entry, at 4 KB, may wait for the disk.
Rule 2: a pass at ``UNCOUNTED`` pieces per second of each kind comes before the counted ones.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from libs.common.events.topics import INBOUND_MESSAGES, OUTBOUND_INTENTS, OUTBOUND_WHATSAPP, WEBHOOKS
from tests.bench import pipe
from tests.bench.figures import percentile
from tests.bench.rates import INGEST_TOPICS, ROUTER_TOPICS, SENDER_TOPICS, Who, intents, webhook_records
from tests.bench.rounds import Bench
from tests.bench.stage import Stage, ask
from tests.bench.targets import CALLED

IDLE = 10.0  # pieces per second, each alone in the system
PACES = (IDLE, 100.0, 1000.0)
ONE, ONE_PACE = "one conversation", 100.0  # intents per second, all of them in one conversation
FILLED, FILLED_BYTES = 600, 8 * 1024
"""So many records fill each input; so many bytes are then at least in each of its partitions."""
UNCOUNTED, _UNCOUNTED_SECONDS = 300.0, 4.0
STEPS = {
    "answered": "webhook → acknowledged",
    "published": "webhook → window visible",
    "command": "intent → command",
    "called": CALLED,
}
PACED = "at a pace"
_REST_SECONDS = 2.0
SERVICES = ("ingest", "router", "whatsapp-sender")  # the first of them takes the webhooks
FLOORS = ("intake", "through", "routing", "sending")


@dataclass(frozen=True, slots=True)
class Delay:
    """Of one step at one pace, in milliseconds."""

    step: str
    pace: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over all paces. ``at_rest``: resident MB by service before anything came."""

    delays: Sequence[Delay]
    at_rest: dict[str, float]


async def part(bench: Bench) -> None:
    """All paces on both populations. What the services weigh before the first piece is noted for memory."""

    async def once(who: Who, population: int) -> dict[str, float]:
        found = await delays(bench.stage, who, population, bench.size.pace_seconds)
        if who == "service":
            for service, mb in found.at_rest.items():
                bench.values(at_rest(service), bench.side(population)).append(mb)
        return {
            _of(one.step, one.pace, p): value
            for one in found.delays
            for p, value in (("p50", one.p50), ("p99", one.p99))
        }

    try:
        await bench.rounds("latency", once, bench.size.pace_rounds)
    finally:
        for step in STEPS:
            for pace in PACES:
                bench.figure(_of(step, pace, "p50"), "ms", "less")
                bench.figure(_of(step, pace, "p99"), "ms", "less", grows=False)
        for p in ("p50", "p99"):
            bench.figure(_of(ONE, ONE_PACE, p), "ms", "less", grows=False)


def at_rest(service: str) -> str:
    """The name of the figure."""
    return f"memory at rest, {service}"


def _of(step: str, pace: float, p: str) -> str:
    if step == ONE:
        return f"{ONE} at {pace:,.0f}/s, {p}"
    return f"{STEPS[step]}, {'idle' if pace == IDLE else f'{pace:,.0f}/s'}, {p}"


async def delays(stage: Stage, who: Who, population: int, seconds: float) -> Pass:
    """One pass. Every process is ready before the first piece is due."""
    topics = tuple(dict.fromkeys((*INGEST_TOPICS, *ROUTER_TOPICS, *SENDER_TOPICS)))
    async with stage.ground(population, topics) as ground, AsyncExitStack() as running:
        starts = (
            [ground.service(name, load=PACED) for name in SERVICES]
            if who == "service"
            else [ground.floor(name) for name in FLOORS]
        )
        processes = [await running.enter_async_context(start) for start in starts]
        await asyncio.sleep(_REST_SECONDS)
        at_rest = {process.name: process.resident_mb() for process in processes}
        await pipe.fill(ground.connection, WEBHOOKS, webhook_records(population, FILLED, FILLED))
        await pipe.fill(ground.connection, OUTBOUND_INTENTS, intents(population, FILLED, FILLED))
        await pipe.until(ground.connection, INBOUND_MESSAGES, FILLED)
        await pipe.until(ground.connection, OUTBOUND_WHATSAPP, FILLED)
        common = {
            "port": processes[0].port,
            "population": population,
            "bootstrap": ground.connection.bootstrap,
            "prefix": ground.connection.topic_prefix,
            "sandbox": stage.sandbox,
        }

        async def paced(kind: str, rate: float, seconds: float, **more: int) -> dict[str, Any]:
            given = {"kind": kind, "rate": rate, "seconds": seconds, **common, **more}
            return await ask("paced", given, processes)

        for kind in ("webhooks", "intents"):
            await paced(kind, UNCOUNTED, _UNCOUNTED_SECONDS)
        found = [
            Delay(step, pace, percentile(values, 0.5), percentile(values, 0.99))
            for pace in PACES
            for kind in ("webhooks", "intents")
            for step, values in (await paced(kind, pace, seconds)).items()
        ]
        one = (await paced("intents", ONE_PACE, seconds, active=1))["called"]
        found.append(Delay(ONE, ONE_PACE, percentile(one, 0.5), percentile(one, 0.99)))
        return Pass(found, at_rest)
