"""Ingest as a process, configured by its environment alone."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from deploy.local.servers.ports import free_port
from deploy.local.servers.postgres import PostgresServer
from libs.common.db.migrate import migrate
from libs.common.db.pool import open_pool
from tests.support import world
from tests.support.child_guard import ends_with_us
from tests.support.command import COMMAND
from tests.support.ingest import ORG, SECRETS, VERIFY_TOKEN, now
from tests.support.logs import validated
from tests.support.sandbox import ROOT
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually_true
from tests.support.webhooks import NUMBER, a_message, as_body, of_messages, sign


def started(port: int, *, role: str = "all", **environment: str) -> subprocess.Popen[str]:
    command = [*COMMAND, "run", "ingest", "--port", str(port), *(() if role == "all" else ("--role", role))]
    given = {"PATH": os.environ["PATH"]} | {f"TRANSOM_{name}": value for name, value in environment.items()}
    process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ends_with_us(process.pid)
    return process


async def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code and what it said, once it has ended; it does not outlive a test that fails before."""
    with ending(process):
        out, err = await asyncio.to_thread(process.communicate, timeout=60)
    return process.returncode, out, err


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def environment(database: str, kafka_bootstrap: str, topic_prefix: str, redis_url: str) -> dict[str, str]:
    return {
        "POSTGRES_DSN": database,
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TOPIC_PREFIX": topic_prefix,
        "REDIS_URL": redis_url,
        "META_APP_SECRETS": "old-secret,new-secret",
        "META_VERIFY_TOKEN": VERIFY_TOKEN,
        "HTTP_HOST": "127.0.0.1",
    }


async def test_it_takes_a_webhook_and_drains_on_a_signal(topics: OwnTopics, environment: dict[str, str]) -> None:
    await topics.create()
    port = free_port()
    process = started(port, **environment)
    body = as_body(of_messages(a_message(now())))
    with ending(process):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            await ready(http, process)
            answer = await http.post(
                "/webhooks/meta", content=body, headers={"X-Hub-Signature-256": sign(body, SECRETS[1])}
            )
            assert answer.status_code == 200
            assert (await http.post("/webhooks/twilio/status", content="MessageSid=SM1")).status_code == 403
            assert "transom_webhooks_total" in (await http.get("/metrics")).text
        process.send_signal(signal.SIGTERM)
        code, out, err = await ended(process)
    assert (code, err) == (0, "")
    events = [line["event"] for line in validated(out)]
    assert (events[0], events[-1]) == ("service.started", "service.drained")
    assert "webhook.received" in events


async def test_it_takes_away_that_statistics_found_a_table_empty(
    topics: OwnTopics, environment: dict[str, str], database: str
) -> None:
    await topics.create()
    port = free_port()
    async with open_pool(database, application_name="test", size=1) as pool, pool.acquire() as db:
        await db.execute(
            "select pg_restore_relation_stats('schemaname', 'public', 'relname', 'messages', "
            "'relpages', 900, 'reltuples', 0::real)"
        )
        with ending(started(port, **environment)):
            await eventually_true(lambda: db.fetchval("select reltuples < 0 from pg_class where relname = 'messages'"))


async def ready(http: httpx.AsyncClient, process: subprocess.Popen[str]) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await http.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert process.poll() is None, process.communicate()
            await asyncio.sleep(0.05)


async def posted(http: httpx.AsyncClient, text: str) -> int:
    body = as_body(of_messages(a_message(now(), text)))
    answer = await http.post("/webhooks/meta", content=body, headers={"X-Hub-Signature-256": sign(body, SECRETS[1])})
    return answer.status_code


async def test_an_edge_of_its_own_needs_kafka_alone_and_a_worker_of_its_own_does_the_rest(
    topics: OwnTopics, environment: dict[str, str], database: str
) -> None:
    await topics.create()
    async with open_pool(database, application_name="test", size=1) as pool, pool.acquire() as db:
        await world.an_org(db, ORG, NUMBER)
    nowhere = {"POSTGRES_DSN": "postgresql://127.0.0.1:1/x", "REDIS_URL": "redis://127.0.0.1:1"}
    ports = free_port(), free_port()
    an_edge = started(ports[0], role="edge", **(environment | nowhere))
    worker = started(ports[1], role="worker", **environment)
    with ending(an_edge), ending(worker):
        for process, port in zip((an_edge, worker), ports, strict=True):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
                await ready(http, process)
                assert await posted(http, "Hello") == (200 if process is an_edge else 404)
        await stored(database, 1)
        for process in (an_edge, worker):
            process.send_signal(signal.SIGTERM)
            assert (await ended(process))[0] == 0


@pytest.mark.timeout(240)
async def test_webhooks_are_taken_though_postgres_was_never_there_and_stored_when_it_comes(
    topics: OwnTopics, environment: dict[str, str], own_postgres: PostgresServer
) -> None:
    await topics.create()
    await migrate(own_postgres.address)
    async with open_pool(own_postgres.address, application_name="test", size=1) as pool, pool.acquire() as db:
        await world.an_org(db, ORG, NUMBER)
    await asyncio.to_thread(own_postgres.stop)
    port = free_port()
    process = started(
        port, **(environment | {"POSTGRES_DSN": own_postgres.address, "REDIS_URL": "redis://127.0.0.1:1"})
    )
    with ending(process):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            await ready(http, process)
            assert await posted(http, "Hello") == 200
            await asyncio.to_thread(own_postgres.start)
            await stored(own_postgres.address, 1)
            assert await posted(http, "Hello again") == 200
            await stored(own_postgres.address, 2)
        process.send_signal(signal.SIGTERM)
        code, out, _ = await ended(process)
    assert code == 0
    async with open_pool(own_postgres.address, application_name="test", size=1) as pool, pool.acquire() as db:
        [edge] = await db.fetch("select * from webhook_edges")
    assert edge["serves_since"] < edge["last_post_at"]
    assert edge["left_at"] is not None, "it said farewell"
    lines = validated(out)
    why = [line.get("detail", "") for line in lines if line["event"] == "dependency.away"]
    address = own_postgres.address.partition("@")[2].partition("/")[0]
    assert all(one.startswith(f"postgres at {address} cannot be used (") for one in why), why
    told = [line["event"] for line in lines]
    assert told.index("dependency.away") < told.index("dependency.back") < told.index("message.received")
    assert told[-1] == "service.drained"


async def stored(dsn: str, messages: int) -> None:
    """Return when so many messages stand."""
    async with open_pool(dsn, application_name="test", size=1) as pool, asyncio.timeout(60):
        while True:
            async with pool.acquire() as db:
                if await db.fetchval("select count(*) from messages") == messages:
                    return
            await asyncio.sleep(0.05)
