"""What the context of a conversation is made of: two statements, whatever has been said in it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.consents import CONSENTS
from libs.common.thread.conversations import current_conversation
from libs.common.thread.portal_view import shown
from services.inbox.context import ThreadRow

_CONVERSATION = f"""
select c.conversation_id, c.last_customer_at, c.identity_changed_at, c.first_refused_at, c.last_refused_at,
       c.last_inbound_channel, c.last_inbound_at, k.customer_id, k.name, k.phone, c.wa_id, o.credit_exhausted,
       o.country, p.whatsapp_consent, p.sms_consent, p.marketing_consent, p.sms_stopped_by,
       (select jsonb_object_agg(x.category, x.allowed) from consents x
         where x.org_id = c.org_id and x.customer_id = c.customer_id
           and x.category in ('transactional', 'service_reminders')) as other_consents,
       (select h.until_at from conversation_holds h
         where h.org_id = c.org_id and h.conversation_id = c.conversation_id and h.until_at > $3) as held_until
  from (values ($1::text, $2::uuid)) as u (org_id, conversation_id)
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
  join customers k on k.org_id = c.org_id and k.customer_id = c.customer_id
  join orgs o on o.org_id = c.org_id
 cross join lateral ({CONSENTS.format(org_id="c.org_id", customer_id="c.customer_id")}) p
"""  # noqa: S608 -- constants

# Each of the threads of a merge is read from its end. What went out is what the attempt that counts was decided to be.
_NEWEST = f"""
select m.message_id, m.direction, m.actor, m.channel, m.kind, m.content, m.notification_type, m.status, m.reason,
       m.read_channel, m.occurred_at, m.direction = 'out' and {shown("m")} as in_portal, d.sent, t.body,
       case when m.direction = 'out' then coalesce(d.sent, m.content) ->> 'language' end as language
  from (select y.*
          from (select $2::uuid as thread
                 union all
                select g.loser from conversation_merges g where g.org_id = $1 and g.winner = $2) s
         cross join lateral (
               select * from messages y
                where y.org_id || '' = $1 and y.conversation_id = s.thread
                order by y.sequence desc limit $3 offset 0) y
         order by y.sequence desc limit $3) m
  left join lateral (
       select (d.command -> 'content')::jsonb as sent from decisions d
        where m.direction = 'out' and m.kind <> 'template' and d.org_id = m.org_id and d.intent_id = m.message_id
          and d.attempt = m.attempt and d.route = 'template' offset 0) d on true
  left join lateral (
       select t.body from templates t
        where m.direction = 'out' and coalesce(d.sent ->> 'name', m.content ->> 'name') is not null
          and t.org_id = m.org_id
          and t.waba_id = (select w.waba_id from conversations c join whatsapp_numbers w using (phone_number_id)
                            where c.org_id = $1 and c.conversation_id = $2 and coalesce(w.org_id, $1) = $1)
          and t.name = coalesce(d.sent ->> 'name', m.content ->> 'name')
          and t.language = coalesce(d.sent ->> 'language', m.content ->> 'language') offset 0) t on true
 order by m.sequence desc
"""  # noqa: S608 -- constants


class ConversationFacts(NamedTuple):
    """A conversation, its customer and its organisation, as the context needs them.

    ``other_consents``: what was said about categories that are on by default. ``held_until``: staff hold it so long;
    None where they do not.
    """

    conversation_id: UUID
    last_customer_at: datetime | None
    identity_changed_at: datetime | None
    first_refused_at: datetime | None
    last_refused_at: datetime | None
    last_inbound_channel: str | None
    last_inbound_at: datetime | None
    customer_id: UUID
    name: str | None
    phone: str | None
    wa_id: str | None
    credit_exhausted: bool | None
    country: str | None
    whatsapp_consent: bool
    sms_consent: bool
    marketing_consent: bool
    sms_stopped_by: str | None
    other_consents: Mapping[str, bool] | None
    held_until: datetime | None


async def conversation(db: Connection, org_id: str, conversation_id: UUID, now: datetime) -> ConversationFacts | None:
    """The facts, also by the id of a conversation that was merged into this one. None: the organisation has none."""
    row = await db.fetchrow(_CONVERSATION, org_id, conversation_id, now)
    return None if row is None else ConversationFacts(**row)


async def newest(db: Connection, org_id: str, conversation_id: UUID, limit: int) -> Sequence[ThreadRow]:
    """The newest messages, newest first. ``conversation_id`` is of a conversation that stands."""
    rows: Sequence[Any] = await db.fetch(_NEWEST, org_id, conversation_id, limit)
    return [ThreadRow(**row) for row in rows]
