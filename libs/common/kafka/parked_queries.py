"""The dead letters of each intent, so that ``transom explain`` can show them. The letters themselves are in Kafka."""

from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection


class Parked(NamedTuple):
    """A dead letter that names an intent: where its record was, and why it died.

    ``event_type`` is the record's own, where it has the form of one.
    """

    topic: str
    partition: int
    record_offset: int
    org_id: str
    message_id: UUID
    reason: str
    event_type: str | None


_KEEP = """
insert into parked_records as p (topic, partition, record_offset, org_id, message_id, reason, event_type, parked_at)
select u.*, $8
  from unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::uuid[], $6::text[], $7::text[]) as u
on conflict (topic, partition, record_offset) do update -- a topic that was made anew begins at 0 again
   set org_id = excluded.org_id, message_id = excluded.message_id, reason = excluded.reason,
        event_type = excluded.event_type,
       parked_at = excluded.parked_at
"""

_OF = """
select topic, reason, event_type, count(*) as records, min(parked_at) as first_at, max(parked_at) as last_at
  from parked_records
 where org_id = $1 and message_id = $2
 group by topic, reason, event_type
 order by first_at
"""

_ORGS = "select distinct org_id from parked_records where message_id = $1 order by org_id"

_FORGET = """
delete from parked_records
 where ctid = any (array(select p.ctid from parked_records p where p.parked_at < $1 order by p.parked_at limit $2
                            for update skip locked))
returning 1
"""


async def keep(db: Connection, parked: Collection[Parked], now: datetime) -> None:
    """Remember these."""
    rows = sorted({row[:3]: row for row in parked}.values())
    if rows:
        await db.execute(_KEEP, *as_columns(rows), now)


async def parked_of(db: Connection, org_id: str, message_id: UUID) -> list[asyncpg.Record]:
    """What is parked of an intent, by topic, reason and type: ``records``, ``first_at``, ``last_at``."""
    return await db.fetch(_OF, org_id, message_id)


async def orgs_of(db: Connection, message_id: UUID) -> list[str]:
    """The organisations of which records with this id are parked."""
    return [row[0] for row in await db.fetch(_ORGS, message_id)]


async def forget_parked(db: Connection, before: datetime, limit: int) -> int:
    """Forget up to ``limit`` that were parked before then; returns how many there were."""
    return len(await db.fetch(_FORGET, before, limit))
