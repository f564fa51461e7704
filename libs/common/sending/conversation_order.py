"""Which row of ``sends`` holds another one back, and the statements that defer and release rows for it.

``s`` is the row that asks, ``$2`` the time, ``$3`` how long a row may hold back others for a reason that is not theirs.
A row of the other channel does so for no longer, nor does a template of an account whose templates rest.

A statement must ask in the order of the index. Then PostgreSQL reads the index and not the table, also where its
statistics are from before a flood or missing. Within an ``exists`` the order holds only with "offset 0".
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.providers import ProviderChannel

_OLDER = """
        o.org_id = s.org_id and o.sequence <= s.sequence and (o.sequence, o.attempt) < (s.sequence, s.attempt)
    and o.state in ('pending', 'claimed', 'unknown')
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

IS_HELD = f"""
(exists (select from sends o where {HOLDS} order by o.sequence limit 1 offset 0)
 or (exists (select from conversation_merges) and exists ({_JOINED}))) -- most of the time no merge is under way
"""  # noqa: S608 -- constants of this module
"""Whether any row holds back ``s``."""

# A transaction that moves the blocking row waits for this commit, and then releases the rows behind it. A blocking row
# that cannot be locked is moving already. A row that blocks only for a time defers nothing. (The update names no state:
# the rows are locked, and a partial index must not look cheaper than the key.)
_DEFER_BLOCKED = f"""
with held as materialized (
    select s.org_id, s.message_id, s.attempt, b.until
      from (values (false), (true)) as l (template)
     cross join lateral (
           select *
             from sends s
            where s.channel = $1 and s.account = $4 and s.template = l.template
              and s.state = 'pending' and s.deferred_until is null and s.due_at <= $2
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
 where s.org_id = h.org_id and s.message_id = h.message_id and s.attempt = h.attempt
returning 1
"""  # noqa: S608 -- constants of this module

# The first row behind, of either channel. The claim decides whether it may go.
_RELEASE_BLOCKED = """
with first as materialized (
    select f.org_id, f.message_id, f.attempt
      from unnest($1::text[], $2::uuid[]) as c (org_id, conversation_id)
     cross join (values ('whatsapp'), ('sms')) as p (channel)
     cross join lateral (
           select b.org_id, b.message_id, b.attempt
             from sends b
            where b.channel = p.channel and b.org_id = c.org_id and b.conversation_id = c.conversation_id
              and b.state = 'pending' and b.deferred_until is not null
            order by b.sequence, b.attempt
            limit 1) f
), held as materialized (
    select s.org_id, s.message_id, s.attempt
      from first f
      join sends s using (org_id, message_id, attempt)
     order by s.org_id, s.message_id, s.attempt
       for no key update of s
)
update sends s
   set deferred_until = null
  from held h
 where s.org_id = h.org_id and s.message_id = h.message_id and s.attempt = h.attempt
returning s.channel, s.account
"""

_RELEASE_DUE = """
with over as materialized (
    select s.org_id, s.message_id, s.attempt
      from sends s
     where s.channel = $1 and s.state = 'pending' and s.deferred_until <= $2
     order by s.deferred_until
     limit $3
       for update skip locked
)
update sends s
   set deferred_until = null
  from over o
 where s.org_id = o.org_id and s.message_id = o.message_id and s.attempt = o.attempt
returning s.account
"""


async def defer_blocked(
    db: Connection, channel: ProviderChannel, account: str, now: datetime, holds: timedelta, *, limit: int = 500
) -> int:
    """Defer those of the account's first due rows that an older row blocks. Returns how many."""
    return len(await db.fetch(_DEFER_BLOCKED, channel, now, holds, account, limit))


async def release_blocked(
    db: Connection, conversations: Iterable[tuple[str, UUID]]
) -> set[tuple[ProviderChannel, str]]:
    """Rows of these conversations moved: let the first one behind be looked at again.

    Returns the accounts of those, with their channel.
    """
    found = sorted(set(conversations))
    return (
        {(r["channel"], r["account"]) for r in await db.fetch(_RELEASE_BLOCKED, *as_columns(found))} if found else set()
    )


async def release_due(db: Connection, channel: ProviderChannel, now: datetime, limit: int) -> list[str]:
    """Let rows be looked at again that were held back until now; their accounts, one for each row."""
    return [r["account"] for r in await db.fetch(_RELEASE_DUE, channel, now, limit)]
