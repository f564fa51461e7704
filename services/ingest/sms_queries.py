"""The statements of customers' SMS. Arrays go through ``unnest``: one batch is one round trip."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.locks import SMS_PARTS, lock
from libs.common.db.pool import Connection, changed
from libs.common.errors import Transient
from libs.common.thread.conversations import current_conversation, wrote_last
from services.ingest.queries import Place, StoredMessage

# ── Whose it is ─────────────────────────────────────────────────────────────────────────────────────────────────────


class CalledNumber(NamedTuple):
    """The organisation of an SMS number, an account that it names or named, and its country where it is told."""

    org_id: str
    sms_line: str
    sms_provider: str | None
    sms_account: str | None
    country: str | None


_CALLED = """
select o.org_id, o.sms_line, o.sms_provider, o.sms_account, o.country
  from orgs o where o.sms_line = any($1::text[])
union all
select f.org_id, f.sms_line, f.sms_provider, f.sms_account, o.country
  from former_sms_numbers f join orgs o using (org_id)
 where f.sms_line = any($1::text[])
"""


async def called_numbers(db: Connection, lines: Sequence[str]) -> list[CalledNumber]:
    """The organisations that have one of these lines (canonical numbers), or had it and no other one has it since.

    A line has a row for each account that its organisation uses or used for it.

    This goes over all tenants: it says whose a record is.
    """
    return [CalledNumber(**row) for row in await db.fetch(_CALLED, lines)]


class Writer(NamedTuple):
    """Who wrote: organisation, ``phone`` or ``sender``, the canonical number or the name, and when."""

    org_id: str
    kind: str
    value: str
    at: datetime


# "offset 0": each writer is found by key, whatever the size of the tables.
_PLACES = """
select c.conversation_id, c.identity_version
  from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[]) with ordinality
    as u (org_id, kind, value, at, place)
  left join lateral (
       select i.customer_id from customer_identities i
        where i.org_id = u.org_id and i.kind = u.kind and i.value = u.value and (i.since <= u.at or u.kind = 'sender')
       offset 0
       ) i on true
  left join lateral (
       select c.conversation_id, c.identity_version from conversations c
        where c.org_id = u.org_id and c.customer_id = i.customer_id
        order by c.last_inbound_at desc nulls last, c.created_at desc, c.conversation_id desc
        limit 1 offset 0
       ) c on true
 order by u.place
"""


async def find_places(db: Connection, writers: Sequence[Writer]) -> list[Place | None]:
    """The conversation that each goes on in, in the order given. None: it must be resolved whose it is."""
    rows = await db.fetch(_PLACES, *as_columns(writers))
    return [
        None
        if row["conversation_id"] is None
        else Place(writer.org_id, row["conversation_id"], row["identity_version"])
        for writer, row in zip(writers, rows, strict=True)
    ]


# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────


class IncomingSms(NamedTuple):
    """A row to store. ``account``: the number that was called; ``from_wa_id``: the sender's number as digits."""

    org_id: str
    conversation_id: UUID
    identity_version: int
    provider: str
    account: str
    provider_id: str
    kind: str
    content: dict[str, Any]
    at: datetime
    received_at: datetime
    from_wa_id: str | None


_TYPES = (
    *("text", "uuid", "bigint", "text", "text", "text", "text", "jsonb", "timestamptz", "timestamptz"),
    "text",
)

# Only a message that is not stored yet moves anything: Twilio names no time, so a repeated delivery would look newer.
# A word such as STOP moves nothing either: it asks for no answer. The update is also the lock that keeps the
# conversation from being merged away. The window stays where it is.
_STORE = f"""
with incoming as materialized (
    select *
      from unnest({", ".join(f"${n}::{type_}[]" for n, type_ in enumerate(_TYPES, 1))}) with ordinality
        as i ({", ".join(IncomingSms._fields)}, place)
), unseen as materialized (
    select i.* from incoming i
     where not exists (select from messages m -- by its key
                        where m.provider = i.provider and m.account = i.account and m.provider_id = i.provider_id
                          and m.direction = 'in' offset 0)
), newest as materialized (
    select u.org_id, u.conversation_id, min(u.identity_version) as identity_version, max(u.at) as heard_at,
           max(u.at) filter (where not u.content ? 'keyword') as at
      from unseen u
     group by u.org_id, u.conversation_id
     order by u.conversation_id
), held as (
    update conversations c
       set {wrote_last("c", "n.at", "'sms'", heard="n.heard_at")}
      from newest n
     where c.conversation_id = n.conversation_id and c.org_id = n.org_id and c.identity_version = n.identity_version
 returning c.org_id, c.conversation_id
), fresh as (
    insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind, content,
                          status, occurred_at, received_at, from_wa_id)
    select u.org_id, u.conversation_id, 'in', 'sms', u.provider, u.account, u.provider_id, u.kind, u.content,
           'received', u.at, u.received_at, u.from_wa_id
      from unseen u
      join held h on h.conversation_id = u.conversation_id and h.org_id = u.org_id
     order by u.place
    on conflict (provider, account, provider_id) where direction = 'in' do nothing
    returning provider, account, provider_id
)
select u.place is not null as unseen, h.conversation_id is not null as held, f.provider_id is not null as fresh
  from incoming i
  left join unseen u on u.place = i.place
  left join held h on h.conversation_id = i.conversation_id and h.org_id = i.org_id
  left join fresh f on f.provider = i.provider and f.account = i.account and f.provider_id = i.provider_id
 order by i.place
"""  # noqa: S608 -- constants of this module

_STORED = f"""
select m.provider, m.account, m.provider_id, m.org_id, m.message_id, c.conversation_id, c.customer_id, m.content,
       m.reply_to, m.occurred_at as at, m.received_at, c.last_customer_at as opened_at, c.identity_changed_at,
       c.first_refused_at, c.last_refused_at
  from unnest($1::text[], $2::text[], $3::text[]) as i (provider, account, provider_id)
 cross join lateral ( -- by its key; another organisation may have stored it, while it had the number
       select * from messages x
        where x.provider = i.provider and x.account = i.account and x.provider_id = i.provider_id
          and x.direction = 'in' offset 0) m
  join conversations c on c.org_id = m.org_id and c.conversation_id = {current_conversation("m")}
"""  # noqa: S608 -- a constant


async def store_sms(db: Connection, incoming: Sequence[IncomingSms]) -> list[StoredMessage]:
    """Store each SMS once; what is recorded, in the order given. Each provider id is named once.

    Raises Transient where a conversation was merged away or resolved anew since its place was found; then the caller's
    transaction is rolled back.
    """
    rows = await db.fetch(_STORE, *as_columns(incoming))
    if any(row["unseen"] and not row["held"] for row in rows):
        raise Transient("who is behind a conversation was resolved anew meanwhile")
    keys = [(one.provider, one.account, one.provider_id) for one in incoming]
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in await db.fetch(_STORED, *as_columns(keys)):
        fields = dict(record)
        provider, account = fields.pop("provider"), fields.pop("account")
        found[provider, account, fields["provider_id"]] = fields
    if any(key not in found for key in keys):
        raise Transient("another worker is storing the same message")
    return [
        StoredMessage(**found[key], fresh=row["fresh"], channel="sms", opened_before=found[key]["opened_at"])
        for key, row in zip(keys, rows, strict=True)
    ]


# ── Parts of concatenated SMS ───────────────────────────────────────────────────────────────────────────────────────


class PartRow(NamedTuple):
    """A part as it is stored."""

    provider: str
    account: str
    provider_id: str
    org_id: str
    join_id: UUID
    number: int
    text: str | None
    at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class JoinRow:
    """What belongs together, with its parts so far."""

    join_id: UUID
    org_id: str
    provider: str
    account: str
    sender: str
    ref: str
    total: int
    closed: bool
    parts: tuple[PartRow, ...] = ()

    @property
    def concat(self) -> "Concat":
        return Concat(self.org_id, self.provider, self.account, self.sender, self.ref, self.total)


async def lock_senders(db: Connection, senders: Sequence[tuple[str, str, str]]) -> None:
    """One transaction at a time joins the parts of a sender (organisation, number called, sender)."""
    await lock(db, SMS_PARTS, [":".join(sender) for sender in senders])


MOST_OPEN = 50
"""How many open joins with one reference are looked at, the oldest ones.

A phone has one at a time. Whoever opens thousands finds that later ones stay incomplete, and costs nobody else.
"""

# The open ones that may wait for these parts, and those that already have one of these, whoever had the number then.
_JOINS = f"""
select j.join_id, j.org_id, j.provider, j.account, j.sender, j.ref, j.total, j.closed_at is not null as closed
  from sms_joins j
 where j.join_id in (
       select o.join_id
         from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[])
           as u (org_id, provider, account, sender, ref, total)
        cross join lateral (
              select o.join_id from sms_joins o
               where o.org_id = u.org_id and o.account = u.account and o.sender = u.sender and o.closed_at is null
                 and o.provider = u.provider and o.ref = u.ref and o.total = u.total
               order by o.opened_at, o.join_id
               limit {MOST_OPEN} offset 0) o
       union
       select p.join_id
         from unnest($7::text[], $8::text[], $9::text[]) as u (provider, account, provider_id)
         join sms_parts p using (provider, account, provider_id))
 order by j.opened_at, j.join_id
   for update of j
"""  # noqa: S608 -- a constant
_PARTS = """
select p.provider, p.account, p.provider_id, p.org_id, p.join_id, p.number, p.text, p.at, p.received_at
  from unnest($1::uuid[]) as u (join_id)
 cross join lateral (select * from sms_parts p where p.join_id = u.join_id offset 0) p
 order by p.number
"""


class Concat(NamedTuple):
    """What the parts of one message have in common: whose they are, the number called, who sent them, reference."""

    org_id: str
    provider: str
    account: str
    sender: str
    ref: str
    total: int


async def joins_of(db: Connection, concats: Sequence[Concat], parts: Sequence[tuple[str, str, str]]) -> list[JoinRow]:
    """The joins that these parts may belong to or already do, locked, the oldest first.

    ``parts``: provider, number called, provider id.
    """
    return await _with_parts(db, await db.fetch(_JOINS, *as_columns(concats), *as_columns(parts)))


async def _with_parts(db: Connection, joins: Sequence[Any]) -> list[JoinRow]:
    if not joins:
        return []
    parts: dict[UUID, list[PartRow]] = {}
    for row in await db.fetch(_PARTS, [join["join_id"] for join in joins]):
        parts.setdefault(row["join_id"], []).append(PartRow(**row))
    return [JoinRow(**join, parts=tuple(parts.get(join["join_id"], ()))) for join in joins]


_TURN = timedelta(seconds=30)
"""How long a process has to publish what it closed."""

_ADD_JOINS = """
insert into sms_joins (join_id, org_id, provider, account, sender, ref, total)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::int[])
"""
_ADD_PARTS = """
insert into sms_parts (provider, account, provider_id, org_id, join_id, number, text, at, received_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::int[], $7::text[],
                     $8::timestamptz[], $9::timestamptz[])
"""
_CLOSE_JOINS = "update sms_joins set closed_at = now() where join_id = any($1::uuid[])"


async def add_parts(
    db: Connection, joins: Sequence[JoinRow], parts: Sequence[PartRow], complete: Sequence[UUID]
) -> None:
    """Store new joins and parts, and close the joins that have all their parts."""
    if joins:
        rows = [(j.join_id, j.org_id, j.provider, j.account, j.sender, j.ref, j.total) for j in joins]
        await db.execute(_ADD_JOINS, *as_columns(rows))
    if parts:
        await db.execute(_ADD_PARTS, *as_columns(parts))
    if complete:
        await db.execute(_CLOSE_JOINS, list(complete))


# Whoever closes one has some time to publish it, before the next one does.
_OVERDUE = """
select j.join_id, j.org_id, j.provider, j.account, j.sender, j.ref, j.total, true as closed
  from sms_joins j
 where not j.published and j.opened_at <= now() - $1::interval
   and (j.closed_at is null or j.closed_at <= now() - $3::interval)
 order by j.opened_at
 limit $2
   for update skip locked
"""
_ANY_OVERDUE = """
select true from sms_joins j
 where not j.published and j.opened_at <= now() - $1::interval
   and (j.closed_at is null or j.closed_at <= now() - $2::interval)
 order by j.opened_at
 limit 1
"""
_PUBLISHED = "update sms_joins set published = true where join_id = any($1::uuid[]) and not published"
_PURGE = """
delete from sms_joins
 where ctid = any (array(select j.ctid from sms_joins j
                          where j.opened_at < $1 and j.published order by j.opened_at limit $2 for update skip locked))
"""


async def any_overdue(db: Connection, wait: timedelta) -> bool:
    """Whether ``close_overdue`` would find any."""
    return bool(await db.fetchval(_ANY_OVERDUE, wait, _TURN))


async def close_overdue(db: Connection, wait: timedelta, limit: int) -> list[JoinRow]:
    """Close the joins that were opened so long ago and are not published, whatever parts they have. Their parts."""
    joins = await _with_parts(db, await db.fetch(_OVERDUE, wait, limit, _TURN))
    if joins:
        await db.execute(_CLOSE_JOINS, [join.join_id for join in joins])
    return joins


_COUNTRIES = "select org_id, country from orgs where org_id = any($1::text[]) and country is not null"


async def countries_of(db: Connection, org_ids: Collection[str]) -> dict[str, str]:
    """The countries of these organisations; those that tell none are left out."""
    return {row["org_id"]: row["country"] for row in await db.fetch(_COUNTRIES, sorted(org_ids))}


async def mark_joins_published(db: Connection, join_ids: Sequence[UUID]) -> None:
    """The joined messages are published."""
    await db.execute(_PUBLISHED, join_ids)


async def purge_joins(db: Connection, opened_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` joins of before then with their parts; returns how many there were."""
    return await changed(db, _PURGE, opened_before, limit)
