"""The merge of two customers who are one: identities, consents and conversations move, the loser's ids stay as aliases.

Rule 1: where both have a conversation with the same business number, the two become one. Its window is the later of
        both, one bridge slot remains, and every id leads to it from the commit on. A merge costs the same however long
        the threads are.
Rule 2: the rows of the thread follow in slices (``libs.common.sending.merge_slices``). Until they have, readers resolve
        ids through ``conversation_aliases``, and the order of sends goes over both threads.
Rule 3: the links and sessions of either conversation end: the holder of one may be the wrong person for half of it. A
        conversation that merely gets another customer keeps its links.
Rule 4: locks are taken in this order (docs/architecture/data.md): conversations, slots, parked messages, consents. The
        caller's transaction holds the rows of all these customers. No customer is both winner and loser.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.portal_access import end_access
from libs.common.directory.touched import touch
from libs.common.thread.conversations import wrote_last


class Merge(NamedTuple):
    """``loser`` becomes an alias of ``winner``."""

    org_id: str
    loser: UUID
    winner: UUID


# All of them at once, in the order of ids that every transaction keeps. Which of them become one is known only later.
_HOLD = """
select from conversations c
 where c.org_id = any($1::text[]) and c.customer_id = any($2::uuid[] || $3::uuid[])
 order by c.conversation_id
   for update
"""

# Conversations of loser and winner with the same business number; of several losers each is a pair with the winner's.
# Where the winner has none, the first loser's conversation becomes the winner's, which is why it is moved before pairs
# are looked for.
_MOVE_CONVERSATIONS = """
with movable as (
    select distinct on (m.winner, c.phone_number_id) c.conversation_id, m.winner, m.org_id
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join conversations c on c.customer_id = m.loser and c.org_id = m.org_id
     where not exists (select from conversations w
                        where w.customer_id = m.winner and w.phone_number_id is not distinct from c.phone_number_id)
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
  join conversations w on w.customer_id = m.winner and w.org_id = m.org_id
   and w.phone_number_id is not distinct from l.phone_number_id
 order by l.conversation_id
"""

_JOIN_WINDOWS = f"""
with held as (
    select c.* from conversations c
     where c.conversation_id = any($2::uuid[] || $3::uuid[]) and c.org_id = any($1::text[])
     order by c.conversation_id
       for update
), lost as (
    select m.org_id, m.winner, max(l.last_customer_at) as last_customer_at,
           max(l.identity_changed_at) as identity_changed_at, max(l.first_refused_at) as first_refused_at,
           max(l.last_refused_at) as last_refused_at, max(l.last_inbound_at) as heard_at,
           max(l.last_inbound_at) filter (where l.last_inbound_channel <> '') as wrote_at,
           (array_agg(l.last_inbound_channel order by l.last_inbound_at desc nulls last)
              filter (where l.last_inbound_channel <> ''))[1] as last_inbound_channel,
           (array_agg(l.wa_id order by l.last_customer_at desc nulls last)
              filter (where l.wa_id is not null))[1] as wa_id,
           (array_agg(l.bsuid order by l.last_customer_at desc nulls last)
              filter (where l.bsuid is not null))[1] as bsuid
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join held l on l.conversation_id = m.loser and l.org_id = m.org_id
     group by m.org_id, m.winner
)
update conversations w
   set last_customer_at = greatest(w.last_customer_at, l.last_customer_at),
       identity_changed_at = greatest(w.identity_changed_at, l.identity_changed_at),
       first_refused_at = greatest(w.first_refused_at, l.first_refused_at),
       last_refused_at = greatest(w.last_refused_at, l.last_refused_at),
       {wrote_last("w", "l.wrote_at", "l.last_inbound_channel", heard="l.heard_at")},
       wa_id = coalesce(w.wa_id, l.wa_id),
       bsuid = coalesce(w.bsuid, l.bsuid)
  from lost l
 where w.conversation_id = l.winner and w.org_id = l.org_id
"""  # noqa: S608 -- a constant

# One slot remains. There may be several, because it was not known that it was one customer: rule 4 of
# ``libs.common.bridge.queries``.
_MOVE_SLOTS = """
with merged as (
    select * from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
), held as materialized (
    select s.* from bridge_slots s
     where s.conversation_id = any($2::uuid[] || $3::uuid[]) and s.org_id = any($1::text[])
     order by s.conversation_id
       for update
), bridges as (
    select p.org_id, p.winner, b.intent_id, b.held_until,
           row_number() over (partition by p.winner order by coalesce(nullif(b.held_until, 'infinity'), now()) desc,
                                                             b.place) as place
      from (select org_id, loser as conversation_id, winner from merged
            union select org_id, winner, winner from merged) p
      join held h using (org_id, conversation_id)
     cross join lateral (
           select h.intent_id, h.held_until, 0 as place
           union all
           select o.id, 'infinity', o.place from unnest(h.others) with ordinality as o (id, place)) b
), gone as (
    delete from bridge_slots s using merged m where s.conversation_id = m.loser and s.org_id = m.org_id
)
insert into bridge_slots as s (conversation_id, org_id, intent_id, held_until, others)
select winner, org_id, (array_agg(intent_id order by place))[1], (array_agg(held_until order by place))[1],
       coalesce(array_agg(intent_id order by place) filter (where place > 1 and held_until = 'infinity'), '{}')
  from bridges
 group by winner, org_id
 order by winner
on conflict (conversation_id) do update
   set intent_id = excluded.intent_id, held_until = excluded.held_until, others = excluded.others
 where s.org_id = excluded.org_id
"""

# What the customer got by SMS counts for the thread that remains.
_MOVE_ANSWERS = """
with lost as (
    delete from sms_answers a using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
     where a.conversation_id = m.loser and a.org_id = m.org_id
 returning m.org_id, m.winner, a.decided_at, a.last_at
)
insert into sms_answers as a (conversation_id, org_id, decided_at, last_at)
select l.winner, l.org_id, array_agg(t.at order by t.at), max(l.last_at)
  from lost l cross join lateral unnest(l.decided_at) as t (at)
 group by l.winner, l.org_id
on conflict (conversation_id) do update
   set decided_at = (select array_agg(x.at order by x.at) from unnest(a.decided_at || excluded.decided_at) as x (at)),
       last_at = greatest(a.last_at, excluded.last_at)
 where a.org_id = excluded.org_id
"""

# A member has read the thread that remains as far as they had read the one of the two that they had read least. What
# they had read whole sets no limit. Heads of both are still there.
_MOVE_READS = """
with held as (
    select r.org_id, m.winner, m.loser, r.user_id
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join member_reads r on r.org_id = m.org_id and r.conversation_id in (m.loser, m.winner)
     group by 1, 2, 3, 4
), pairs as (
    select h.org_id, h.winner, h.loser, h.user_id,
           greatest(p.read_below, w.read_sequence, 0) as of_winner,
           greatest(p.read_below, l.read_sequence, 0) as of_loser,
           coalesce(hw.inbound_sequence, 0) as in_winner, coalesce(hl.inbound_sequence, 0) as in_loser
      from held h
      join members p on p.org_id = h.org_id and p.user_id = h.user_id
      left join member_reads w on w.org_id = h.org_id and w.user_id = h.user_id and w.conversation_id = h.winner
      left join member_reads l on l.org_id = h.org_id and l.user_id = h.user_id and l.conversation_id = h.loser
      left join conversation_heads hw on hw.org_id = h.org_id and hw.conversation_id = h.winner
      left join conversation_heads hl on hl.org_id = h.org_id and hl.conversation_id = h.loser
), gone as (
    delete from member_reads r using pairs p
     where r.org_id = p.org_id and r.user_id = p.user_id and r.conversation_id = p.loser
)
insert into member_reads as r (org_id, user_id, conversation_id, read_sequence)
select org_id, user_id, winner,
       least(min(case when of_winner < in_winner then of_winner end),
             min(case when of_loser < in_loser then of_loser end), max(greatest(in_winner, in_loser)))
  from pairs
 group by org_id, user_id, winner
 order by org_id, user_id, winner
on conflict (org_id, user_id, conversation_id) do update set read_sequence = excluded.read_sequence
"""

_HOLD_HEADS = """
select from conversation_heads h
 where h.conversation_id = any($2::uuid[] || $3::uuid[]) and h.org_id = any($1::text[])
 order by h.conversation_id
   for update
"""

# The inbox computes the head anew when something is published next. Until then it says what the two said; of several
# losers, what the newest of them said.
_MOVE_HEADS = """
with lost as (
    delete from conversation_heads h using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
     where h.conversation_id = m.loser and h.org_id = m.org_id
 returning m.winner, h.*
)
insert into conversation_heads as h (
       conversation_id, org_id, phone_number_id, last_sequence, last_message_id, last_at, channel,
       inbound_sequence, inbound_at, unanswered_since, failed_sequence, last_customer_at, closed_early, seen_sequence,
       unread_since, escalated_at)
select distinct on (l.winner) l.winner, l.org_id, l.phone_number_id, l.last_sequence, l.last_message_id, l.last_at,
       l.channel, l.inbound_sequence, l.inbound_at, l.unanswered_since, l.failed_sequence,
       l.last_customer_at, l.closed_early, l.seen_sequence, l.unread_since, l.escalated_at
  from lost l
 order by l.winner, l.last_sequence desc
on conflict (conversation_id) do update
   set last_message_id = case when excluded.last_sequence > h.last_sequence then excluded.last_message_id
                              else h.last_message_id end,
       last_at = case when excluded.last_sequence > h.last_sequence then excluded.last_at else h.last_at end,
       channel = case when excluded.last_sequence > h.last_sequence then excluded.channel else h.channel end,
       last_sequence = greatest(h.last_sequence, excluded.last_sequence),
       inbound_sequence = greatest(h.inbound_sequence, excluded.inbound_sequence),
       inbound_at = greatest(h.inbound_at, excluded.inbound_at),
       unanswered_since = least(h.unanswered_since, excluded.unanswered_since),
       failed_sequence = greatest(h.failed_sequence, excluded.failed_sequence),
       last_customer_at = greatest(h.last_customer_at, excluded.last_customer_at),
       closed_early = case when excluded.last_customer_at > h.last_customer_at then excluded.closed_early
                           else h.closed_early end,
       seen_sequence = case when h.unread_since is null and excluded.unread_since is null
                            then greatest(h.seen_sequence, excluded.seen_sequence)
                            else least(h.seen_sequence, excluded.seen_sequence) end,
       unread_since = least(h.unread_since, excluded.unread_since),
       escalated_at = least(h.escalated_at, excluded.escalated_at)
 where h.org_id = excluded.org_id
"""

_DROP_WORDS = """
delete from customer_words w using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where w.customer_id = m.loser and w.org_id = m.org_id
"""

# What waits in either waits in the thread that remains. The key is the message's, so nothing meets there.
_MOVE_PARKED = """
update parked_messages p set conversation_id = m.winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where p.conversation_id = m.loser and p.org_id = m.org_id
"""

# The hold that lasts longer remains: whichever thread staff took over, the joint one is theirs. It is published anew.
_MOVE_HOLDS = """
with lost as (
    delete from conversation_holds h using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
     where h.conversation_id = m.loser and h.org_id = m.org_id
 returning m.org_id, m.winner, h.user_id, h.at, h.until_at
)
insert into conversation_holds as h (conversation_id, org_id, user_id, at, until_at, published)
select distinct on (winner) winner, org_id, user_id, at, until_at, false
  from lost where until_at is not null
 order by winner, until_at desc, at desc
on conflict (conversation_id) do update
   set user_id = excluded.user_id, at = greatest(excluded.at, h.at + interval '1 microsecond'),
       until_at = excluded.until_at, published = false
 where h.org_id = excluded.org_id and (h.until_at is null or h.until_at < excluded.until_at)
"""

_MOVE_ALIASES = """
update conversation_aliases t set conversation_id = m.winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where t.conversation_id = m.loser and t.org_id = m.org_id
"""

# A thread that is still being moved into the loser is moved on into the winner. The update waits for a slice that is in
# flight, so nothing comes to the loser after this.
_REDIRECT = """
update conversation_merges g set winner = m.winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where g.winner = m.loser and g.org_id = m.org_id
"""

_BEGIN = """
insert into conversation_merges (loser, org_id, winner, since)
select m.loser, m.org_id, m.winner, s.last_value
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner) cross join message_sequence s
"""

_ALIAS_CONVERSATIONS = """
insert into conversation_aliases (alias, org_id, conversation_id)
select m.loser, m.org_id, m.winner from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
on conflict (alias) do nothing
"""

# Open pages have the thread under its id of before, or half of the joint one.
_TELL = """
insert into touched_customers (org_id, customer_id, merged)
select m.org_id, c.customer_id, m.loser
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
  join conversations c on c.conversation_id = m.winner and c.org_id = m.org_id
"""

_DROP_CONVERSATIONS = """
delete from conversations c
 using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where c.conversation_id = m.loser and c.org_id = m.org_id
"""

_MOVE_CONSENTS = """
with lost as (
    delete from consents c using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
     where c.customer_id = m.loser and c.org_id = m.org_id
 returning m.org_id, m.winner, c.category, c.allowed, c.at, c.address, c.source, c.cause, c.lifts, c.published
)
insert into consents as c (org_id, customer_id, category, allowed, at, address, source, cause, lifts, published)
select distinct on (winner, category) org_id, winner, category, allowed, at, address, source, cause, lifts, published
  from lost order by winner, category, at desc, allowed
on conflict (customer_id, category) do update
   set allowed = excluded.allowed, at = excluded.at, address = excluded.address, source = excluded.source,
       cause = excluded.cause, lifts = excluded.lifts, published = excluded.published
 where c.org_id = excluded.org_id and c.at < excluded.at
"""

# "|| ''": found by their customer, and not among those of the whole organisation.
_MOVE_IDENTITIES = (
    """
update former_identities i set customer_id = m.winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where i.customer_id = m.loser and i.org_id || '' = m.org_id
""",
    """
update customer_identities i set customer_id = m.winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where i.customer_id = m.loser and i.org_id || '' = m.org_id
""",
    """
update customer_aliases a set customer_id = m.winner
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where a.customer_id = m.loser and a.org_id = m.org_id
""",
)

_ALIAS_CUSTOMERS = """
with lost as (
    select m.org_id, m.winner, (array_agg(l.name order by m.loser) filter (where l.name is not null))[1] as name,
           (array_agg(l.phone order by m.loser) filter (where l.phone is not null))[1] as phone,
           max(l.last_seen_at) as last_seen_at
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
      join customers l on l.customer_id = m.loser and l.org_id = m.org_id
     group by m.org_id, m.winner
), completed as (
    update customers w
       set name = coalesce(w.name, l.name), phone = coalesce(w.phone, l.phone),
           last_seen_at = greatest(w.last_seen_at, l.last_seen_at)
      from lost l
     where w.customer_id = l.winner and w.org_id = l.org_id
)
insert into customer_aliases (alias, org_id, customer_id)
select m.loser, m.org_id, m.winner from unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
on conflict (alias) do nothing
"""

_DROP_CUSTOMERS = """
delete from customers c
 using unnest($1::text[], $2::uuid[], $3::uuid[]) as m (org_id, loser, winner)
 where c.customer_id = m.loser and c.org_id = m.org_id
"""


async def merge_customers(db: Connection, merges: Sequence[Merge]) -> None:
    """Merge every loser into its winner.

    What the winner has (name, phone, conversation) stays; what it lacks it gets.
    """
    if not merges:
        return
    customers = as_columns(sorted(set(merges)))
    await db.execute(_HOLD, *customers)
    await db.execute(_MOVE_CONVERSATIONS, *customers)
    pairs = [Merge(**row) for row in await db.fetch(_PAIRS, *customers)]
    if pairs:
        await merge_conversations(db, pairs)
    for statement in _MOVE_IDENTITIES:
        await db.execute(statement, *customers)
    await db.execute(_MOVE_CONSENTS, *customers)
    await db.execute(_ALIAS_CUSTOMERS, *customers)
    await db.execute(_DROP_CUSTOMERS, *customers)
    await db.execute(_DROP_WORDS, *customers)
    await touch(db, [(merge.org_id, merge.winner) for merge in merges])


async def merge_conversations(db: Connection, pairs: Sequence[Merge]) -> None:
    """Merge every losing conversation into its winner, of the same customer; the rows of its thread follow later."""
    columns = as_columns(pairs)
    await db.execute(_JOIN_WINDOWS, *columns)
    await db.execute(_MOVE_SLOTS, *columns)
    await db.execute(_MOVE_ANSWERS, *columns)
    await db.execute(_MOVE_HOLDS, *columns)
    await db.execute(_MOVE_READS, *columns)
    await db.execute(_HOLD_HEADS, *columns)
    await db.execute(_MOVE_HEADS, *columns)
    await db.execute(_MOVE_PARKED, *columns)
    await end_access(db, [(org_id, id_) for org_id, *both in zip(*columns, strict=True) for id_ in both])
    await db.execute(_MOVE_ALIASES, *columns)
    await db.execute(_ALIAS_CONVERSATIONS, *columns)
    await db.execute(_DROP_CONVERSATIONS, *columns)
    await db.execute(_REDIRECT, *columns)
    await db.execute(_BEGIN, *columns)
    await db.execute(_TELL, *columns)
