"""The check of PostgreSQL: reached, new enough, durable, with the schema of this build and the rights that it needs.

It reads the directory too, which the checks of the providers wait for.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from deploy.cli.doctor import postgres_certificate, queries
from deploy.cli.doctor.clocks import TOLERATED_SECONDS, apart
from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.postgres_schema import tell_rights, tell_schema
from deploy.cli.doctor.running import CALL_SECONDS, Tell
from deploy.cli.doctor.site import MOST, Directory, Site
from libs.common.clock import unix_now
from libs.common.db.errors import transient_db
from libs.common.db.pool import SPECIAL, wrong_tls
from libs.common.reaching import is_silence, words_of

LEAST_VERSION = 180000
OLD_SECONDS = 900.0
_POOLS = {
    "ingest": 1,
    "ingest-edge": 1,
    "ingest-worker": 1,
    "router": 1,
    "whatsapp-sender": 1,
    "sms-bridge": 1,
    "portal": 1,
    "inbox": 2,
}
"""How many pools a replica of each service opens."""
_WRAPAROUND = 1_500_000_000
_SUBJECT = "PostgreSQL"
_REFUSALS = {
    "28P01": ("The password is wrong, or the user does not exist.", "Correct user and password in the address."),
    "28000": (
        "The server refuses this user from this host.",
        "Allow it in pg_hba.conf, with TLS where the server asks for it.",
    ),
    "3D000": ("There is no database of this name.", "Create it, or correct the name in the address."),
    "42501": ("The user may not connect to this database.", "Grant it CONNECT."),
    "53100": ("Its disk is full.", "Make room there. What waits goes on by itself."),
    "53300": ("All connections are used up.", "Raise max_connections, or lower TRANSOM_POSTGRES_POOL_SIZE."),
    "57P03": ("The server starts, stops or recovers.", "Wait for it, and look into its log."),
}


async def look_at_postgres(site: Site, tell: Tell) -> None:
    """Tell everything about the server, the database and the rights, and give the directory to the other checks."""
    try:
        if site.postgres_dsn is None:
            tell(
                Finding(
                    "postgres_not_checked",
                    _SUBJECT,
                    "Nothing was looked at, because its settings are wrong.",
                    "Mend the settings first.",
                )
            )
            return
        async with asyncio.TaskGroup() as both:
            both.create_task(postgres_certificate.look_at_certificate(site.postgres_dsn, tell))
            both.create_task(_look_while_it_answers(site, site.postgres_dsn, tell))
    finally:
        site.give_directory(None)


async def _look_while_it_answers(site: Site, dsn: str, tell: Tell) -> None:
    try:
        await _look(site, dsn, tell)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if not transient_db(error):
            raise
        tell(
            Finding(
                "postgres_silent",
                _SUBJECT,
                f"It was reached, and then it answered no more ({type(error).__name__}). The rest was not looked at.",
                "Look into the server's log, then run transom doctor again.",
            )
        )


async def _look(site: Site, dsn: str, tell: Tell) -> None:
    async with _connected(dsn, tell) as db:
        if db is None:
            return
        asked = unix_now()
        server = await queries.server(db)
        answered = unix_now()
        site.give_directory(await _directory(site, db))
        _tell_server(site, server, asked, answered, tell)
        await _tell_transactions(db, server, tell)
        if await tell_schema(site, db, tell):
            await tell_rights(site, db, server["role"], tell)


@asynccontextmanager
async def _connected(dsn: str, tell: Tell) -> AsyncIterator[Any]:
    """A connection, or None after telling why there is none."""
    db = None
    try:
        db = await asyncpg.connect(
            dsn,
            timeout=CALL_SECONDS,
            command_timeout=CALL_SECONDS,
            server_settings={
                "application_name": "transom-doctor",
                "timezone": "UTC",
                "statement_timeout": str(int(CALL_SECONDS * 900)),
            },
        )
    except (OSError, ValueError, OverflowError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        tell(_why_not(dsn, error))
    try:
        yield db
    finally:
        if db is not None:
            try:
                await db.close(timeout=1.0)
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                db.terminate()


def _why_not(dsn: str, error: BaseException) -> Finding:
    if isinstance(error, asyncpg.PostgresError):
        problem, remedy = _REFUSALS.get(
            error.sqlstate or "",
            (f"The server refuses the connection (SQLSTATE {error.sqlstate}).", "Look into the server's log."),
        )
        return Finding("postgres_refused", _SUBJECT, problem, remedy)
    if (cause := wrong_tls(dsn, error)) is not None:
        return Finding("postgres_refused", _SUBJECT, f"{cause[0].upper()}{cause[1:]}.", "Correct the address.")
    if is_silence(error):
        return Finding(
            "postgres_silent",
            _SUBJECT,
            f"There is no answer within {CALL_SECONDS:.0f} seconds, although the address may accept connections.",
            "See whether the server hangs, and whether TRANSOM_POSTGRES_DSN leads to a PostgreSQL at all.",
        )
    if isinstance(error, OSError):
        return Finding(
            "postgres_unreachable",
            _SUBJECT,
            f"It cannot be reached: {words_of(error)}.",
            "Start it, or set TRANSOM_POSTGRES_DSN to where it listens.",
        )
    return Finding(
        "postgres_refused",
        _SUBJECT,
        f"The address in TRANSOM_POSTGRES_DSN cannot be used ({type(error).__name__}).",
        f"Write it as postgresql://user:password@host:5432/database, {SPECIAL}.",
    )


async def _directory(site: Site, db: Any) -> Directory | None:
    try:
        numbers = await queries.whatsapp_numbers(db, MOST)
        lines = await queries.sms_lines(db, MOST)
        hosts = await queries.portal_hosts(db, MOST)
    except (TimeoutError, asyncpg.PostgresError):
        return None
    site.secrets.add(*(one.token for one in numbers if one.token))
    return Directory(tuple(numbers), tuple(lines), tuple(hosts))


def _tell_server(site: Site, server: Mapping[str, Any], asked: float, answered: float, tell: Tell) -> None:
    """What the server's own settings show."""
    wrong = (
        (
            server["version"] < LEAST_VERSION,
            "postgres_old",
            f"It is version {server['version_words']}; the schema needs {LEAST_VERSION // 10_000}.",
            "Upgrade the server.",
        ),
        (
            server["standby"],
            "postgres_read_only",
            "It is a standby, so no service can write.",
            "Point TRANSOM_POSTGRES_DSN at the primary, or promote this one.",
        ),
        (
            server["encoding"] != "UTF8",
            "postgres_encoding",
            f"The encoding of the database is {server['encoding']}, so not every text can be stored.",
            "Create the database with encoding UTF8, and load the data into it.",
        ),
        (
            server["fsync"] != "on",
            "postgres_fsync_off",
            "fsync is off: a crash of the machine loses or breaks what services have acknowledged.",
            "Set fsync = on.",
        ),
        (
            server["full_page_writes"] != "on",
            "postgres_pages_partial",
            "full_page_writes is off: a crash in the middle of a page breaks the database.",
            "Set full_page_writes = on, unless the storage writes whole pages.",
        ),
        (
            server["synchronous_commit"] == "off",
            "postgres_commit_async",
            "synchronous_commit is off: a crash loses commits whose effects were published already.",
            "Set synchronous_commit = on.",
        ),
        (
            server["autovacuum"] != "on",
            "autovacuum_off",
            "autovacuum is off: tables grow, and plans rest on old statistics.",
            "Set autovacuum = on.",
        ),
        (
            server["transactions_old"] > _WRAPAROUND,
            "wraparound_near",
            f"The oldest transaction id is {server['transactions_old']:,} old; near 2,100,000,000 writing stops.",
            "Let VACUUM FREEZE run on this database.",
        ),
    )
    bad = False
    for holds, code, problem, remedy in wrong:
        if holds:
            tell(Finding(code, _SUBJECT, problem, remedy))
            bad = True
    _tell_read_only(server, tell)
    _tell_clock(server, asked, answered, tell)
    tell_connections(site, server, tell)
    if not bad:
        tell(Finding("postgres_good", _SUBJECT, f"It answers, version {server['version_words']}, as {server['role']}."))


def _tell_read_only(server: Mapping[str, Any], tell: Tell) -> None:
    """Whether the database or the role is read-only by default."""
    if server["read_only_default"] and not server["standby"]:
        tell(
            Finding(
                "postgres_read_only",
                _SUBJECT,
                "Transactions are read-only by default for this database or role, so no service can write.",
                "Reset default_transaction_read_only (alter database … reset, alter role … reset, postgresql.conf)."
                " A session writes after: set session characteristics as transaction read write.",
            )
        )


def _tell_clock(server: Mapping[str, Any], asked: float, answered: float, tell: Tell) -> None:
    seconds = apart(asked, server["now"].timestamp(), answered)
    if seconds > TOLERATED_SECONDS:
        tell(
            Finding(
                "postgres_clock",
                _SUBJECT,
                f"Its clock and this host's are {seconds:.0f} seconds apart."
                " What a window shows and what signatures allow is then judged by a wrong time.",
                "Let both hosts take their time from the network (chrony, systemd-timesyncd).",
            )
        )


def tell_connections(site: Site, server: Mapping[str, Any], tell: Tell) -> None:
    of = {
        "the server": (server["connections"], server["connected"]),
        "the role": (server["role_connections"], server["role_connected"]),
        "the database": (server["database_connections"], server["database_connected"]),
    }
    limits = [(limit, limit - used, whose) for whose, (limit, used) in of.items() if limit >= 0]  # below 0: no limit
    limit = min(limits)[0]
    pools = sum(_POOLS[service] for service in site.services)
    needed = pools * site.postgres_pool_size
    if limit < needed:
        tell(
            Finding(
                "connections_few",
                _SUBJECT,
                f"One replica of each service opens up to {needed} connections ({pools} pools of"
                f" {site.postgres_pool_size}), and the server allows {limit}.",
                "Raise max_connections or the role's limit, or lower TRANSOM_POSTGRES_POOL_SIZE.",
            )
        )
    allowed, left, whose = min(limits, key=lambda one: one[1])
    if left < 2:  # noqa: PLR2004 -- one for a person who mends it, and none for a service
        tell(
            Finding(
                "connections_used_up",
                _SUBJECT,
                f"Of the {allowed} connections of {whose} {max(left, 0)} are left.",
                "See in pg_stat_activity who holds them, and raise max_connections.",
            )
        )


async def _tell_transactions(db: Any, server: Mapping[str, Any], tell: Tell) -> None:
    for row in await queries.old_transactions(db, OLD_SECONDS):
        tell(
            Finding(
                "transaction_long",
                f"process {row['pid']}",
                f"A transaction of {row['application']} runs for {row['seconds'] // 60} minutes."
                " Until it ends, no dead row is removed and migrations wait.",
                "End it, or the session: select pg_terminate_backend(pid).",
            )
        )
    if count := await queries.prepared_transactions(db, OLD_SECONDS):
        tell(
            Finding(
                "transaction_prepared",
                _SUBJECT,
                f"{count} prepared transactions wait for longer than {OLD_SECONDS / 60:.0f} minutes.",
                "Commit or roll them back: select * from pg_prepared_xacts.",
            )
        )
    if not server["sees_activity"]:
        tell(
            Finding(
                "transactions_unseen",
                _SUBJECT,
                "This role does not see other roles' sessions, so their long transactions were not looked for.",
                "Grant it pg_read_all_stats, or ask as another role.",
            )
        )
