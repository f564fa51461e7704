"""The SQL of answers in the portal that may be unread: bounded slices, by index."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.ids import AttemptKey
from libs.common.thread.conversations import current_conversation


class PortalAnswer(NamedTuple):
    """An answer that is due. ``is_unread``: its message is at this attempt, and nothing was read.

    ``minutes``: the organisation's ``portal_unread_minutes`` where that is a number, as it is written. It may be larger
    than any number that a decoder of JSON takes.
    """

    org_id: str
    message_id: UUID
    attempt: int
    conversation_id: UUID
    answered_at: datetime
    is_unread: bool
    minutes: str | None

    @property
    def key(self) -> AttemptKey:
        return self.org_id, self.message_id, self.attempt


# "offset 0": each row is looked up by its key, whatever the planner believes of tables that grow.
_TAKE = f"""
with due as materialized (
    select a.org_id, a.message_id, a.attempt, a.due_at
      from portal_answers a
     where a.due_at <= $1
     order by a.due_at
     limit $2
       for update skip locked
)
select d.org_id, d.message_id, d.attempt, coalesce(m.conversation_id, d.message_id) as conversation_id,
       coalesce(m.sent_at, d.due_at) as answered_at,
       coalesce(m.attempt = d.attempt and m.status = 'sent', false) as is_unread, o.minutes
  from due d
  left join lateral (
       select m.attempt, m.status, m.sent_at, {current_conversation("m")} as conversation_id from messages m
        where m.org_id = d.org_id and m.message_id = d.message_id and m.direction = 'out' offset 0) m on true
  left join lateral (
       select o.policy ->> 'portal_unread_minutes' as minutes from orgs o
        where o.org_id = d.org_id and jsonb_typeof(o.policy -> 'portal_unread_minutes') = 'number' offset 0) o on true
"""  # noqa: S608 -- a constant

_PUT_OFF = """
update portal_answers a
   set due_at = u.due_at
  from unnest($1::text[], $2::uuid[], $3::int[], $4::timestamptz[]) as u (org_id, message_id, attempt, due_at)
 where a.org_id = u.org_id and a.message_id = u.message_id and a.attempt = u.attempt
"""

_FORGET = """
delete from portal_answers a
 using (select * from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)) u
 where a.org_id = u.org_id and a.message_id = u.message_id and a.attempt = u.attempt
"""


async def take(db: Connection, now: datetime, limit: int) -> list[PortalAnswer]:
    """Lock up to ``limit`` answers that are due, until the transaction ends; no other replica takes them meanwhile."""
    return [PortalAnswer(**row) for row in await db.fetch(_TAKE, now, limit)]


async def postpone(db: Connection, until: Sequence[tuple[AttemptKey, datetime]]) -> None:
    """Set when these are due again."""
    if until:
        await db.execute(_PUT_OFF, *as_columns([(*key, at) for key, at in sorted(until)]))


async def forget(db: Connection, keys: Collection[AttemptKey]) -> None:
    """Delete these: nothing is left to do."""
    if keys:
        await db.execute(_FORGET, *as_columns(sorted(keys)))
