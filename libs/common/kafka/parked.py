"""Traces of dead letters in PostgreSQL, for ``transom explain``. Only a record that names an intent leaves one."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import orjson
from pydantic import TypeAdapter, ValidationError

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, Pool, changed
from libs.common.events.base import named_type
from libs.common.events.fields import OrgId
from libs.common.kafka.batch_processor import DeadLetter

_ORG_ID: TypeAdapter[str] = TypeAdapter(OrgId)
_LARGEST = 256 * 1024  # bytes; a command is smaller, and a letter may hold megabytes


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
"""


async def parked_of(db: Connection, org_id: str, message_id: UUID) -> list[asyncpg.Record]:
    """What is parked of an intent, by topic, reason and type: ``records``, ``first_at``, ``last_at``."""
    return await db.fetch(_OF, org_id, message_id)


async def orgs_of(db: Connection, message_id: UUID) -> list[str]:
    return [row["org_id"] for row in await db.fetch(_ORGS, message_id)]


async def forget_parked(db: Connection, before: datetime, limit: int) -> int:
    """Forget up to ``limit`` that were parked before then; returns how many there were."""
    return await changed(db, _FORGET, before, limit)


class Traces:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __call__(self, letters: Sequence[DeadLetter], now: datetime) -> None:
        """Store the traces of those that name an intent."""
        traces = [trace for letter in letters if (trace := trace_of(letter)) is not None]
        if traces:
            once = {(trace.topic, trace.partition, trace.record_offset): trace for trace in traces}
            async with self._pool.acquire() as db:
                await db.execute(_KEEP, *as_columns(sorted(once.values())), now)


def trace_of(letter: DeadLetter) -> Parked | None:
    """The trace of a letter whose record names an organisation and an intent (or the message that it became)."""
    record = letter.record
    if not isinstance(record.value, bytes) or len(record.value) > _LARGEST:
        return None
    try:
        found = orjson.loads(record.value)
        org_id = _ORG_ID.validate_python(found["org_id"])
        message_id = UUID(found["intent_id"] if "intent_id" in found else found["message_id"])
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Parked(record.topic, record.partition, record.offset, org_id, message_id, letter.reason, named_type(found))
