"""Every statement of ingest but those of the directory. Arrays go through ``unnest``: one batch is one round trip."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection


class Found(NamedTuple):
    """What is known of a sender. ``org_id`` None: the business number is nobody's."""

    org_id: str | None
    by_wa_id: UUID | None
    by_bsuid: UUID | None
    conversation_id: UUID | None
    wa_id: str | None
    bsuid: str | None


class Entry(NamedTuple):
    """A message (or, without ``provider_id``, a call) for a conversation."""

    org_id: str
    conversation_id: UUID
    account: str
    provider_id: str | None
    kind: str | None
    content: dict[str, Any] | None
    reply_to: str | None
    at: datetime
    received_at: datetime | None
    opens: bool


class Standing(NamedTuple):
    """What stands recorded for an entry. ``message_id`` is None when it stood before (ask ``recorded``) or for a call."""

    conversation_id: UUID | None
    customer_id: UUID
    opened_before: datetime | None
    opened_at: datetime | None
    refused_at: datetime | None
    first_refused_at: datetime | None
    last_refused_at: datetime | None
    message_id: UUID | None


# "offset 0": each sender is looked up by key. A hash of a whole table may look cheap while the table is small, and it grows.
_FIND = """
select n.org_id, w.customer_id, b.customer_id, c.conversation_id, c.wa_id, c.bsuid
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality as s (phone_number_id, wa_id, bsuid, place)
  left join lateral (
       select n.org_id, n.phone_number_id from whatsapp_numbers n where n.phone_number_id = s.phone_number_id offset 0
       ) n on true
  left join lateral (
       select i.customer_id from customer_identities i where i.org_id = n.org_id and i.kind = 'wa_id' and i.value = s.wa_id offset 0
       ) w on true
  left join lateral (
       select i.customer_id from customer_identities i where i.org_id = n.org_id and i.kind = 'bsuid' and i.value = s.bsuid offset 0
       ) b on true
  left join lateral (
       select c.conversation_id, c.wa_id, c.bsuid from conversations c
        where c.org_id = n.org_id and c.phone_number_id = n.phone_number_id and c.customer_id = coalesce(w.customer_id, b.customer_id) offset 0
       ) c on true
 order by s.place
"""


async def find(db: Connection, senders: Sequence[tuple[str, str | None, str | None]]) -> list[Found]:
    """Business number, wa_id, BSUID → organisation, customers, conversation, in the order given."""
    return [Found(*row) for row in await db.fetch(_FIND, *_columns(senders))]


# One write per conversation: the update that moves the window is also the lock that keeps the conversation from being merged away. It is fed in
# the order of ids. The window moves by greatest(), whoever comes first.
_RECORD = """
with incoming as materialized (
    select * from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::text[], $8::timestamptz[],
                         $9::timestamptz[], $10::bool[]) with ordinality
               as i (org_id, conversation_id, account, provider_id, kind, content, reply_to, at, received_at, opens, place)
), newest as materialized (
    select i.org_id, i.conversation_id, max(i.at) filter (where i.opens) as customer_at,
           max(i.at) filter (where i.opens and i.provider_id is not null) as inbound_at
      from incoming i
     group by i.org_id, i.conversation_id
     order by i.conversation_id
), held as (
    update conversations c
       set last_customer_at = greatest(c.last_customer_at, n.customer_at),
           last_inbound_channel = case when n.inbound_at > coalesce(c.last_inbound_at, '-infinity') then 'whatsapp'
                                       else c.last_inbound_channel end,
           last_inbound_at = greatest(c.last_inbound_at, n.inbound_at)
      from newest n
     where c.conversation_id = n.conversation_id and c.org_id = n.org_id
 returning c.org_id, c.conversation_id, c.customer_id, c.refused_at, c.first_refused_at, c.last_refused_at,
           old.last_customer_at as opened_before,
           new.last_customer_at as opened_at
), fresh as (
    insert into messages (org_id, conversation_id, direction, channel, account, provider_id, kind, content, reply_to, status, occurred_at,
                          received_at)
    select i.org_id, i.conversation_id, 'in', 'whatsapp', i.account, i.provider_id, i.kind, i.content, i.reply_to, 'received', i.at,
           i.received_at
      from incoming i
      join held h on h.conversation_id = i.conversation_id and h.org_id = i.org_id
     where i.provider_id is not null
     order by i.place
    on conflict (account, provider_id) where direction = 'in' do nothing
    returning account, provider_id, message_id
)
select h.conversation_id, h.customer_id, h.opened_before, h.opened_at, h.refused_at, h.first_refused_at, h.last_refused_at, f.message_id
  from incoming i
  left join held h on h.conversation_id = i.conversation_id and h.org_id = i.org_id
  left join fresh f on f.account = i.account and f.provider_id = i.provider_id
 order by i.place
"""


async def record(db: Connection, entries: Sequence[Entry]) -> list[Standing]:
    """Store the messages once, move the windows, and say what stands, in the order given. Each provider id is named once.

    ``conversation_id`` is None where the conversation is gone (merged into another meanwhile): nothing was stored of that entry.
    """
    return [Standing(*row) for row in await db.fetch(_RECORD, *_columns(entries))]


class Recorded(NamedTuple):
    """A message that stood already, as it was stored then."""

    message_id: UUID
    org_id: str
    conversation_id: UUID
    content: dict[str, Any]
    reply_to: str | None
    at: datetime
    received_at: datetime


_RECORDED = """
select m.account, m.provider_id, m.message_id, m.org_id, m.conversation_id, m.content, m.reply_to, m.occurred_at, m.received_at
  from unnest($1::text[], $2::text[], $3::text[]) as i (org_id, account, provider_id)
  join messages m on m.account = i.account and m.provider_id = i.provider_id and m.direction = 'in' and m.org_id = i.org_id
"""


async def recorded(db: Connection, ids: Sequence[tuple[str, str, str]]) -> Mapping[tuple[str, str], Recorded]:
    """(org, business number, wamid) → by number and wamid what an earlier try stored."""
    return {(row[0], row[1]): Recorded(*row[2:]) for row in await db.fetch(_RECORDED, *_columns(ids))}


_WABAS = "select phone_number_id, waba_id from whatsapp_numbers where phone_number_id = any($1::text[]) and org_id is not null"


async def wabas(db: Connection, numbers: Sequence[str]) -> Mapping[str, str]:
    """Those of these business numbers that are somebody's, and the WhatsApp Business Account of each."""
    return {row[0]: row[1] for row in await db.fetch(_WABAS, numbers)}


# ── Identities ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Owner(NamedTuple):
    """Whose an identity is."""

    org_id: str
    kind: str
    value: str
    customer_id: UUID
    origin: str
    phone: str | None


_OWNERS = """
select i.org_id, i.kind, i.value, i.customer_id, c.origin, c.phone
  from unnest($1::text[], $2::text[], $3::text[]) as u (org_id, kind, value)
  join customer_identities i on i.org_id = u.org_id and i.kind = u.kind and i.value = u.value
  join customers c on c.customer_id = i.customer_id and c.org_id = i.org_id
 order by c.customer_id
   for update of c
"""


async def owners(db: Connection, ids: Sequence[tuple[str, str, str]]) -> list[Owner]:
    """The customers behind these identities (org, kind, value), their rows locked."""
    return [Owner(*row) for row in await db.fetch(_OWNERS, *_columns(ids))] if ids else []


_CREATE = """
with made as materialized (
    select uuidv7() as customer_id, u.* from unnest($1::text[], $2::text[], $3::text[]) with ordinality as u (org_id, name, phone, place)
), stored as (
    insert into customers (customer_id, org_id, name, phone, origin)
    select customer_id, org_id, name, phone, 'inbound' from made order by customer_id
)
select customer_id from made order by place
"""


async def create_customers(db: Connection, people: Sequence[tuple[str, str | None, str | None]]) -> list[UUID]:
    """Org, name, phone → new customers, in the order given."""
    return [row[0] for row in await db.fetch(_CREATE, *_columns(people))] if people else []


_ADD_IDENTITIES = """
insert into customer_identities (org_id, kind, value, customer_id)
select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) as u (org_id, kind, value, customer_id) order by 1, 2, 3
on conflict (org_id, kind, value) do nothing
returning 1
"""


async def add_identities(db: Connection, rows: Sequence[tuple[str, str, str, UUID]]) -> int:
    """Org, kind, value, customer; how many were new."""
    return len(await db.fetch(_ADD_IDENTITIES, *_columns(rows))) if rows else 0


_COMPLETE = """
update customers c
   set name = coalesce(c.name, u.name), phone = coalesce(c.phone, u.phone)
  from unnest($1::text[], $2::uuid[], $3::text[], $4::text[]) as u (org_id, customer_id, name, phone)
 where c.org_id = u.org_id and c.customer_id = u.customer_id
   and (c.name is null and u.name is not null or c.phone is null and u.phone is not null)
"""


async def complete_customers(db: Connection, rows: Sequence[tuple[str, UUID, str | None, str | None]]) -> None:
    """Org, customer, name, phone: what was not known is known now."""
    if rows:
        await db.execute(_COMPLETE, *_columns(rows))


_ENSURE_CONVERSATIONS = """
insert into conversations (org_id, customer_id, phone_number_id, wa_id, bsuid)
select org_id, customer_id, phone_number_id, wa_id, bsuid
  from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    as u (org_id, customer_id, phone_number_id, wa_id, bsuid, at)
 order by customer_id, phone_number_id
on conflict (phone_number_id, customer_id) do nothing
"""

# A late webhook must not bring back a number that the customer has given up: only what is as new as all we know overwrites.
_READDRESS = """
with told as (
    select u.*, c.conversation_id,
           (u.at >= greatest(c.last_customer_at, c.refused_at)) is not false as newest
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
        as u (org_id, customer_id, phone_number_id, wa_id, bsuid, at)
      join conversations c on c.phone_number_id = u.phone_number_id and c.customer_id = u.customer_id and c.org_id = u.org_id
     order by c.conversation_id
       for no key update of c
)
update conversations c
   set wa_id = case when c.wa_id is null or t.newest then coalesce(t.wa_id, c.wa_id) else c.wa_id end,
       bsuid = case when c.bsuid is null or t.newest then coalesce(t.bsuid, c.bsuid) else c.bsuid end
  from told t
 where c.conversation_id = t.conversation_id and c.org_id = t.org_id
   and (t.wa_id is distinct from c.wa_id or t.bsuid is distinct from c.bsuid)
"""


class Address(NamedTuple):
    """How a customer is reached through a business number, as of ``at``."""

    org_id: str
    customer_id: UUID
    phone_number_id: str
    wa_id: str | None
    bsuid: str | None
    at: datetime


async def ensure_conversations(db: Connection, addresses: Sequence[Address]) -> None:
    """One conversation per (business number, customer), with the newest ids of the customer. Each pair is named once."""
    if addresses:
        columns = _columns(addresses)
        await db.execute(_ENSURE_CONVERSATIONS, *columns)
        await db.execute(_READDRESS, *columns)


# Whether an open window goes with the customer to another number, Meta does not say: it counts as closed, as after a refusal, until
# the customer writes.
_MOVE_ADDRESS = """
update conversations c
   set wa_id = coalesce($4, c.wa_id),
       bsuid = case when $5::text is not null then $5 when $4 is distinct from c.wa_id and $4 is not null then null else c.bsuid end,
       refused_at = greatest(c.refused_at, $6)
 where c.org_id = $1 and c.customer_id = $2 and c.phone_number_id = $3
   and (c.last_customer_at is null or c.last_customer_at <= $6)
"""

_MOVE_PHONE = """
update customers set phone = $4 where org_id = $1 and customer_id = $2 and phone = $3
"""


async def move_address(db: Connection, address: Address, before: str | None) -> None:
    """The customer has another number or BSUID since ``at``; ``before`` is the wa_id until then."""
    await db.execute(_MOVE_ADDRESS, *address)
    if before is not None and address.wa_id is not None:
        await db.execute(_MOVE_PHONE, address.org_id, address.customer_id, f"+{before}", f"+{address.wa_id}")


# ── Progress ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

_CAUGHT_UP = """
insert into progress as p (topic, partition, caught_up_at, since)
select $1, partition, $3, $3 from unnest($2::int[]) as partition order by partition
on conflict (topic, partition) do update
   set since = case when p.caught_up_at < excluded.caught_up_at - $4::interval then excluded.since else p.since end,
       caught_up_at = greatest(p.caught_up_at, excluded.caught_up_at)
"""


async def caught_up(db: Connection, topic: str, partitions: Sequence[int], now: datetime, gap: Any) -> None:
    """Nothing waits in these partitions as of ``now``; a silence longer than ``gap`` since the last time begins a new stretch."""
    await db.execute(_CAUGHT_UP, topic, partitions, now, gap)


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
