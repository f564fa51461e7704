"""Refusals on which the router has not decided yet. Kafka carries them, and these rows make sure that none is lost.

Rule 1: a refusal is kept in the transaction that refuses, as its last statement, in the order of keys.
Rule 2: the router deletes the row once the next attempt is published. A row that waits longer was lost or parked on the
way, and the router decides on it from here (``services.router.reconcile``).
"""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.events.outbound import OutboundRefused
from libs.common.ids import AttemptKey

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
 where r.ctid = any (array(select t.ctid from refusals t
     where t.waits_since <= $1 order by t.waits_since limit $3 for update skip locked))
returning r.org_id, r.intent_id, r.attempt, r.event
"""


async def keep(db: Connection, refusals: Iterable[OutboundRefused], since: datetime) -> None:
    """Keep these until the router has published its decision. Call this last in the transaction that refuses."""
    rows = sorted(
        {r.attempt_key: r.model_dump(mode="json") for r in refusals}.items(),
        key=lambda row: row[0],
    )
    if rows:
        await db.execute(_KEEP, *as_columns([(*key, event) for key, event in rows]), since)


async def forget(db: Connection, keys: Collection[AttemptKey]) -> None:
    """Delete these: the decisions on them are published."""
    if keys:
        await db.execute(_FORGET, *as_columns(sorted(keys)))


async def take(
    db: Connection, waiting_since: datetime, now: datetime, limit: int
) -> list[tuple[AttemptKey, dict[str, Any]]]:
    """Refusals, as events, that have waited since then or longer.

    No other replica takes them before they have waited as long again.
    """
    rows = await db.fetch(_TAKE, waiting_since, now, limit)
    return [((row["org_id"], row["intent_id"], row["attempt"]), row["event"]) for row in rows]
