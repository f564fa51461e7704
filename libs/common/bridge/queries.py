"""The rows of bridge slots. PostgreSQL decides who holds a slot; ``redis_gate`` is asked before it.

Rule 1: a slot is held while ``held_until`` is in the future: ``infinity`` until the provider has accepted the bridge,
        then the hold from that moment.
Rule 2: every statement locks the rows it touches in the order of conversation ids, also rows that it does not change.
Rule 3: a release waits for the decisions that the slot is silencing at that moment, so ``newest_silenced`` finds them.
Rule 4: customers who turn out to be one may each have a bridge. The slot goes to the one accepted last, else to one in
        flight. What else is in flight stands in ``others``, and holds the slot once the holder does not.
Rule 5: an answer counts for the conversation that there is now. Who records answers has locked the conversations
        (``lock_known_against_merge``), or a merge at that moment would leave them behind.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.bridge.slot import Silenced, Slot
from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.thread.conversations import current_conversation

# The update is made even where it changes nothing: it takes the lock, and returns the holder as of the moment when the
# lock was free.
_TAKE = """
insert into bridge_slots as s (conversation_id, org_id, intent_id, held_until)
select conversation_id, org_id, intent_id, 'infinity'::timestamptz
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as u (org_id, conversation_id, intent_id)
 order by conversation_id
on conflict (conversation_id) do update
   set intent_id = case when s.held_until <= $4 and s.org_id = excluded.org_id
                        then coalesce(s.others[1], excluded.intent_id) else s.intent_id end,
       held_until = case when s.held_until <= $4 and s.org_id = excluded.org_id
                         then excluded.held_until else s.held_until end,
       others = case when s.held_until <= $4 and s.org_id = excluded.org_id then s.others[2:] else s.others end
returning conversation_id, intent_id
"""

_STAND = """
select c.conversation_id
  from unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
  join conversations c on c.org_id = u.org_id and c.conversation_id = u.conversation_id
 order by c.conversation_id
   for key share of c
"""

# Several bridges of one conversation may end at once.
_ENDED = f"""
with ended as (
    select u.org_id, {current_conversation("u")} as conversation_id, array_agg(u.intent_id order by u.at) as intents,
           max(u.at) as at
      from unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[]) as u (org_id, conversation_id, intent_id, at)
     group by 1, 2
), held as (
    select s.*, e.intents, e.at,
           array(select o.id from unnest(s.others) with ordinality as o (id, place)
                  where o.id <> all(e.intents) order by o.place) as left_over
      from ended e join bridge_slots s using (org_id, conversation_id)
     where (s.intent_id || s.others) && e.intents
     order by s.conversation_id
       for update of s
)
"""  # noqa: S608 -- a constant

_ACCEPT = f"""{_ENDED}
update bridge_slots s
   set intent_id = h.intents[cardinality(h.intents)],
       held_until = greatest(nullif(h.held_until, 'infinity'), h.at + $5::interval),
       others = case when h.held_until = 'infinity' and h.intent_id <> all(h.intents)
                     then h.intent_id || h.left_over else h.left_over end
  from held h
 where s.conversation_id = h.conversation_id and (h.held_until = 'infinity' or h.others && h.intents)
"""  # noqa: S608 -- a constant

_RELEASE = f"""{_ENDED}
, free as (
    delete from bridge_slots s
     using held h
     where s.conversation_id = h.conversation_id and h.intent_id = any(h.intents) and h.left_over = '{{}}'
), taken as (
    update bridge_slots s
       set intent_id = case when h.intent_id = any(h.intents) then h.left_over[1] else h.intent_id end,
           others = case when h.intent_id = any(h.intents) then h.left_over[2:] else h.left_over end
      from held h
     where s.conversation_id = h.conversation_id and not (h.intent_id = any(h.intents) and h.left_over = '{{}}')
)
select h.org_id, h.conversation_id, i.intent_id
  from held h cross join lateral unnest(h.intents) as i (intent_id)
 where i.intent_id = any(h.intent_id || h.others)
"""  # noqa: S608 -- a constant

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

    A slot that another intent holds alone, or that this one holds by an acceptance from before, stays as it is.
    """
    if accepted:
        await db.execute(_ACCEPT, *as_columns([(*slot, at) for slot, at in accepted]), hold)


async def release(db: Connection, slots: Collection[Slot]) -> list[Slot]:
    """Give these slots back where they still belong to these intents. Returns those that did, as they are named now.

    Another bridge in flight, of a conversation that was merged into this one, holds the slot next. After the commit
    call ``RedisGate.sync(released=…)`` with all of ``slots``.
    """
    if not slots:
        return []
    return [Slot(**row) for row in await db.fetch(_RELEASE, *as_columns([(*slot, None) for slot in slots]))]


async def newest_silenced(db: Connection, slots: Collection[Slot]) -> list[Silenced]:
    """For each slot given back, the newest intent that it had silenced. The router gets ``slot_freed`` for it.

    Call it after ``release`` in the same transaction, as a statement of its own, so that it sees decisions that
    ``release`` waited for. A repeat names the same attempt of the same intent, also once the router has decided it
    again, so publishing it twice is idempotent.
    """
    if not slots:
        return []
    return [Silenced(**row) for row in await db.fetch(_NEWEST_SILENCED, *as_columns(slots))]
