"""A database for one test: a copy of a template that has every migration."""

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from deploy.local import queries
from libs.common.db.migrate import migrate
from libs.common.db.pool import Connection
from tests.support.waiting import DEADLINE_SECONDS


def _named(dsn: str, database: str) -> str:
    """The same server and user, another database."""
    return urlsplit(dsn)._replace(path=f"/{database}").geturl()


async def _execute(dsn: str, statement: str) -> None:
    db = await asyncpg.connect(dsn, timeout=10)
    try:
        await db.execute(statement)
    finally:
        await db.close()


async def make_template(server_dsn: str) -> str:
    """A migrated database that others are copied from; returns its name.

    One per run: another run may migrate otherwise.
    """
    name = f"transom_template_{uuid4().hex[:12]}"
    await _execute(server_dsn, f"create database {name}")
    await migrate(_named(server_dsn, name))
    return name


async def make_database(server_dsn: str, template: str) -> str:
    """Returns the DSN of a fresh copy."""
    name = f"transom_test_{uuid4().hex[:12]}"
    await _execute(server_dsn, f"create database {name} template {template}")
    return _named(server_dsn, name)


async def drop_database(server_dsn: str, name_or_dsn: str) -> None:
    """Drop it even while connections to it are open."""
    name = urlsplit(name_or_dsn).path.lstrip("/") if "://" in name_or_dsn else name_or_dsn
    db = await asyncpg.connect(server_dsn, timeout=10)
    try:
        await queries.drop_database(db, name)
    finally:
        await db.close()


async def somebody_waits(db: Connection) -> None:
    """Return when another session waits for a lock that this one's open transaction holds."""
    waits = "select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await db.fetchval(waits):  # noqa: ASYNC110 -- it happens in the server
            await asyncio.sleep(0.01)
