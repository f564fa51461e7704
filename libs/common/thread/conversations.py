"""Conversations: one per customer and business number, with the customer's addresses, the window and the messages."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.errors import Transient


def current_conversation(row: str) -> str:
    """An SQL expression: the conversation of a row's ``conversation_id``, also after it was merged into another one.

    ``row`` is the alias of a row of the query around it, with ``org_id`` and ``conversation_id``.
    """
    return (
        f"coalesce((select a.conversation_id from conversation_aliases a"  # noqa: S608 -- ``row`` is a constant
        f" where a.org_id = {row}.org_id and a.alias = {row}.conversation_id), {row}.conversation_id)"
    )


def wrote_last(row: str, at: str, channel: str, heard: str = "null") -> str:
    """SQL assignments: in the conversation ``row`` the customer wrote on ``channel`` at ``at``; SQL expressions.

    The newest counts, in whatever order they come; where ``at`` is null, none came. ``heard`` is the time of a word
    such as STOP: it says that the customer has written, where nothing else does. Such a time has no channel, and any
    message takes its place.
    """
    newer = f"{at} > coalesce(case when {row}.last_inbound_channel <> '' then {row}.last_inbound_at end, '-infinity')"
    return f"""last_inbound_channel = case when {newer} then {channel} else {row}.last_inbound_channel end,
           last_inbound_at = coalesce(case when {newer} then {at} else {row}.last_inbound_at end, {heard})"""


class ConversationAddress(NamedTuple):
    """How a customer is reached through a business number: by ids that are theirs now, each with its time.

    ``phone_number_id`` is None for the conversation of a customer whose organisation had no number.
    """

    org_id: str
    customer_id: UUID
    phone_number_id: str | None
    wa_id: str | None = None
    wa_id_at: datetime | None = None
    bsuid: str | None = None
    bsuid_at: datetime | None = None


# None is opened for a customer who was merged away meanwhile ("offset 0": each is found by their key). The reference to
# the number keeps it from being moved until the commit. That it was moved before is seen by a statement of its own,
# which is newer than the wait for that.
_ENSURE = """
insert into conversations (org_id, customer_id, phone_number_id, wa_id, wa_id_at, bsuid, bsuid_at)
select u.*
  from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::timestamptz[])
    as u (org_id, customer_id, phone_number_id, wa_id, wa_id_at, bsuid, bsuid_at)
 cross join lateral (
       select from customers k where k.customer_id = u.customer_id and k.org_id = u.org_id offset 0 for key share) k
 order by u.customer_id, u.phone_number_id
on conflict do nothing
returning org_id, phone_number_id
"""

_MOVED = """
select exists (select from whatsapp_numbers n
                where n.org_id = any($1::text[]) and n.phone_number_id = any($2::text[]) and n.replaced_by is not null)
"""

# A late webhook must not bring back what the customer has given up: ids that are not theirs any more are not named
# here, and of those that are the one confirmed last counts.
_READDRESS = """
with named as (
    select u.*, c.conversation_id
      from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::timestamptz[])
        as u (org_id, customer_id, phone_number_id, wa_id, wa_id_at, bsuid, bsuid_at)
      join conversations c on c.phone_number_id = u.phone_number_id and c.customer_id = u.customer_id
          and c.org_id = u.org_id
     order by c.conversation_id
       for no key update of c
)
update conversations c
   set wa_id = case when t.wa_id is not null and (c.wa_id is null
       or (c.wa_id_at > t.wa_id_at) is not true) then t.wa_id else c.wa_id end,
       wa_id_at = case when t.wa_id is not null and (c.wa_id is null
           or (c.wa_id_at > t.wa_id_at) is not true) then t.wa_id_at else c.wa_id_at end,
       bsuid = case when t.bsuid is not null and (c.bsuid is null
           or (c.bsuid_at > t.bsuid_at) is not true) then t.bsuid else c.bsuid end,
       bsuid_at = case when t.bsuid is not null and (c.bsuid is null
           or (c.bsuid_at > t.bsuid_at) is not true) then t.bsuid_at else c.bsuid_at end
  from named t
 where c.conversation_id = t.conversation_id and c.org_id = t.org_id
"""

_FIND = """
select c.conversation_id, c.identity_version
  from unnest($1::text[], $2::uuid[], $3::text[]) with ordinality as u (org_id, customer_id, phone_number_id, place)
  left join lateral (
       select c.conversation_id, c.identity_version from conversations c
        where c.phone_number_id = u.phone_number_id and c.customer_id = u.customer_id and c.org_id = u.org_id
       union all
       select c.conversation_id, c.identity_version from conversations c
        where u.phone_number_id is null and c.phone_number_id is null
          and c.customer_id = u.customer_id and c.org_id = u.org_id
       offset 0
       ) c on true
 order by u.place
"""

# "offset 0": each is found by its key, and locked in the order of ids.
_LOCK_AGAINST_MERGE = f"""
select u.org_id, u.conversation_id
  from (select u.*, {current_conversation("u")} as standing
          from unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
         order by standing offset 0) u
 cross join lateral (
       select from conversations k
        where k.org_id = u.org_id and k.conversation_id = u.standing offset 0 for key share) c
"""  # noqa: S608 -- a constant

_HOLD = """
select from unnest($1::text[], $2::uuid[]) as u (org_id, customer_id)
  join conversations c on c.customer_id = u.customer_id and c.org_id = u.org_id
 order by c.conversation_id
   for no key update of c
"""

_SETTLED = """
select c.identity_version
  from unnest($1::text[], $2::uuid[]) with ordinality as u (org_id, conversation_id, place)
  left join conversations c on c.conversation_id = u.conversation_id and c.org_id = u.org_id
 order by u.place
"""

# What a conversation is reached by is its customer's now; what is not gives way to what they have instead, or to
# nothing. A transaction that found the conversation before this must find it again (``identity_version``).
_REPLACE_FOREIGN_ADDRESSES = """
update conversations c
   set wa_id = case when k.wa_id then c.wa_id else u.wa_id end,
       wa_id_at = case when k.wa_id then c.wa_id_at when u.wa_id is not null then u.at end,
       bsuid = case when k.bsuid then c.bsuid else u.bsuid end,
       bsuid_at = case when k.bsuid then c.bsuid_at when u.bsuid is not null then u.at end,
       identity_version = c.identity_version + 1
  from unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[]) as u (org_id, customer_id, at, wa_id,
      bsuid)
  join conversations o on o.customer_id = u.customer_id and o.org_id = u.org_id
  cross join lateral (
       select exists (select from customer_identities i
                       where i.org_id = o.org_id and i.kind = 'wa_id' and i.value = o.wa_id
                           and i.customer_id = o.customer_id) as wa_id,
              exists (select from customer_identities i
                       where i.org_id = o.org_id and i.kind = 'bsuid' and i.value = o.bsuid
                           and i.customer_id = o.customer_id) as bsuid
       offset 0
       ) k
 where c.conversation_id = o.conversation_id and c.org_id = o.org_id
"""

# Whether an open window goes with the customer to another number, Meta does not say: it counts as closed, as after a
# refusal, until the customer writes.
_CLOSE = """
update conversations c
   set identity_changed_at = greatest(c.identity_changed_at, u.at)
  from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as u (org_id, customer_id, at)
 where c.customer_id = u.customer_id and c.org_id = u.org_id
"""

_SENDS_HELD = f"""
with told as (
    select t.org_id, {current_conversation("t")} as conversation_id, array_agg(t.at) as ats, max(t.at) as newest
      from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as t (org_id, conversation_id, at)
     group by 1, 2
), held as (
    select c.org_id, c.conversation_id, c.last_customer_at, t.ats, t.newest
      from told t
      join conversations c on c.org_id = t.org_id and c.conversation_id = t.conversation_id
     order by c.conversation_id
       for no key update of c
)
"""  # noqa: S608 -- a constant

# Meta's refusals of free-form sends; ``libs.common.window`` says what they mean. A refusal counts from its send. The
# first since the customer's last message is kept beside the newest. One from before that message is neither.
_REFUSE = f"""{_SENDS_HELD}
update conversations c
   set last_refused_at = greatest(c.last_refused_at, h.newest),
       first_refused_at = coalesce(
           (select min(at) from unnest(h.ats || c.first_refused_at) as at where at >= h.last_customer_at),
               c.first_refused_at)
  from held h
 where c.org_id = h.org_id and c.conversation_id = h.conversation_id
"""  # noqa: S608 -- a constant

# A free-form message that arrived was sent into an open window, and so was what was sent before it.
_DISPROVE = f"""{_SENDS_HELD}
update conversations c
   set last_refused_at = case when c.last_refused_at > h.newest then c.last_refused_at end,
       first_refused_at = case when c.first_refused_at > h.newest then c.first_refused_at end
  from held h
 where c.org_id = h.org_id and c.conversation_id = h.conversation_id
"""  # noqa: S608 -- a constant


async def ensure(db: Connection, addresses: Sequence[ConversationAddress]) -> None:
    """One conversation per (business number, customer), with the newest ids of the customer.

    Each pair is named once. Customers who were merged away get none. Raises Transient where a number moved to another
    WhatsApp Business Account meanwhile.
    """
    opened = await db.fetch(_ENSURE, *as_columns(addresses)) if addresses else []
    if opened and await db.fetchval(_MOVED, *as_columns([tuple(row) for row in opened])):
        raise Transient("a business number moved meanwhile")
    await readdress(db, [address for address in addresses if address.wa_id or address.bsuid])


async def readdress(db: Connection, addresses: Sequence[ConversationAddress]) -> None:
    """The same for conversations that there are; none is made."""
    if addresses:
        await db.execute(_READDRESS, *as_columns(addresses))


class Thread(NamedTuple):
    """A conversation. ``identity_version`` grows each time its customer is resolved anew."""

    conversation_id: UUID
    identity_version: int


async def find(db: Connection, wanted: Sequence[tuple[str, UUID, str | None]]) -> list[Thread | None]:
    """Organisation, customer, business number → the conversation, in the order given."""
    rows = await db.fetch(_FIND, *as_columns(wanted)) if wanted else []
    return [None if row["conversation_id"] is None else Thread(**row) for row in rows]


async def identity_versions(db: Connection, threads: Sequence[tuple[str, UUID]]) -> list[int | None]:
    """The present version of each (organisation, conversation); None where the conversation is gone."""
    return [row["identity_version"] for row in await db.fetch(_SETTLED, *as_columns(threads))] if threads else []


async def lock_against_merge(db: Connection, asked: Iterable[tuple[str, UUID]]) -> None:
    """Keep the customers of these (organisation, conversation) until the transaction ends.

    What is stored of a customer meanwhile is not left behind by a merge.

    Locks conversations, so call before anything of bridge slots or consents is locked. Raises Transient where one
    becomes part of another just now.
    """
    rows = sorted(set(asked))
    if rows and len(await db.fetch(_LOCK_AGAINST_MERGE, *as_columns(rows))) != len(rows):
        raise Transient("a conversation was merged meanwhile")


async def lock_known_against_merge(db: Connection, asked: Iterable[tuple[str, UUID]]) -> set[tuple[str, UUID]]:
    """As ``lock_against_merge``, of those that the organisation has: these are returned, under the ids given."""
    missing, known = set(asked), set[tuple[str, UUID]]()
    for _ in range(2):  # one that became part of another while this waited is found there the second time
        if missing:
            found = await db.fetch(_LOCK_AGAINST_MERGE, *as_columns(sorted(missing)))
            known |= {(row["org_id"], row["conversation_id"]) for row in found}
            missing -= known
    return known


async def replace_foreign_addresses(
    db: Connection, people: Sequence[tuple[str, UUID, datetime | None, str | None, str | None]]
) -> None:
    """Give conversations the address of their customer: organisation, customer, since when, wa_id, BSUID.

    Only an address that is not the customer's is replaced.

    Their conversations are locked in the order of their ids, and their ``identity_version`` grows.
    """
    if people:
        columns = as_columns(people)
        await db.execute(_HOLD, *columns[:2])
        await db.execute(_REPLACE_FOREIGN_ADDRESSES, *columns)


async def close_windows(db: Connection, closed: Sequence[tuple[str, UUID, datetime]]) -> None:
    """Organisation, customer, since when: their windows are closed until they write again."""
    if closed:
        await db.execute(_CLOSE, *as_columns(closed))


async def refuse_windows(db: Connection, refused: Iterable[tuple[str, UUID, datetime]]) -> None:
    """Meta refused free-form messages of these conversations (org, conversation) that were sent at that time.

    Idempotent, in any order.
    """
    rows = sorted(set(refused))
    if rows:
        await db.execute(_REFUSE, *as_columns(rows))


async def disprove_refusals(db: Connection, arrived: Iterable[tuple[str, UUID, datetime]]) -> None:
    """Free-form messages of these conversations arrived, sent at that time: no refusal until then counts."""
    rows = sorted(set(arrived))
    if rows:
        await db.execute(_DISPROVE, *as_columns(rows))
