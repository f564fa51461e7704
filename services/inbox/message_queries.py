"""The SQL of threads as staff see them: one page of messages in one statement, whatever is in it.

Rule 1: messages stand in the order in which they were decided or stored, newest first. Each of the threads of a merge
        is read from its end, and found by its conversation alone ("|| ''"), not by all of its organisation.
Rule 2: a message that another one names by a provider's id is found by the keys of the providers' ids, and only in the
        same organisation.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.sending.rows import EVERY_ACCOUNT
from libs.common.thread.conversations import current_conversation

NEWEST = 2**63 - 1

_THREAD = f"""
select c.conversation_id, c.phone_number_id, k.name, k.phone, c.wa_id, o.name as org_name, o.sms_number,
       n.display_number,
       (select p.scope || ' ' || p.kind || ' ' || p.reason from pauses p
         where p.channel = 'whatsapp' and p.account in (c.phone_number_id, '{EVERY_ACCOUNT}')
           and (p.kind <> 'throttle' or p.until_at > $3)
         order by p.scope, p.kind limit 1) as rests,
       coalesce(s.name, h.user_id) as held_by,
       b.intent_id as slot_holder, case when isfinite(b.held_until) then b.held_until end as slot_until
  from (values ($1::text, $2::uuid)) as u (org_id, conversation_id)
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
  join customers k on k.org_id = c.org_id and k.customer_id = c.customer_id
  join orgs o on o.org_id = c.org_id
  left join whatsapp_numbers n on n.phone_number_id = c.phone_number_id and coalesce(n.org_id, c.org_id) = c.org_id
  left join conversation_holds h on h.org_id = c.org_id and h.conversation_id = c.conversation_id and h.until_at > $3
  left join members s on s.org_id = h.org_id and s.user_id = h.user_id
  left join bridge_slots b on b.org_id = c.org_id and b.conversation_id = c.conversation_id and b.held_until > $3
"""  # noqa: S608 -- a constant

# ``named``: a provider's id that the message holds. Of a customer it is one of their number's, of ours one of the
# conversation's. Decisions are read by their key, and only of what is not through.
_COLUMNS = """
select m.message_id, m.sequence, m.direction, m.channel, m.kind, m.content, m.actor, m.user_id, w.name as user_name,
       m.attempt = 0 as is_echo, m.ai_generated, m.notification_type, m.parent_id, m.status, m.reason, m.provider_code,
       m.sent_at, m.delivered_at, m.read_at, m.failed_at, m.occurred_at, r.message_id as named_message,
       case when m.direction = 'out' then m.reply_to end as replied_message,
       x.segments, x.currency, x.price, x.estimated, d.sent, d.slot_holder, d.estimate, t.body,
       t.status as template_state, case when p.state <> 'waiting' or p.expires_at > now() then p.state end as parked,
       case when p.state = 'sent' then p.intent_id end as released_by
  from found m
  left join members w on w.org_id = $1 and w.user_id = m.user_id
  left join lateral (
       select case when m.kind = 'reaction' then m.content ->> 'message_id' when m.direction = 'in' then m.reply_to end
              as named) a on true
  left join lateral (
       select y.message_id from messages y
        where a.named is not null and y.direction = 'in' and y.provider = 'meta'
          and y.account = coalesce(m.account, $3) and y.provider_id = a.named and y.org_id = $1
       union all
       select i.message_id from provider_ids i
        where a.named is not null and i.provider = 'meta' and i.account = coalesce(m.account, $3)
          and i.provider_id = a.named and i.org_id = $1
       limit 1) r on true
  left join lateral (
       select c.segments, c.currency, c.price, c.estimated from charges c
        where c.org_id = $1 and c.message_id = m.message_id
        order by c.attempt desc limit 1) x on true
  left join lateral (
       select case when d.route = 'template' and m.kind <> 'template' then d.command -> 'content' end as sent,
              d.slot_holder,
              case when m.channel = 'sms' and m.status = 'pending' then d.record -> 'facts' ->> 'sms_estimate' end
                  as estimate
         from decisions d
        where m.direction = 'out' and d.org_id = $1 and d.intent_id = m.message_id and d.attempt = m.attempt
       offset 0) d on true
  left join lateral (
       select t.body, t.status from templates t
        where m.direction = 'out' and coalesce(d.sent ->> 'name', m.content ->> 'name') is not null
          and t.org_id = $1
          and t.waba_id = (select n.waba_id from whatsapp_numbers n
                            where n.phone_number_id = $3 and coalesce(n.org_id, $1) = $1)
          and t.name = coalesce(d.sent ->> 'name', m.content ->> 'name')
          and t.language = coalesce(d.sent ->> 'language', m.content ->> 'language') offset 0) t on true
  left join lateral (
       select p.state, p.expires_at, p.intent_id from parked_messages p
        where m.status = 'failed' and p.org_id = $1 and p.message_id = m.message_id offset 0) p on true
 order by m.sequence desc
"""

_PAGE = f"""
with found as materialized (
    select y.*
      from (select $2::uuid as thread
             union all
            select g.loser from conversation_merges g where g.org_id = $1 and g.winner = $2) s
     cross join lateral (
           select * from messages y
            where y.org_id || '' = $1 and y.conversation_id = s.thread and y.sequence < $4
            order by y.sequence desc limit $5 offset 0) y
     order by y.sequence desc limit $5
)
{_COLUMNS}
"""  # noqa: S608 -- constants

_THESE = f"""
with found as materialized (
    select m.* from unnest($4::uuid[]) as u (message_id)
      join messages m on m.org_id = $1 and m.message_id = u.message_id
     where {current_conversation("m")} = $2
)
{_COLUMNS}
"""  # noqa: S608 -- constants

_ASKED = "select message_id, occurred_at from messages where org_id = $1 and message_id = any($2::uuid[])"


class ThreadFacts(NamedTuple):
    """A conversation, as its messages need it.

    ``rests``: scope, kind and code of the pause that the number rests for. ``slot_holder``: the message whose bridge
    SMS holds the slot; ``slot_until``: when that ends, where it is known.
    """

    conversation_id: UUID
    phone_number_id: str | None
    name: str | None
    phone: str | None
    wa_id: str | None
    org_name: str
    sms_number: str | None
    display_number: str | None
    rests: str | None
    held_by: str | None
    slot_holder: UUID | None
    slot_until: datetime | None


class MessageRow(NamedTuple):
    """A message and what belongs to it.

    ``named_message`` is what a customer's message answers, or a reaction is on; ``replied_message`` what one of ours
    quotes. ``sent`` is the template that went out in its place, ``body`` the text of the template that went out.
    ``parked`` is what became of a failed message that waits for the window, ``released_by`` the message that carries
    its text. ``is_echo``: staff wrote it in the WhatsApp Business app.
    """

    message_id: UUID
    sequence: int
    direction: str
    channel: str
    kind: str
    content: Mapping[str, Any]
    actor: str | None
    user_id: str | None
    user_name: str | None
    is_echo: bool
    ai_generated: bool
    notification_type: str | None
    parent_id: UUID | None
    status: str
    reason: str | None
    provider_code: str | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    occurred_at: datetime
    named_message: UUID | None
    replied_message: str | None
    segments: int | None
    currency: str | None
    price: Decimal | None
    estimated: bool | None
    sent: Mapping[str, Any] | None
    slot_holder: UUID | None
    estimate: str | None
    body: str | None
    template_state: str | None
    parked: Literal["waiting", "sent", "dropped"] | None
    released_by: UUID | None


async def thread(db: Connection, org_id: str, conversation_id: UUID, now: datetime) -> ThreadFacts | None:
    """The conversation, also by an earlier id. None: the organisation has no such conversation."""
    row = await db.fetchrow(_THREAD, org_id, conversation_id, now)
    return None if row is None else ThreadFacts(**row)


async def page(db: Connection, org_id: str, of: ThreadFacts, below: int, limit: int) -> list[MessageRow]:
    """Messages with a smaller sequence than ``below``, newest first."""
    rows = await db.fetch(_PAGE, org_id, of.conversation_id, of.phone_number_id, below, limit)
    return [MessageRow(**row) for row in rows]


async def these(db: Connection, org_id: str, of: ThreadFacts, message_ids: Sequence[UUID]) -> list[MessageRow]:
    """These messages of the conversation, newest first; ids of others are left out."""
    rows = await db.fetch(_THESE, org_id, of.conversation_id, of.phone_number_id, list(message_ids))
    return [MessageRow(**row) for row in rows]


async def asked_at(db: Connection, org_id: str, bridges: Sequence[UUID]) -> dict[UUID, datetime]:
    """When these bridge SMS were sent."""
    rows = await db.fetch(_ASKED, org_id, list(bridges)) if bridges else []
    return {row["message_id"]: row["occurred_at"] for row in rows}
