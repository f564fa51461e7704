"""The statements of the ``transom`` command."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from libs.common.db.pool import Connection
from libs.common.ids import bridge_message_id

_MESSAGES = """
select m.org_id, m.message_id, coalesce(a.conversation_id, m.conversation_id) as conversation_id, m.channel, m.kind, m.actor,
       m.notification_type, m.sequence, m.status, m.reason, m.provider_code, m.seq, m.attempt,
       m.occurred_at, m.received_at, m.sent_at, m.delivered_at, m.read_at, m.failed_at
  from messages m
  left join conversation_aliases a on a.alias = m.conversation_id and a.org_id = m.org_id
 where m.message_id = any($1::uuid[]) and m.direction = 'out'
 order by m.sequence
"""
_DECISIONS = "select * from decisions where org_id = $1 and intent_id = $2 order by attempt"
_SENDS = "select * from sends where org_id = $1 and message_id = $2 order by attempt"
_PROVIDER_IDS = """
select provider, provider_id, attempt, applied, recorded_at
  from provider_ids where org_id = $1 and send_id = $2
 order by recorded_at
"""
_CHARGES = "select * from charges where org_id = $1 and message_id = any($2::uuid[])"


_LOOSE_ENDS = (
    "select attempt, tries, due_at, deadline from loose_ends where org_id = $1 and message_id = $2 order by attempt"
)
_REFUSALS = """
select attempt, event ->> 'reason' as reason, waits_since from refusals where org_id = $1 and intent_id = $2 order by attempt
"""


async def loose_ends_of(db: Connection, org_id: str, intent_id: UUID) -> list[asyncpg.Record]:
    """What the router follows up of an intent, because nothing followed from it in time."""
    return await db.fetch(_LOOSE_ENDS, org_id, intent_id)


async def refusals_of(db: Connection, org_id: str, intent_id: UUID) -> list[asyncpg.Record]:
    """Refusals of an intent that the router has not decided on."""
    return await db.fetch(_REFUSALS, org_id, intent_id)


async def messages_of(db: Connection, intent_id: UUID) -> list[asyncpg.Record]:
    """The message of an intent and its bridge, in every org that used the id."""
    return await db.fetch(_MESSAGES, [intent_id, bridge_message_id(intent_id)])


async def decisions_of(db: Connection, org_id: str, intent_id: UUID) -> list[asyncpg.Record]:
    """The decisions on an intent, by attempt."""
    return await db.fetch(_DECISIONS, org_id, intent_id)


async def sends_of(db: Connection, org_id: str, intent_id: UUID) -> list[asyncpg.Record]:
    """The sends of an intent, by attempt."""
    return await db.fetch(_SENDS, org_id, intent_id)


async def provider_ids_of(db: Connection, org_id: str, intent_id: UUID) -> list[asyncpg.Record]:
    """What providers called the sends of an intent."""
    return await db.fetch(_PROVIDER_IDS, org_id, intent_id)


async def charges_of(db: Connection, org_id: str, message_ids: Sequence[UUID]) -> list[asyncpg.Record]:
    """What messages cost."""
    return await db.fetch(_CHARGES, org_id, list(message_ids))


_UPSERT_RATES = """
insert into rate_card (valid_from, channel, category, country, currency, price)
select * from unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[])
on conflict (channel, category, country, currency, valid_from) do update set price = excluded.price
"""


async def upsert_rates(db: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """From which day, channel, category, country, currency, price. Each (channel, category, country, currency, day) once."""
    if rows:
        await db.execute(_UPSERT_RATES, *_columns(rows))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Rows as columns, for ``unnest``."""
    return [list(column) for column in zip(*rows, strict=True)]
