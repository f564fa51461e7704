"""The rows of bridge slots. PostgreSQL decides who holds a slot; ``redis_gate`` is asked before it.

Rule 1: a slot is held while ``held_until`` is in the future: ``infinity`` until the provider has accepted the bridge,
        then the hold from that moment.
Rule 2: every statement locks the rows it touches in the order of conversation ids, also rows that it does not change.
Rule 3: a release waits for the decisions that the slot is silencing at that moment, so ``newest_silenced`` finds them.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.bridge.slot import Silenced, Slot
from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection

# The update is made even where it changes nothing: it takes the lock, and returns the holder as of the moment when the
# lock was free.
_TAKE = """
insert into bridge_slots as s (conversation_id, org_id, intent_id, held_until)
select conversation_id, org_id, intent_id, 'infinity'::timestamptz
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as u (org_id, conversation_id, intent_id)
 order by conversation_id
on conflict (conversation_id) do update
   set intent_id = case when s.held_until <= $4 and s.org_id = excluded.org_id
                        then excluded.intent_id else s.intent_id end,
       held_until = case when s.held_until <= $4 and s.org_id = excluded.org_id
                         then excluded.held_until else s.held_until end
returning conversation_id, intent_id
"""

_STAND = """
select c.conversation_id
  from unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
  join conversations c on c.org_id = u.org_id and c.conversation_id = u.conversation_id
 order by c.conversation_id
   for key share of c
"""

_ACCEPT = """
with ours as (
    select s.conversation_id, u.accepted_at
      from unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[])
        as u (org_id, conversation_id, intent_id, accepted_at)
      join bridge_slots s using (org_id, conversation_id, intent_id)
     order by s.conversation_id
       for update of s
)
update bridge_slots s
   set held_until = o.accepted_at + $5::interval
  from ours o
 where s.conversation_id = o.conversation_id and s.held_until = 'infinity'
"""

_RELEASE = """
with ours as (
    select s.conversation_id
      from unnest($1::text[], $2::uuid[], $3::uuid[]) as u (org_id, conversation_id, intent_id)
      join bridge_slots s using (org_id, conversation_id, intent_id)
     order by s.conversation_id
       for update of s
)
delete from bridge_slots s
 using ours o
 where s.conversation_id = o.conversation_id
returning s.org_id, s.conversation_id, s.intent_id
"""

# A decision may still have the id of a conversation that was merged into this one. "offset 0" and "|| ''": decisions
# are found by their slot, and not among those of the whole organisation.
_NEWEST_SILENCED = """
select distinct on (d.slot_holder, u.conversation_id)
       d.org_id, u.conversation_id, d.intent_id, d.attempt, d.slot_holder as holder
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as u (org_id, conversation_id, intent_id)
 cross join lateral (
       select * from decisions x where x.slot_holder = u.intent_id and x.org_id || '' = u.org_id offset 0) d
 cross join lateral (
       select * from messages x where x.org_id = d.org_id and x.message_id = d.intent_id offset 0) m
 where d.reason = 'bridge_already_sent' and m.status <> 'read' -- the customer has read it in the portal
   and (d.conversation_id = u.conversation_id
        or exists (select from conversation_aliases a
                    where a.alias = d.conversation_id and a.conversation_id = u.conversation_id))
 order by d.slot_holder, u.conversation_id, m.sequence desc, d.intent_id, d.attempt desc
"""


async def hold_conversations(db: Connection, requests: Collection[Slot]) -> bool:
    """Lock these conversations until the transaction ends. False: one of them has been merged into another meanwhile.

    Call it before ``take``: a slot under an id that becomes an alias would be left behind and refuse no intent.
    """
    found = await db.fetch(_STAND, [s.org_id for s in requests], [s.conversation_id for s in requests])
    return len(found) == len(requests)


async def take(db: Connection, requests: Collection[Slot], now: datetime) -> dict[UUID, UUID]:
    """Take the slots that are free. Returns, by conversation, the intent that holds the slot afterwards.

    ``requests`` name each conversation once. Call it in the transaction that records the decision.
    """
    if not requests:
        return {}
    rows = await db.fetch(_TAKE, *as_columns(requests), now)
    return {row["conversation_id"]: row["intent_id"] for row in rows}


async def accept(db: Connection, accepted: Sequence[tuple[Slot, datetime]], hold: timedelta) -> None:
    """The provider accepted these bridges at that time, and the hold runs from then.

    A slot of another intent, or accepted before, stays as it is.
    """
    if accepted:
        await db.execute(_ACCEPT, *as_columns([(*slot, at) for slot, at in accepted]), hold)


async def release(db: Connection, slots: Collection[Slot]) -> list[Slot]:
    """Give these slots back where they still belong to these intents. Returns those that did.

    After the commit call ``RedisGate.sync(released=…)`` with all of ``slots``.
    """
    if not slots:
        return []
    return [Slot(**row) for row in await db.fetch(_RELEASE, *as_columns(slots))]


async def newest_silenced(db: Connection, slots: Collection[Slot]) -> list[Silenced]:
    """For each slot given back, the newest intent that it had silenced. The router gets ``slot_freed`` for it.

    Call it after ``release`` in the same transaction, as a statement of its own, so that it sees decisions that
    ``release`` waited for. A repeat names the same attempt of the same intent, also once the router has decided it
    again, so publishing it twice is idempotent.
    """
    if not slots:
        return []
    return [Silenced(**row) for row in await db.fetch(_NEWEST_SILENCED, *as_columns(slots))]
