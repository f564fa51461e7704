"""Which row of ``sends`` holds another one back, and the statements that defer and release rows for it.

``s`` is the row that asks, ``$2`` the time, ``$3`` how long a row may hold back others for a reason that is not theirs.
A row of the other channel does so for no longer, nor does a template of an account whose templates rest.

A statement must ask in the order of the index. Then PostgreSQL reads the index and not the table, also where its
statistics are from before a flood or missing. Within an ``exists`` the order holds only with "offset 0". A row that a
statement has locked is written at its place (``ctid``), from a list of places. By its key it would be looked for in
all of the index where statistics found the table empty.

A row that another transaction changed after the statement began, and before it was locked, has a new place that the
statement does not see. It is locked and not written: a sweep finds it the next time.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.providers import ProviderChannel
from libs.common.sending.rows import RUN

_DEFERRED, _LEAST_DEFERRED = 500, 64
"""How many rows one statement looks at, and how many of one account among many at least."""

_OLDER = """
        o.org_id = s.org_id and o.sequence <= s.sequence and (o.sequence, o.attempt) < (s.sequence, s.attempt)
    and o.settled_at is null
    and (o.blocks_order_until is null or o.blocks_order_until > $2)
    and (o.channel = s.channel or o.created_at > $2 - $3::interval)
    and not (o.template and not s.template and o.state = 'pending' and exists (
            select from pauses q
             where q.channel = o.channel and q.account in (o.account, '*') and q.scope = 'templates'
               and greatest(q.since, o.created_at) <= $2 - $3::interval))
"""

HOLDS = f"o.conversation_id = s.conversation_id and {_OLDER}"
"""Whether ``o``, an older row of the same conversation, holds back ``s``.

Ask in the order of ``o.sequence``, with a limit.
"""

# While the rows of a thread are moved into another one, the order covers both threads, and all others that are moved
# there.
_JOINED = f"""
select from (select g.winner as conversation_id from conversation_merges g where g.loser = s.conversation_id
             union all
             select g.loser from conversation_merges g where g.winner = s.conversation_id
             union all
             select b.loser from conversation_merges g
                join conversation_merges b on b.winner = g.winner and b.loser <> g.loser
              where g.loser = s.conversation_id) j
 cross join lateral (select from sends o
                       where o.conversation_id = j.conversation_id and {_OLDER}
                       order by o.sequence limit 1 offset 0) o
"""  # noqa: S608 -- constants of this module

BEHIND = f"""
(select count(*) from (select from sends o where {HOLDS} order by o.sequence limit {RUN} offset 0) o)::int
 + case when exists (select from conversation_merges) and exists ({_JOINED}) then {RUN} else 0 end
"""  # noqa: S608 -- constants of this module
"""How many rows hold back ``s``. ``RUN`` or more: too many, or a row of a thread that is being merged."""

# A transaction that moves the blocking row waits for this commit, and then releases the rows behind it. A blocking row
# that cannot be locked is moving already. A row that blocks only for a time defers nothing. (The update names no state:
# the rows are locked, and a partial index must not look cheaper than the key.)
_DEFER_BLOCKED = f"""
with held as materialized (
    select s.place, b.until
      from unnest($4::text[]) as a (account)
     cross join (values (false), (true)) as l (template)
     cross join lateral (
           select s.ctid as place, s.*
             from sends s
            where s.channel = $1 and s.account = a.account and s.template = l.template
              and s.state = 'pending' and s.settled_at is null and s.unknown_since is null
              and s.deferred_until is null and s.due_at <= $2
            order by s.due_at
            limit $5
              for update skip locked) s
     cross join lateral (
           select case when o.channel <> s.channel then o.created_at + $3::interval
                       when o.template and not s.template then $2::timestamptz + $3::interval
                       else coalesce(o.blocks_order_until, 'infinity') end as until
             from sends o
            where {HOLDS}
            order by o.sequence
            limit 1
              for share of o skip locked) b
     where s.blocks_order_until is null
)
update sends s
   set deferred_until = h.until
  from held h
 where s.ctid = h.place and s.ctid = any (array(select place from held))
returning s.account
"""  # noqa: S608 -- constants of this module

# The first row behind, of either channel, and those that may soon be claimed together. The claim decides which may go.
_LOCK_BLOCKED = f"""
with first as materialized (
    select f.org_id, f.message_id, f.attempt
      from unnest($1::text[], $2::uuid[]) as c (org_id, conversation_id)
     cross join (values ('whatsapp'), ('sms')) as p (channel)
     cross join lateral (
           select b.org_id, b.message_id, b.attempt
             from sends b
            where b.channel = p.channel and b.org_id = c.org_id and b.conversation_id = c.conversation_id
              and b.settled_at is null and b.deferred_until is not null
            order by b.sequence, b.attempt
            limit 1) l
     cross join lateral (
            select l.org_id, l.message_id, l.attempt
             union
            select b.org_id, b.message_id, b.attempt
              from (select *
                      from sends b
                     where b.org_id = c.org_id and b.conversation_id = c.conversation_id and b.settled_at is null
                     order by b.sequence
                     limit {RUN}) b
             where b.channel = p.channel and b.deferred_until is not null) f
)
select s.place, s.channel, s.account
  from (select * from first order by org_id, message_id, attempt offset 0) f
 cross join lateral (
       select s.ctid::text as place, s.channel, s.account
         from sends s
        where s.org_id = f.org_id and s.message_id = f.message_id and s.attempt = f.attempt
        limit 1
          for no key update) s
"""  # noqa: S608 -- a constant

# A statement of its own, so that it sees the place of a row that was changed before it was locked: none may be missed.
_RELEASE = "update sends s set deferred_until = null where s.ctid = any ($1::text[]::tid[])"

_RELEASE_DUE = """
with over as materialized (
    select s.ctid as place
      from sends s
     where s.channel = $1 and s.settled_at is null and s.deferred_until < 'infinity'
       and s.deferred_until <= $2
     order by s.deferred_until
     limit $3
       for update skip locked
)
update sends s
   set deferred_until = null
 where s.ctid = any (array(select place from over))
returning s.account
"""


async def defer_blocked(
    db: Connection,
    channel: ProviderChannel,
    accounts: Collection[str],
    now: datetime,
    holds: timedelta,
    *,
    limit: int = _DEFERRED,
) -> Counter[str]:
    """Defer those of the accounts' first due rows that an older row blocks. Returns how many of each account.

    ``limit``: so many rows of each account are looked at, and fewer of each where there are many accounts.
    """
    if not accounts:
        return Counter()
    each = max(min(limit, _LEAST_DEFERRED), limit // len(accounts))
    return Counter(r["account"] for r in await db.fetch(_DEFER_BLOCKED, channel, now, holds, sorted(accounts), each))


async def release_blocked(
    db: Connection, conversations: Iterable[tuple[str, UUID]]
) -> set[tuple[ProviderChannel, str]]:
    """Rows of these conversations moved: let the first ones behind be looked at again.

    Returns the accounts of those, with their channel. Call inside a transaction.
    """
    asked = sorted(set(conversations))
    blocked = await db.fetch(_LOCK_BLOCKED, *as_columns(asked)) if asked else []
    if blocked:
        await db.execute(_RELEASE, [row["place"] for row in blocked])
    return {(row["channel"], row["account"]) for row in blocked}


async def release_due(db: Connection, channel: ProviderChannel, now: datetime, limit: int) -> list[str]:
    """Let rows be looked at again that were held back until now; their accounts, one for each row."""
    return [r["account"] for r in await db.fetch(_RELEASE_DUE, channel, now, limit)]
