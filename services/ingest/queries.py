"""Every statement of ingest but those of the directory. Arrays go through ``unnest``: one batch is one round trip."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection


class Found(NamedTuple):
    """What is known of a sender. ``org_id`` None: the business number is nobody's."""

    org_id: str | None
    phone_number_id: str | None
    """Under which the number's conversations are: it may have moved."""
    by_wa_id: UUID | None
    since: datetime | None
    """Since when the customer has the wa_id."""
    by_bsuid: UUID | None
    conversation_id: UUID | None
    wa_id: str | None
    bsuid: str | None
    settled: int | None
    """How often who is behind the conversation was settled anew."""


class Entry(NamedTuple):
    """A message (or, without ``provider_id``, a call) for a conversation. ``settled``: as it was when the conversation was found."""

    org_id: str
    conversation_id: UUID
    settled: int
    account: str
    provider_id: str | None
    kind: str | None
    content: dict[str, Any] | None
    reply_to: str | None
    at: datetime
    received_at: datetime | None
    opens: bool
    wa_id: str | None = None
    """Of whom it came, by WhatsApp's ids."""
    bsuid: str | None = None


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
select n.org_id, n.phone_number_id, w.customer_id, w.since, b.customer_id, c.conversation_id, c.wa_id, c.bsuid, c.settled
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality as s (phone_number_id, wa_id, bsuid, place)
  left join lateral (
       select n.org_id, coalesce(n.replaced_by, n.phone_number_id) as phone_number_id
         from whatsapp_numbers n where n.phone_number_id = s.phone_number_id offset 0
       ) n on true
  left join lateral (
       select i.customer_id, i.since from customer_identities i where i.org_id = n.org_id and i.kind = 'wa_id' and i.value = s.wa_id offset 0
       ) w on true
  left join lateral (
       select i.customer_id from customer_identities i where i.org_id = n.org_id and i.kind = 'bsuid' and i.value = s.bsuid offset 0
       ) b on true
  left join lateral (
       select c.conversation_id, c.wa_id, c.bsuid, c.settled from conversations c
        where c.org_id = n.org_id and c.phone_number_id = n.phone_number_id and c.customer_id = coalesce(w.customer_id, b.customer_id) offset 0
       ) c on true
 order by s.place
"""


async def find(db: Connection, senders: Sequence[tuple[str, str | None, str | None]]) -> list[Found]:
    """Business number, wa_id, BSUID → organisation, customers, conversation, in the order given."""
    return [Found(*row) for row in await db.fetch(_FIND, *_columns(senders))]


# One write per conversation: the update that moves the window is also the lock that keeps the conversation from being merged away. It is fed in
# the order of ids. The window moves by greatest(), whoever comes first. Where somebody settled meanwhile who is behind the conversation, the lock is
# waited for and nothing is stored: the sender may be somebody else by now.
_RECORD = """
with incoming as materialized (
    select * from unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[], $9::timestamptz[],
                         $10::timestamptz[], $11::bool[], $12::text[], $13::text[]) with ordinality
               as i (org_id, conversation_id, settled, account, provider_id, kind, content, reply_to, at, received_at, opens, wa_id, bsuid, place)
), newest as materialized (
    select i.org_id, i.conversation_id, min(i.settled) as settled, max(i.at) filter (where i.opens) as customer_at,
           max(i.at) filter (where i.opens and i.provider_id is not null) as inbound_at,
           max(i.at) filter (where i.wa_id is not null) as wa_id_at, max(i.at) filter (where i.bsuid is not null) as bsuid_at,
           (array_agg(i.wa_id order by i.at desc) filter (where i.wa_id is not null))[1] as wa_id,
           (array_agg(i.bsuid order by i.at desc) filter (where i.bsuid is not null))[1] as bsuid
      from incoming i
     group by i.org_id, i.conversation_id
     order by i.conversation_id
), held as (
    update conversations c
       set last_customer_at = greatest(c.last_customer_at, n.customer_at),
           last_inbound_channel = case when n.inbound_at > coalesce(c.last_inbound_at, '-infinity') then 'whatsapp'
                                       else c.last_inbound_channel end,
           last_inbound_at = greatest(c.last_inbound_at, n.inbound_at),
           wa_id_at = case when c.wa_id = n.wa_id then greatest(c.wa_id_at, n.wa_id_at) else c.wa_id_at end,
           bsuid_at = case when c.bsuid = n.bsuid then greatest(c.bsuid_at, n.bsuid_at) else c.bsuid_at end
      from newest n
     where c.conversation_id = n.conversation_id and c.org_id = n.org_id and c.settled = n.settled
 returning c.org_id, c.conversation_id, c.customer_id, c.refused_at, c.first_refused_at, c.last_refused_at,
           old.last_customer_at as opened_before,
           new.last_customer_at as opened_at
), fresh as (
    insert into messages (org_id, conversation_id, direction, channel, account, provider_id, kind, content, reply_to, status, occurred_at,
                          received_at, from_wa_id, from_bsuid)
    select i.org_id, i.conversation_id, 'in', 'whatsapp', i.account, i.provider_id, i.kind, i.content, i.reply_to, 'received', i.at,
           i.received_at, i.wa_id, i.bsuid
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

    ``conversation_id`` is None where the conversation is gone (merged into another meanwhile) or was settled anew: nothing was stored of that entry.
    """
    return [Standing(*row) for row in await db.fetch(_RECORD, *_columns(entries))]


class Recorded(NamedTuple):
    """A message that stood already, as it was stored then; in the conversation as it is now."""

    message_id: UUID
    org_id: str
    conversation_id: UUID
    content: dict[str, Any]
    reply_to: str | None
    at: datetime
    received_at: datetime


_RECORDED = """
select m.account, m.provider_id, m.message_id, m.org_id, coalesce(a.conversation_id, m.conversation_id), m.content, m.reply_to,
       m.occurred_at, m.received_at
  from unnest($1::text[], $2::text[], $3::text[]) as i (org_id, account, provider_id)
  join messages m on m.account = i.account and m.provider_id = i.provider_id and m.direction = 'in' and m.org_id = i.org_id
  left join conversation_aliases a on a.alias = m.conversation_id and a.org_id = m.org_id
"""


async def recorded(db: Connection, ids: Sequence[tuple[str, str, str]]) -> Mapping[tuple[str, str], Recorded]:
    """(org, business number, wamid) → by number and wamid what an earlier try stored."""
    return {(row[0], row[1]): Recorded(*row[2:]) for row in await db.fetch(_RECORDED, *_columns(ids))}


_WABAS = "select phone_number_id, waba_id from whatsapp_numbers where phone_number_id = any($1::text[]) and org_id is not null"


async def wabas(db: Connection, numbers: Sequence[str]) -> Mapping[str, str]:
    """Those of these business numbers that are somebody's, and the WhatsApp Business Account of each."""
    return {row[0]: row[1] for row in await db.fetch(_WABAS, numbers)}


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


# ── Links ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

# of every organisation: age alone decides
_FORGET_LINKS = """
delete from portal_links
 where ctid = any (array(select l.ctid from portal_links l where l.expires_at < $1 order by l.expires_at limit $2 for update skip locked))
returning 1
"""


async def forget_links(db: Connection, expired_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the links that had expired then; returns how many there were."""
    return len(await db.fetch(_FORGET_LINKS, expired_before, limit))


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
