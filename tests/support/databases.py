"""A database for one test: a copy of a template that has every migration, or one that an earlier test left so.

To copy the template takes twenty times the work of emptying the tables that a test has written.
"""

import asyncio
from typing import Literal
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


async def execute(dsn: str, statement: str) -> None:
    """One statement, on a connection of its own."""
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
    await execute(server_dsn, f"create database {name}")
    await migrate(_named(server_dsn, name))
    return name


async def make_database(server_dsn: str, template: str) -> str:
    """Returns the DSN of a fresh copy."""
    name = f"transom_test_{uuid4().hex[:12]}"
    await execute(server_dsn, f"create database {name} template {template}")
    return _named(server_dsn, name)


async def drop_database(server_dsn: str, name_or_dsn: str) -> None:
    """Drop it even while connections to it are open."""
    name = urlsplit(name_or_dsn).path.lstrip("/") if "://" in name_or_dsn else name_or_dsn
    db = await asyncpg.connect(server_dsn, timeout=10)
    try:
        await queries.drop_database(db, name)
    finally:
        await db.close()


# Ids of the catalogue are those of the template in each copy. Statistics would change the plans of the next test.
_SHAPE = """
select md5(string_agg(part, E'\\n' order by part)) || (select count(*) from pg_stats where schemaname = 'public') from (
    select concat_ws(' ', oid, relname, relkind, relacl, reloptions, relispartition, relforcerowsecurity)
      from pg_class
     where relnamespace = 'public'::regnamespace
    union all
    select concat_ws(' ', attrelid, attname, atttypid, attnotnull, attisdropped, attacl) from pg_attribute
      join pg_class c on c.oid = attrelid where relnamespace = 'public'::regnamespace
    union all
    select concat_ws(' ', adrelid, adnum, pg_get_expr(adbin, adrelid)) from pg_attrdef
    union all
    select concat_ws(' ', oid, conname, pg_get_constraintdef(oid)) from pg_constraint
     where connamespace = 'public'::regnamespace
    union all
    select concat_ws(' ', i.indexrelid, i.indisvalid, i.indisready) from pg_index i
      join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'public'::regnamespace
    union all
    select concat_ws(' ', oid, proname, md5(prosrc), proacl) from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select concat_ws(' ', oid, tgrelid, tgname, tgenabled) from pg_trigger where not tgisinternal
    union all
    select concat_ws(' ', sequencename, last_value) from pg_sequences where schemaname = 'public'
    union all
    select concat_ws(' ', oid, nspname, nspacl) from pg_namespace where nspname !~ '^pg_'
    union all
    select concat_ws(' ', s.setrole, s.setconfig) from pg_db_role_setting s
      join pg_database d on d.oid = s.setdatabase where d.datname = current_database()
) as u (part)
"""
_ALONE = """
select pg_terminate_backend(pid, 10000) from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
"""
_WRITTEN = """
select quote_ident(relname) from pg_class
 where relnamespace = 'public'::regnamespace and relkind = 'r' and pg_relation_size(oid) > 0 and relname <> all($1)
"""
_SLOW = """
create function slow() returns trigger language plpgsql as $$ begin
    perform pg_sleep({seconds});
    return coalesce(new, old);
end $$;
create trigger slow before {change} on {table} for each row execute function slow()
"""
_COUNTED = """
select quote_ident(sequencename) from pg_sequences where schemaname = 'public' and last_value is not null
"""


class Databases:
    """Databases that have the schema of the template and nothing in it, one after the other for as many tests.

    A test that changes the schema, its settings, its statistics or what the migrations stored uses its database up.
    What PostgreSQL counts of a database (``pg_stat_…``) goes on over the tests.
    """

    def __init__(self, server_dsn: str, template: str) -> None:
        self._server, self._template = server_dsn, template
        self._free: list[str] = []
        self._clean = ""
        self._stored: list[str] = []
        """The tables in which the migrations stored something."""

    async def take(self) -> str:
        """The DSN of one that nobody else has."""
        if self._free:
            return self._free.pop()
        dsn = await make_database(self._server, self._template)
        if not self._clean:
            db = await asyncpg.connect(dsn, timeout=10)
            try:
                self._stored = [row[0] for row in await db.fetch(_WRITTEN, [])]
                self._clean = await self._state(db)
            finally:
                await db.close()
        return dsn

    async def give_back(self, dsn: str) -> None:
        """The test is over: empty it for the next one, or drop it where it is not what it was."""
        if await self._emptied(dsn):
            self._free.append(dsn)
        else:
            await drop_database(self._server, dsn)

    async def close(self) -> None:
        """Drop those that nobody has."""
        while self._free:
            await drop_database(self._server, self._free.pop())

    async def _emptied(self, dsn: str) -> bool:
        try:
            db = await asyncpg.connect(dsn, timeout=10, command_timeout=20)
        except (asyncpg.PostgresError, OSError):
            return False
        try:
            await db.execute(_ALONE)
            if written := [row[0] for row in await db.fetch(_WRITTEN, self._stored)]:
                await db.execute(f"truncate {', '.join(written)} cascade")
            for row in await db.fetch(_COUNTED):
                await db.execute(f"alter sequence {row[0]} restart")
            return await self._state(db) == self._clean
        except (asyncpg.PostgresError, TimeoutError):
            return False
        finally:
            db.terminate()

    async def _state(self, db: Connection) -> str:
        stored = [
            await db.fetchval(f"select string_agg(t::text, ' ' order by t::text) from {table} t")
            for table in self._stored
        ]
        return f"{await db.fetchval(_SHAPE)} {stored}"


async def somebody_waits(db: Connection) -> None:
    """Return when another session waits for a lock that this one's open transaction holds."""
    waits = "select exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await db.fetchval(waits):  # noqa: ASYNC110 -- it happens in the server
            await asyncio.sleep(0.01)


async def slow_down(db: Connection, change: Literal["update", "delete"], table: str, seconds: float) -> None:
    """From now on each row of the table takes so long to be changed so: a test's own database."""
    await db.execute(_SLOW.format(change=change, table=table, seconds=seconds))
