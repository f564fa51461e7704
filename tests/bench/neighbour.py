"""A lone message while very many rows of a neighbour wait for its throttled number, beside the same without them, in
the same processes.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg

from tests.bench.delays import IDLE
from tests.bench.figures import percentile
from tests.bench.rates import ROUTER_TOPICS, SENDER_TOPICS
from tests.bench.rounds import Bench
from tests.bench.stage import Ground, Running, Stage, ask

ROWS = 100_000
SERVICES = ("router", "whatsapp-sender")
_SECONDS = 300
_NUMBER = "1065000000000"

_FLOOD = """
insert into sends (org_id, message_id, attempt, channel, conversation_id, sequence, account, command, due_at,
    expires_at, created_at)
select 'neighbour', gen_random_uuid(), 1, 'whatsapp', gen_random_uuid(), n, $2, '{"route": "session"}',
       now(), now() + interval '1 day', now()
  from generate_series(1, $1::bigint) n
"""
_PAUSE = (
    "insert into pauses (channel, provider, account, scope, until_at, reason)"
    " values ('whatsapp', 'meta', $1, 'all', now() + interval '1 day', '130429')"
)
_EBB = ("delete from sends where org_id = 'neighbour'", "delete from pauses", "vacuum sends")


@dataclass(frozen=True, slots=True)
class Pair:
    """Milliseconds from an intent to the provider's call, median and 99th percentile, without and beside the flood."""

    without: tuple[float, float]
    beside: tuple[float, float]


async def part(bench: Bench) -> None:
    """The floor of a lone message beside a flood is the same message without it."""
    name = f"intent → provider call beside {ROWS:,} rows of a throttled number"
    later = "later than without them"
    try:
        for number in range(1, bench.size.rounds + 1):
            bench.say(f"neighbour, round {number}: {bench.size.few:,} conversations")
            found = await pair(bench.stage, bench.size.few, bench.size.pace_seconds)
            for p, without, beside in zip(("p50", "p99"), found.without, found.beside, strict=True):
                bench.values(f"{name}, {p}", "floor").append(without)
                bench.values(f"{name}, {p}").append(beside)
                bench.values(f"{later}, {p}").append(beside - without)
    finally:
        for p in ("p50", "p99"):
            bench.figure(f"{name}, {p}", "ms", "less")
            bench.figure(f"{later}, {p}", "ms", "less")


async def pair(stage: Stage, population: int, seconds: float) -> Pair:
    """Both, one after the other."""
    topics = tuple(dict.fromkeys((*ROUTER_TOPICS, *SENDER_TOPICS)))
    async with stage.ground(population, topics) as ground, AsyncExitStack() as running:
        processes = [await running.enter_async_context(ground.service(name, load=None)) for name in SERVICES]
        without = await _called(stage, ground, processes, seconds)
        db = await asyncpg.connect(ground.dsn, timeout=10, command_timeout=_SECONDS)
        try:
            await db.execute(_PAUSE, _NUMBER)
            await db.execute(_FLOOD, ROWS, _NUMBER)
            beside = await _called(stage, ground, processes, seconds)
            for statement in _EBB:
                await db.execute(statement)
        finally:
            await db.close()
        return Pair(without, beside)


async def _called(stage: Stage, ground: Ground, processes: Sequence[Running], seconds: float) -> tuple[float, float]:
    given = {
        "kind": "intents",
        "rate": IDLE,
        "seconds": seconds,
        "port": 0,
        "population": ground.population,
        "bootstrap": ground.connection.bootstrap,
        "prefix": ground.connection.topic_prefix,
        "sandbox": stage.sandbox,
    }
    found = (await ask("paced", given, processes))["called"]
    return percentile(found, 0.5), percentile(found, 0.99)
