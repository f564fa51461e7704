"""``transom migrate``: migration files are applied in order, once, forward only, while services run.

Rule 1: a runner holds one advisory lock of its session, so runners that start together apply everything once. Others
        poll for the lock: a statement that waits for it would block every ``create index concurrently`` of its holder.
Rule 2: a statement that waits for a lock blocks everybody behind it. So it waits for ``LOCK_WAIT`` at most; then the
        file is rolled back, traffic flows for a while, and the file is tried again.
Rule 3: a file runs in one transaction with the row that records it. A file marked at its top runs statement by
        statement and is recorded at its end. If it is killed in between it starts from its beginning, so each statement
        must be repeatable; a half-built index is dropped first.
Rule 4: after its files each run grants the portal's role its rights (``portal_rights.sql``). Where the role is missing
        and this user may not create it, the report says what a superuser must run; only the portal needs it.
Rule 5: numbers count across phases: a phase stops at the first missing file of the other phase.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any

import asyncpg

from libs.common.backoff import backoff
from libs.common.db.pool import unreachable
from libs.common.db.schema import MIGRATIONS, OUTSIDE, Migration, Phase, Statement, applied, migrations, missing
from libs.common.errors import ConfigurationError

Report = Callable[[str], None]

LOCK_WAIT = timedelta(seconds=1)
"""Shorter than ``TRANSOM_POSTGRES_TIMEOUT_SECONDS``, so that a statement of a service succeeds behind ours."""
PATIENCE = timedelta(minutes=10)
"""How long one file is tried, and how long another runner is waited for."""
_REST, _LONGEST_REST = timedelta(seconds=1), timedelta(seconds=5)
_LOCK = 0x7472616E736F6D  # "transom"
_IN_TRANSACTION = "25001"
_LOOK_SECONDS = 0.2
_TELL_EVERY = 50
PORTAL_ROLE = "transom_portal"
PORTAL_RIGHTS = Path(__file__).with_name("portal_rights.sql")
_MEMBER = """
select r.oid is not null as exists, coalesce(pg_has_role(current_user, r.oid, 'set'), false) as may_take
  from (select 1) o left join pg_roles r on r.rolname = $1
"""
_GONE = (
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    OSError,
)
_CONNECT_SECONDS = 5.0

_RECORD = """
create table if not exists schema_migrations (
    name       text        primary key,
    checksum   text        not null,
    applied_at timestamptz not null default clock_timestamp()
)
"""
_INSERT = "insert into schema_migrations (name, checksum) values ($1, $2)"
_HALF_BUILT = "select exists (select from pg_index where indexrelid = to_regclass($1) and not indisvalid)"
_OLDEST = """
select pid, application_name, extract(epoch from clock_timestamp() - xact_start)::int as seconds
  from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
 order by xact_start
 limit 1
"""


def _no_report(_line: str) -> None:
    return


async def migrate(
    dsn: str,
    folder: Path = MIGRATIONS,
    *,
    phase: Phase | None = None,
    report: Report = _no_report,
    patience: timedelta = PATIENCE,
) -> list[str]:
    """Apply what is not applied yet, of ``phase`` alone if one is named; returns the names. Many may run it at once.

    On a database that was never migrated no older code runs: there *pre* applies everything. ``report`` gets a line per
    applied file and per wait. Raises ConfigurationError when the server cannot be used, an applied file has changed, a
    lock is not granted, a file fails, or a file of the other phase must come first (what came before it stays applied).
    """
    wanted = migrations(folder)
    async with _connected(dsn) as db, _alone(db, report, patience):
        await db.execute(_RECORD)
        stands = await applied(db)
        todo, refusal = _in_turn(missing(wanted, stands), None if phase == "pre" and not stands else phase)
        for migration in todo:
            await _patiently(db, migration, report, patience)
            report(f"applied {migration.name}")
        if folder == MIGRATIONS and all(m.name in stands or m in todo for m in wanted if m.phase == "pre"):
            await _give_portal_its_rights(db, report)
    if refusal is not None:
        raise ConfigurationError(refusal)
    return [migration.name for migration in todo]


async def pending(dsn: str, folder: Path = MIGRATIONS) -> list[str]:
    """Names of the migrations that are not applied yet. Raises as ``migrate`` does."""
    async with _connected(dsn) as db:
        stands = await applied(db)
    return [migration.name for migration in missing(migrations(folder), stands)]


def _in_turn(lacking: Sequence[Migration], phase: Phase | None) -> tuple[list[Migration], str | None]:
    """The migrations that may be applied now, and why the others of this phase may not."""
    if phase is None:
        return list(lacking), None
    now = list(takewhile(lambda migration: migration.phase == phase, lacking))
    rest = lacking[len(now) :]
    if phase == "post" and rest:
        return now, (
            f"migration {rest[0].name} is not applied, and comes before the code of its release: "
            "run transom migrate --phase pre, roll out the services, and then this again"
        )
    if behind := [migration.name for migration in rest if migration.phase == phase]:
        return now, (
            f"migration {behind[0]} comes after {rest[0].name} of an earlier release, which is not applied: "
            "finish that release first (its services everywhere, then its transom migrate --phase post), "
            "or stop all services and run transom migrate"
        )
    return now, None


@asynccontextmanager
async def _alone(db: Any, report: Report, patience: timedelta) -> AsyncIterator[None]:
    """Nobody else migrates inside the block."""
    looks = 0
    while not await db.fetchval("select pg_try_advisory_lock($1)", _LOCK):
        if looks * _LOOK_SECONDS >= patience.total_seconds():
            raise ConfigurationError("another transom migrate is at work: wait for it, or end it, and run this again")
        if looks % _TELL_EVERY == 0:
            report("another transom migrate is at work: waiting for it")
        looks += 1
        await asyncio.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        if not db.is_closed():
            await db.execute("select pg_advisory_unlock($1)", _LOCK)


async def _give_portal_its_rights(db: Any, report: Report) -> None:
    user = await db.fetchval("select quote_ident(current_user)")
    for fact, statement in (
        ("exists", f"create role {PORTAL_ROLE} nologin"),
        ("may_take", f"grant {PORTAL_ROLE} to {user}"),
    ):
        if not (await db.fetchrow(_MEMBER, PORTAL_ROLE))[fact]:
            try:
                await db.execute(statement)
            except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
                pass  # another database of this server is migrated at this moment
            except asyncpg.InsufficientPrivilegeError:
                report(
                    f"the portal cannot start yet: let a superuser run {statement!r}, then run transom migrate again"
                )
                return
    await db.execute(PORTAL_RIGHTS.read_text(encoding="utf-8"))


async def _patiently(db: Any, migration: Migration, report: Report, patience: timedelta) -> None:
    """Apply it; whenever it meets a lock that is held, roll back and try again a little later."""
    loop = asyncio.get_running_loop()
    began, tries = loop.time(), 0
    while True:
        try:
            await (_apply(db, migration) if migration.alone is None else _apply_alone(db, migration, patience))
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            tries += 1
            waits = f"migration {migration.name} does not get a lock ({await _oldest(db)})"
            if loop.time() - began >= patience.total_seconds():
                raise ConfigurationError(
                    f"{waits}: nothing of it is applied; run this again when that has ended"
                ) from error
            report(f"{waits}: trying again")
            rest = backoff(tries, base=_REST, cap=_LONGEST_REST, jitter=random.random)
            await asyncio.sleep(rest.total_seconds())
        except _GONE as error:
            raise ConfigurationError(
                f"postgres went away while migration {migration.name} was applied ({type(error).__name__}): "
                "run this again when it is there"
            ) from error
        except asyncpg.PostgresError as error:
            hint = f"; put the line {OUTSIDE!r} at its top" if error.sqlstate == _IN_TRANSACTION else ""
            raise ConfigurationError(
                f"migration {migration.name} failed ({error.sqlstate}): {error.message or error}{hint}"
            ) from error
        else:
            return


async def _apply(db: Any, migration: Migration) -> None:
    await _wait_at_most(db, LOCK_WAIT)
    async with db.transaction():
        await db.execute(migration.sql)
        if not db.is_in_transaction():
            raise ConfigurationError(
                f"migration {migration.name} ends its own transaction: take COMMIT and ROLLBACK out of it"
            )
        await db.execute(_INSERT, migration.name, migration.checksum)


async def _apply_alone(db: Any, migration: Migration, patience: timedelta) -> None:
    for statement in migration.alone or ():
        await _wait_at_most(db, patience if statement.waits_aside else LOCK_WAIT)
        await _drop_half_built(db, statement)
        try:
            await db.execute(statement.sql)
        except asyncpg.PostgresError:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):  # else the next run does
                await _wait_at_most(db, LOCK_WAIT)
                await _drop_half_built(db, statement)
            raise
        if db.is_in_transaction():
            await db.execute("rollback")
            raise ConfigurationError(
                f"migration {migration.name} begins a transaction: it says that it runs outside of one"
            )
    await db.execute(_INSERT, migration.name, migration.checksum)


async def _drop_half_built(db: Any, statement: Statement) -> None:
    """Drop a half-built index: every write would pay for it, and ``if not exists`` would take it for built."""
    if statement.index is not None and await db.fetchval(_HALF_BUILT, statement.index):
        await db.execute(f"drop index concurrently if exists {statement.index}")


async def _wait_at_most(db: Any, wait: timedelta) -> None:
    await db.execute(f"set lock_timeout = {round(wait.total_seconds() * 1000)}")


async def _oldest(db: Any) -> str:
    """Who probably holds the lock: the oldest transaction, without the text of any statement."""
    found: Mapping[str, Any] | None = await db.fetchrow(_OLDEST)
    if found is None:
        return "no open transaction is seen any more"
    name = found["application_name"] or "nameless"
    return f"the oldest transaction is {found['seconds']} s old: pid {found['pid']}, {name}"


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Any]:
    try:
        db = await asyncpg.connect(
            dsn,
            timeout=_CONNECT_SECONDS,
            server_settings={"application_name": "transom-migrate", "timezone": "UTC", "statement_timeout": "0"},
        )
    except (OSError, ValueError, OverflowError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConfigurationError(unreachable(dsn, error)) from error
    try:
        with suppress(asyncpg.PostgresError):  # where the system lacks it, a killed runner's statement runs to its end
            await db.execute("set client_connection_check_interval = '1s'")
        yield db
    finally:
        try:
            await db.close(timeout=_CONNECT_SECONDS)
        except TimeoutError:
            db.terminate()
