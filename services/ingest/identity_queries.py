"""The statements that find the customers of ids.

Arrays go through ``unnest``: one batch is one round trip.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.thread.conversations import current_conversation
from services.ingest.queries import Place


class SenderRow(NamedTuple):
    """The stored facts about a sender. ``org_id`` None: the business number belongs to no organisation.

    ``phone_number_id``: under which the number's conversations are, since it may have moved. ``since``: since when the
    customer has the wa_id. ``identity_version``: as of this look-up. ``nameless``: the customer has no name.
    """

    org_id: str | None
    phone_number_id: str | None
    by_wa_id: UUID | None
    since: datetime | None
    by_bsuid: UUID | None
    conversation_id: UUID | None
    wa_id: str | None
    bsuid: str | None
    identity_version: int | None
    nameless: bool | None


# "offset 0": each sender is looked up by key. A hash of a whole table may look cheap while the table is small, and it
# grows.
_FIND_SENDERS = """
select n.org_id, n.phone_number_id, w.customer_id as by_wa_id, w.since, b.customer_id as by_bsuid, c.conversation_id,
       c.wa_id, c.bsuid, c.identity_version, c.nameless
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality as s (phone_number_id, wa_id, bsuid, place)
  left join lateral (
       select n.org_id, coalesce(n.replaced_by, n.phone_number_id) as phone_number_id
         from whatsapp_numbers n where n.phone_number_id = s.phone_number_id offset 0
       ) n on true
  left join lateral (
       select i.customer_id, i.since from customer_identities i
        where i.org_id = n.org_id and i.kind = 'wa_id' and i.value = s.wa_id offset 0
       ) w on true
  left join lateral (
       select i.customer_id from customer_identities i
        where i.org_id = n.org_id and i.kind = 'bsuid' and i.value = s.bsuid offset 0
       ) b on true
  left join lateral (
       select c.conversation_id, c.wa_id, c.bsuid, c.identity_version,
              (select k.name is null from customers k
                where k.org_id = c.org_id and k.customer_id = c.customer_id) as nameless
         from conversations c
        where c.org_id = n.org_id and c.phone_number_id = n.phone_number_id
          and c.customer_id = coalesce(w.customer_id, b.customer_id) offset 0
       ) c on true
 order by s.place
"""


async def find_senders(db: Connection, senders: Sequence[tuple[str, str | None, str | None]]) -> list[SenderRow]:
    """Business number, wa_id and BSUID of each → what is stored of them, in the order given."""
    return [SenderRow(**row) for row in await db.fetch(_FIND_SENDERS, *as_columns(senders))]


# "offset 0": each is found by its key, whatever the size of the tables.
_FIXED = f"""
select c.org_id, c.conversation_id, c.identity_version
  from unnest($1::text[], $2::text[], $3::text[], $4::text[]) with ordinality
    as u (org_id, provider, account, provider_id, n)
  left join lateral (
       select m.org_id, m.conversation_id from messages m
        where m.direction = 'in' and m.provider = u.provider and m.account = u.account
          and m.provider_id = u.provider_id
       union all
       select m.org_id, m.conversation_id from provider_ids p
         join messages m on m.org_id = p.org_id and m.message_id = p.message_id
        where p.provider = u.provider and p.account = u.account and p.provider_id = u.provider_id
       limit 1 offset 0) m on true
  left join lateral (
       select v.org_id, v.conversation_id, v.identity_version from conversations v
         join customers k on k.customer_id = v.customer_id and k.org_id = v.org_id
                         and (k.erased or k.org_id <> u.org_id)
        where v.org_id = m.org_id and v.conversation_id = {current_conversation("m")} offset 0) c on true
 order by u.n
"""  # noqa: S608 -- a constant


async def fixed_places(db: Connection, ids: Sequence[tuple[str | None, str, str, str]]) -> list[Place | None]:
    """Organisation, provider, account, provider's id → the conversation in which that message stays.

    It stays where its customer was erased, and where another organisation stored it: that one had the account then.
    None: it is not stored, or goes where its sender's ids lead.
    """
    rows = await db.fetch(_FIXED, *as_columns(ids)) if ids else []
    return [None if row["conversation_id"] is None else Place(**row) for row in rows]


class SentTo(NamedTuple):
    """The customer whom a message of ours was meant for, how WhatsApp knows them, and the number it was sent to."""

    org_id: str | None
    customer_id: UUID | None
    phone_number_id: str | None
    wa_id: str | None
    bsuid: str | None
    sent_to: str | None


# "offset 0": each status finds its send by key, whatever the size of the tables.
_SENT_TO = f"""
select n.org_id, c.customer_id, c.phone_number_id, c.wa_id, c.bsuid, s.sent_to
  from unnest($1::text[], $2::text[], $3::uuid[], $4::int[]) with ordinality
    as u (account, provider_id, message_id, attempt, n)
  left join lateral (
       select n.org_id from whatsapp_numbers n where n.phone_number_id = u.account offset 0
       ) n on true
  left join lateral (
       select p.send_id, p.attempt from provider_ids p
        where p.provider = 'meta' and p.account = u.account and p.provider_id = u.provider_id
          and p.org_id = n.org_id offset 0
       ) p on true
  left join lateral (
       select {current_conversation("m")} as conversation_id
         from messages m
        where m.org_id = n.org_id and m.message_id = coalesce(p.send_id, u.message_id) and m.direction = 'out' offset 0
       ) m on true
  left join lateral (
       select s.command ->> 'to' as sent_to from sends s
        where s.org_id = n.org_id and s.message_id = coalesce(p.send_id, u.message_id)
          and s.attempt = coalesce(p.attempt, u.attempt) and s.channel = 'whatsapp' offset 0
       ) s on true
  left join lateral (
       select c.customer_id, c.phone_number_id, c.wa_id, c.bsuid from conversations c
        where c.org_id = n.org_id and c.conversation_id = m.conversation_id and c.phone_number_id = u.account offset 0
       ) c on true
 order by u.n
"""  # noqa: S608 -- a constant


async def sent_to(db: Connection, sends: Sequence[tuple[str, str, UUID | None, int | None]]) -> list[SentTo]:
    """Account, provider id, message and attempt (by callback data) of each status → whom its send was meant for."""
    return [SentTo(**row) for row in await db.fetch(_SENT_TO, *as_columns(sends))]


# "offset 0": each reply finds its message by key, whatever the size of the tables.
_REPLIED_TO = f"""
select c.org_id, c.customer_id
  from unnest($1::text[], $2::text[], $3::text[]) with ordinality as u (account, provider_id, bsuid, n)
  left join lateral (
       select p.org_id, p.message_id from whatsapp_numbers w
         join provider_ids p on p.provider = 'meta' and p.account = w.phone_number_id and p.provider_id = u.provider_id
                            and p.org_id = w.org_id
        where w.phone_number_id = u.account
          and not exists (select from customer_identities i
                           where i.org_id = w.org_id and i.kind = 'bsuid' and i.value = u.bsuid)
          and not exists (select from former_identities f
                           where f.org_id = w.org_id and f.kind = 'bsuid' and f.value = u.bsuid) offset 0
       ) p on true
  left join lateral (
       select c.org_id, c.customer_id from messages m
         join conversations c on c.org_id = m.org_id and c.phone_number_id = u.account
                             and c.conversation_id = {current_conversation("m")}
        where m.org_id = p.org_id and m.message_id = p.message_id and m.direction = 'out' offset 0
       ) c on true
 order by u.n
"""  # noqa: S608 -- a constant


async def replied_to(
    db: Connection, replies: Sequence[tuple[str, str | None, str | None]]
) -> list[tuple[str, UUID] | None]:
    """Business number, id of the message replied to, BSUID of the writer → organisation and customer it was meant for.

    None for a BSUID that is known already, and where no message of ours is found.
    """
    rows = await db.fetch(_REPLIED_TO, *as_columns(replies))
    return [None if row["customer_id"] is None else (row["org_id"], row["customer_id"]) for row in rows]
