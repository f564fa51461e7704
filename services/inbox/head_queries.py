"""The SQL of ``conversation_heads``: what lists of conversations need beside the thread.

Rule 1: a head is computed anew from the thread whenever something was published about its conversation. So it does not
        matter how often, in which order, and by how many replicas: whoever computes holds the row's lock, and reads the
        thread after that.
Rule 2: only the newest ``NEWEST`` messages of a thread are read. What they do not say stays as it was.
Rule 3: a notice of Meta's system and a reaction ask for no answer, and leave nothing unread. So does what was erased,
        and nothing of it has failed: nothing can be sent that would end it.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.erasure import erased
from libs.common.thread.conversations import current_conversation

NEWEST = 100
LONG_THERE = timedelta(days=2)
"""Longer than any time after which unread conversations are told, and than most outages."""

# "offset 0": each is found by its key, whatever the planner believes of tables that grow. "|| ''": the messages of a
# conversation are found by it alone, and not by those of the whole organisation.
# The conflicting row is locked, though nothing is written to it. What is long there when a head is made counts as read
# by somebody: where the inbox is new, staff are not told of what was before it.
_LOCK = f"""
insert into conversation_heads as h (conversation_id, org_id, last_at, channel, seen_sequence)
select distinct on (c.conversation_id) c.conversation_id, c.org_id, c.created_at, 'whatsapp',
       case when exists (select from conversation_heads x
                          where x.org_id = c.org_id and x.conversation_id = c.conversation_id offset 0) then 0
            else coalesce((select y.sequence from messages y
                            where y.org_id || '' = c.org_id and y.conversation_id = c.conversation_id
                              and y.received_at < now() - interval '{LONG_THERE.total_seconds():.0f} seconds'
                            order by y.sequence desc limit 1), 0) end
  from unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
 cross join lateral (
       select * from conversations k
        where k.org_id = u.org_id and k.conversation_id = {current_conversation("u")} offset 0) c
 order by c.conversation_id
on conflict (conversation_id) do update set org_id = h.org_id where false
returning org_id, conversation_id
"""  # noqa: S608 -- constants

# Whoever waited for a merge has made the head of a conversation that is gone by then.
_DROP_MERGED = """
delete from conversation_heads h
 using unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
 where h.org_id = u.org_id and h.conversation_id = u.conversation_id
   and not exists (select from conversations c where c.org_id = h.org_id and c.conversation_id = h.conversation_id)
returning true
"""

# ``said``: it wants an answer. ``staffed``: staff wrote it, so somebody has read what was there. What staff wrote on
# the phone may be stored late: it answers what was there when it was written (``echoed_at``). What staff dropped, or
# sent in another message, has not failed any more. Each of the threads of a merge is read from its end.
_READ = f"""
with asked as (
    select distinct c.org_id, c.conversation_id
      from unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
     cross join lateral (
           select * from conversations k
            where k.org_id = u.org_id and k.conversation_id = {current_conversation("u")} offset 0) c
)
select c.org_id, c.conversation_id, c.phone_number_id, c.created_at, c.last_customer_at,
       c.identity_changed_at, c.first_refused_at, c.last_refused_at, c.last_inbound_channel,
       h.inbound_sequence as inbound_before, h.inbound_at as inbound_at_before, h.escalated_at, m.*
  from asked a
 cross join lateral (
       select * from conversations k
        where k.org_id = a.org_id and k.conversation_id = a.conversation_id offset 0) c
 cross join lateral (
       select * from conversation_heads k
        where k.org_id = a.org_id and k.conversation_id = a.conversation_id offset 0) h
 cross join lateral (
       select count(*) as read, max(x.sequence) as last_sequence,
              (array_agg(x.message_id order by x.sequence desc))[1] as last_message_id,
              (array_agg(x.occurred_at order by x.sequence desc))[1] as last_at,
              (array_agg(x.channel order by x.sequence desc))[1] as last_channel,
              max(x.sequence) filter (where x.said) as inbound_sequence,
              (array_agg(x.occurred_at order by x.sequence desc) filter (where x.said))[1] as inbound_at,
              min(x.occurred_at) filter (where x.said and x.sequence > x.answered and x.is_later) as unanswered_since,
              least(min(x.received_at) filter (where x.said and x.sequence > greatest(x.staffed, h.seen_sequence)
                                                     and x.is_later),
                    case when count(*) >= {NEWEST} and min(x.sequence) > greatest(max(x.staffed), h.seen_sequence)
                              and max(x.echoed_at) is null and not bool_or(x.erased)
                         then h.unread_since end) as unread_since,
              max(x.sequence) filter (where x.failed and coalesce(x.failed_at >= x.went_at, true)) as failed_sequence,
              coalesce(bool_or(x.erased), false) as erased
         from (select r.*,
                      coalesce(max(r.sequence) filter (where r.answers) over (), 0) as answered,
                      coalesce(max(r.sequence) filter (where r.answers and r.actor = 'staff') over (), 0) as staffed,
                      max(r.occurred_at) filter (where r.echoed) over () as echoed_at,
                      coalesce(r.occurred_at >= max(r.occurred_at) filter (where r.echoed) over (), true) as is_later,
                      max(r.occurred_at) filter (where r.went) over () as went_at
                 from (select t.message_id, t.sequence, t.channel, t.actor, t.occurred_at, t.received_at, t.failed_at,
                              t.erased,
                              t.direction = 'in' and t.kind <> 'reaction' and not t.erased
                                  and (t.kind <> 'unsupported' or t.content ->> 'type' is distinct from 'system')
                                  as said,
                              t.direction = 'out' and t.actor in ('ai', 'staff') and t.kind <> 'bridge'
                                  and t.status <> 'failed' and t.attempt > 0 as answers,
                              t.attempt = 0 and t.status <> 'failed' and (t.kind <> 'unsupported'
                                  or coalesce(t.content ->> 'type' not in ('edit', 'revoke'), true)) as echoed,
                              t.direction = 'out' and t.notification_type is null and t.kind <> 'bridge'
                                  and t.status <> 'failed' as went,
                              t.direction = 'out' and t.status = 'failed' and not t.erased
                                  and t.reason is distinct from 'conversation_held'
                                  and (t.kind <> 'bridge' or coalesce(t.reason not like '%bridge_sent', true))
                                  and not exists (select from parked_messages p
                                                   where p.org_id = t.org_id and p.message_id = t.message_id
                                                     and p.state <> 'waiting' offset 0) as failed
                         from (select c.conversation_id as thread
                                union all
                               select g.loser from conversation_merges g
                                where g.org_id = c.org_id and g.winner = c.conversation_id) s
                        cross join lateral (
                              select y.*, {erased("y")} as erased from messages y
                               where y.org_id || '' = c.org_id and y.conversation_id = s.thread
                               order by y.sequence desc limit {NEWEST} offset 0) t
                        order by t.sequence desc limit {NEWEST}) r) x
       ) m
"""  # noqa: S608 -- constants

_WRITE = """
update conversation_heads h
   set phone_number_id = u.phone_number_id, last_sequence = u.last_sequence,
       last_message_id = u.last_message_id, last_at = u.last_at, channel = u.channel,
       inbound_sequence = u.inbound_sequence, inbound_at = u.inbound_at, unanswered_since = u.unanswered_since,
       failed_sequence = u.failed_sequence, last_customer_at = u.last_customer_at, closed_early = u.closed_early,
       unread_since = u.unread_since, escalated_at = u.escalated_at
  from unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::uuid[], $6::timestamptz[], $7::text[],
              $8::bigint[], $9::timestamptz[], $10::timestamptz[], $11::bigint[], $12::timestamptz[], $13::bool[],
              $14::timestamptz[], $15::timestamptz[])
    as u (org_id, conversation_id, phone_number_id, last_sequence, last_message_id, last_at, channel,
          inbound_sequence, inbound_at, unanswered_since, failed_sequence, last_customer_at, closed_early,
          unread_since, escalated_at)
 where h.org_id = u.org_id and h.conversation_id = u.conversation_id
"""

# A head whose worker was away for longer than topics keep records knows less of the customer than the conversation.
_BEHIND = """
select c.conversation_id, c.org_id,
       h.conversation_id is null or c.last_customer_at is distinct from h.last_customer_at
           or coalesce(c.last_inbound_at > h.last_at, false) as is_behind
  from (select c.* from conversations c where c.conversation_id > $1 order by c.conversation_id limit $2) c
  left join conversation_heads h on h.conversation_id = c.conversation_id and h.org_id = c.org_id
 order by c.conversation_id
"""


class Thread(NamedTuple):
    """What the newest messages of a thread say, beside what its conversation and its head say."""

    org_id: str
    conversation_id: UUID
    phone_number_id: str | None
    created_at: datetime
    last_customer_at: datetime | None
    identity_changed_at: datetime | None
    first_refused_at: datetime | None
    last_refused_at: datetime | None
    last_inbound_channel: str | None
    inbound_before: int | None
    inbound_at_before: datetime | None
    escalated_at: datetime | None
    read: int
    last_sequence: int | None
    last_message_id: UUID | None
    last_at: datetime | None
    last_channel: str | None
    inbound_sequence: int | None
    inbound_at: datetime | None
    unanswered_since: datetime | None
    unread_since: datetime | None
    failed_sequence: int | None
    erased: bool = False
    """Whether any of them was erased."""


class Head(NamedTuple):
    """A row of ``conversation_heads``, but for what reading moves (``seen_sequence``)."""

    org_id: str
    conversation_id: UUID
    phone_number_id: str | None
    last_sequence: int
    last_message_id: UUID | None
    last_at: datetime
    channel: str
    inbound_sequence: int | None
    inbound_at: datetime | None
    unanswered_since: datetime | None
    failed_sequence: int | None
    last_customer_at: datetime | None
    closed_early: bool
    unread_since: datetime | None
    escalated_at: datetime | None


async def lock(db: Connection, touched: Iterable[tuple[str, UUID]]) -> None:
    """Lock the heads of these (organisation, conversation) in the order of ids, and make those that are missing."""
    rows = sorted(set(touched))
    while rows:
        made = [tuple(row) for row in await db.fetch(_LOCK, *as_columns(rows))]
        if not made or not await db.fetch(_DROP_MERGED, *as_columns(made)):
            return


async def read_threads(db: Connection, touched: Iterable[tuple[str, UUID]]) -> list[Thread]:
    """The threads of these conversations, each once, under its present id. Their heads are locked."""
    rows = sorted(set(touched))
    return [Thread(**row) for row in await db.fetch(_READ, *as_columns(rows))] if rows else []


async def write_heads(db: Connection, heads: Sequence[Head]) -> None:
    """Write heads that are locked."""
    if heads:
        await db.execute(_WRITE, *as_columns(heads))


async def conversations_after(db: Connection, after: UUID, limit: int) -> list[tuple[UUID, str, bool]]:
    """The next conversations of all organisations by id, each with its organisation.

    The third says whether its head is missing, or behind what the customer has written.
    """
    rows = await db.fetch(_BEHIND, after, limit)
    return [(row["conversation_id"], row["org_id"], row["is_behind"]) for row in rows]
