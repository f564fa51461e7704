"""The rows of notices: what was told to staff, and what the bell of each member shows."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, get_args
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.events.outbound import DeliveryUpdate
from libs.common.thread.conversations import current_conversation

NoticeType = Literal["conversation.unread.v1", "delivery.failed.v1"]
MOST_NEW = 100
"""New notices that are counted. The bell says "99+" instead of a larger number."""

_FIELDS = "n.notice_id, n.org_id, n.type, n.conversation_id, n.since, n.message_id, n.reason, n.provider_code"

# A bridge that its provider refused fails with the message that it stood for, which is told already. What was silent
# because staff hold the conversation is no failure to them, and neither is a wish for a bridge that was sent.
_FAILED = f"""
insert into inbox_notices (org_id, type, conversation_id, message_id, reason, provider_code, at)
select m.org_id, 'delivery.failed.v1', {current_conversation("m")}, m.message_id, m.reason, m.provider_code, $3
  from unnest($1::text[], $2::uuid[]) as u (org_id, message_id)
  join messages m on m.org_id = u.org_id and m.message_id = u.message_id and m.direction = 'out'
   and m.status = 'failed' and m.reason is distinct from 'conversation_held' and m.conversation_id is not null
   and (m.kind <> 'bridge' or coalesce(m.reason not like '%bridge_sent', true))
 where not exists (select from messages o
                    where o.org_id = m.org_id and o.message_id = m.parent_id and o.reason like '%bridge_failed')
 order by m.org_id, m.message_id
on conflict (org_id, message_id) where message_id is not null do nothing
"""  # noqa: S608 -- a constant

# "offset 0": each is looked up by its message, and not among all of its type.
_UNPUBLISHED_OF = f"""
select {_FIELDS}
  from unnest($1::text[], $2::uuid[]) as u (org_id, message_id)
 cross join lateral (
       select * from inbox_notices x where x.org_id = u.org_id and x.message_id = u.message_id offset 0) n
 where not n.published and n.type = 'delivery.failed.v1'
 order by n.notice_id
"""  # noqa: S608 -- a constant

# One look at the index for each organisation, however many conversations each has.
_ORGANISATIONS = """
with recursive found as (
    (select h.org_id, h.unread_since, 1 as place
       from conversation_heads h
      where h.org_id > $1 and h.unread_since is not null and h.escalated_at is null
      order by h.org_id, h.unread_since
      limit 1)
     union all
    select n.org_id, n.unread_since, f.place + 1
      from found f
     cross join lateral (
           select h.org_id, h.unread_since
             from conversation_heads h
            where h.org_id > f.org_id and h.unread_since is not null and h.escalated_at is null
            order by h.org_id, h.unread_since
            limit 1) n
     where f.place < $2
)
select f.org_id, f.unread_since, nullif(o.policy, '{}')::text as policy
  from found f
  left join orgs o on o.org_id = f.org_id
 order by f.org_id
"""

_OVERDUE = """
select h.org_id, h.conversation_id
  from unnest($1::text[], $2::timestamptz[]) as u (org_id, before)
 cross join lateral (
       select h.org_id, h.conversation_id
         from conversation_heads h
        where h.org_id = u.org_id and h.unread_since <= u.before and h.unread_since is not null
          and h.escalated_at is null
        order by h.unread_since
        limit $3 offset 0) h
"""

_ESCALATE = f"""
with due as (
    select * from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as u (org_id, conversation_id, since)
), told as (
    update conversation_heads h
       set escalated_at = $4
      from due u
     where h.org_id = u.org_id and h.conversation_id = u.conversation_id
), n as (
    insert into inbox_notices (org_id, type, conversation_id, since, at)
    select u.org_id, 'conversation.unread.v1', u.conversation_id, u.since, $4 from due u
     order by u.org_id, u.conversation_id
    on conflict (org_id, conversation_id, since) where since is not null do nothing
    returning *
)
select {_FIELDS} from n order by n.notice_id
"""  # noqa: S608 -- a constant

# The sum keeps the planner from the index by age, in which all that were published stand, too.
_LEFT = f"""
select {_FIELDS} from inbox_notices n
 where not n.published and n.at + interval '0' < $1 and array_position($3::text[], n.type) is not null
 order by n.notice_id limit $2
"""  # noqa: S608 -- a constant

_PUBLISHED = "update inbox_notices set published = true where notice_id = any ($1::bigint[])"

_FORGET = """
delete from inbox_notices
 where notice_id = any (array(select notice_id from inbox_notices where at < $1 and published order by at limit $2))
"""

# A member is told from the day on which they were first here.
_BELL = f"""
with me as (
    select p.org_id, p.notify_failures, p.notices_seen, p.first_seen_at
      from members p where p.org_id = $1 and p.user_id = $2
), newest as (
    select m.notices_seen, m.first_seen_at, x.*
      from me m
     cross join lateral (
           (select * from inbox_notices x
             where x.org_id = m.org_id and x.type = 'conversation.unread.v1' and x.notice_id < $3
             order by x.notice_id desc limit $4)
            union all
           (select * from inbox_notices x
             where x.org_id = m.org_id and x.type = 'delivery.failed.v1' and m.notify_failures and x.notice_id < $3
             order by x.notice_id desc limit $4)) x
     where x.at >= m.first_seen_at
     order by x.notice_id desc
     limit $4
)
select n.notice_id, n.type, {current_conversation("n")} as conversation_id, n.since, n.message_id, n.reason,
       n.provider_code, n.at, n.notice_id > n.notices_seen as is_new, k.name as customer_name,
       array_remove(array[k.phone, c.wa_id], null) as own
  from newest n
  left join conversations c on c.org_id = n.org_id and c.conversation_id = {current_conversation("n")}
  left join customers k on k.org_id = c.org_id and k.customer_id = c.customer_id
 order by n.notice_id desc
"""  # noqa: S608 -- constants

_NEW = """
select p.notify_failures,
       (select count(*) from (
           (select from inbox_notices x
             where x.org_id = p.org_id and x.type = 'conversation.unread.v1' and x.notice_id > p.notices_seen
               and x.at >= p.first_seen_at
             order by x.notice_id limit $3)
            union all
           (select from inbox_notices x
             where x.org_id = p.org_id and x.type = 'delivery.failed.v1' and x.notice_id > p.notices_seen
               and x.at >= p.first_seen_at and p.notify_failures
             order by x.notice_id limit $3)) x) as new
  from members p
 where p.org_id = $1 and p.user_id = $2
"""

# Nothing that is to come counts as seen, whatever number is given.
_SEEN = """
update members p
   set notices_seen = greatest(p.notices_seen, least($3, (
           select coalesce(max(n.notice_id), 0)
             from unnest(array['conversation.unread.v1', 'delivery.failed.v1']) as t (type)
            cross join lateral (select x.notice_id from inbox_notices x
                                 where x.org_id = p.org_id and x.type = t.type
                                 order by x.notice_id desc limit 1) n)))
 where p.org_id = $1 and p.user_id = $2
"""

_SWITCH = "update members set notify_failures = $3 where org_id = $1 and user_id = $2"


class StoredNotice(NamedTuple):
    """A notice. ``since`` is of an unread conversation, the fields after it are of a failed message."""

    notice_id: int
    org_id: str
    type: NoticeType
    conversation_id: UUID
    since: datetime | None
    message_id: UUID | None
    reason: str | None
    provider_code: str | None


class BellNotice(NamedTuple):
    """A notice as a member sees it. ``is_new``: they have not looked at the bell since. ``own``: customer's numbers."""

    notice_id: int
    type: NoticeType
    conversation_id: UUID
    since: datetime | None
    message_id: UUID | None
    reason: str | None
    provider_code: str | None
    at: datetime
    is_new: bool
    customer_name: str | None
    own: list[str]


class Waiting(NamedTuple):
    """An organisation with conversations that nobody has read, of which nothing was told yet, since the oldest."""

    org_id: str
    unread_since: datetime
    policy: str | None


async def store_failures(db: Connection, updates: Collection[DeliveryUpdate], now: datetime) -> list[StoredNotice]:
    """Store a notice for each of these messages that is failed, once; those that are not known to be published."""
    keys = sorted({(update.org_id, update.message_id) for update in updates})
    if not keys:
        return []
    columns = as_columns(keys)
    await db.execute(_FAILED, *columns, now)
    return [StoredNotice(**row) for row in await db.fetch(_UNPUBLISHED_OF, *columns)]


async def organisations_after(db: Connection, after: str, limit: int) -> list[Waiting]:
    """The next organisations by id that have such conversations."""
    return [Waiting(**row) for row in await db.fetch(_ORGANISATIONS, after, limit)]


async def overdue(db: Connection, before: Mapping[str, datetime], share: int) -> list[tuple[str, UUID]]:
    """Of each organisation the conversations that have been unread since before then, the oldest first."""
    rows = await db.fetch(_OVERDUE, *as_columns(sorted(before.items())), share) if before else []
    return [(row["org_id"], row["conversation_id"]) for row in rows]


async def escalate(db: Connection, due: Sequence[tuple[str, UUID, datetime]], now: datetime) -> list[StoredNotice]:
    """These conversations are told to be unread since then. Call it with their heads locked."""
    return [StoredNotice(**row) for row in await db.fetch(_ESCALATE, *as_columns(due), now)] if due else []


async def left(db: Connection, before: datetime, limit: int) -> list[StoredNotice]:
    """Notices of before then that are not known to be published, but for those of a later release: it tells them."""
    return [StoredNotice(**row) for row in await db.fetch(_LEFT, before, limit, get_args(NoticeType))]


async def published(db: Connection, notices: Collection[StoredNotice]) -> None:
    """Kafka has these."""
    if notices:
        await db.execute(_PUBLISHED, sorted(notice.notice_id for notice in notices))


async def bell(db: Connection, org_id: str, user_id: str, before: int, limit: int) -> list[BellNotice]:
    """What a member's bell shows, below this number, the newest first."""
    return [BellNotice(**row) for row in await db.fetch(_BELL, org_id, user_id, before, limit)]


async def new_of(db: Connection, org_id: str, user_id: str) -> tuple[int, bool]:
    """How many notices are new to a member, at most ``MOST_NEW``, and whether failures are told to them."""
    row = await db.fetchrow(_NEW, org_id, user_id, MOST_NEW)
    return (0, True) if row is None else (min(row["new"], MOST_NEW), row["notify_failures"])


async def seen(db: Connection, org_id: str, user_id: str, upto: int) -> None:
    """The member has seen all notices up to this number. The number never goes back."""
    await db.execute(_SEEN, org_id, user_id, upto)


async def switch(db: Connection, org_id: str, user_id: str, *, failures: bool) -> None:
    """Whether failures are told to the member."""
    await db.execute(_SWITCH, org_id, user_id, failures)


async def forget(db: Connection, before: datetime, limit: int) -> int:
    """Delete notices that were told before then; returns how many."""
    return await changed(db, _FORGET, before, limit)
