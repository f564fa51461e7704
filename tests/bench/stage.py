"""What every run needs: the servers, the seeded databases, an environment and topics of its own, and processes that are
watched while they run.
"""

import asyncio
import contextlib
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any
from uuid import uuid4

import psutil

from deploy.local.environment import Ports, environment, surroundings
from deploy.local.servers.local_servers import LocalServers
from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.clock import utc_now
from libs.common.events.topics import Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.settings import KafkaSettings
from tests.bench import pipe, seed
from tests.bench.figures import interpolated
from tests.bench.floors.raw import READY
from tests.bench.machine import CpuClock, tree_seconds
from tests.bench.traffic import PORTAL, PORTAL_KEYS, SECRET, TWILIO_ACCOUNT

_START_SECONDS, _STOP_SECONDS, _RUN_SECONDS = 45.0, 10.0, 180.0
_LOOK_SECONDS = 0.1
_SPENDING_SECONDS = 0.5  # a look at all processes of the run costs some milliseconds
_READY_LOOK_SECONDS = 0.02
_OK = 200


class BenchError(Exception):
    """A run that gave no figure; the message says which process failed and what it said last."""


@dataclass(slots=True)
class Running:
    """A process of a run. ``peak_mb``: the most resident memory it was seen to have.

    ``ready_seconds``: from its start until it said that it is ready.
    """

    name: str
    process: Popen[bytes]
    port: int
    log: Path
    peak_mb: float = 0.0
    ready_seconds: float = 0.0
    spent: list[tuple[float, float]] = field(default_factory=list)
    """When it was looked at, and its processor time until then, in seconds."""

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def resident_mb(self) -> float:
        """Of the process alone, now; its peak follows."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).memory_info().rss / 1024**2
            self.peak_mb = max(self.peak_mb, found)
            return float(found)
        return 0.0

    def processor_seconds(self) -> float:
        """Processor time that it has spent until now; 0 when it has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            times = psutil.Process(self.process.pid).cpu_times()
            return float(times.user + times.system)
        return 0.0

    def look(self) -> None:
        """Note what it has spent and what it weighs."""
        if seconds := self.processor_seconds():
            self.spent.append((utc_now().timestamp(), seconds))
        self.resident_mb()

    def seconds_between(self, begin: float, end: float) -> float:
        """Processor time it spent between two instants, as far as the samples show."""
        return interpolated(self.spent, end) - interpolated(self.spent, begin)

    def check(self) -> None:
        """Raises BenchError when it has ended."""
        if self.process.poll() is not None:
            tail = " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])
            raise BenchError(f"{self.name} ended with {self.process.returncode}: {tail}")


@dataclass(slots=True)
class Stage:
    """``databases``: DSN by population. ``sandbox``: the address of the immediate providers."""

    servers: LocalServers
    folder: Path
    databases: Mapping[int, str]
    sandbox: str = ""
    sandbox_pid: int | None = None
    resident: dict[tuple[str, int, str], list[float]] = field(default_factory=dict)
    """Peak memory of the runs by service, population and load, in MB and in the order of the runs."""

    @contextlib.asynccontextmanager
    async def ground(self, population: int, topics: Sequence[Topic]) -> AsyncIterator["Ground"]:
        """Topics under a prefix of their own, on a database of that population."""
        addresses = self.servers.addresses
        async with seed.of_a_run(addresses.postgres_dsn, self.databases[population], population) as dsn:
            prefix = f"bench-{uuid4().hex[:8]}."
            given = {
                "TRANSOM_POSTGRES_DSN": dsn,
                "TRANSOM_TOPIC_PREFIX": prefix,
                "TRANSOM_META_APP_SECRETS": SECRET,
                "TRANSOM_GRAPH_BASE_URL": self.sandbox,
                "TRANSOM_TWILIO_BASE_URL": self.sandbox,
                "TRANSOM_PORTAL_URL": str(PORTAL),
                "TRANSOM_PORTAL_LINK_KEYS": PORTAL_KEYS,
            } | SANDBOX_KEYS
            env = environment(addresses, Ports.choose(None), {k: v for k, v in given.items() if v}, {})
            connection = KafkaSettings(kafka_bootstrap=addresses.kafka_bootstrap, topic_prefix=prefix).kafka_connection(
                "transom-bench"
            )
            async with pipe.topics(connection, topics):
                yield Ground(self, population, env, connection)

    @contextlib.asynccontextmanager
    async def spending(self) -> AsyncIterator[list[tuple[float, float]]]:
        """When was looked, and the processor time until then of this run's processes and servers, providers left out.

        Nothing where servers are given: those are not this run's.
        """
        spent: list[tuple[float, float]] = []
        if self.servers.given.kafka_bootstrap or self.servers.given.postgres_dsn:
            yield spent
            return

        async def look() -> None:
            while True:
                providers = 0.0 if self.sandbox_pid is None else tree_seconds(self.sandbox_pid)
                spent.append((utc_now().timestamp(), CpuClock.read().ours - providers))
                await asyncio.sleep(_SPENDING_SECONDS)

        looking = asyncio.create_task(look())
        try:
            yield spent
        finally:
            looking.cancel()

    @contextlib.asynccontextmanager
    async def process(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], port: int = 0
    ) -> AsyncIterator[Running]:
        """Run ``python argv…`` until the block ends. Its output goes to a file."""
        log = self.folder / f"{name}-{uuid4().hex[:6]}.log"
        process = self.servers.watchdog.spawn(
            [sys.executable, *argv], output=log, env=env, base=surroundings(os.environ)
        )
        running = Running(name, process, port, log)
        watching = asyncio.create_task(_watch(running))
        try:
            yield running
        finally:
            watching.cancel()
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    while process.poll() is None:  # noqa: ASYNC110 -- a process of another's making has no future
                        await asyncio.sleep(_LOOK_SECONDS)
            process.kill()
            await asyncio.to_thread(process.wait)
            self.servers.watchdog.forget(process.pid)


@dataclass(slots=True)
class Ground:
    """Where one run takes place."""

    stage: Stage
    population: int
    env: Mapping[str, str]
    connection: KafkaConnection

    @property
    def dsn(self) -> str:
        return self.env["TRANSOM_POSTGRES_DSN"]

    @contextlib.asynccontextmanager
    async def service(self, name: str, *, load: str | None) -> AsyncIterator[Running]:
        """A ready service, started as ``transom run`` does. Its peak memory is recorded under ``load``."""
        port = free_port()
        argv = ["-m", "deploy.cli", "run", name, "--port", str(port)]
        began = utc_now()
        async with self.stage.process(name, argv, self.env, port) as running:
            await _until(running, lambda: _answers(f"{running.url}/readyz"), _READY_LOOK_SECONDS)
            running.ready_seconds = (utc_now() - began).total_seconds()
            yield running
        if load is not None:
            self.stage.resident.setdefault((name, self.population, load), []).append(running.peak_mb)

    @contextlib.asynccontextmanager
    async def floor(self, name: str) -> AsyncIterator[Running]:
        """A floor, ready."""
        port = free_port()
        argv = ["-m", f"tests.bench.floors.{name}", str(port)]
        async with self.stage.process(f"floor-{name}", argv, self.env, port) as running:
            await _until(running, lambda: READY in running.log.read_text() or _answers(running.url))
            yield running

    @contextlib.asynccontextmanager
    async def holder(self) -> AsyncIterator[Running]:
        """Keeps ingest's partitions, so that an ingest that starts later is an edge alone."""
        argv = ["-m", "tests.bench.load.holder", self.connection.bootstrap, self.connection.topic_prefix]
        async with self.stage.process("holder", argv, self.env) as running:
            await _until(running, lambda: "held" in running.log.read_text())
            yield running


SANDBOX_KEYS = {
    "TRANSOM_WHATSAPP_TOKEN": "bench-graph-token",
    "TRANSOM_TWILIO_ACCOUNT_SID": TWILIO_ACCOUNT,
    "TRANSOM_TWILIO_AUTH_TOKENS": "bench-twilio-token",
}


@contextlib.asynccontextmanager
async def sandbox(stage: Stage) -> AsyncIterator[Running]:
    """Immediate providers: they answer at once and send no webhooks."""
    port = free_port()
    argv = ["-m", "deploy.local.sandbox", "--immediate", "--port", str(port), "--keep", "20000"]
    argv += [
        "--token",
        SANDBOX_KEYS["TRANSOM_WHATSAPP_TOKEN"],
        "--twilio-sid",
        SANDBOX_KEYS["TRANSOM_TWILIO_ACCOUNT_SID"],
    ]
    argv += ["--twilio-token", SANDBOX_KEYS["TRANSOM_TWILIO_AUTH_TOKENS"]]
    async with stage.process("sandbox", argv, {}, port) as running:
        await _until(running, lambda: _answers(f"{running.url}/_control/health"))
        stage.sandbox, stage.sandbox_pid = running.url, running.process.pid
        yield running


async def ask(module: str, given: Mapping[str, Any], watched: Sequence[Running]) -> dict[str, Any]:
    """Run a load generator to its end; its answer. Raises BenchError when it, or a process of ``watched``, fails."""
    load = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.bench.load.{module}", json.dumps(given)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_RUN_SECONDS):
            out, err = await load.communicate()
    except TimeoutError:
        load.kill()
        raise BenchError(f"the load {module} took longer than {_RUN_SECONDS:.0f} s") from None
    for running in watched:
        running.check()
    if load.returncode:
        raise BenchError(f"the load {module} failed: {err.decode(errors='replace').strip()[-400:]}")
    found: dict[str, Any] = json.loads(out)
    return found


async def _watch(running: Running) -> None:
    while True:
        running.look()
        await asyncio.sleep(_LOOK_SECONDS)


async def _until(running: Running, done: Any, every: float = _LOOK_SECONDS) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await asyncio.to_thread(done):
                running.check()
                await asyncio.sleep(every)
    except TimeoutError:
        raise BenchError(f"{running.name} was not ready after {_START_SECONDS:.0f} s (log: {running.log})") from None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == _OK)
    except (urllib.error.URLError, OSError):
        return False
