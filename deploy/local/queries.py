"""SQL of the system on one machine: for the sandbox, the example, the demo's costs, and the database of one run."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from libs.common.db.pool import Connection

_NUMBERS = """
select phone_number_id, waba_id, display_number
  from whatsapp_numbers
 where org_id is not null
 order by org_id, phone_number_id
"""
_TEMPLATES = """
select name, language, body, category, parameter_format, status, header, buttons, waba_id, meta_id as id,
       nullif(components, '[]') as components
  from templates
 where status not in ('DRAFT', 'DELETED')
 order by org_id, waba_id, name, language
"""


_WRITTEN = """
select c.conversation_id
  from conversations c
  join customers k on k.org_id = $1 and k.customer_id = c.customer_id and k.phone = $2
 where c.org_id = $1 and exists (select from messages m where m.conversation_id = c.conversation_id and m.org_id = $1)
 order by c.conversation_id
 limit 1
"""
_LINK = """
insert into portal_links (code_hash, org_id, conversation_id, message_id, host, phone, expires_at, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def written_conversation(db: Connection, org_id: str, phone: str) -> UUID | None:
    """The conversation of this customer in which somebody has written; None while there is none."""
    found: UUID | None = await db.fetchval(_WRITTEN, org_id, phone)
    return found


async def store_link(db: Connection, link: tuple[bytes, str, UUID, UUID, str, str, datetime, datetime]) -> None:
    """Store a link of the portal: hash of its code, organisation, conversation, message, host, phone, end, now."""
    await db.execute(_LINK, *link)


_SPEND = """
select o.name, c.org_id, c.channel, c.category, count(*)::int as messages, sum(c.segments)::int as segments,
       coalesce(to_char(sum(c.price), 'FM990.0000') || ' ' || coalesce(c.currency, o.currency), 'no price') as amount
  from charges c
  join orgs o on o.org_id = c.org_id
 where c.org_id = any($1::text[])
 group by o.name, c.org_id, c.channel, c.category, coalesce(c.currency, o.currency)
 order by o.name, c.channel, c.category
"""


class Spent(NamedTuple):
    """What was charged to an organisation in a category. ``segments`` are of SMS; ``amount`` names its currency."""

    org_id: str
    channel: str
    category: str
    messages: int
    segments: int | None
    amount: str


async def spend(db: Connection, org_ids: Sequence[str]) -> list[Spent]:
    """What was charged, by organisation, channel and category."""
    return [Spent(*list(row)[1:]) for row in await db.fetch(_SPEND, org_ids)]


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
