"""Fixtures of the servers, and what is made on them for one test.

The servers start before the first test that asks for one, once per run, and outside any test's time limit. Of a run in
several processes (``-n``) the first starts them for all. A test that wipes, stops or kills a server takes one of its
own: ``own_kafka``, ``own_postgres``, ``own_valkey``.
"""

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from deploy.cli.interrupts import hear_interrupts
from deploy.local.servers import ServerError
from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.postgres import PostgresServer
from deploy.local.servers.server import Server
from deploy.local.servers.valkey import ValkeyServer
from tests.support import databases
from tests.support.examples import load_profiles
from tests.support.redis_leases import leased_database
from tests.support.servers import GIVEN, Kind, RunServers
from tests.support.topics import OwnTopics

pytest_plugins = [
    "tests.support.logs",
    "tests.support.sandbox",
    "tests.support.ingest",
    "tests.support.growth",
    "tests.support.people",
    "tests.support.sending",
    "tests.support.before",
    "tests.support.browser",
    "tests.support.image",
    "tests.support.promtool",
    "tests.support.tls_programs",
]

load_profiles()

_HERE = Path(__file__).parent
_ORDER = ("e2e", "integration", "contract", "unit")
"""The longest files first, so that the processes of a run end together. What end-to-end tests share ends with them."""

_SERVERS = pytest.StashKey[RunServers]()
AnyServer = TypeVar("AnyServer", bound=Server)

_NEEDS = {"kafka_bootstrap": Kind.KAFKA, "postgres_dsn": Kind.POSTGRES, "redis_server": Kind.REDIS}


def pytest_configure(config: pytest.Config) -> None:
    """Remove the developer's settings, and the ignored signals of a background job, from the tests."""
    hear_interrupts()
    for name in [name for name in os.environ if name.startswith("TRANSOM_") and not name.startswith("TRANSOM_TEST_")]:
        del os.environ[name]
    config.stash[_SERVERS] = RunServers(os.environ)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """A run in several processes has one server of each kind: its processes are told the addresses."""
    if session.config.option.collectonly or not session.config.getoption("numprocesses", None):
        return
    _start(session, Kind)
    servers = session.config.stash[_SERVERS]
    os.environ.update({GIVEN[kind]: servers.address(kind) for kind in Kind})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _ORDER.index(item.path.relative_to(_HERE).parts[0]))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Start what the collected tests need, all at once, before the first of them."""
    if session.config.option.collectonly:
        return
    asked = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    _start(session, [kind for name, kind in _NEEDS.items() if name in asked])


def _start(session: pytest.Session, kinds: Iterable[Kind]) -> None:
    try:
        session.config.stash[_SERVERS].start(kinds)
    except ServerError as error:
        pytest.exit(f"servers: {error}", returncode=pytest.ExitCode.INTERNAL_ERROR)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if ran_on := config.stash[_SERVERS].ran_on():
        terminalreporter.write_line(f"servers: {ran_on}")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_SERVERS].close()


@pytest.fixture(scope="session")
def run_servers(pytestconfig: pytest.Config) -> RunServers:
    return pytestconfig.stash[_SERVERS]


@pytest.fixture(scope="session")
def kafka_bootstrap(run_servers: RunServers) -> str:
    """The run's broker, shared: use ``topic_prefix`` on it."""
    return run_servers.address(Kind.KAFKA)


@pytest.fixture(scope="session")
def postgres_dsn(run_servers: RunServers) -> str:
    """The run's PostgreSQL, shared: use ``database`` on it."""
    return run_servers.address(Kind.POSTGRES)


@pytest.fixture(scope="session")
def redis_server(run_servers: RunServers) -> str:
    """The run's Valkey, shared: use ``redis_url`` on it."""
    return run_servers.address(Kind.REDIS)


@pytest_asyncio.fixture(scope="session")
async def kafka_admin(kafka_bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    yield admin
    await admin.close()


@pytest_asyncio.fixture
async def topics(kafka_admin: AIOKafkaAdminClient) -> AsyncIterator[OwnTopics]:
    """Makes topics under this test's prefix: ``await topics.create()``; whatever is under it is deleted afterwards."""
    mine = OwnTopics(kafka_admin, f"t-{uuid4().hex[:12]}.")
    yield mine
    await mine.delete()


@pytest.fixture
def topic_prefix(topics: OwnTopics) -> str:
    """This test's TOPIC_PREFIX."""
    return topics.prefix


@pytest_asyncio.fixture(scope="session")
async def database_template(postgres_dsn: str) -> AsyncIterator[str]:
    name = await databases.make_template(postgres_dsn)
    yield name
    await databases.drop_database(postgres_dsn, name)


@pytest_asyncio.fixture(scope="session")
async def empty_databases(postgres_dsn: str, database_template: str) -> AsyncIterator[databases.Databases]:
    mine = databases.Databases(postgres_dsn, database_template)
    yield mine
    await mine.close()


@pytest_asyncio.fixture
async def database(empty_databases: databases.Databases) -> AsyncIterator[str]:
    """The DSN of this test's own database, with every migration and nothing in it."""
    dsn = await empty_databases.take()
    yield dsn
    await empty_databases.give_back(dsn)


@pytest.fixture
def redis_url(redis_server: str) -> Iterator[str]:
    """The URL of this test's own, empty Redis database. FLUSHALL, CONFIG and SHUTDOWN belong on ``own_valkey``."""
    with leased_database(redis_server) as url:
        yield url


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder to which every user of the machine finds a way."""
    with TemporaryDirectory(prefix="transom-open-") as parent:
        Path(parent).chmod(0o755)
        yield Path(parent)


@pytest.fixture
def own_kafka(run_servers: RunServers, tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker to stop, kill, pause and restart."""
    yield from _running(KafkaServer(tmp_path / "own-kafka", run_servers.watchdog))


@pytest.fixture
def own_postgres(run_servers: RunServers, tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL to stop, kill, pause and restart; its database is empty."""
    yield from _running(PostgresServer(tmp_path / "own-postgres", run_servers.watchdog, durable=False))


@pytest.fixture
def own_valkey(run_servers: RunServers, tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey to stop, kill, pause and wipe."""
    yield from _running(ValkeyServer(tmp_path / "own-valkey", run_servers.watchdog, durable=False))


def _running(server: AnyServer) -> Iterator[AnyServer]:
    server.start()
    yield server
    server.kill()
    server.remove()
