"""The SQL of the reconciler: bounded slices, by index. A finished decision is looked at once."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.ids import AttemptKey
from services.router.reconcile_plan import StaleAttempt

Pass = Literal["unsent", "unheard"]
"""What a pass looks for: a command without a send soon after its decision; a message without a status long after it."""

_UPTO = "select upto from reconcile_progress where pass = $1 for update skip locked"

# In the order of the index, and without an upper bound: whatever the planner believes of the table, it reads so many
# entries and no more.
_NEXT = """
select max(t.at)
  from (select d.decided_at as at from decisions d
         where d.command is not null and d.decided_at > $1
         order by d.decided_at
         limit $3) t
 where t.at <= $2
"""

_LOOKED = "update reconcile_progress set upto = $2 where pass = $1"

# "offset 0": each row is looked up by its key, whatever the planner believes of tables that grow.
_SLICE = """
insert into stale_attempts (org_id, message_id, attempt, deadline, due_at)
select d.org_id, d.intent_id, d.attempt, coalesce((d.command ->> 'expires_at')::timestamptz,
    d.decided_at + $3::interval), $4
  from decisions d
 cross join lateral (
       select m.status from messages m
        where m.org_id = d.org_id and m.message_id = d.intent_id and m.direction = 'out'
            and m.attempt = d.attempt offset 0) m
  left join lateral (
       select s.state from sends s
        where s.org_id = d.org_id and s.message_id = d.intent_id and s.attempt = d.attempt offset 0) s on true
 where d.command is not null and d.decided_at > $1 and d.decided_at <= $2
   and {looks_for}
on conflict do nothing
returning 1
"""
_FIND = {
    "unsent": _SLICE.format(looks_for="s.state is null and (m.status = 'pending' or d.route = 'bridge')"),
    "unheard": _SLICE.format(looks_for="(m.status = 'pending' or s.state is null and d.route = 'bridge')"),
}

# By the index of waiting rows, in the order of their deadlines. While a sender runs, it finds none.
_FIND_OVERDUE = """
insert into stale_attempts (org_id, message_id, attempt, deadline, due_at)
select s.org_id, s.message_id, s.attempt, s.expires_at, $2
  from (values ('whatsapp'), ('sms')) as p (channel)
 cross join lateral (
       select s.org_id, s.message_id, s.attempt, s.expires_at
         from sends s
        where s.channel = p.channel and s.state = 'pending' and s.settled_at is null and s.unknown_since is null
          and s.expires_at <= $1
        order by s.expires_at
        limit $3) s
on conflict do nothing
returning 1
"""

_TAKE = """
update stale_attempts e
   set tries = e.tries + 1,
       due_at = least($1 + least($3::interval * power(3, least(e.tries, 9)), $4::interval),
                      case when e.deadline > $1 then e.deadline else 'infinity' end)
 where e.ctid = any (array(select t.ctid from stale_attempts t
     where t.due_at <= $1 and (t.deadline <= $1 or not $5::bool) order by t.due_at limit $2 for update skip locked))
returning e.org_id, e.message_id, e.attempt
"""

_LOOK = """
select e.org_id, e.message_id, e.attempt, e.deadline,
       coalesce(a.conversation_id, m.conversation_id, d.conversation_id, s.conversation_id) as conversation_id,
       d.route, d.channel, d.command::text, m.sequence, coalesce(d.command ->> 'phone_number_id',
           d.command ->> 'from_number') as account,
       m.status, coalesce(d.route, '') = 'bridge' and b.holds is not null as holds, s.state, s.resends, s.settled_at,
           s.expires_at, s.outcome
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
  join stale_attempts e on e.org_id = u.org_id and e.message_id = u.message_id and e.attempt = u.attempt
  left join decisions d on d.org_id = u.org_id and d.intent_id = u.message_id and d.attempt = u.attempt
  left join messages m on m.org_id = u.org_id and m.message_id = u.message_id and m.direction = 'out'
      and m.attempt = u.attempt
  left join conversation_aliases a on a.alias = m.conversation_id and a.org_id = m.org_id
  left join lateral (
       select true as holds from bridge_slots x
        where x.conversation_id = coalesce(a.conversation_id, m.conversation_id) and x.org_id = u.org_id
            and u.message_id = any(x.intent_id || x.others)
       offset 0) b on true
  left join sends s on s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt
"""

# The row of a send that was never made. A command that arrives later finds it settled.
_TAKE_PLACES = """
insert into sends (org_id, message_id, attempt, channel, conversation_id, sequence, account, command, state, due_at,
    expires_at, outcome,
                   settled_at, published, created_at)
select u.org_id, u.message_id, u.attempt, u.channel, u.conversation_id, u.sequence, u.account, u.command::jsonb,
    'failed', $9, u.expires_at,
       jsonb_build_object('answer', 'refused', 'code', null, 'reason', 'intent_expired'), $9, true, $9
  from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::uuid[], $6::bigint[], $7::text[], $8::text[],
      $10::timestamptz[])
    as u (org_id, message_id, attempt, channel, conversation_id, sequence, account, command, expires_at)
on conflict do nothing
returning org_id, message_id, attempt
"""

_CLOSE = """
with over as materialized (
    select s.org_id, s.message_id, s.attempt
      from unnest($1::text[], $2::uuid[], $3::int[], $4::text[]) as u (org_id, message_id, attempt, reason)
      join sends s on s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = u.attempt
     where (s.state = 'pending' or s.state in ('claimed', 'unknown') and s.lease_until <= $5) and s.expires_at <= $5
     order by s.org_id, s.message_id, s.attempt
       for update of s skip locked
)
update sends s
   set state = 'failed', settled_at = $5, published = true,
       outcome = jsonb_build_object('answer', 'refused', 'code', null, 'reason', u.reason)
  from over
  join unnest($1::text[], $2::uuid[], $3::int[], $4::text[]) as u (org_id, message_id, attempt, reason) using (org_id,
      message_id, attempt)
 where s.org_id = over.org_id and s.message_id = over.message_id and s.attempt = over.attempt
returning s.org_id, s.message_id, s.attempt, s.conversation_id, s.claimed_at
"""

_PUT_OFF = """
update stale_attempts e
   set due_at = u.due_at
  from unnest($1::text[], $2::uuid[], $3::int[], $4::timestamptz[]) as u (org_id, message_id, attempt, due_at)
 where e.org_id = u.org_id and e.message_id = u.message_id and e.attempt = u.attempt
"""

_FORGET = """
delete from stale_attempts e
 using (select * from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)) u
 where e.org_id = u.org_id and e.message_id = u.message_id and e.attempt = u.attempt
"""


async def look_through(
    db: Connection,
    what: Pass,
    since: datetime | None,
    until: datetime,
    now: datetime,
    *,
    lifetime: timedelta,
    limit: int,
) -> bool:
    """Look through the next decisions that were taken until then, about ``limit``. Returns whether there may be more.

    Decisions from before ``since`` are passed over. One replica at a time does it; another finds nothing. Call inside a
    transaction.
    """
    upto = await db.fetchval(_UPTO, what)
    if upto is not None and upto > until:  # the server's clock was set back: what is decided from now on comes anew
        await db.execute(_LOOKED, what, until)
        return False
    if upto is not None and since is not None:
        upto = max(upto, since)
    last = None if upto is None else await db.fetchval(_NEXT, upto, until, limit)
    if last is None:
        return False
    await db.fetch(_FIND[what], upto, last, lifetime, now)
    await db.execute(_LOOKED, what, last)
    return True


async def take_due(
    db: Connection, now: datetime, limit: int, *, first: timedelta, longest: timedelta, ends: bool
) -> list[AttemptKey]:
    """Stale attempts that are due, in the order of their times. ``ends``: only those whose deadline has come.

    Each is due again after ``first``, then three times that, and so on, at most ``longest``; and at its deadline.
    """
    return [_key(row) for row in await db.fetch(_TAKE, now, limit, first, longest, ends)]


async def look(db: Connection, keys: Collection[AttemptKey]) -> list[StaleAttempt]:
    """The present state of these attempts."""
    rows = await db.fetch(_LOOK, *as_columns(sorted(keys)))
    return [StaleAttempt(**dict(row) | {"command": row["command"] and row["command"].encode()}) for row in rows]


async def take_places(db: Connection, ends: Sequence[StaleAttempt], now: datetime) -> set[AttemptKey]:
    """Take the places of these sends in ``sends``, so that they can never be made.

    Returns the keys that were free. Call before messages are locked.
    """
    rows = [
        (
            *e.key,
            "sms" if e.channel == "sms" else "whatsapp",
            e.conversation_id,
            e.sequence,
            e.account or "",
            (e.command or b"").decode(),
            e.deadline,
        )
        for e in sorted(ends, key=lambda e: e.key)
    ]
    if not rows:
        return set()
    *columns, deadlines = as_columns(rows)
    return {_key(row) for row in await db.fetch(_TAKE_PLACES, *columns, now, deadlines)}


async def find_overdue(db: Connection, before: datetime, now: datetime, limit: int) -> None:
    """Note as stale, up to ``limit`` of each channel, the ``sends`` that still wait after this deadline."""
    await db.fetch(_FIND_OVERDUE, before, now, limit)


class Closed(NamedTuple):
    """A send that was ended. ``claimed_at``: its latest claim; None: it was never claimed."""

    conversation_id: UUID
    claimed_at: datetime | None


async def close(db: Connection, ends: Sequence[tuple[AttemptKey, str]], now: datetime) -> dict[AttemptKey, Closed]:
    """End these sends with that reason, where they are neither settled nor leased. Returns those that it ended.

    Call before messages are locked.
    """
    if not ends:
        return {}
    rows = await db.fetch(_CLOSE, *as_columns([(*key, reason) for key, reason in sorted(ends)]), now)
    return {_key(row): Closed(row["conversation_id"], row["claimed_at"]) for row in rows}


async def postpone(db: Connection, until: Sequence[tuple[AttemptKey, datetime]]) -> None:
    """Set when these are due again."""
    if until:
        await db.execute(_PUT_OFF, *as_columns([(*key, at) for key, at in sorted(until)]))


async def forget(db: Connection, keys: Collection[AttemptKey]) -> None:
    """Delete these: nothing is left to do."""
    if keys:
        await db.execute(_FORGET, *as_columns(sorted(keys)))


def _key(row: Any) -> AttemptKey:
    return row["org_id"], row["message_id"], row["attempt"]
