"""Migrations: plain SQL files, forward only, each applied once and in order.

``migrations/NNNN_name.sql`` runs in one transaction with the row that records it. Whoever migrates holds one advisory lock, so runners
that start together apply everything once. A file that changed after it was applied is an error: write a new one.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from libs.common.db.pool import Pool, unreachable
from libs.common.errors import ConfigurationError, Transient

MIGRATIONS = Path(__file__).with_name("migrations")

_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_LOCK = 0x7472616E736F6D  # "transom"
_CONNECT_SECONDS = 5.0
_LOCK_SECONDS = 120

_RECORD = """
create table if not exists schema_migrations (
    name       text        primary key,
    checksum   text        not null,
    applied_at timestamptz not null default clock_timestamp()
)
"""
_EXISTS = "select to_regclass('schema_migrations') is not null"
_APPLIED = "select name, checksum from schema_migrations"
_INSERT = "insert into schema_migrations (name, checksum) values ($1, $2)"


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Of the text without the line endings that a checkout may have changed."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


def migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Every migration in the order in which it applies. Raises ConfigurationError for a wrong name or a number used twice."""
    files = sorted(folder.glob("*.sql"))
    numbers = [file.name[:4] for file in files]
    for file in files:
        if not _NAME.fullmatch(file.name):
            raise ConfigurationError(f"migration {file.name}: the name must be NNNN_words.sql")
        if numbers.count(file.name[:4]) > 1:
            raise ConfigurationError(f"migration {file.name}: number {file.name[:4]} is used twice")
    return [Migration(file.name, file.read_text(encoding="utf-8")) for file in files]


async def migrate(dsn: str, folder: Path = MIGRATIONS) -> list[str]:
    """Apply what is not applied yet; returns the names of what was. Safe to run anywhere, at any time, by many at once.

    Raises ConfigurationError when the server cannot be used, when an applied file has changed, or when a file fails (what came before
    it stays applied, of it nothing does).
    """
    wanted = migrations(folder)
    done: list[str] = []
    async with _connected(dsn) as db:
        await db.execute(f"set lock_timeout = '{_LOCK_SECONDS}s'")
        await db.execute("select pg_advisory_lock($1)", _LOCK)
        try:
            await db.execute("set lock_timeout = 0")
            await db.execute(_RECORD)
            for migration in _missing(wanted, await _applied(db)):
                await _apply(db, migration)
                done.append(migration.name)
        finally:
            if not db.is_closed():
                await db.execute("select pg_advisory_unlock($1)", _LOCK)
    return done


async def pending(dsn: str, folder: Path = MIGRATIONS) -> list[str]:
    """Names of the migrations that are not applied yet. Raises as ``migrate`` does."""
    async with _connected(dsn) as db:
        applied = await _applied(db)
    return [migration.name for migration in _missing(migrations(folder), applied)]


def schema_check(pool: Pool, folder: Path = MIGRATIONS) -> Callable[[], Awaitable[None]]:
    """A readiness check: the server answers and has every migration that this build knows (a newer schema is fine)."""
    wanted = migrations(folder)

    async def check() -> None:
        async with pool.acquire() as db:
            applied = await _applied(db)
        if missing := _missing(wanted, applied):
            raise Transient(f"{len(missing)} migrations are not applied: run transom migrate")

    return check


async def require_schema(pool: Pool, folder: Path = MIGRATIONS) -> None:
    """At start: raises ConfigurationError with what to do when the schema is not the one this build needs."""
    try:
        await schema_check(pool, folder)()
    except Transient as error:
        raise ConfigurationError(f"postgres: {error}") from error


async def _applied(db: Any) -> dict[str, str]:
    """Checksums of the applied migrations by name; empty on a database that was never migrated."""
    return dict(await db.fetch(_APPLIED)) if await db.fetchval(_EXISTS) else {}


def _missing(wanted: list[Migration], applied: dict[str, str]) -> list[Migration]:
    for migration in wanted:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise ConfigurationError(
                f"migration {migration.name} was changed after it was applied: restore it and put the change in a new file"
            )
    return [migration for migration in wanted if migration.name not in applied]


async def _apply(db: Any, migration: Migration) -> None:
    try:
        async with db.transaction():
            await db.execute(migration.sql)
            if not db.is_in_transaction():
                raise ConfigurationError(
                    f"migration {migration.name} ends its own transaction: take COMMIT and ROLLBACK out of it"
                )
            await db.execute(_INSERT, migration.name, migration.checksum)
    except asyncpg.PostgresError as error:
        raise ConfigurationError(f"migration {migration.name} failed ({error.sqlstate}): {error.message}") from error


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Any]:
    try:
        db = await asyncpg.connect(
            dsn, timeout=_CONNECT_SECONDS, server_settings={"application_name": "transom-migrate", "timezone": "UTC"}
        )
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConfigurationError(unreachable(error)) from error
    try:
        yield db
    finally:
        try:
            await db.close(timeout=_CONNECT_SECONDS)
        except TimeoutError:
            db.terminate()
