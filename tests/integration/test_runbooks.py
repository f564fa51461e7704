"""Every command of every runbook runs, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.servers.ports import LOOPBACK, free_port
from libs.common.service import Service
from libs.common.settings import load
from services.router.app import run
from services.router.settings import RouterSettings
from tests.support.databases import Databases
from tests.support.promtool import run_promtool
from tests.support.redis_leases import leased_database
from tests.support.runbook_rows import trouble
from tests.support.runbook_runs import Ground, run_shell, run_sql
from tests.support.runbooks import DO, PROVES, Block, filled, pages
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually

BLOCKS = [block for page in pages() for block in page.blocks]


def of(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


@asynccontextmanager
async def a_troubled_database(databases: Databases) -> AsyncIterator[str]:
    """A database in which every trouble has happened."""
    dsn = await databases.take()
    await trouble(dsn)
    yield dsn
    await databases.give_back(dsn)


@pytest_asyncio.fixture(scope="module")
async def troubled(empty_databases: Databases) -> AsyncIterator[str]:
    """Queries leave it as it is."""
    async with a_troubled_database(empty_databases) as dsn:
        yield dsn


@pytest_asyncio.fixture(scope="module")
async def ground(
    empty_databases: Databases, redis_server: str, kafka_bootstrap: str, kafka_admin: AIOKafkaAdminClient
) -> AsyncIterator[Ground]:
    """A router runs on these servers. Commands write to its database, so it is another one than that of the queries."""
    topics = OwnTopics(kafka_admin, f"t-runbooks-{free_port()}.")
    await topics.create()
    async with AsyncExitStack() as opened:
        dsn = await opened.enter_async_context(a_troubled_database(empty_databases))
        redis_url = opened.enter_context(leased_database(redis_server))
        environment = opened.enter_context(pytest.MonkeyPatch.context())
        settings = {
            "TRANSOM_POSTGRES_DSN": dsn,
            "TRANSOM_REDIS_URL": redis_url,
            "TRANSOM_KAFKA_BOOTSTRAP": kafka_bootstrap,
            "TRANSOM_TOPIC_PREFIX": topics.prefix,
            "TRANSOM_HTTP_HOST": LOOPBACK,
            "TRANSOM_JWT_KEYS": "the-signing-key-of-the-runbooks-tests",
        }
        for name, value in settings.items():
            environment.setenv(name, value)
        loaded = load(RouterSettings)
        port = free_port()
        service = Service("router", host=LOOPBACK, port=port, drain_seconds=5)
        running = asyncio.create_task(run(loaded, service))
        await eventually(lambda: service.serving or running.done())
        yield Ground(dsn, settings, f"http://{LOOPBACK}:{port}")
        service.stop()
        await running
    await topics.delete()


@pytest.mark.parametrize("block", of("sql"), ids=lambda block: block.name)
async def test_a_query_runs_and_finds_the_state_that_it_proves(block: Block, troubled: str) -> None:
    assert await run_sql(block, troubled) == []


@pytest.mark.parametrize("block", of("sh"), ids=lambda block: block.name)
async def test_a_command_runs(block: Block, ground: Ground) -> None:
    assert await run_shell(block, ground) == []


@pytest.mark.parametrize(
    ("text", "section", "told"),
    [
        ("select * from sneds;", PROVES, 'page.md:7: UndefinedTableError: relation "sneds" does not exist'),
        ("select orgid from sends;", PROVES, "page.md:7: UndefinedColumnError"),
        ("select 1; select * from sends where state = 'pendign';", PROVES, "page.md:7: it finds nothing"),
        ("delete from sends;", PROVES, "page.md:7: ReadOnlySQLTransactionError"),
        ("begin; delete from sends; commit;", DO, ""),
        ("select * from sends where org_id = '$ORG' and message_id = '$INTENT';", PROVES, ""),
    ],
)
async def test_a_wrong_query_is_told(text: str, section: str, told: str, troubled: str) -> None:
    wrong = await run_sql(Block("page.md", 7, section, "sql", text), troubled)
    assert [one[: len(told)] for one in wrong] == ([told] if told else [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("transom explain $INTENT", ""),
        ("transom explain 01900000-0000-7000-8000-00000000dead", "exit code 2"),
        ("transom replay --dlq nothing.v1", "exit code 2"),
        ("curl -s $URL/metrics | grep transom_kafka_partitions_stopped", ""),
        ("curl -s $URL/metrics | grep transom_nothing", "transom_nothing is in no line of it"),
        ("curl -s $URL/nothing", "404"),
    ],
)
async def test_a_wrong_command_is_told(text: str, told: str, ground: Ground) -> None:
    wrong = await run_shell(Block("page.md", 7, DO, "sh", text), ground)
    assert [told in one and one.startswith("page.md:7: ") for one in wrong] == ([True] if told else [])


def test_expressions_of_the_runbooks_are_promql(promtool: Path, tmp_path: Path) -> None:
    """Of one file of rules, each is named by its place in the page."""
    rules = [{"record": f"block:{number}", "expr": filled(block.text)} for number, block in enumerate(of("promql"))]
    file = tmp_path / "runbooks.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    places = {f"block:{number}": block.name for number, block in enumerate(of("promql"))}
    ended = run_promtool(promtool, "check", "rules", str(file))
    assert ended == "", f"{ended}\n{places}"
