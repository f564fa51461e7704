"""The statements about what the edge took and refused, and about rounds of resends.

They belong to a provider's webhooks and name no tenant.

An edge reports ages, not instants: its clock is not asked, and what it knows is dated by the database's.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.ids import SendKey
from libs.common.providers import Provider
from libs.common.sending.coverage import Cover, Edge, RefusalKind
from libs.common.sending.resend_rounds import Round

_EDGES_MOST = 1000

_INSTANT = "select clock_timestamp()"

# A stretch of refusals is dated a little late, by what the statement takes: that is the safe side.
_TELL = """
with edge as (
    insert into webhook_edges as e (edge_id, serves_since, known_until, left_at, last_post_at)
    select $1, least($2, clock_timestamp() - $3::interval), $2, case when $4 then $2 end,
        clock_timestamp() - $5::interval
    on conflict (edge_id) do update
       set known_until = greatest(e.known_until, excluded.known_until), left_at = excluded.left_at,
           last_post_at = greatest(e.last_post_at, excluded.last_post_at)
)
insert into webhook_refusals as r (edge_id, number, kind, reason, began_at, ended_at, times)
select $1, u.number, u.kind, u.reason, clock_timestamp() - u.began, clock_timestamp() - u.ended, u.times
  from unnest($6::int[], $7::text[], $8::text[], $9::interval[], $10::interval[], $11::bigint[]) as u (number, kind,
      reason, began, ended, times)
on conflict (edge_id, number) do update
   set began_at = least(r.began_at, excluded.began_at), ended_at = greatest(r.ended_at, excluded.ended_at),
       times = excluded.times
"""

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

_ROUND = """
insert into resend_rounds as r (provider, opened_at, size, left_over, late_at) values ($1, '-infinity', 0, 0, null)
on conflict (provider) do update set provider = r.provider
returning opened_at, size, left_over, late_at, opened_at = '-infinity' as fresh
"""
_KEEP_ROUND = "update resend_rounds set opened_at = $2, size = $3, left_over = $4, late_at = $5 where provider = $1"

_RELEASED = """
insert into resends (provider, org_id, message_id, attempt, released_at)
select $1, u.*, $5 from unnest($2::text[], $3::uuid[], $4::int[]) as u
on conflict (org_id, message_id, attempt) do update set released_at = excluded.released_at, late = false
"""
_LATELY = """
select r.org_id, r.message_id, r.attempt, s.account, s.claimed_at >= r.released_at as called_again
  from (select * from resends where provider = $1 and released_at >= $2 and not late
      order by released_at desc limit $3) r
  join sends s using (org_id, message_id, attempt)
"""
_GIVEN_UP = """
select u.org_id, u.message_id, u.attempt
  from unnest($2::text[], $3::uuid[], $4::int[]) as u (org_id, message_id, attempt)
  join resends r using (org_id, message_id, attempt)
 where r.provider = $1 and not r.late
"""
_LATE = """
update resends r set late = true
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
 where r.org_id = u.org_id and r.message_id = u.message_id and r.attempt = u.attempt
"""

_FORGET_EDGES = """
delete from webhook_edges
 where ctid = any (array(select e.ctid from webhook_edges e where e.known_until < $1
     order by e.known_until limit $2 for update skip locked))
returning 1
"""
_FORGET_REFUSALS = """
delete from webhook_refusals
 where ctid = any (array(select r.ctid from unnest(array['refused', 'doubtful']) as k (kind)
                          cross join lateral (select r.ctid from webhook_refusals r where r.kind = k.kind
                              and r.ended_at < $1
                                               order by r.ended_at limit $2) r))
returning 1
"""
_FORGET_RESENDS = """
delete from resends
 where ctid = any (array(select r.ctid from resends r where r.released_at < $1 order by r.released_at limit $2))
returning 1
"""


class Refusals(NamedTuple):
    """One stretch of refusals, ``number`` within its edge. ``began`` and ``ended``: how long ago."""

    number: int
    kind: RefusalKind
    reason: str
    began: timedelta
    ended: timedelta
    times: int


class Known(NamedTuple):
    """What an edge knows of itself. ``serves``: for how long.

    ``last_post``: how long ago it last had a signed POST in hand, if ever.
    """

    edge_id: UUID
    serves: timedelta
    last_post: timedelta | None
    refusals: Sequence[Refusals]


async def instant(db: Connection) -> datetime:
    """The database's time. What happened before this was asked happened before it."""
    at: datetime = await db.fetchval(_INSTANT)
    return at


async def store(db: Connection, known: Known, until: datetime, *, leaves: bool = False) -> None:
    """Store what an edge knows. Every refusal up to ``until`` is in it or stored. ``leaves``: it ends in order."""
    columns = as_columns(known.refusals) or [[], [], [], [], [], []]
    await db.execute(_TELL, known.edge_id, until, known.serves, leaves, known.last_post, *columns)


async def cover(db: Connection, provider: Provider, since: datetime) -> Cover:
    """What is stored, of edges those that were heard of since then."""
    rest = await db.fetchrow(_COVER, provider, since)
    edges = await db.fetch(_EDGES, since, _EDGES_MOST)
    return Cover([Edge(**edge) for edge in edges], **dict(rest or {}))


async def standing_round(db: Connection, provider: Provider) -> Round | None:
    """The latest round, locked until the commit; None where there was none yet."""
    row = await db.fetchrow(_ROUND, provider)
    return (
        None if row is None or row["fresh"] else Round(row["opened_at"], row["size"], row["left_over"], row["late_at"])
    )


async def keep_round(db: Connection, provider: Provider, round_: Round) -> None:
    """Store the round that ``standing_round`` locked."""
    await db.execute(_KEEP_ROUND, provider, round_.opened_at, round_.size, round_.left_over, round_.late_at)


async def released(db: Connection, provider: Provider, keys: Iterable[SendKey], now: datetime) -> None:
    """These may be made once more."""
    rows = sorted(keys)
    if rows:
        await db.execute(_RELEASED, provider, *as_columns(rows), now)


class Released(NamedTuple):
    """A send that was released. ``called_again``: its second call was begun."""

    key: SendKey
    account: str
    called_again: bool


async def lately_released(db: Connection, provider: Provider, since: datetime, limit: int) -> list[Released]:
    """The last that were released since then and have not turned out to be accepted before."""
    found = await db.fetch(_LATELY, provider, since, limit)
    return [Released(_key(r), r["account"], bool(r["called_again"])) for r in found]


async def given_up(db: Connection, provider: Provider, keys: Iterable[SendKey]) -> set[SendKey]:
    """Which of these silence had given up: kept by ``released``, and not found out before."""
    rows = sorted(keys)
    if not rows:
        return set()
    found = await db.fetch(_GIVEN_UP, provider, *as_columns(rows))
    return {_key(row) for row in found}


async def turned_out_late(db: Connection, keys: Iterable[SendKey]) -> None:
    """The first calls of these had been accepted after all; each is found out once."""
    rows = sorted(keys)
    if rows:
        await db.execute(_LATE, *as_columns(rows))


async def forget_edges(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` edges that were not heard of since; returns how many."""
    return len(await db.fetch(_FORGET_EDGES, before, limit))


async def forget_refusals(db: Connection, before: datetime, limit: int) -> int:
    """The same for stretches of refusals that ended before; up to ``limit`` of each kind."""
    return len(await db.fetch(_FORGET_REFUSALS, before, limit))


async def forget_resends(db: Connection, before: datetime, limit: int) -> int:
    """The same for what was released before; up to ``limit`` of each provider."""
    return len(await db.fetch(_FORGET_RESENDS, before, limit))


def _key(row: Any) -> SendKey:
    return row["org_id"], row["message_id"], row["attempt"]
