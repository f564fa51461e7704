"""The statements of the ``transom`` command."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from libs.common.db.pool import Connection
from libs.common.ids import bridge_message_id

_MESSAGES = """
select org_id, message_id, conversation_id, channel, kind, actor, notification_type, sequence, status, reason, provider_code, seq, attempt,
       occurred_at, received_at, sent_at, delivered_at, read_at, failed_at
  from messages where message_id = any($1::uuid[]) and direction = 'out'
 order by sequence
"""
_DECISIONS = "select * from decisions where org_id = $1 and intent_id = $2 order by attempt"
_SENDS = "select * from sends where org_id = $1 and message_id = $2 order by attempt"
_PROVIDER_IDS = """
select provider, provider_id, attempt, applied, recorded_at
  from provider_ids where org_id = $1 and send_id = $2
 order by recorded_at
"""
_CHARGES = "select * from charges where org_id = $1 and message_id = any($2::uuid[])"


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
