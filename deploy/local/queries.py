"""SQL of the system on one machine: what the sandbox registers, and the database of one run."""

import asyncpg

from libs.common.db.pool import Connection

_NUMBERS = """
select phone_number_id, waba_id, display_number
  from whatsapp_numbers
 where org_id is not null
 order by org_id, phone_number_id
"""
_TEMPLATES = """
select name, language, body, category, parameter_format, status, header, waba_id
  from templates
 order by org_id, waba_id, name, language
"""


async def all_numbers(db: Connection) -> list[asyncpg.Record]:
    """The business numbers of every organisation, with the columns that the sandbox takes."""
    return await db.fetch(_NUMBERS)


async def all_templates(db: Connection) -> list[asyncpg.Record]:
    """The templates of every organisation, with the columns that the sandbox takes."""
    return await db.fetch(_TEMPLATES)


async def create_database(db: Connection, name: str) -> None:
    """Create an empty database on the server of ``db``. ``name`` is trusted."""
    await db.execute(f"create database {name}")


async def drop_database(db: Connection, name: str) -> None:
    """Drop the database, open connections included. ``name`` is trusted.

    A role that is no superuser may not end autovacuum's connection. A plain drop cancels autovacuum and waits for it.
    """
    for last in (False, False, True):
        try:
            await db.execute(f"drop database if exists {name} with (force)")
        except asyncpg.InsufficientPrivilegeError:
            try:
                await db.execute(f"drop database if exists {name}")
            except asyncpg.ObjectInUseError:
                if last:
                    raise
                continue
        return
