"""One system for all end-to-end tests that leave the servers alone. It ends with the last of them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from tests.e2e.field import Field
from tests.support import databases
from tests.support.redis_leases import leased_database
from tests.support.servers import Kind, RunServers
from tests.support.standin import StandIn
from tests.support.system import Servers, System
from tests.support.topics import OwnTopics

Place = Callable[[str], Awaitable[Servers]]
"""Makes what a system runs on, under a name of its own; it is gone when the run ends."""

PARTITIONS = 2
SHORT = {
    "SEND_TIMEOUT_SECONDS": "4",
    "SEND_LEASE_SECONDS": "5",
    "SEND_GRACE_SECONDS": "7",
    "SEND_SETTLING_SECONDS": "1",
    "SMS_GRACE_SECONDS": "9",
}
"""A provider that a busy machine holds up for some seconds still answers in time."""


@pytest_asyncio.fixture(scope="package")
async def a_place(
    run_servers: RunServers, kafka_admin: AIOKafkaAdminClient, database_template: str, redis_server: str
) -> AsyncIterator[Place]:
    """Topics, a database and a Redis database of its own for each system that a run needs."""
    kafka_bootstrap, postgres_dsn = run_servers.address(Kind.KAFKA), run_servers.address(Kind.POSTGRES)
    async with AsyncExitStack() as ending:

        async def make(name: str) -> Servers:
            topics = OwnTopics(kafka_admin, f"{name}-{uuid4().hex[:12]}.")
            ending.push_async_callback(topics.delete)
            await topics.create(partitions=PARTITIONS)
            dsn = await databases.make_database(postgres_dsn, database_template)
            ending.push_async_callback(databases.drop_database, postgres_dsn, dsn)
            redis_url = ending.enter_context(leased_database(redis_server, seconds=3600))
            return Servers(kafka_bootstrap, topics.prefix, dsn, redis_url)

        yield make


@pytest_asyncio.fixture(scope="package")
async def shared_system(
    a_place: Place, run_servers: RunServers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    folder = tmp_path_factory.mktemp("system")
    async with System(await a_place("e2e"), run_servers.watchdog, folder, **SHORT) as system:
        yield system


@pytest_asyncio.fixture
async def system(shared_system: System) -> AsyncIterator[System]:
    """The system, whole. After the test every log line is in order and holds nothing private."""
    await shared_system.mend()
    yield shared_system
    _in_order(shared_system)


@pytest_asyncio.fixture(scope="package")
async def shared_field(
    a_place: Place, run_servers: RunServers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Field]:
    folder = tmp_path_factory.mktemp("field")
    async with StandIn() as standin:
        addresses = {"GRAPH_BASE_URL": standin.url, "TWILIO_BASE_URL": standin.url}
        async with System(await a_place("field"), run_servers.watchdog, folder, **SHORT, **addresses) as system:
            yield Field(system, standin)


@pytest_asyncio.fixture
async def field(shared_field: Field) -> AsyncIterator[Field]:
    """The system against providers that answer as the test says."""
    await shared_field.system.mend()
    shared_field.standin.reset()
    yield shared_field
    _in_order(shared_field.system)


def _in_order(system: System) -> None:
    """Every log line follows the schema, tells of no bug, and holds nothing private."""
    assert not system.leaks()
    bugs = {"task.failed", "service.failed", "consumer.stopped"}
    assert [line for line in system.lines() if line["event"] in bugs] == []
