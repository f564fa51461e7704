"""The statements about what the edge took and refused. They belong to a provider's webhooks and name no tenant.

An edge reports ages, not instants: they are dated by the database's clock, whatever the edge's says.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.providers import Provider
from libs.common.sending.coverage import AHEAD, CaughtUp, Cover, Edge, RefusalKind

_EDGES_MOST = 1000

_AHEAD = f"interval '{AHEAD.total_seconds()} seconds'"

# A stretch of refusals is dated late by the duration of the statement: that is the safe side.
_TELL = f"""
with edge as (
    insert into webhook_edges as e (edge_id, serves_since, known_until, left_at, last_post_at)
    select $1, least($2, clock_timestamp() - $3::interval), $2, case when $4 then $2 end,
        clock_timestamp() - $5::interval
    on conflict (edge_id) do update
       set known_until = case when e.known_until > clock_timestamp() + {_AHEAD} then excluded.known_until
                              else greatest(e.known_until, excluded.known_until) end,
           left_at = excluded.left_at,
           last_post_at = greatest(e.last_post_at, excluded.last_post_at)
)
insert into webhook_refusals as r (edge_id, number, kind, reason, began_at, ended_at, times)
select $1, u.number, u.kind, u.reason, clock_timestamp() - u.began, clock_timestamp() - u.ended, u.times
  from unnest($6::int[], $7::text[], $8::text[], $9::interval[], $10::interval[], $11::bigint[])
    as u (number, kind, reason, began, ended, times)
on conflict (edge_id, number) do update
   set began_at = least(r.began_at, excluded.began_at), ended_at = greatest(r.ended_at, excluded.ended_at),
       times = excluded.times
"""  # noqa: S608 -- constants

_COVER = """
select (select max(r.ended_at) from webhook_refusals r where r.kind = 'refused') as refused_at,
       (select max(r.ended_at) from webhook_refusals r where r.kind = 'doubtful') as doubted_at,
       (select late_at from resend_rounds where provider = $1) as late_at,
       exists (select from webhook_edges e where e.known_until < $2
           order by e.known_until limit 1 offset 0) as served_before
"""
_EDGES = """
select serves_since as since, known_until as until, left_at is not null as left, last_post_at as posted_at
  from webhook_edges where known_until >= $1 order by known_until desc limit $2
"""

_STORE_CAUGHT_UP = f"""
insert into progress as p (topic, partition, caught_up_at, since)
select $1, u.partition, u.at, u.at from unnest($2::int[], $3::timestamptz[]) as u (partition, at) order by u.partition
on conflict (topic, partition) do update
   set since = case when p.caught_up_at < excluded.caught_up_at - $4::interval
                      or p.caught_up_at > clock_timestamp() + {_AHEAD} then excluded.since else p.since end,
       caught_up_at = case when p.caught_up_at > clock_timestamp() + {_AHEAD} then excluded.caught_up_at
                           else greatest(p.caught_up_at, excluded.caught_up_at) end
"""  # noqa: S608 -- constants
_CAUGHT_UP = "select partition, caught_up_at as at, since from progress where topic = $1"

_FORGET_EDGES = """
delete from webhook_edges
 where ctid = any (array(select e.ctid from webhook_edges e where e.known_until < $1
     order by e.known_until limit $2 for update skip locked))
"""
_FORGET_REFUSALS = """
delete from webhook_refusals
 where ctid = any (array(select r.ctid from unnest(array['refused', 'doubtful']) as k (kind)
                          cross join lateral (select r.ctid from webhook_refusals r
                                               where r.kind = k.kind and r.ended_at < $1
                                               order by r.ended_at limit $2) r))
"""


class RefusalStretch(NamedTuple):
    """One stretch of refusals, ``number`` within its edge. ``began`` and ``ended``: how long ago."""

    number: int
    kind: RefusalKind
    reason: str
    began: timedelta
    ended: timedelta
    times: int


class Known(NamedTuple):
    """What an edge reports: how long it has served, and how long ago it last had a signed POST in hand, if ever."""

    edge_id: UUID
    serves: timedelta
    last_post: timedelta | None
    refusals: Sequence[RefusalStretch]


async def store(db: Connection, known: Known, until: datetime, *, leaves: bool = False) -> None:
    """Store a report. Every refusal up to ``until`` is in it or stored. ``leaves``: it is shut down in order."""
    columns = as_columns(known.refusals) or [[], [], [], [], [], []]
    await db.execute(_TELL, known.edge_id, until, known.serves, leaves, known.last_post, *columns)


async def cover(db: Connection, provider: Provider, since: datetime) -> Cover:
    """What is stored; of the edges those that have reported ``since``."""
    rest = await db.fetchrow(_COVER, provider, since)
    edges = await db.fetch(_EDGES, since, _EDGES_MOST)
    return Cover([Edge(**edge) for edge in edges], **dict(rest or {}))


async def store_caught_up(db: Connection, topic: str, partitions: Mapping[int, datetime], gap: timedelta) -> None:
    """All that lay in these partitions at the moments given is processed.

    A step longer than ``gap`` since the last time begins a new stretch.
    """
    await db.execute(_STORE_CAUGHT_UP, topic, list(partitions), list(partitions.values()), gap)


async def caught_up(db: Connection, topic: str) -> dict[int, CaughtUp]:
    """How far ingest has come on each partition of the topic."""
    return {row["partition"]: CaughtUp(row["at"], row["since"]) for row in await db.fetch(_CAUGHT_UP, topic)}


async def forget_edges(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` edges that have not reported since; returns how many."""
    return await changed(db, _FORGET_EDGES, before, limit)


async def forget_refusals(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of each kind of the stretches of refusals that ended before; returns how many."""
    return await changed(db, _FORGET_REFUSALS, before, limit)
