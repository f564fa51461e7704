"""The SQL of the customer beside the thread, beside what the composer asks (``composer_queries``)."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.thread.conversations import current_conversation

_CUSTOMER = f"""
select c.conversation_id, c.customer_id, k.name, k.phone, c.wa_id, k.last_seen_at, c.last_customer_at,
       c.identity_changed_at, c.first_refused_at, c.last_refused_at, c.last_inbound_channel, c.last_inbound_at,
       o.name as org_name, o.sms_number, n.display_number
  from (values ($1::text, $2::uuid)) as u (org_id, conversation_id)
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
  join customers k on k.org_id = c.org_id and k.customer_id = c.customer_id
  join orgs o on o.org_id = c.org_id
  left join whatsapp_numbers n on n.phone_number_id = c.phone_number_id and coalesce(n.org_id, c.org_id) = c.org_id
"""  # noqa: S608 -- a constant

_CONSENTS = """
select category, allowed, at, source, cause from consents where org_id = $1 and customer_id = $2 order by category
"""

# A line names the customer as they were called then: lines of customers who were merged into this one belong to it.
_TRAIL = """
select l.detail ->> 'category' as category, (l.detail ->> 'allowed')::boolean as allowed, l.at,
       l.detail ->> 'source' as source, l.detail ->> 'cause' as cause
  from (select $2::uuid as customer_id
         union all
        select a.alias from customer_aliases a where a.org_id = $1 and a.customer_id = $2) w
 cross join lateral (
       select * from audit_log y
        where y.org_id = $1 and y.customer_id = w.customer_id and y.action = 'consent'
        order by y.at desc limit $3 offset 0) l
 order by l.at desc, l.audit_id desc
 limit $3
"""

# Of late, so what is looked through has an end: the newest messages of each of the threads of a merge.
_BRIDGES = """
select m.message_id, m.parent_id, m.occurred_at, m.status, m.reason, m.provider_code, m.delivered_at,
       x.price, x.currency, x.estimated
  from (select $2::uuid as thread
         union all
        select g.loser from conversation_merges g where g.org_id = $1 and g.winner = $2) s
 cross join lateral (
       select * from (
              select * from messages y
               where y.org_id || '' = $1 and y.conversation_id = s.thread
               order by y.sequence desc limit $3) z
        where z.notification_type = 'bridge' offset 0) m
  left join lateral (
       select c.price, c.currency, c.estimated from charges c
        where c.org_id = $1 and c.message_id = m.message_id order by c.attempt desc limit 1) x on true
 order by m.sequence desc
 limit $4
"""


class CustomerFacts(NamedTuple):
    """A customer, their conversation and their organisation."""

    conversation_id: UUID
    customer_id: UUID
    name: str | None
    phone: str | None
    wa_id: str | None
    last_seen_at: datetime | None
    last_customer_at: datetime | None
    identity_changed_at: datetime | None
    first_refused_at: datetime | None
    last_refused_at: datetime | None
    last_inbound_channel: str | None
    last_inbound_at: datetime | None
    org_name: str
    sms_number: str | None
    display_number: str | None


class ConsentRow(NamedTuple):
    """What was said about a category: by whom (``source``, None for the directory) and how (``cause``)."""

    category: str
    allowed: bool
    at: datetime
    source: str | None
    cause: str | None


class BridgeRow(NamedTuple):
    """A bridge SMS. ``parent_id``: the message that it stands for."""

    message_id: UUID
    parent_id: UUID | None
    occurred_at: datetime
    status: str
    reason: str | None
    provider_code: str | None
    delivered_at: datetime | None
    price: Any
    currency: str | None
    estimated: bool | None


async def customer(db: Connection, org_id: str, conversation_id: UUID) -> CustomerFacts | None:
    """The customer of a conversation, also by an earlier id of it. None: the organisation has no such conversation."""
    row = await db.fetchrow(_CUSTOMER, org_id, conversation_id)
    return None if row is None else CustomerFacts(**row)


async def consents(db: Connection, org_id: str, customer_id: UUID) -> list[ConsentRow]:
    """What stands of each category about which something was said."""
    return [ConsentRow(**row) for row in await db.fetch(_CONSENTS, org_id, customer_id)]


async def trail(db: Connection, org_id: str, customer_id: UUID, limit: int) -> list[ConsentRow]:
    """What was said, newest first."""
    return [ConsentRow(**row) for row in await db.fetch(_TRAIL, org_id, customer_id, limit)]


async def bridges(db: Connection, org_id: str, conversation_id: UUID, within: int, limit: int) -> list[BridgeRow]:
    """The bridge SMS among the newest ``within`` messages, newest first."""
    return [BridgeRow(**row) for row in await db.fetch(_BRIDGES, org_id, conversation_id, within, limit)]
