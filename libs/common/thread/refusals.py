"""Refusals that the router has not decided on yet. Kafka carries them; these rows make sure that none is forgotten.

Whoever refuses keeps the refusal in the transaction that refuses. The router takes it away once the next attempt is told. What waits for longer was
lost on the way, or parked, and the router takes it from here. Rows are written last in every transaction, in the order of their keys.
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.events.outbound import OutboundRefused

Key = tuple[str, UUID, int]
"""org_id, intent_id, and the attempt that was refused."""

_KEEP = """
insert into refusals (org_id, intent_id, attempt, event, waits_since)
select u.*, $5
  from unnest($1::text[], $2::uuid[], $3::int[], $4::jsonb[]) as u
on conflict do nothing
"""

_FORGET = """
delete from refusals r
 using (select * from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, intent_id, attempt)) u
 where r.org_id = u.org_id and r.intent_id = u.intent_id and r.attempt = u.attempt
"""

_TAKE = """
update refusals r
   set waits_since = $2
 where r.ctid = any (array(select t.ctid from refusals t where t.waits_since <= $1 order by t.waits_since limit $3 for update skip locked))
returning r.org_id, r.intent_id, r.attempt, r.event
"""


async def keep(db: Connection, refusals: Iterable[OutboundRefused], since: datetime) -> None:
    """Remember these until the router has told what it decided. Call at the end of the transaction that refuses."""
    rows = sorted(
        {(r.org_id, r.intent_id, r.attempt): r.model_dump(mode="json") for r in refusals}.items(),
        key=lambda row: row[0],
    )
    if rows:
        await db.execute(_KEEP, *as_columns([(*key, event) for key, event in rows]), since)


async def forget(db: Connection, keys: Collection[Key]) -> None:
    """These were decided on, and what was decided is told."""
    if keys:
        await db.execute(_FORGET, *as_columns(sorted(keys)))


async def take(db: Connection, waiting_since: datetime, now: datetime, limit: int) -> list[tuple[Key, dict[str, Any]]]:
    """Refusals, as events, that have waited since then or longer; nobody else takes them before they have waited as long again."""
    return [((r[0], r[1], r[2]), r[3]) for r in await db.fetch(_TAKE, waiting_since, now, limit)]
