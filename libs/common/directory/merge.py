"""Two customers turn out to be one: identities, consents and conversations move, and the ids given before stay as aliases.

Where both have a conversation with the same business number, the two become one: its thread holds both, its window is the later of both. The links
that lead to either end: whoever has one may be the wrong person for half of it. A conversation that merely gets another customer keeps its links.
A writer that read the old conversation id before the merge may still write under it after; readers resolve ids through
``conversation_aliases``.

Call inside a transaction that has locked all these customers' rows. Nobody is both winner and loser. Rows of two conversations that become one
are locked in the order of the senders (docs/architecture/data.md): sends, messages, conversations, slots.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    import asyncpg


class Merge(NamedTuple):
    """``loser`` is ``winner``, and from now on only an alias."""

    org_id: str
    loser: UUID
    winner: UUID


# Conversations of loser and winner with the same business number; of several losers each is a pair with the winner's. Where the winner has
# none, the first loser's conversation becomes the winner's, which is why it is moved before pairs are looked for.
_MOVE_CONVERSATIONS = """
with movable as (
    select distinct on (m.winner, c.phone_number_id) c.conversation_id, m.winner, m.org_id
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join conversations c on c.customer_id = m.loser and c.org_id = m.org_id
     where not exists (select from conversations w where w.customer_id = m.winner and w.phone_number_id = c.phone_number_id)
     order by m.winner, c.phone_number_id, c.conversation_id
)
update conversations c
   set customer_id = v.winner
  from movable v
 where c.conversation_id = v.conversation_id and c.org_id = v.org_id
"""

_PAIRS = """
select l.org_id, l.conversation_id as loser, w.conversation_id as winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
  join conversations l on l.customer_id = m.loser and l.org_id = m.org_id
  join conversations w on w.customer_id = m.winner and w.org_id = m.org_id and w.phone_number_id = l.phone_number_id
 order by l.conversation_id
"""

# Sends and charges are found by their messages, which costs them no index of their own: sends are written for every message.
_MOVE_SENDS = """
with held as (
    select s.org_id, s.message_id, s.attempt, m.winner
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join messages t on t.conversation_id = m.loser and t.org_id = m.org_id
      join sends s on s.org_id = t.org_id and s.message_id = t.message_id
     order by s.org_id, s.message_id, s.attempt
       for no key update of s
)
update sends s
   set conversation_id = h.winner
  from held h
 where s.org_id = h.org_id and s.message_id = h.message_id and s.attempt = h.attempt
"""

_MOVE_CHARGES = """
update charges c
   set conversation_id = m.winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
  join messages t on t.conversation_id = m.loser and t.org_id = m.org_id
 where c.org_id = t.org_id and c.message_id = t.message_id
"""

# Decisions are found by their messages. (One whose id was taken has no message of its own, and nobody looks for it by conversation.)
_MOVE_MESSAGES = """
with held as (
    select t.message_id, t.org_id, m.loser, m.winner
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join messages t on t.conversation_id = m.loser and t.org_id = m.org_id
     order by t.org_id, t.message_id
       for no key update of t
), decided as (
    update decisions d
       set conversation_id = h.winner
      from held h
     where d.org_id = h.org_id and d.intent_id = h.message_id and d.conversation_id = h.loser
)
update messages t
   set conversation_id = h.winner
  from held h
 where t.org_id = h.org_id and t.message_id = h.message_id
"""

_JOIN_WINDOWS = """
with held as (
    select c.* from conversations c
     where c.conversation_id = any($2::uuid[] || $3::uuid[]) and c.org_id = any($1::text[])
     order by c.conversation_id
       for update
), lost as (
    select m.org_id, m.winner, max(l.last_customer_at) as last_customer_at, max(l.refused_at) as refused_at,
           max(l.first_refused_at) as first_refused_at, max(l.last_refused_at) as last_refused_at,
           max(l.last_inbound_at) as last_inbound_at,
           (array_agg(l.last_inbound_channel order by l.last_inbound_at desc nulls last))[1] as last_inbound_channel,
           (array_agg(l.wa_id order by l.last_customer_at desc nulls last) filter (where l.wa_id is not null))[1] as wa_id,
           (array_agg(l.bsuid order by l.last_customer_at desc nulls last) filter (where l.bsuid is not null))[1] as bsuid
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join held l on l.conversation_id = m.loser and l.org_id = m.org_id
     group by m.org_id, m.winner
)
update conversations w
   set last_customer_at = greatest(w.last_customer_at, l.last_customer_at),
       refused_at = greatest(w.refused_at, l.refused_at),
       first_refused_at = greatest(w.first_refused_at, l.first_refused_at),
       last_refused_at = greatest(w.last_refused_at, l.last_refused_at),
       last_inbound_channel = case when w.last_inbound_at is null or l.last_inbound_at > w.last_inbound_at
                                   then coalesce(l.last_inbound_channel, w.last_inbound_channel) else w.last_inbound_channel end,
       last_inbound_at = greatest(w.last_inbound_at, l.last_inbound_at),
       wa_id = coalesce(w.wa_id, l.wa_id),
       bsuid = coalesce(w.bsuid, l.bsuid)
  from lost l
 where w.conversation_id = l.winner and w.org_id = l.org_id
"""

# One slot remains, the one held longest; there may have been two, because nobody knew that it was one customer.
_MOVE_SLOTS = """
with lost as (
    delete from bridge_slots s using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
     where s.conversation_id = m.loser and s.org_id = m.org_id
 returning m.org_id, m.winner, s.intent_id, s.held_until
)
insert into bridge_slots as s (conversation_id, org_id, intent_id, held_until)
select distinct on (winner) winner, org_id, intent_id, held_until from lost order by winner, held_until desc
on conflict (conversation_id) do update
   set intent_id = excluded.intent_id, held_until = excluded.held_until
 where s.org_id = excluded.org_id and s.held_until < excluded.held_until
"""

_MOVE_REST = (
    """
delete from portal_links t
 using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where t.conversation_id in (m.loser, m.winner) and t.org_id = m.org_id
""",
    """
update conversation_aliases t set conversation_id = m.winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where t.conversation_id = m.loser and t.org_id = m.org_id
""",
)

_ALIAS_CONVERSATIONS = """
insert into conversation_aliases (alias, org_id, conversation_id)
select m.loser, m.org_id, m.winner from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
on conflict (alias) do nothing
"""

_DROP_CONVERSATIONS = "delete from conversations c using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner) where c.conversation_id = m.loser and c.org_id = m.org_id"

_MOVE_CONSENTS = """
with lost as (
    delete from consents c using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
     where c.customer_id = m.loser and c.org_id = m.org_id
 returning m.org_id, m.winner, c.category, c.allowed, c.at, c.address, c.source, c.cause, c.lifts, c.told
)
insert into consents as c (org_id, customer_id, category, allowed, at, address, source, cause, lifts, told)
select distinct on (winner, category) org_id, winner, category, allowed, at, address, source, cause, lifts, told
  from lost order by winner, category, at desc, allowed
on conflict (customer_id, category) do update
   set allowed = excluded.allowed, at = excluded.at, address = excluded.address, source = excluded.source, cause = excluded.cause,
       lifts = excluded.lifts, told = excluded.told
 where c.org_id = excluded.org_id and c.at < excluded.at
"""

_MOVE_IDENTITIES = (
    "update former_identities i set customer_id = m.winner from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner) where i.customer_id = m.loser and i.org_id = m.org_id",
    "update customer_identities i set customer_id = m.winner from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner) where i.customer_id = m.loser and i.org_id = m.org_id",
    "update customer_aliases a set customer_id = m.winner from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner) where a.customer_id = m.loser and a.org_id = m.org_id",
)

_ALIAS_CUSTOMERS = """
with lost as (
    select m.org_id, m.winner, (array_agg(l.name order by m.loser) filter (where l.name is not null))[1] as name,
           (array_agg(l.phone order by m.loser) filter (where l.phone is not null))[1] as phone
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join customers l on l.customer_id = m.loser and l.org_id = m.org_id
     group by m.org_id, m.winner
), completed as (
    update customers w
       set name = coalesce(w.name, l.name), phone = coalesce(w.phone, l.phone)
      from lost l
     where w.customer_id = l.winner and w.org_id = l.org_id
)
insert into customer_aliases (alias, org_id, customer_id)
select m.loser, m.org_id, m.winner from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
on conflict (alias) do nothing
"""

_DROP_CUSTOMERS = "delete from customers c using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner) where c.customer_id = m.loser and c.org_id = m.org_id"


async def merge_customers(db: "asyncpg.Connection[asyncpg.Record]", merges: Sequence[Merge]) -> None:
    """Let every loser become its winner. What the winner has (name, phone, conversation) stays; what it lacks it gets."""
    if not merges:
        return
    customers = [list(column) for column in zip(*sorted(set(merges)), strict=True)]
    for statement in _MOVE_IDENTITIES:
        await db.execute(statement, *customers)
    await db.execute(_MOVE_CONSENTS, *customers)
    await db.execute(_MOVE_CONVERSATIONS, *customers)
    pairs = [Merge(*row) for row in await db.fetch(_PAIRS, *customers)]
    if pairs:
        await merge_conversations(db, pairs)
    await db.execute(_ALIAS_CUSTOMERS, *customers)
    await db.execute(_DROP_CUSTOMERS, *customers)


async def merge_conversations(db: "asyncpg.Connection[asyncpg.Record]", pairs: Sequence[Merge]) -> None:
    """Let every losing conversation become its winner, which has the same customer."""
    columns = [list(column) for column in zip(*pairs, strict=True)]
    await db.execute(_MOVE_SENDS, *columns)
    await db.execute(_MOVE_CHARGES, *columns)
    await db.execute(_MOVE_MESSAGES, *columns)
    await db.execute(_JOIN_WINDOWS, *columns)
    await db.execute(_MOVE_SLOTS, *columns)
    for statement in _MOVE_REST:
        await db.execute(statement, *columns)
    await db.execute(_ALIAS_CONVERSATIONS, *columns)
    await db.execute(_DROP_CONVERSATIONS, *columns)
