"""The servers a test run uses: one of each kind, started when first needed, real ones only.

Each kind is chosen by itself: the address in TRANSOM_TEST_* if given, else a container where a Docker engine answers,
else the server of ``deploy/local``. Nothing outlives the run: containers go with testcontainers' reaper, processes with
the watchdog.
"""

import asyncio
import functools
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path

import asyncpg
import redis

from deploy.local.servers import ServerError, kafka_probe
from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.postgres import ROLE, PostgresServer
from deploy.local.servers.server import Server
from deploy.local.servers.valkey import ValkeyServer
from deploy.local.watchdog import Watchdog
from tests.support import containers


class Kind(StrEnum):
    KAFKA = "Kafka"
    POSTGRES = "PostgreSQL"
    REDIS = "Valkey"


GIVEN = {
    Kind.KAFKA: "TRANSOM_TEST_KAFKA_BOOTSTRAP",
    Kind.POSTGRES: "TRANSOM_TEST_POSTGRES_DSN",
    Kind.REDIS: "TRANSOM_TEST_REDIS_URL",
}


class RunServers:
    """One per test run; thread-safe. ``close`` ends everything it started."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._open = ExitStack()
        self._started: dict[Kind, str] = {}
        self._ran_on: dict[Kind, str] = {}
        self._locks = {kind: threading.Lock() for kind in Kind}

    def address(self, kind: Kind) -> str:
        """Where the run's server of this kind is; it is started if it does not run yet."""
        with self._locks[kind]:
            if kind not in self._started:
                address, origin = self._start(kind)
                self._ran_on[kind] = f"{_version(kind, address)} ({origin})"
                self._started[kind] = address
            return self._started[kind]

    def start(self, kinds: Iterable[Kind]) -> None:
        """Start several at once."""
        with ThreadPoolExecutor(len(Kind)) as pool:
            list(pool.map(self.address, kinds))

    def ran_on(self) -> str | None:
        """What this run ran on, in one line; None when no test asked for a server."""
        return ", ".join(self._ran_on[kind] for kind in Kind if kind in self._ran_on) or None

    @functools.cached_property
    def watchdog(self) -> Watchdog:
        return self._open.enter_context(Watchdog())

    def close(self) -> None:
        self._open.close()

    def _start(self, kind: Kind) -> tuple[str, str]:
        if given := self._environ.get(GIVEN[kind]):
            return given, GIVEN[kind]
        if containers.docker_answers():
            return self._open.enter_context(containers.START[kind.value]()), "testcontainers"
        return self._start_local(kind), "deploy/local"

    def _start_local(self, kind: Kind) -> str:
        server = local_server(kind, self._folder / kind.value.lower(), self.watchdog)
        self._open.callback(server.remove)
        self._open.callback(server.stop)
        server.start()
        return server.address

    @functools.cached_property
    def _folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="transom-tests-"))
        self._open.callback(shutil.rmtree, folder, ignore_errors=True)
        self.watchdog.scratch(folder)
        return folder


def local_server(kind: Kind, folder: Path, watchdog: Watchdog) -> Server:
    """A server of ``deploy/local`` that is not started yet and need not survive the machine."""
    match kind:
        case Kind.KAFKA:
            return KafkaServer(folder, watchdog)
        case Kind.POSTGRES:
            return PostgresServer(folder, watchdog, durable=False, rights=[f"alter role {ROLE} createdb"])
        case Kind.REDIS:
            return ValkeyServer(folder, watchdog, durable=False)


def _version(kind: Kind, address: str) -> str:
    """The server's name and version in its own words. Raises ServerError when it does not."""
    ask: Callable[[str], str] = {
        Kind.KAFKA: _kafka_version,
        Kind.POSTGRES: _postgres_version,
        Kind.REDIS: _redis_version,
    }[kind]
    try:
        return ask(address)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, redis.RedisError) as error:
        raise ServerError(
            f"{kind.value} does not answer ({type(error).__name__}): is its address right, also in {GIVEN[kind]}?"
        ) from error


def _kafka_version(bootstrap: str) -> str:
    host, _, port = bootstrap.partition(",")[0].rpartition(":")
    if not kafka_probe.serves(host, int(port)):
        raise ConnectionError
    return "Kafka"


def _postgres_version(dsn: str) -> str:
    async def ask() -> str:
        db = await asyncpg.connect(dsn, timeout=10)
        try:
            return str(await db.fetchval("show server_version"))
        finally:
            await db.close()

    with ThreadPoolExecutor(1) as apart:  # this thread may have an event loop that runs
        return f"PostgreSQL {apart.submit(asyncio.run, ask()).result()}"


def _redis_version(url: str) -> str:
    with redis.Redis.from_url(url) as client:
        info = client.info("server")
    version = info.get("valkey_version")
    return f"Valkey {version}" if version else f"Redis {info['redis_version']}"
