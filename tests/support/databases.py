"""A database for one test: a copy of a template that has every migration."""

from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from libs.common.db.migrate import migrate


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
    """A migrated database that others are copied from; returns its name. One per run: another run may migrate otherwise."""
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
    await _execute(server_dsn, f"drop database if exists {name} with (force)")
