"""A service that starts while PostgreSQL stalls says so once, and goes on when it answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.local.servers.ports import LOOPBACK, free_port
from deploy.local.watchdog import Watchdog
from tests.support.logs import validated
from tests.support.service_process import ServiceProcess
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually

REQUIRED: dict[str, dict[str, str]] = {"router": {}, "inbox": {"JWT_KEYS": "s3cret-key" * 4}}


@pytest.fixture
def servers(database: str, redis_url: str, kafka_bootstrap: str, topic_prefix: str) -> dict[str, str]:
    return {
        "POSTGRES_DSN": database,
        "REDIS_URL": redis_url,
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TOPIC_PREFIX": topic_prefix,
        "HTTP_HOST": LOOPBACK,
    }


@asynccontextmanager
async def a_stalling_way_to(dsn: str, goes_on: asyncio.Event) -> AsyncIterator[str]:
    """The DSN of a port that takes connections, and passes nothing on before ``goes_on`` is set."""
    server, port = urlsplit(dsn), free_port()
    assert server.hostname is not None
    host, behind = server.hostname, server.port
    under_way: set[asyncio.Task[None]] = set()

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await goes_on.wait()
        inner_reader, inner_writer = await asyncio.open_connection(host, behind)
        for one in (copied(reader, inner_writer), copied(inner_reader, writer)):
            under_way.add(asyncio.create_task(one))

    async with await asyncio.start_server(passed_on, LOOPBACK, port):
        yield server._replace(netloc=server.netloc.replace(f"{host}:{behind}", f"{LOOPBACK}:{port}")).geturl()
        for task in under_way:
            task.cancel()


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("name", REQUIRED)
async def test_a_start_outlasts_a_postgresql_that_stalls(
    name: str, servers: dict[str, str], topics: OwnTopics, tmp_path: Path
) -> None:
    await topics.create()
    goes_on, log = asyncio.Event(), tmp_path / "log"
    with Watchdog() as watchdog:
        service = ServiceProcess(name, log, {}, watchdog)
        async with a_stalling_way_to(servers["POSTGRES_DSN"], goes_on) as dsn:
            env = servers | REQUIRED[name] | {"POSTGRES_DSN": dsn}
            service.start({f"TRANSOM_{key}": value for key, value in env.items()})
            await eventually(lambda: not service.runs or "dependency.away" in log.read_text())
            goes_on.set()
            await service.ready()
            assert await service.stop() == 0
    told = [line for line in validated(log.read_text()) if line.get("dependency") == "postgres"]
    assert [line["event"] for line in told][:2] == ["dependency.away", "dependency.back"]
    assert len([line for line in told if "stalls" in line.get("detail", "")]) == 1
