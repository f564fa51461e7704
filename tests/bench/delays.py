"""Delays at a pace: webhook → answered, → window visible; intent → command, → provider call.

And what the services weigh at rest.

Everything runs at once, as it does in production: ingest, router, whatsapp_sender, on this machine's cores together
with their servers. The floors stand in for them one by one, in the same chains.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from tests.bench.figures import percentile
from tests.bench.rates import INGEST_TOPICS, ROUTER_TOPICS, SENDER_TOPICS, Who
from tests.bench.stage import Stage, ask

IDLE = 10.0  # pieces per second, each alone in the system
PACES = (IDLE, 100.0, 1000.0)
STEPS = {
    "answered": "webhook → acknowledged",
    "published": "webhook → window visible",
    "command": "intent → command",
    "called": "intent → provider call",
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


async def delays(stage: Stage, who: Who, population: int, seconds: float, paces: Sequence[float] = PACES) -> Pass:
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
        found: list[Delay] = []
        for pace in paces:
            for kind in ("webhooks", "intents"):
                given = {
                    "kind": kind,
                    "rate": pace,
                    "seconds": seconds,
                    "port": processes[0].port,
                    "population": population,
                    "bootstrap": ground.connection.bootstrap,
                    "prefix": ground.connection.topic_prefix,
                    "sandbox": stage.sandbox,
                }
                answer = await ask("paced", given, processes)
                found += [
                    Delay(step, pace, percentile(values, 0.5), percentile(values, 0.99))
                    for step, values in answer.items()
                ]
        return Pass(found, at_rest)
