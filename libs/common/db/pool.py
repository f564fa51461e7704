"""The connection pool: bounded in every direction, so that a server that went silent costs two seconds and no more.

Rule 1: a command that times out or is cancelled takes its connection with it. Asking a silent server to cancel would
        hang as well.
Rule 2: sessions carry no state (no session locks, no LISTEN, no SET but that of rule 5), so giving a connection back
        asks the server nothing.
Rule 3: a pool knows the server's clock. It is measured on every new connection, and once a second on one that is taken;
        so nothing is said to a server, after a failover neither, whose clock was not asked.
Rule 4: ``json`` and ``jsonb`` columns are Python values in both directions. Strings in them pass ``sanitize`` first.
Rule 5: a statement is planned for each execution, because a plan from the time when a table was small is bad when it
        has grown. For a lone message planning costs more than everything else. So what runs for every message and finds
        its rows by their keys takes a connection with ``kept_plans``: they read indexes whatever the size of a table.
        They are made anew after ``PLANS_SECONDS``, and then each time after twice as long, up to
        ``PLANS_CAP_SECONDS``: the first ones may be of empty tables. New statistics end a plan at once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from socket import gaierror
from typing import Any, cast
from uuid import UUID

import asyncpg
import orjson

from libs.common.clock import DatabaseClock, utc_now
from libs.common.db import asyncpg_patches
from libs.common.db.asyncpg_patches import Plans
from libs.common.db.errors import REFUSES_TLS, transient_db
from libs.common.drain import Drain
from libs.common.errors import ConfigurationError, Transient
from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger
from libs.common.reaching import at, tls_cause

Connection = asyncpg_patches.Connection

CONNECT_SECONDS = 1.5
PLANS_SECONDS, PLANS_CAP_SECONDS = 2.0, 10.0
_CLOSE_SECONDS = 2.0
_JSONB_VERSION = b"\x01"
_TIME = "select clock_timestamp()"
_USE_KEPT_PLANS = "set plan_cache_mode = force_generic_plan; set enable_seqscan = off"
_TYPES = ("text", "uuid", "int4", "int8", "bool", "timestamptz", "bytea", "jsonb")
_ARRAYS = "select " + ", ".join(f"null::{name}[]" for name in _TYPES)
"""Arrays are the types of columns (``as_columns``), and asyncpg knows none of a new connection.

It would ask for them with each statement that has new ones, for some milliseconds of PostgreSQL each time.
"""
_KEEP_NO_PLANS = "set plan_cache_mode = force_custom_plan; set enable_seqscan = on"
_NO_PLANS = Plans()
_APART = timedelta(seconds=5)
_TELL_SECONDS = 60.0
_TLS_FILES = ("sslrootcert", "sslcert", "sslkey")
SPECIAL = "with %2F for a slash, %23 for a # and %40 for an @ in its user and password"
"""How an address is written whose password has such characters."""
_CAUSES: dict[type[BaseException], str] = {  # ``password`` ends its sentence: logs mask the word that follows it
    gaierror: "its name does not resolve: is the host in TRANSOM_POSTGRES_DSN right?",
    asyncpg.InvalidCatalogNameError: "it has no database of that name: create it, or correct TRANSOM_POSTGRES_DSN",
    asyncpg.InvalidPasswordError: "it refuses the user of TRANSOM_POSTGRES_DSN, or the password",
    asyncpg.InvalidAuthorizationSpecificationError: (
        "it lets this user in from here by other means: look at its pg_hba.conf, and at sslmode and sslcert"
    ),
}

Measure = Callable[[Any], Awaitable[None]]
"""Asks the server on this connection for its time."""

log = get_logger()


class Pool:
    """A pool whose every wait ends. ``async with pool.acquire() as db, db.transaction(): …``.

    ``now`` is the server's clock: what replicas compare with each other is judged by it. It goes on while the server is
    away.
    """

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", *, acquire_seconds: float, now: DatabaseClock, measure: Measure
    ) -> None:
        self._pool = pool
        self._acquire_seconds = acquire_seconds
        self._measure = measure
        self.now = now

    @asynccontextmanager
    async def acquire(self, *, kept_plans: bool = False) -> AsyncIterator[Connection]:
        """A connection. ``kept_plans``: for statements that run for every message and find rows by their keys.

        Raises Transient when none is to be had in time, when the server lets nobody in (another password, a database
        that is restored), or when it went away while the connection was used.
        """
        try:
            connection = await self._pool.acquire(timeout=self._acquire_seconds)
        except Exception as error:
            if transient_db(error):
                raise Transient(f"postgres is away ({type(error).__name__})") from error
            if isinstance(error, asyncpg.PostgresError):  # no work has begun, so it is nobody's fault but the server's
                raise Transient(f"postgres lets us not in ({type(error).__name__} {error.sqlstate})") from error
            raise
        try:
            if self.now.is_due():
                await self._measure(connection)
            await _set_plans(connection, kept=kept_plans)
            yield cast("Connection", connection)  # the pool's proxy does whatever a connection does
        except asyncpg.InterfaceError as error:
            # the rollback of a transaction whose command was cut short finds the connection gone: say what cut it short
            if (cancelled := _cancelled(error)) is not None:
                raise cancelled from None
            if transient_db(error):
                raise Transient("postgres is away (connection lost)") from error
            raise
        except asyncpg.ReadOnlySQLTransactionError:
            connection.terminate()  # it stays so: its server became a standby, or writes were forbidden when it began
            raise
        finally:
            if getattr(connection, "cut_short", False):
                connection.terminate()
            await self._pool.release(connection, timeout=self._acquire_seconds)


async def changed(db: Connection, statement: str, *values: object) -> int:
    """Run a statement. Returns how many rows it inserted, updated or deleted."""
    return int((await db.execute(statement, *values)).rpartition(" ")[2])


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    application_name: str,
    size: int = 8,
    command_seconds: float = 2.0,
    drain: Drain | None = None,
    role: str | None = None,
) -> AsyncIterator[Pool]:
    """Open a pool, having reached the server once. ``drain``: the stop that closing it is part of.

    ``role``: every connection takes it, as by SET ROLE, before its first statement.

    ``command_seconds`` bounds every command, on the server (``statement_timeout``) and here. Raises ConfigurationError
    when the server cannot be reached or refuses us.
    """
    clock, apart = DatabaseClock(), LogThrottle(_TELL_SECONDS)

    async def measure(connection: Any) -> None:
        answered = clock.ask()
        answered(await connection.fetchval(_TIME))
        ahead = utc_now() - clock()
        if abs(ahead) > _APART:
            apart.report("host", lambda _times: log.warning("clock.apart", detail=f"{ahead.total_seconds():+.1f} s"))

    async def prepare(connection: Any) -> None:
        await _prepare(connection)
        await measure(connection)

    try:
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=CONNECT_SECONDS,
            command_timeout=command_seconds,
            connection_class=asyncpg_patches.ExpendableConnection,
            init=prepare,
            max_inactive_connection_lifetime=300.0,
            server_settings={
                "application_name": application_name,
                "timezone": "UTC",
                "jit": "off",
                # whoever waited for a lock reads what was committed meanwhile, whatever the role or the database says
                "default_transaction_isolation": "read committed",
                # a plan kept from the time when a table was small scans the whole table when it has grown, until
                # statistics catch up
                "plan_cache_mode": "force_custom_plan",
                # what a statement looks for by its key is in memory; the default takes it for a seek on a disk, and
                # reads small tables whole for every row
                "random_page_cost": "1.1",
                # the server gives up first, also where we are busy for a moment: the connection survives, and being
                # a slow server is not one that is away
                "statement_timeout": str(max(1, round(command_seconds * 750))),
                # before that, so that waiting for another session is not taken for being slow; after a deadlock has
                # been looked for (1 s)
                "lock_timeout": str(max(1, round(command_seconds * 600))),
                "idle_in_transaction_session_timeout": "30000",
                **({} if role is None else {"role": role}),
            },
        )
    except (OSError, ValueError, OverflowError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        hint = f", or run transom migrate, which makes the role {role}" if role and _refuses_role(error) else ""
        raise ConfigurationError(unreachable(dsn, error) + hint) from error
    try:
        yield Pool(pool, acquire_seconds=min(CONNECT_SECONDS, command_seconds), now=clock, measure=measure)
    finally:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS if drain is None else min(_CLOSE_SECONDS, drain.left())):
                await pool.close()
        except TimeoutError:
            pool.terminate()


def unreachable(dsn: str, error: BaseException) -> str:
    """One line on why PostgreSQL could not be used at start. Of the address it has host and port alone."""
    sqlstate = error.sqlstate if isinstance(error, asyncpg.PostgresError) else None
    mend = "start it, or set TRANSOM_POSTGRES_DSN to where it listens"
    if isinstance(error, ValueError | OverflowError):  # the latter: a port beyond 65535
        mend = f"write TRANSOM_POSTGRES_DSN as postgresql://USER:PASSWORD@HOST:5432/DATABASE, {SPECIAL}"
    return (
        f"postgres{at(dsn)} cannot be used ({type(error).__name__}{f' {sqlstate}' if sqlstate else ''}): "
        f"{_why(dsn, error) or mend}"
    )


def _why(dsn: str, error: BaseException) -> str | None:
    """The cause in words, where starting the server would not mend it."""
    return _CAUSES.get(type(error)) or wrong_tls(dsn, error) or tls_cause(error)


def wrong_tls(dsn: str, error: BaseException) -> str | None:
    """Which option of TLS in the address cannot hold, in words; None: none that is known here."""
    if isinstance(error, asyncpg.ClientConfigurationError) and str(error).startswith("root certificate file"):
        return "sslmode in TRANSOM_POSTGRES_DSN asks for an authority: name its file with sslrootcert"
    if isinstance(error, ConnectionError) and REFUSES_TLS in str(error):
        return "it speaks no TLS, and sslmode in TRANSOM_POSTGRES_DSN asks for it"
    if isinstance(error, FileNotFoundError | PermissionError) and any(f"{name}=" in dsn for name in _TLS_FILES):
        return "a file of sslrootcert, sslcert or sslkey in TRANSOM_POSTGRES_DSN cannot be read"
    return None


def _refuses_role(error: BaseException) -> bool:
    return isinstance(error, asyncpg.InvalidParameterValueError | asyncpg.InsufficientPrivilegeError)


def _cancelled(error: BaseException) -> asyncio.CancelledError | None:
    """The cancellation of the present task that ``error`` came up in; None if it is not being cancelled."""
    task = asyncio.current_task()
    if task is None or not task.cancelling():
        return None
    cause: BaseException | None = error
    while isinstance(cause, asyncpg.InterfaceError):
        cause = cause.__context__
    return cause if isinstance(cause, asyncio.CancelledError) else None


async def _set_plans(connection: Any, *, kept: bool) -> None:
    """Let the session keep its plans or not; plans that were kept for long are made anew."""
    plans: Plans = getattr(connection, "plans", _NO_PLANS)
    now = asyncio.get_running_loop().time()
    if kept and now - plans.since > plans.stay:
        await connection.execute(f"discard plans; {_USE_KEPT_PLANS}")
        connection.plan(Plans(kept=True, since=now, stay=min(max(plans.stay * 2, PLANS_SECONDS), PLANS_CAP_SECONDS)))
    elif kept != plans.kept:
        await connection.execute(_USE_KEPT_PLANS if kept else _KEEP_NO_PLANS)
        connection.plan(plans._replace(kept=kept))


async def _prepare(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", format="binary", encoder=_jsonb, decoder=lambda data: orjson.loads(data[1:])
    )
    await connection.set_type_codec("json", schema="pg_catalog", format="binary", encoder=_json, decoder=orjson.loads)
    await connection.prepare(_ARRAYS)


def _jsonb(value: Any) -> bytes:
    return _JSONB_VERSION + _json(value)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain)


def _plain(value: Any) -> str:
    if isinstance(value, UUID):  # asyncpg's own subclass
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
