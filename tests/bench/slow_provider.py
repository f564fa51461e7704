"""Sends whose provider answers after 100 ms: what one process has in flight, and how smoothly it takes places again.

Every message has a conversation of its own, because messages of one conversation wait for each other. The floor has as
many calls in flight as a sender by default.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from deploy.local.sandbox.client import SandboxClient
from tests.bench import rates, seed
from tests.bench.rates import Who
from tests.bench.rounds import Bench
from tests.bench.stage import Stage
from tests.bench.throughput import of_pace, pace_figures

PART = "sending, slow provider"
NAME = "sending, provider answers after 100 ms"
_SECONDS = 0.1


async def part(bench: Bench) -> None:
    """One process and its floor, in turn."""
    count = bench.size.records[PART]
    try:
        bench.say(f"{NAME}: storing {count:,} conversations")
        async with _stored(bench.stage, count) as stage, _slow(stage):
            for number in range(1, bench.size.rounds + 1):
                runs: tuple[Who, ...] = ("service", "floor")
                for who in runs:
                    bench.say(f"{NAME}, round {number}: {who}")
                    pace = await rates.rate(stage, rates.SENDING, who, count, count, active=count)
                    for name, value in of_pace(NAME, pace).items():
                        bench.values(name, "few" if who == "service" else "floor").append(value)
    finally:
        pace_figures(bench, NAME)


@asynccontextmanager
async def _stored(stage: Stage, conversations: int) -> AsyncIterator[Stage]:
    """The stage with a database of so many conversations."""
    async with seed.database(stage.servers.addresses.postgres_dsn, conversations) as dsn:
        yield replace(stage, databases={**stage.databases, conversations: dsn})


@asynccontextmanager
async def _slow(stage: Stage) -> AsyncIterator[None]:
    """Meta answers every send after 100 ms."""
    async with SandboxClient(stage.sandbox) as sandbox:
        fault = await sandbox.fault("meta", "slow", seconds=_SECONDS)
        try:
            yield
        finally:
            await sandbox.clear_faults(fault)
