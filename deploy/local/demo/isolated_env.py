"""The demo on servers that run already: a topic prefix and a database of its own, which are removed afterwards.

A shared database would mean shared work: the demo's senders would send another system's messages to the sandbox.
"""

import asyncio
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import asyncpg
from rich.console import Console

from deploy.local import queries
from deploy.local.environment import kafka_connection
from libs.common.db.pool import unreachable
from libs.common.errors import ConfigurationError
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.topics import administered, delete

_OF_SERVERS = ("TRANSOM_KAFKA_", "TRANSOM_POSTGRES_", "TRANSOM_REDIS_", "TRANSOM_LOG_")
_CONNECT_SECONDS = 5.0


@contextmanager
def isolated_env(environ: Mapping[str, str], console: Console) -> Iterator[dict[str, str]]:
    """The variables of ``environ`` that say where the servers are, with the demo's own prefix and database in them.

    Leave the block when the system is down. What cannot be removed is printed. Raises ConfigurationError.
    """
    given = {name: value for name, value in environ.items() if name.startswith(_OF_SERVERS) and value}
    name = f"transom_demo_{secrets.token_hex(4)}"
    with _own_database(given, name, console), _own_topics(given, name, console):
        yield given


@contextmanager
def _own_database(given: dict[str, str], name: str, console: Console) -> Iterator[None]:
    dsn = given.get("TRANSOM_POSTGRES_DSN")
    if dsn is None:
        yield
        return
    asyncio.run(_create(dsn, name))
    given["TRANSOM_POSTGRES_DSN"] = re.sub(r"^(\w+://[^/?]*)(/[^?]*)?", rf"\1/{name}", dsn)
    try:
        yield
    finally:
        with _or_reported(console, f"the database {name}"):
            asyncio.run(_drop(dsn, name))


@contextmanager
def _own_topics(given: dict[str, str], name: str, console: Console) -> Iterator[None]:
    if "TRANSOM_KAFKA_BOOTSTRAP" not in given:
        yield
        return
    given["TRANSOM_TOPIC_PREFIX"] = f"{name}."
    kafka = kafka_connection(given, "transom-demo")
    asyncio.run(_reach(kafka))
    try:
        yield
    finally:
        with _or_reported(console, f"topics {name}.*"):
            asyncio.run(delete(kafka))


@contextmanager
def _or_reported(console: Console, what: str) -> Iterator[None]:
    try:
        yield
    except (ConfigurationError, asyncpg.PostgresError, OSError) as error:
        console.print(f"left behind: {what} ({type(error).__name__})", soft_wrap=True)


async def _reach(kafka: KafkaConnection) -> None:
    """Raises ConfigurationError where no broker answers, before any topic is made."""
    async with administered(kafka):
        pass


async def _create(dsn: str, name: str) -> None:
    try:
        db = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise ConfigurationError(unreachable(dsn, error)) from error
    try:
        await queries.create_database(db, name)
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigurationError(
            "the demo creates a database of its own, which the user of TRANSOM_POSTGRES_DSN may not do:"
            " give it CREATEDB, or unset the variable"
        ) from error
    finally:
        await db.close()


async def _drop(dsn: str, name: str) -> None:
    db = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
    try:
        await queries.drop_database(db, name)
    finally:
        await db.close()
