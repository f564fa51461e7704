"""Second gate of the bridge slot: the row in ``bridge_slots``. It has the last word (``libs.common.bridge.redis_gate`` is the first gate).

A slot is held while ``held_until`` is in the future: ``infinity`` until the provider has accepted the bridge, then the hold from that moment.
Every statement locks the rows it touches in the order of conversation ids, also those that stay as they are: a slot that is given back
while somebody is being silenced by it waits for that decision, so ``newest_silenced`` sees it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.bridge.slot import Slot
from libs.common.db.pool import Connection

# An update even where nothing changes: it takes the lock, and it returns the holder as it stands after waiting for that lock.
_TAKE = """
insert into bridge_slots as s (conversation_id, org_id, intent_id, held_until)
select conversation_id, org_id, intent_id, 'infinity'::timestamptz
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as u (org_id, conversation_id, intent_id)
 order by conversation_id
on conflict (conversation_id) do update
   set intent_id = case when s.held_until <= $4 and s.org_id = excluded.org_id then excluded.intent_id else s.intent_id end,
       held_until = case when s.held_until <= $4 and s.org_id = excluded.org_id then excluded.held_until else s.held_until end
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
      from unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[]) as u (org_id, conversation_id, intent_id, accepted_at)
      join bridge_slots s on s.conversation_id = u.conversation_id and s.org_id = u.org_id and s.intent_id = u.intent_id
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
      join bridge_slots s on s.conversation_id = u.conversation_id and s.org_id = u.org_id and s.intent_id = u.intent_id
     order by s.conversation_id
       for update of s
)
delete from bridge_slots s
 using ours o
 where s.conversation_id = o.conversation_id
returning s.org_id, s.conversation_id, s.intent_id
"""

# A decision may still stand under the id of a conversation that became part of this one.
_NEWEST_SILENCED = """
select distinct on (d.slot_holder, u.conversation_id) d.org_id, u.conversation_id, d.intent_id, d.attempt, d.slot_holder
  from unnest($1::text[], $2::uuid[], $3::uuid[]) as u (org_id, conversation_id, intent_id)
  join decisions d on d.slot_holder = u.intent_id and d.org_id = u.org_id
  join messages m on m.org_id = d.org_id and m.message_id = d.intent_id
 where d.reason = 'bridge_already_sent'
   and (d.conversation_id = u.conversation_id
        or exists (select from conversation_aliases a where a.alias = d.conversation_id and a.conversation_id = u.conversation_id))
 order by d.slot_holder, u.conversation_id, m.sequence desc, d.intent_id, d.attempt desc
"""


class Silenced(NamedTuple):
    """An intent whose attempt ``attempt`` was silenced because ``holder``'s bridge held the slot."""

    org_id: str
    conversation_id: UUID
    intent_id: UUID
    attempt: int
    holder: UUID


async def hold_conversations(db: Connection, wanted: Collection[Slot]) -> bool:
    """Whether all these conversations stand, and will until the transaction ends; else one has become part of another meanwhile.

    Ask before ``take``: a slot taken under an id that is about to become an alias would be left behind, and hold back nobody.
    """
    found = await db.fetch(_STAND, [s.org_id for s in wanted], [s.conversation_id for s in wanted])
    return len(found) == len(wanted)


async def take(db: Connection, wanted: Collection[Slot], now: datetime) -> dict[UUID, UUID]:
    """Take the slots that are free; by conversation, the intent that holds it afterwards (the asker's own id: ours).

    ``wanted`` names each conversation once. Belongs into the transaction that records the decision.
    """
    if not wanted:
        return {}
    rows = await db.fetch(_TAKE, *_columns(wanted), now)
    return {row["conversation_id"]: row["intent_id"] for row in rows}


async def accept(db: Connection, accepted: Sequence[tuple[Slot, datetime]], hold: timedelta) -> None:
    """The provider accepted these bridges at that time: the hold runs from then. Slots that are not theirs, or were accepted before, stay."""
    if accepted:
        await db.execute(_ACCEPT, *_columns([slot for slot, _ in accepted]), [at for _, at in accepted], hold)


async def release(db: Connection, slots: Collection[Slot]) -> list[Slot]:
    """Give these slots back, where they are still theirs; the slots that were. After the commit: ``RedisGate.sync(released=…)`` with all of ``slots``."""
    if not slots:
        return []
    return [Slot(*row) for row in await db.fetch(_RELEASE, *_columns(slots))]


async def newest_silenced(db: Connection, slots: Collection[Slot]) -> list[Silenced]:
    """For each slot given back the newest intent that it had silenced: tell the router ``slot_freed`` for it.

    Call it after ``release`` in the same transaction, as a statement of its own, so that it sees decisions that ``release`` waited for. A repeat
    names the same attempt of the same intent, also once the router has decided it again: whoever tells it twice tells the same.
    """
    if not slots:
        return []
    return [Silenced(*row) for row in await db.fetch(_NEWEST_SILENCED, *_columns(slots))]


def _columns(slots: Collection[Slot]) -> tuple[list[str], list[UUID], list[UUID]]:
    return [s.org_id for s in slots], [s.conversation_id for s in slots], [s.intent_id for s in slots]
