"""The statements of ingest's messages. Arrays go through ``unnest``: one batch is one round trip."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.errors import Transient
from libs.common.events.outbound import Channel
from libs.common.phone import canonical, from_wa_id
from libs.common.thread.conversations import current_conversation, wrote_last
from services.ingest.items import CustomerCall, CustomerMessage, GroupMessage, IdentityChange, Sender

# ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Place(NamedTuple):
    """Where an item belongs. ``identity_version``: the conversation's when it was found."""

    org_id: str
    conversation_id: UUID
    identity_version: int


class StoredMessage(NamedTuple):
    """A message as recorded, by this try or an earlier one (``fresh`` False). A call has only its effect on the window.

    ``opened_before`` and ``opened_at``: when the customer last opened the window, before this batch and after it. The
    times of refusals are those of the conversation. A message of a group has neither; its ``customer_id`` is None where
    its writer is unknown. ``quoted``: the message of ours or of the customer's behind ``reply_to``, where it is known.
    """

    org_id: str
    conversation_id: UUID
    customer_id: UUID | None
    message_id: UUID | None
    provider_id: str | None
    content: dict[str, Any]
    reply_to: str | None
    at: datetime
    received_at: datetime
    fresh: bool
    channel: Channel = "whatsapp"
    group_id: str | None = None
    opened_before: datetime | None = None
    opened_at: datetime | None = None
    identity_changed_at: datetime | None = None
    first_refused_at: datetime | None = None
    last_refused_at: datetime | None = None
    quoted: UUID | None = None


_INCOMING = {
    "org_id": "text",
    "conversation_id": "uuid",
    "identity_version": "bigint",
    "account": "text",
    "provider_id": "text",
    "kind": "text",
    "content": "jsonb",
    "reply_to": "text",
    "at": "timestamptz",
    "received_at": "timestamptz",
    "opens": "bool",
    "ahead": "bool",
    "wa_id": "text",
    "bsuid": "text",
}
"""The columns of ``incoming``: the statement and its values are both built from this list."""

# One write per conversation: the update that moves the window is also the lock that keeps the conversation from being
# merged away. Rows are locked in the order of ids. The window moves by greatest(), in whatever order messages come.
# Where the customer of the conversation was resolved anew meanwhile, the statement waits for the lock and stores
# nothing: the sender may be another person by now. A time ahead of the receipt was brought back to it (``ahead``), so
# that of a copy that comes later is later: only the first one counts. "offset 0": it is looked for by its key.
_STORE = f"""
with incoming as materialized (
    select i.*, i.opens and not (i.ahead and exists (
               select from messages m
                where m.provider = 'meta' and m.direction = 'in' and m.account = i.account
                  and m.provider_id = i.provider_id and m.org_id = i.org_id offset 0)) as moves
      from unnest({", ".join(f"${n}::{type_}[]" for n, type_ in enumerate(_INCOMING.values(), 1))}) with ordinality
        as i ({", ".join(_INCOMING)}, place)
), newest as materialized (
    select i.org_id, i.conversation_id, min(i.identity_version) as identity_version,
           max(i.at) filter (where i.moves) as customer_at,
           max(i.at) filter (where i.moves and i.provider_id is not null) as inbound_at,
           max(i.at) filter (where i.wa_id is not null) as wa_id_at,
           max(i.at) filter (where i.bsuid is not null) as bsuid_at,
           (array_agg(i.wa_id order by i.at desc) filter (where i.wa_id is not null))[1] as wa_id,
           (array_agg(i.bsuid order by i.at desc) filter (where i.bsuid is not null))[1] as bsuid
      from incoming i
     group by i.org_id, i.conversation_id
     order by i.conversation_id
), held as (
    update conversations c
       set last_customer_at = greatest(c.last_customer_at, n.customer_at),
           {wrote_last("c", "n.inbound_at", "'whatsapp'")},
           wa_id_at = case when c.wa_id = n.wa_id then greatest(c.wa_id_at, n.wa_id_at) else c.wa_id_at end,
           bsuid_at = case when c.bsuid = n.bsuid then greatest(c.bsuid_at, n.bsuid_at) else c.bsuid_at end
      from newest n
     where c.conversation_id = n.conversation_id and c.org_id = n.org_id and c.identity_version = n.identity_version
 returning c.org_id, c.conversation_id, c.customer_id, c.identity_changed_at, c.first_refused_at, c.last_refused_at,
           old.last_customer_at as opened_before,
           new.last_customer_at as opened_at
), fresh as (
    insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind, content,
                          reply_to, status, occurred_at, received_at, from_wa_id, from_bsuid)
    select i.org_id, i.conversation_id, 'in', 'whatsapp', 'meta', i.account, i.provider_id, i.kind, i.content,
           i.reply_to, 'received', i.at, i.received_at, i.wa_id, i.bsuid
      from incoming i
      join held h on h.conversation_id = i.conversation_id and h.org_id = i.org_id
     where i.provider_id is not null
     order by i.place
    on conflict (provider, account, provider_id) where direction = 'in' do nothing
    returning account, provider_id, message_id
)
select h.conversation_id, h.customer_id, h.opened_before, h.opened_at, h.identity_changed_at, h.first_refused_at,
       h.last_refused_at, f.message_id
  from incoming i
  left join held h on h.conversation_id = i.conversation_id and h.org_id = i.org_id
  left join fresh f on f.account = i.account and f.provider_id = i.provider_id
 order by i.place
"""  # noqa: S608 -- the columns are named above

# The message as an earlier try stored it, with its present conversation. Where its customer was erased, that is another
# one than that of whoever has the sender's ids now. Where another organisation had the business number then, it is that
# one's: an organisation that has the number now never stores it. "offset 0": each is looked up by its key.
_STORED = f"""
select m.org_id, m.account, m.provider_id, m.message_id, {current_conversation("m")} as conversation_id, c.customer_id,
       m.content, m.reply_to, m.occurred_at as at, m.received_at, c.last_customer_at as opened_at,
       c.identity_changed_at, c.first_refused_at, c.last_refused_at
  from unnest($1::text[], $2::text[]) as i (account, provider_id)
 cross join lateral (
       select * from messages x
        where x.provider = 'meta' and x.account = i.account and x.provider_id = i.provider_id and x.direction = 'in'
       offset 0) m
  left join lateral (
       select * from conversations y
        where y.org_id = m.org_id and y.conversation_id = {current_conversation("m")} offset 0) c on true
"""  # noqa: S608 -- a constant

# The message behind each provider id. "offset 0": each is looked up by its key.
_QUOTED = """
select q.org_id, q.account, q.provider_id, m.message_id
  from unnest($1::text[], $2::text[], $3::text[]) as q (org_id, account, provider_id)
 cross join lateral (
       select x.message_id from messages x
        where x.provider = 'meta' and x.account = q.account and x.provider_id = q.provider_id and x.direction = 'in'
          and x.org_id = q.org_id
       union all
       select p.message_id from provider_ids p
        where p.provider = 'meta' and p.account = q.account and p.provider_id = q.provider_id and p.org_id = q.org_id
       offset 0) m
"""


async def store_messages(
    db: Connection, placed: Sequence[tuple[CustomerMessage | CustomerCall | IdentityChange, Place]]
) -> list[StoredMessage]:
    """Store each message once and move the windows. Returns the recorded messages in the order given.

    Each provider id is named once. The message of a change of identity is its notice. Raises Transient where a
    conversation was merged away or resolved anew since its place was found; then the caller's transaction is rolled
    back.
    """
    incoming = [_incoming(item, place) for item, place in placed]
    rows = await db.fetch(_STORE, *([row[name] for row in incoming] for name in _INCOMING))
    if any(row["conversation_id"] is None for row in rows):
        raise Transient("who is behind a conversation was resolved anew meanwhile")
    repeated = [
        (one["account"], one["provider_id"])
        for one, row in zip(incoming, rows, strict=True)
        if row["message_id"] is None and one["provider_id"] is not None
    ]
    found = await db.fetch(_STORED, *as_columns(repeated)) if repeated else []
    earlier = {(row["account"], row["provider_id"]): {**row, "opened_before": row["opened_at"]} for row in found}
    if any(key not in earlier for key in repeated):
        raise Transient("another worker is storing the same message")
    recorded = [
        earlier.get((one["account"], one["provider_id"])) or one | dict(row)
        for one, row in zip(incoming, rows, strict=True)
    ]
    quoted = await quoted_by(
        db, {(one["org_id"], one["account"], one["reply_to"]) for one in recorded if one["reply_to"] is not None}
    )
    return [
        StoredMessage(
            **{name: one[name] for name in StoredMessage._fields if name in one},
            fresh=(one["account"], one["provider_id"]) not in earlier,
            quoted=quoted.get((one["org_id"], one["account"], one["reply_to"])),
        )
        for one in recorded
    ]


async def quoted_by(db: Connection, asked: set[tuple[str, str, str]]) -> dict[tuple[str, str, str | None], UUID]:
    """The messages with these organisations, accounts and provider's ids. Costs nothing where none is asked for."""
    rows = await db.fetch(_QUOTED, *as_columns(sorted(asked))) if asked else []
    return {(row["org_id"], row["account"], row["provider_id"]): row["message_id"] for row in rows}


def _incoming(item: CustomerMessage | CustomerCall | IdentityChange, place: Place) -> dict[str, Any]:
    """The row of ``incoming`` of this message. A notice of the system has no sender, so it confirms no address."""
    message = item.notice if isinstance(item, IdentityChange) else item
    if message is None:
        raise ValueError("a change of identity without a notice is no message")
    wa_id, bsuid = (None, None) if isinstance(item, IdentityChange) else item.sender.ids
    said = None if isinstance(message, CustomerCall) else message
    return {
        "org_id": place.org_id,
        "conversation_id": place.conversation_id,
        "identity_version": place.identity_version,
        "account": item.phone_number_id,
        "provider_id": None if said is None else said.provider_id,
        "kind": None if said is None else said.content["kind"],
        "content": {} if said is None else said.content,
        "reply_to": None if said is None else said.reply_to,
        "at": item.at,
        "received_at": item.received_at,
        "opens": True if said is None else said.opens,
        "ahead": item.at > item.received_at,
        "wa_id": wa_id,
        "bsuid": bsuid,
    }


# ── Groups ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# The thread is stored before its messages. A thread that exists already is not written again.
_GROUP_THREADS = """
insert into group_threads (org_id, phone_number_id, group_id)
select n.org_id, n.phone_number_id, u.group_id
  from (select distinct number, group_id from unnest($1::text[], $2::text[]) as u (number, group_id)
         order by number, group_id) u
  join whatsapp_numbers n on n.phone_number_id = u.number
on conflict (org_id, phone_number_id, group_id) do nothing
"""

_STORE_OF_GROUPS = """
insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind, content,
                      reply_to, status, occurred_at, received_at, from_wa_id, from_bsuid)
select g.org_id, g.conversation_id, 'in', 'whatsapp', 'meta', u.number, u.provider_id, u.kind, u.content,
       u.reply_to, 'received', u.at, u.received_at, u.wa_id, u.bsuid
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::timestamptz[],
              $8::timestamptz[], $9::text[], $10::text[]) with ordinality
    as u (number, group_id, provider_id, kind, content, reply_to, at, received_at, wa_id, bsuid, place)
  join whatsapp_numbers n on n.phone_number_id = u.number
 cross join lateral (
       select * from group_threads t
        where t.org_id = n.org_id and t.phone_number_id = u.number and t.group_id = u.group_id offset 0) g
 order by u.place
on conflict (provider, account, provider_id) where direction = 'in' do nothing
returning account, provider_id
"""

_STORED_OF_GROUPS = """
select m.account, m.provider_id, m.org_id, m.message_id, m.conversation_id, m.content, m.reply_to, m.occurred_at as at,
       m.received_at, g.group_id, coalesce(b.customer_id, w.customer_id) as customer_id
  from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as u (number, provider_id, line, bsuid)
 cross join lateral (
       select * from messages x
        where x.provider = 'meta' and x.account = u.number and x.provider_id = u.provider_id and x.direction = 'in'
       offset 0) m
  left join lateral (
       select t.group_id from group_threads t
        where t.org_id = m.org_id and t.conversation_id = m.conversation_id offset 0) g on true
  left join lateral (
       select i.customer_id from customer_identities i
        where i.org_id = m.org_id and i.kind = 'bsuid' and i.value = u.bsuid offset 0) b on true
  left join lateral (
       select i.customer_id from customer_identities i
        where i.org_id = m.org_id and i.kind = 'phone' and i.value = u.line and i.since <= m.occurred_at
          and (u.bsuid is null or i.bsuid is null or i.bsuid = u.bsuid) -- else another person has the line by now
       offset 0) w on true
"""


async def store_of_groups(db: Connection, messages: Sequence[GroupMessage]) -> list[StoredMessage]:
    """Store each message of a group once; what is recorded, in the order given. Each provider id is named once."""
    await db.execute(_GROUP_THREADS, *as_columns([(one.phone_number_id, one.group_id) for one in messages]))
    rows = [
        (
            *(one.phone_number_id, one.group_id, one.provider_id, one.content["kind"], one.content, one.reply_to),
            *(one.at, one.received_at, *one.sender.ids),
        )
        for one in messages
    ]
    fresh = {tuple(row) for row in await db.fetch(_STORE_OF_GROUPS, *as_columns(rows))}
    keys = [(one.phone_number_id, one.provider_id, _line(one.sender), one.sender.bsuid) for one in messages]
    found: dict[tuple[str, str], StoredMessage] = {}
    for row in await db.fetch(_STORED_OF_GROUPS, *as_columns(keys)):
        fields = dict(row)
        key = fields.pop("account"), fields["provider_id"]
        found[key] = StoredMessage(**fields, fresh=key in fresh)
    if any((one.phone_number_id, one.provider_id) not in found for one in messages):
        raise Transient("a business number was taken out of the directory meanwhile")
    return [found[one.phone_number_id, one.provider_id] for one in messages]


def _line(sender: Sender) -> str | None:
    number = from_wa_id(sender.wa_id)
    return None if number is None else canonical(number)


# ── Links ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# over all organisations, by age alone
_PURGE_LINKS = """
delete from portal_links
 where ctid = any (array(select l.ctid from portal_links l
                          where l.expires_at < $1 order by l.expires_at limit $2 for update skip locked))
"""


_PURGE_SESSIONS = """
delete from portal_sessions
 where ctid = any (array(select s.ctid from portal_sessions s
                          where s.ends_at < $1 order by s.ends_at limit $2 for update skip locked))
"""


async def purge_sessions(db: Connection, ended_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the portal's sessions that had ended then; returns how many there were."""
    return await changed(db, _PURGE_SESSIONS, ended_before, limit)


async def purge_links(db: Connection, expired_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the links that had expired then; returns how many there were."""
    return await changed(db, _PURGE_LINKS, expired_before, limit)
