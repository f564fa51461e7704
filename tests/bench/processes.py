"""More processes: how one and two of a service share two cores with their servers, and what a piece costs of each.

All run on the same two cores, the first that this run may use. A way says who runs where. The topic is filled while the
services are stopped, so that all of them begin at once. Where two processes do not share the work evenly, the group
gave them unlike partitions, and the round gives no figure.

A figure per second says what two cores carry. The processor time of a piece says what more cores would carry: no figure
of this part has a floor.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Self

from libs.common.clock import utc_now
from libs.common.events.topics import Topic
from tests.bench import rates, statuses
from tests.bench.figures import interpolated
from tests.bench.machine import pin, tree_seconds
from tests.bench.rates import Filled, Work
from tests.bench.rounds import Bench
from tests.bench.stage import BenchError, Ground, Stage

ALONE, BESIDE, TWO = "one process on a core, servers on the other", "one process, servers on both", "two processes"
ADDED = "two processes to one"
_JOIN_SECONDS = 5.0
"""A member hears at its next heartbeat that another one has come."""
_LEAST_SHARE = 0.25
_LOOK_SECONDS = 0.5  # a look at all processes of the machine costs some milliseconds


@dataclass(frozen=True, slots=True)
class Job:
    """A service's work from a full topic. ``fill`` puts so many records there."""

    service: str
    topics: Sequence[Topic]
    fill: Callable[[Ground, int], Awaitable[Filled]]

    @classmethod
    def of(cls, work: Work) -> Self:
        return cls(work.service, work.topics, lambda ground, count: rates.filled(ground, work, "service", count))


JOBS: Mapping[str, Job] = {
    "through": Job.of(rates.THROUGH),
    "statuses": Job("ingest", rates.INGEST_TOPICS, lambda ground, count: statuses.filled(ground, "service", count)),
    "routing": Job.of(rates.ROUTING),
    "sending": Job.of(rates.SENDING),
}


@dataclass(frozen=True, slots=True)
class Way:
    """The cores of each process, and those of the servers."""

    processes: Sequence[Sequence[int]]
    servers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Found:
    """Pieces per second, and microseconds of processor time of each by who spent it."""

    rate: float
    each: Mapping[str, float]


async def part(bench: Bench) -> None:
    """Every service in every way; the first way, which is compared with nothing, in the first round only."""
    first, second = _cores(bench.stage)
    ways = {
        ALONE: Way([[first]], [second]),
        BESIDE: Way([[first]], [first, second]),
        TWO: Way([[first], [second]], [first, second]),
    }
    try:
        with _pinned(bench.stage):
            for number in range(1, bench.size.rounds + 1):
                for name, job in JOBS.items():
                    rate: dict[str, float] = {}
                    for way, given in ways.items():
                        if way == ALONE and number > 1:
                            continue
                        bench.say(f"processes, round {number}: {name}, {way}")
                        found = await shared(bench.stage, job, bench.size.few, 2 * bench.size.records[name], given)
                        bench.values(f"{name}, {way}").append(found.rate)
                        rate[way] = found.rate
                    for who, spent in found.each.items():
                        bench.values(f"{name}, processor time each, {who}").append(spent)
                    bench.values(f"{name}, {ADDED}").append(rate[TWO] / rate[BESIDE])
    finally:
        for name in JOBS:
            for way in ways:
                bench.figure(f"{name}, {way}", "/s", "more")
            bench.figure(f"{name}, {ADDED}", "x", "more")
            for who in ("all in all", "service", *_servers(bench.stage)):
                bench.figure(f"{name}, processor time each, {who}", "µs", "less")


async def shared(stage: Stage, job: Job, population: int, count: int, way: Way) -> Found:
    """How fast so many processes work off a full topic together, once the first tenth is over."""
    async with stage.ground(population, job.topics) as ground, AsyncExitStack() as running:
        for pid in _servers(stage).values():
            pin(pid, way.servers)
        services = []
        for cores in way.processes:
            services.append(await running.enter_async_context(ground.service(job.service, load=None)))
            pin(services[-1].process.pid, cores)
        await asyncio.sleep(_JOIN_SECONDS)
        for service in services:
            service.process.send_signal(signal.SIGSTOP)
        topic = await job.fill(ground, count)
        async with _watched(stage) as spent:
            for service in services:
                service.process.send_signal(signal.SIGCONT)
            stretch = await topic.worked_off(services[0])
        own = [service.seconds_between(stretch.begin, stretch.end) for service in services]
        if min(own) < _LEAST_SHARE * sum(own) / len(own):
            raise BenchError(f"{job.service}: the work was not shared ({', '.join(f'{one:.1f} s' for one in own)})")
        each = {"service": sum(own)} | {
            who: interpolated(points, stretch.end) - interpolated(points, stretch.begin)
            for who, points in spent.items()
        }
        each["all in all"] = sum(each.values())
        return Found(stretch.rate, {who: seconds / stretch.count * 1e6 for who, seconds in each.items()})


def _cores(stage: Stage) -> tuple[int, int]:
    """The two of this part. Raises BenchError where there are fewer, or where servers are given: those stay."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or len(_servers(stage)) < len(_SERVERS):
        raise BenchError("it needs two cores, and servers of its own to move between them")
    return cores[0], cores[1]


_SERVERS = ("PostgreSQL", "Kafka", "Valkey", "provider")


def _servers(stage: Stage) -> dict[str, int]:
    """The pid of each server that this run has started. The provider is the sandbox."""
    servers = stage.servers
    started = (servers.postgres, servers.kafka, servers.valkey)
    pids = [None if server is None else server.pid for server in started]
    return {name: pid for name, pid in zip(_SERVERS, [*pids, stage.sandbox_pid], strict=True) if pid is not None}


@contextmanager
def _pinned(stage: Stage) -> Iterator[None]:
    """The servers run on all cores again afterwards."""
    try:
        yield
    finally:
        for pid in _servers(stage).values():
            pin(pid, os.sched_getaffinity(0))


@asynccontextmanager
async def _watched(stage: Stage) -> AsyncIterator[Mapping[str, list[tuple[float, float]]]]:
    """When was looked, and what each server had spent until then, in seconds of processor time."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in _servers(stage)}

    async def look() -> None:
        while True:
            for name, pid in _servers(stage).items():
                spent[name].append((utc_now().timestamp(), tree_seconds(pid)))
            await asyncio.sleep(_LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield spent
    finally:
        looking.cancel()
