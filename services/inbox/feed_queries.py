"""The rows of feeds: added by whoever stores what changed, read by the streams, forgotten after ``KEPT``."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.thread.conversations import current_conversation
from services.inbox.feed import Change, Mark, StoredChange

KEPT = timedelta(hours=1)
"""Who comes back later than this loads everything anew."""

# The feed's row stays locked until the commit, so that numbers become visible in their order.
_ADD = """
with given as (
    select org_id, conversation_id, message_id, kind,
           row_number() over (partition by org_id order by place) as number
      from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[]) with ordinality
        as u (org_id, conversation_id, message_id, kind, place)
), counted as (
    insert into inbox_feeds as f (org_id, last)
    select org_id, count(*) from given group by org_id order by org_id
    on conflict (org_id) do update set last = f.last + excluded.last
    returning org_id, coalesce(old.last, 0) as before
)
insert into inbox_changes (org_id, change, conversation_id, message_id, kind)
select g.org_id, c.before + g.number, g.conversation_id, g.message_id, g.kind
  from given g join counted c using (org_id)
"""

_OPEN = """
with asked as (
    insert into inbox_feeds (org_id, last) values ($1, 0) on conflict (org_id) do nothing returning feed, last
)
select feed, last from asked union all select feed, last from inbox_feeds where org_id = $1 limit 1
"""

# A change is found below the newest one as long as it is kept. The oldest that is there says whether all are.
_SINCE = f"""
select u.org_id, u.change as seen, f.feed, f.last,
       (select min(o.change) from inbox_changes o where o.org_id = u.org_id) as oldest,
       c.change, {current_conversation("c")} as conversation_id, c.message_id, c.kind, c.conversation_id as told_of
  from unnest($1::text[], $2::bigint[]) as u (org_id, change)
  join inbox_feeds f on f.org_id = u.org_id
  left join lateral (
       select c.* from inbox_changes c
        where c.org_id = u.org_id and c.change > u.change
        order by c.change limit $3 offset 0
       ) c on true
 where f.last > u.change
 order by u.org_id, u.change, c.change
"""  # noqa: S608 -- a constant

_WHEN = """
select c.at from inbox_changes c where c.org_id = $1 and c.change = $2
"""

# Windows that became "closing soon" or closed, and holds that ended, by time alone.
_TURNED = """
with asked as materialized (
    select * from unnest($1::text[], $2::timestamptz[]) as u (org_id, since)
)
select u.org_id, u.since, h.conversation_id
  from asked u cross join lateral (
       select h.conversation_id from conversation_heads h
        where h.org_id = u.org_id and h.last_customer_at > u.since - $4::interval
          and h.last_customer_at <= $3::timestamptz - $4::interval
       union
       select h.conversation_id from conversation_heads h
        where h.org_id = u.org_id and h.last_customer_at > u.since - $5::interval
          and h.last_customer_at <= $3::timestamptz - $5::interval
       union
       select c.conversation_id from conversation_holds c
        where c.org_id = u.org_id and c.until_at > u.since and c.until_at <= $3::timestamptz
       ) h
"""

_FORGET = """
delete from inbox_changes
 where ctid = any (array(select ctid from inbox_changes where at < $1 order by at limit $2))
"""


Seen = tuple[str, int]
"""An organisation, and the number of its feed up to which somebody has seen everything."""


class News(NamedTuple):
    """What is behind a number of a feed.

    ``last`` is the newest number, ``oldest`` the oldest that is kept. ``changes`` are the next ones, in order, and not
    always all.
    """

    feed: UUID
    last: int
    oldest: int | None
    changes: Sequence[StoredChange]


async def add(db: Connection, changes: Iterable[Change]) -> None:
    """Add the changes to their feeds. Call it last in the transaction that stores what they tell."""
    if rows := list(changes):
        await db.execute(_ADD, *as_columns(rows))


async def newest_mark(db: Connection, org_id: str) -> Mark:
    """The mark behind everything that is stored of the organisation; a feed is begun where there was none."""
    row = await db.fetchrow(_OPEN, org_id)
    if row is None:  # begun by another transaction meanwhile
        row = await db.fetchrow(_OPEN, org_id)
    assert row is not None  # noqa: S101 -- narrows the type
    return Mark(row["feed"], row["last"])


async def since(db: Connection, seen: Sequence[Seen], limit: int) -> dict[Seen, News]:
    """What is new behind each of these, at most ``limit`` changes. No entry: nothing is new."""
    found: dict[Seen, News] = {}
    for row in await db.fetch(_SINCE, *as_columns(seen), limit) if seen else []:
        news = found.setdefault((row["org_id"], row["seen"]), News(row["feed"], row["last"], row["oldest"], []))
        if row["change"] is not None and isinstance(news.changes, list):
            news.changes.append(StoredChange(*(row[name] for name in StoredChange._fields)))
    return found


async def stored_at(db: Connection, org_id: str, change: int) -> datetime | None:
    """When this change was added; None where it is forgotten, or where there never was one."""
    found: datetime | None = await db.fetchval(_WHEN, org_id, change)
    return found


async def turned(
    db: Connection,
    since: Sequence[tuple[str, datetime]],
    until: datetime,
    *,
    length: timedelta,
    closing_soon: timedelta,
) -> dict[tuple[str, datetime], list[UUID]]:
    """Conversations that changed between each (organisation, time) and ``until`` because time passed.

    Their window became "closing soon" or closed, or a hold ended. ``length`` is the window's.
    """
    found: dict[tuple[str, datetime], list[UUID]] = {}
    rows = await db.fetch(_TURNED, *as_columns(since), until, length, length - closing_soon) if since else []
    for row in rows:
        found.setdefault((row["org_id"], row["since"]), []).append(row["conversation_id"])
    return found


async def forget(db: Connection, before: datetime, limit: int) -> int:
    """Delete changes that were added before then; returns how many."""
    return await changed(db, _FORGET, before, limit)
