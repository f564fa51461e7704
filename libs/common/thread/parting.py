"""The messages of a stranger in a customer's threads: which they are, and how they come into threads of their own."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.thread.conversations import wrote_last


class SenderFilter(NamedTuple):
    """Messages in a customer's threads after ``at``: by ``bsuids``, or by ``wa_ids`` alone and not after ``until``."""

    org_id: str
    customers: list[UUID]
    wa_ids: list[str]
    bsuids: list[str]
    at: datetime
    until: datetime | None = None


class ThreadMessage(NamedTuple):
    """A customer's message, the conversation it is in, and the business number of that conversation."""

    message_id: UUID
    conversation_id: UUID
    occurred_at: datetime
    phone_number_id: str | None
    channel: str


# Also among what is still being moved into these threads. A thread is read from its end, as far as anything can have
# been written after that time: a message is stored after it was written, and within a thread sequences follow the order
# of storing, but for some minutes.
_MESSAGES_FROM = """
with recursive threads as (
    select c.conversation_id, c.phone_number_id, c.conversation_id as stood_in
      from conversations c
     where c.org_id = $1 and c.customer_id = any($2::uuid[])
    union all
    select c.conversation_id, c.phone_number_id, g.loser
      from conversations c
      join conversation_merges g on g.winner = c.conversation_id and g.org_id = c.org_id
     where c.org_id = $1 and c.customer_id = any($2::uuid[])
), pages as (
    select t.*, 9223372036854775807::bigint as lowest, true as again from threads t
    union all
    select p.conversation_id, p.phone_number_id, p.stood_in, n.lowest, n.again
      from pages p
     cross join lateral (
           select min(r.sequence) as lowest, count(*) = $7 and bool_or(r.stored_at is null
               or r.stored_at > $5::timestamptz - interval '10 minutes') as again
             from (select m.sequence,
                          case m.direction when 'in' then uuid_extract_timestamp(m.message_id)
                              else m.received_at end as stored_at
                     from messages m
                    where m.conversation_id = p.stood_in and m.org_id = $1 and m.sequence < p.lowest
                    order by m.sequence desc
                    limit $7) r) n
     where p.again and n.lowest is not null
), late as (
    select conversation_id, phone_number_id, stood_in, min(lowest) as lowest from pages group by 1, 2, 3
)
select m.message_id, l.conversation_id, m.occurred_at, l.phone_number_id, m.channel, m.from_wa_id, m.from_bsuid
  from late l
 cross join lateral (
       select m.message_id, m.occurred_at, m.channel, m.from_wa_id, m.from_bsuid
         from messages m
        where m.conversation_id = l.stood_in and m.org_id = $1 and m.sequence >= l.lowest
          and m.direction = 'in' and m.channel in ('whatsapp', 'sms') and m.occurred_at > $5
          and case when m.from_bsuid is null then m.from_wa_id = any($3::text[]) and m.occurred_at <= coalesce($6,
              'infinity'::timestamptz)
                   else m.from_bsuid = any($4::text[]) end
       offset 0) m
 order by m.message_id
"""
_PAGE = 500

_MOVE_MESSAGES = """
with wanted as (
    select m.org_id, m.message_id, c.conversation_id
      from unnest($3::uuid[], $4::text[]) as u (message_id, phone_number_id)
      join messages m on m.org_id = $1 and m.message_id = u.message_id
      join conversations c on c.customer_id = $2 and c.org_id = m.org_id
       and c.phone_number_id is not distinct from u.phone_number_id
     order by m.message_id
       for no key update of m
)
update messages m set conversation_id = w.conversation_id from wanted w where m.org_id = w.org_id
    and m.message_id = w.message_id
"""

# The window of whose thread they were in was opened by a stranger: it is closed until the customer writes. The
# stranger's is open since they wrote. An SMS opens none.
_AFTER = f"""
with opened as (
    update conversations c
       set last_customer_at = greatest(c.last_customer_at, u.opened_at),
           {wrote_last("c", "u.at", "u.channel")}
      from unnest($3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[])
        as u (phone_number_id, opened_at, at, channel)
     where c.org_id = $1 and c.customer_id = $2 and c.phone_number_id is not distinct from u.phone_number_id
)
update conversations c
   set identity_changed_at = greatest(c.identity_changed_at, c.last_customer_at)
 where c.org_id = $1 and c.conversation_id = any($7::uuid[])
"""  # noqa: S608 -- a constant


async def messages_from(db: Connection, filters: Sequence[SenderFilter]) -> list[list[ThreadMessage]]:
    """The messages that each filter asks for, in the order of the filters. Each customer's threads are read once."""
    of_customers: dict[tuple[str, tuple[UUID, ...]], list[SenderFilter]] = {}
    for one in filters:
        of_customers.setdefault((one.org_id, tuple(one.customers)), []).append(one)
    read = {who: await db.fetch(_MESSAGES_FROM, *_any_of(some), _PAGE) for who, some in of_customers.items()}
    return [
        [ThreadMessage(*row[:5]) for row in read[one.org_id, tuple(one.customers)] if _is_from(row, one)]
        for one in filters
    ]


def _any_of(filters: Sequence[SenderFilter]) -> SenderFilter:
    """A filter that lets all pass that one of these lets pass; they are of the same customers."""
    ends = [one.until for one in filters if one.until is not None]
    return filters[0]._replace(
        wa_ids=sorted({wa_id for one in filters for wa_id in one.wa_ids}),
        bsuids=sorted({bsuid for one in filters for bsuid in one.bsuids}),
        at=min(one.at for one in filters),
        until=max(ends) if len(ends) == len(filters) else None,
    )


def _is_from(row: Any, senders: SenderFilter) -> bool:
    if row["occurred_at"] <= senders.at:
        return False
    if row["from_bsuid"] is not None:
        return row["from_bsuid"] in senders.bsuids
    return row["from_wa_id"] in senders.wa_ids and (senders.until is None or row["occurred_at"] <= senders.until)


async def split(db: Connection, org_id: str, customer_id: UUID, messages: Sequence[ThreadMessage]) -> None:
    """Move these messages into the threads of the customer who wrote them, which exist."""
    newest: dict[str | None, ThreadMessage] = {}
    opened: dict[str | None, datetime] = {}
    for one in sorted(messages, key=lambda m: m.occurred_at):
        newest[one.phone_number_id] = one
        if one.channel == "whatsapp":
            opened[one.phone_number_id] = one.occurred_at
    moving = [(one.message_id, one.phone_number_id) for one in messages]
    await db.execute(_MOVE_MESSAGES, org_id, customer_id, *as_columns(moving))
    rows = [(number, opened.get(number), one.occurred_at, one.channel) for number, one in newest.items()]
    left = sorted({one.conversation_id for one in messages if one.channel == "whatsapp"})
    await db.execute(_AFTER, org_id, customer_id, *as_columns(rows), left)
