"""The statements on what customers do in the portal. Arrays go through ``unnest``: one batch is one round trip."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.errors import Transient
from libs.common.ids import MessageKey
from libs.common.thread.conversations import current_conversation, wrote_last
from libs.common.thread.portal_view import shown
from services.ingest.queries import StoredMessage


class PortalPlace(NamedTuple):
    """The conversation of an event as it is now, and its customer. ``erased``: the customer was erased."""

    conversation_id: UUID
    customer_id: UUID
    identity_version: int
    erased: bool


class PortalText(NamedTuple):
    """A text that a customer wrote in the portal, with its place."""

    org_id: str
    conversation_id: UUID
    identity_version: int
    provider_id: str
    content: dict[str, Any]
    at: datetime


# "offset 0": each is found by its key, whatever the size of the tables.
_PLACES = f"""
select c.conversation_id, c.customer_id, c.identity_version, k.erased
  from unnest($1::text[], $2::uuid[]) with ordinality as u (org_id, conversation_id, place)
  left join lateral (
       select c.* from conversations c
        where c.org_id = u.org_id and c.conversation_id = {current_conversation("u")} offset 0) c on true
  left join lateral (
       select k.erased from customers k where k.org_id = c.org_id and k.customer_id = c.customer_id offset 0) k on true
 order by u.place
"""  # noqa: S608 -- a constant

_SEEN = """
with seen as (
    select k.customer_id, u.at
      from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as u (org_id, customer_id, at)
      join customers k on k.org_id = u.org_id and k.customer_id = u.customer_id
     where (k.last_seen_at is null or k.last_seen_at < u.at) and not k.erased
     order by k.customer_id
       for no key update of k
)
update customers k
   set last_seen_at = greatest(k.last_seen_at, s.at)
  from seen s
 where k.customer_id = s.customer_id
"""

# One write per conversation, which is also the lock that keeps it from being merged away. Where its customer was
# resolved anew or erased since the place was found, nothing is stored. What comes twice moves
# nothing: only a later message says where the customer wrote last. The window is WhatsApp's, and stays.
_STORE = f"""
with incoming as materialized (
    select *
      from unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::jsonb[], $6::timestamptz[]) with ordinality
        as i (org_id, conversation_id, identity_version, provider_id, content, at, place)
), newest as materialized (
    select i.org_id, i.conversation_id, min(i.identity_version) as identity_version, max(i.at) as at
      from incoming i
     group by i.org_id, i.conversation_id
     order by i.conversation_id
), held as (
    update conversations c
       set {wrote_last("c", "n.at", "'portal'")}
      from newest n
     where c.conversation_id = n.conversation_id and c.org_id = n.org_id and c.identity_version = n.identity_version
 returning c.org_id, c.conversation_id, c.customer_id, c.last_customer_at, c.identity_changed_at, c.first_refused_at,
           c.last_refused_at
), fresh as (
    insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind, content,
                          status, occurred_at, received_at)
    select i.org_id, i.conversation_id, 'in', 'portal', 'portal', i.org_id, i.provider_id,
           i.content ->> 'kind', i.content, 'received', i.at, $7
      from incoming i
      join held h on h.conversation_id = i.conversation_id and h.org_id = i.org_id
     order by i.place
    on conflict (provider, account, provider_id) where direction = 'in' do nothing
    returning provider_id, message_id
)
select h.conversation_id, h.customer_id, h.last_customer_at, h.identity_changed_at, h.first_refused_at,
       h.last_refused_at, f.message_id
  from incoming i
  left join held h on h.conversation_id = i.conversation_id and h.org_id = i.org_id
  left join fresh f on f.provider_id = i.provider_id
 order by i.place
"""  # noqa: S608 -- a constant

_STORED = f"""
select m.provider_id, m.message_id, {current_conversation("m")} as conversation_id, m.content, m.occurred_at as at,
       m.received_at
  from unnest($1::text[], $2::text[]) as i (org_id, provider_id)
 cross join lateral ( -- by its key
       select * from messages x
        where x.provider = 'portal' and x.account = i.org_id and x.provider_id = i.provider_id and x.direction = 'in'
          and x.org_id = i.org_id offset 0) m
"""  # noqa: S608 -- a constant

_SHOWN = f"""
select m.org_id, m.message_id
  from unnest($1::text[], $2::uuid[]) as u (org_id, message_id)
  join messages m on m.org_id = u.org_id and m.message_id = u.message_id and m.direction = 'out'
 where {shown("m")}
"""  # noqa: S608 -- a constant


async def places(db: Connection, asked: Sequence[tuple[str, UUID]]) -> list[PortalPlace | None]:
    """Organisation and conversation → the conversation as it is now; None where the organisation has no such one."""
    rows = await db.fetch(_PLACES, *as_columns(asked)) if asked else []
    return [None if row["conversation_id"] is None else PortalPlace(**row) for row in rows]


async def saw(db: Connection, seen: Sequence[tuple[str, UUID, datetime]]) -> None:
    """Organisation, customer, when they were in the portal: each customer once. The time never goes back."""
    if seen:
        await db.execute(_SEEN, *as_columns(seen))


async def shown_of(db: Connection, keys: Collection[MessageKey]) -> set[MessageKey]:
    """Those of these outbound messages that the portal shows. Call it when their rows are locked."""
    rows = await db.fetch(_SHOWN, *as_columns(sorted(keys))) if keys else []
    return {(row["org_id"], row["message_id"]) for row in rows}


async def store_texts(db: Connection, texts: Sequence[PortalText], now: datetime) -> list[StoredMessage]:
    """Store each text once and say where the customers wrote last; what is recorded, in the order given.

    Each provider id is named once. Raises Transient where a conversation was merged away, or its customer resolved
    anew or erased, since its place was found.
    """
    if not texts:
        return []
    rows = await db.fetch(_STORE, *as_columns(texts), now)
    if any(row["conversation_id"] is None for row in rows):
        raise Transient("who is behind a conversation was resolved anew meanwhile")
    repeated = [(t.org_id, t.provider_id) for t, row in zip(texts, rows, strict=True) if row["message_id"] is None]
    found = await db.fetch(_STORED, *as_columns(repeated)) if repeated else []
    earlier = {row["provider_id"]: row for row in found}
    stored: list[StoredMessage] = []
    for text, row in zip(texts, rows, strict=True):
        fresh = row["message_id"] is not None
        source: Any = earlier.get(text.provider_id)
        if not fresh and source is None:
            raise Transient("another worker is storing the same message")
        stored.append(
            StoredMessage(
                org_id=text.org_id,
                conversation_id=row["conversation_id"] if fresh else source["conversation_id"],
                customer_id=row["customer_id"],
                message_id=row["message_id"] if fresh else source["message_id"],
                provider_id=text.provider_id,
                content=text.content if fresh else source["content"],
                reply_to=None,
                at=text.at if fresh else source["at"],
                received_at=now if fresh else source["received_at"],
                fresh=fresh,
                channel="portal",
                opened_before=row["last_customer_at"],
                opened_at=row["last_customer_at"],
                identity_changed_at=row["identity_changed_at"],
                first_refused_at=row["first_refused_at"],
                last_refused_at=row["last_refused_at"],
            )
        )
    return stored
