"""The rows of parked messages and of their releases.

Rows of ``parked_messages`` are locked after the conversation that they belong to, in the order of their ids.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.ids import MessageKey
from libs.common.thread.conversations import current_conversation
from libs.common.thread.portal_view import shown
from services.inbox.parking import MOST_KEPT, Author, Ended, Parcel, ParkedText
from services.inbox.windows import WindowFacts

ConversationKey = tuple[str, UUID]
"""Organisation and conversation."""
State = Literal["waiting", "sent", "dropped"]

_FIELDS = ", ".join(f"p.{name}" for name in ParkedText._fields)

# It does not wait any more where the portal had it on a page: the customer may have read it, also where nothing of that
# was published. Nor where the release that was tried has come to the router after all.
_STILL_WAITS = f"""
   p.state = 'waiting' and p.expires_at > $1
   and (p.kind = 'kept'
        or exists (select from messages m
                    where m.org_id = p.org_id and m.message_id = p.message_id and m.status = 'failed'
                      and not (exists (select from portal_sessions s
                                        where s.conversation_id = p.conversation_id and s.org_id = p.org_id
                                          and s.seen_at >= m.received_at)
                               and {shown("m")})))
   and not exists (select from messages r where r.org_id = p.org_id and r.message_id = p.intent_id)
"""  # noqa: S608 -- a constant


def _waiting(lock: str) -> str:
    """``offset 0``: the texts of each conversation are looked up by its key, whatever the planner believes."""
    return f"""
select {_FIELDS}
  from unnest($2::text[], $3::uuid[]) with ordinality as u (org_id, conversation_id, place)
 cross join lateral (
       select p.* from parked_messages p
        where p.org_id = u.org_id and p.conversation_id = {current_conversation("u")} and {_STILL_WAITS}
        order by p.message_id offset 0 {lock}) p
 order by u.place, p.written_at, p.message_id
"""  # noqa: S608 -- constants


_WAITING, _WAITING_LOCKED = _waiting(""), _waiting("for no key update of p")

_FAILED = f"""
select m.org_id, m.message_id, {current_conversation("m")} as conversation_id, m.kind, m.actor, m.channel, m.reason,
       m.provider_code, m.user_id, m.content, m.received_at,
       (d.record -> 'intent' ->> 'expires_at')::timestamptz as expires_at,
       case when d.record is null then m.received_at
            else (d.record -> 'facts' ->> 'last_customer_at')::timestamptz end as customer_at
  from unnest($1::text[], $2::uuid[]) as u (org_id, message_id)
  join messages m on m.org_id = u.org_id and m.message_id = u.message_id and m.direction = 'out'
   and m.status = 'failed' and m.notification_type is null and m.conversation_id is not null and m.attempt > 0
  left join lateral (
       select d.record from decisions d
        where d.org_id = m.org_id and d.intent_id = m.message_id
        order by d.attempt desc limit 1 offset 0
       ) d on true
"""  # noqa: S608 -- a constant

_PARK = f"""
insert into parked_messages (org_id, message_id, conversation_id, kind, actor, user_id, content, reason, written_at,
                             parked_at, expires_at)
select u.org_id, u.message_id, c.conversation_id, u.kind, u.actor, u.user_id, u.content, u.reason, u.written_at,
       u.parked_at, u.expires_at
  from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::jsonb[], $8::text[],
              $9::timestamptz[], $10::timestamptz[], $11::timestamptz[])
    as u (org_id, conversation_id, message_id, kind, actor, user_id, content, reason, written_at, parked_at, expires_at)
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
 where (select count(*) from (select from parked_messages p
                               where p.conversation_id = c.conversation_id and p.org_id = c.org_id
                                 and p.state = 'waiting' limit $12) waiting) < $12
 order by c.conversation_id, u.message_id
   for key share of c
on conflict (org_id, message_id) do nothing
returning message_id
"""  # noqa: S608 -- a constant

_ONES = f"""
select {_FIELDS}, p.state, coalesce({_STILL_WAITS}, false) as still_waits,
       exists (select from messages r where r.org_id = p.org_id and r.message_id = p.intent_id) as released
  from parked_messages p
 where p.org_id = $2 and p.message_id = any ($4::uuid[]) and p.conversation_id = $3
 order by p.message_id
   for no key update of p
"""  # noqa: S608 -- constants

_PLACE = f"""
select c.conversation_id
  from (values ($1::text, $2::uuid)) as u (org_id, conversation_id)
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
   for key share of c
"""  # noqa: S608 -- a constant

_IS_ERASED = """
select k.erased
  from conversations c
  join customers k on k.org_id = c.org_id and k.customer_id = c.customer_id
 where c.org_id = $1 and c.conversation_id = $2
"""

# Of a conversation without parked messages this is one look at an index ("offset 0": at its own).
_OPENINGS = f"""
select c.org_id, c.conversation_id, c.last_customer_at, c.identity_changed_at, c.first_refused_at, c.last_refused_at,
       nullif(o.policy, '{{}}')::text as policy,
       exists (select from conversation_holds h
                where h.conversation_id = c.conversation_id and h.org_id = c.org_id and h.until_at > $3) as held,
       exists (select from consents k
                where k.org_id = c.org_id and k.customer_id = c.customer_id and k.category = 'whatsapp'
                  and not k.allowed) as consent_off
  from (select u.org_id, {current_conversation("u")} as conversation_id, min(coalesce(u.at, '-infinity')) as at
          from unnest($1::text[], $2::uuid[], $4::timestamptz[]) as u (org_id, conversation_id, at) group by 1, 2) u
  join conversations c on c.org_id = u.org_id and c.conversation_id = u.conversation_id
  join orgs o on o.org_id = c.org_id
 where c.last_customer_at > u.at
   and exists (select from parked_messages p
                where p.conversation_id = c.conversation_id and p.org_id = c.org_id and p.state = 'waiting' offset 0)
 order by c.conversation_id
   for key share of c
"""  # noqa: S608 -- a constant

_SETTLE = """
update parked_messages p
   set state = u.state, intent_id = coalesce(u.intent_id, p.intent_id)
  from unnest($1::text[], $2::uuid[], $3::text[], $4::uuid[]) as u (org_id, message_id, state, intent_id)
 where p.org_id = u.org_id and p.message_id = u.message_id
"""

_RELEASE = """
insert into parked_releases (org_id, intent_id, conversation_id, intent, released_at)
select * from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[])
on conflict (org_id, intent_id) do nothing
"""

_UNPUBLISHED = """
select r.org_id, r.intent_id, r.conversation_id, r.intent
  from parked_releases r
 where r.released_at < $1
 order by r.released_at
 limit $2
"""

_PUBLISHED = """
delete from parked_releases r
 using unnest($1::text[], $2::uuid[]) as u (org_id, intent_id)
 where r.org_id = u.org_id and r.intent_id = u.intent_id
"""

# What another process has published meanwhile is released, and stays so.
_TAKE_BACK = """
with back as (
    delete from parked_releases r
     using unnest($1::text[], $2::uuid[]) as u (org_id, intent_id)
     where r.org_id = u.org_id and r.intent_id = u.intent_id
 returning r.org_id, r.intent_id
)
update parked_messages p
   set state = 'waiting'
  from back b
 where p.org_id = b.org_id and p.intent_id = b.intent_id and p.state = 'sent'
returning p.intent_id
"""

_PURGE = """
delete from parked_messages
 where ctid = any (array(
       select ctid from parked_messages
        where expires_at < $1 and (state <> 'sent' or kind = 'kept')
        order by expires_at limit $2 for update skip locked))
"""


class FailedMessage(NamedTuple):
    """A failed outbound message, with the expiry of its intent.

    ``customer_at``: when the customer had written last, as far as its last decision knew; None where they never had.
    """

    org_id: str
    message_id: UUID
    conversation_id: UUID
    kind: str
    actor: str | None
    channel: str
    reason: str | None
    provider_code: str | None
    user_id: str | None
    content: dict[str, Any]
    received_at: datetime
    expires_at: datetime | None
    customer_at: datetime | None

    @property
    def ended(self) -> Ended:
        return Ended(self.kind, self.actor, self.channel, self.reason, self.provider_code)


class NewParked(NamedTuple):
    """A message to be parked."""

    org_id: str
    conversation_id: UUID
    message_id: UUID
    kind: Literal["kept", "failed"]
    actor: Author
    user_id: str | None
    content: Mapping[str, Any]
    reason: str | None
    written_at: datetime
    parked_at: datetime
    expires_at: datetime


class ParkedRow(NamedTuple):
    """A parked message in whatever state, locked. ``released``: the intent that carries it has come to the router."""

    text: ParkedText
    state: State
    still_waits: bool
    released: bool


class Opening(NamedTuple):
    """A conversation in which something waits, with what says whether it may be sent now."""

    org_id: str
    conversation_id: UUID
    last_customer_at: datetime | None
    identity_changed_at: datetime | None
    first_refused_at: datetime | None
    last_refused_at: datetime | None
    policy: str | None
    held: bool
    consent_off: bool

    @property
    def key(self) -> ConversationKey:
        return self.org_id, self.conversation_id

    @property
    def window(self) -> WindowFacts:
        return WindowFacts(self.last_customer_at, self.identity_changed_at, self.first_refused_at, self.last_refused_at)


class Release(NamedTuple):
    """A release whose intent is not known to be published; ``intent`` is the record's value."""

    org_id: str
    intent_id: UUID
    conversation_id: UUID
    intent: str


async def failed(db: Connection, keys: Collection[MessageKey]) -> list[FailedMessage]:
    """Those of these messages that are failed and stand in a thread."""
    return [FailedMessage(**row) for row in await db.fetch(_FAILED, *as_columns(sorted(keys)))] if keys else []


async def park(db: Connection, texts: Sequence[NewParked]) -> set[UUID]:
    """Park these once; the ids of those that are parked now.

    A text whose conversation is gone is left out, and one whose conversation has ``MOST_KEPT`` already.
    """
    if not texts:
        return set()
    return {row["message_id"] for row in await db.fetch(_PARK, *as_columns(texts), MOST_KEPT)}


async def waiting(
    db: Connection, asked: Collection[ConversationKey], now: datetime, *, locked: bool = False
) -> dict[ConversationKey, list[ParkedText]]:
    """What waits in these conversations, the oldest first, by the standing conversation.

    ``locked``: until the transaction ends, and as it stands once the lock is had.
    """
    found: dict[ConversationKey, list[ParkedText]] = {}
    if asked:
        for row in await db.fetch(_WAITING_LOCKED if locked else _WAITING, now, *as_columns(sorted(asked))):
            text = ParkedText(**row)
            found.setdefault((text.org_id, text.conversation_id), []).append(text)
    return found


async def lock_conversation(db: Connection, org_id: str, conversation_id: UUID) -> UUID | None:
    """The standing conversation, kept from being merged away until the transaction ends; None: there is none."""
    found: UUID | None = await db.fetchval(_PLACE, org_id, conversation_id)
    return found


async def is_erased(db: Connection, org_id: str, conversation_id: UUID) -> bool:
    """Whether the customer was erased. Of a locked conversation it stays so: an erasure locks it too."""
    return bool(await db.fetchval(_IS_ERASED, org_id, conversation_id))


async def lock_ones(
    db: Connection, org_id: str, conversation_id: UUID, message_ids: Collection[UUID], now: datetime
) -> list[ParkedRow]:
    """Those of these that are parked in the standing conversation, locked until the transaction ends."""
    rows = await db.fetch(_ONES, now, org_id, conversation_id, sorted(message_ids))
    return [
        ParkedRow(
            ParkedText(*(row[name] for name in ParkedText._fields)), row["state"], row["still_waits"], row["released"]
        )
        for row in rows
    ]


async def openings(
    db: Connection, keys: Collection[ConversationKey], now: datetime, after: Mapping[ConversationKey, datetime | None]
) -> list[Opening]:
    """Those of these conversations in which something waits. They are kept from being merged away meanwhile.

    Those that ``after`` names count only where the customer has written since that time.
    """
    rows = sorted((*key, after.get(key)) for key in set(keys))
    columns = as_columns([(org_id, id_) for org_id, id_, _ in rows])
    found = await db.fetch(_OPENINGS, *columns, now, [at for *_, at in rows]) if rows else []
    return [Opening(**row) for row in found]


async def release(db: Connection, parcels: Sequence[Parcel], intents: Mapping[UUID, str], now: datetime) -> None:
    """These texts are sent, and these intents are to be published. Call it with their rows locked."""
    await _settle(db, [(p.org_id, one, "sent", p.intent_id) for p in parcels for one in p.message_ids])
    rows = [(p.org_id, p.intent_id, p.conversation_id, intents[p.intent_id], now) for p in parcels]
    if rows:
        await db.execute(_RELEASE, *as_columns(rows))


async def settle(db: Connection, keys: Iterable[MessageKey], state: Literal["sent", "dropped"]) -> None:
    """What is to be said of these from now on. Call it with their rows locked."""
    await _settle(db, [(*key, state, None) for key in keys])


async def unpublished(db: Connection, before: datetime, limit: int) -> list[Release]:
    """Releases of before then whose intent is not known to be published, the oldest first."""
    return [Release(**row) for row in await db.fetch(_UNPUBLISHED, before, limit)]


async def published(db: Connection, releases: Collection[MessageKey]) -> None:
    """Kafka has these intents."""
    if releases:
        await db.execute(_PUBLISHED, *as_columns(sorted(releases)))


async def take_back(db: Connection, releases: Collection[MessageKey]) -> set[UUID]:
    """The texts of these releases wait again; the ids of the intents of which that is so."""
    return (
        {row["intent_id"] for row in await db.fetch(_TAKE_BACK, *as_columns(sorted(releases)))} if releases else set()
    )


async def purge(db: Connection, before: datetime, limit: int) -> int:
    """Delete parked messages that expired before then, but failed ones that were sent: their threads say so."""
    return await changed(db, _PURGE, before, limit)


async def _settle(db: Connection, rows: Sequence[tuple[str, UUID, State, UUID | None]]) -> None:
    if rows:
        await db.execute(_SETTLE, *as_columns(rows))
