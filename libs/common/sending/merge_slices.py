"""The rows of a merged thread, moved into the other thread a slice at a time while traffic flows.

Every ingest worker runs ``SliceMover``.

Law 1: a slice is one transaction of bounded size, and waits for no row. A row that another transaction holds comes with
        a later slice. So no transaction waits for more than a slice, and no slice is part of a deadlock.
Law 2: what stands under the old id is still to be moved. A repeated slice moves nothing twice, and a crash between two
        slices loses nothing.
Law 3: sends without an outcome are moved first, then messages from the newest to the oldest, each with its decisions,
        sends and charges.
Law 4: a transaction that read the old id before the merge may write under it afterwards. A merge is looked at again
        until none can be left.
Law 5: a merge is with one worker at a time. A slice takes as many rows as a fraction of a statement's limit allows on
        this machine. After each slice the task rests for as long as it took. A merge of which not even the smallest
        slice passes is postponed, so the others go on.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection, Pool
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable, is_statement_timeout

log = get_logger()

PERIOD = timedelta(seconds=1)
MOST = 500
"""Rows of a slice, at most."""
PUT_OFF = timedelta(minutes=1)
_LONG, _SHORT = 0.2, 0.1
"""Seconds: a slice that took longer is followed by smaller ones, one that took less by larger ones."""

# The alias names the winner as well, also where an earlier release merged on and did not know this table.
_TAKE = """
select g.loser, g.org_id,
       coalesce((select a.conversation_id from conversation_aliases a where a.alias = g.loser and a.org_id = g.org_id),
                g.winner) as winner,
       g.since, g.below, g.moved, g.looks
  from conversation_merges g
 where g.due_at <= now()
 order by g.due_at
 limit 1
   for update skip locked
"""

_ANY_DUE = "select true from conversation_merges where due_at <= now() order by due_at limit 1"

# A deferred row is looked at again: the row that it waits behind may have been moved before it, and may have its
# outcome by now.
_SENDS = """
with held as materialized (
    select s.ctid as place
      from sends s
     where s.org_id = $1 and s.conversation_id = $2 and s.settled_at is null
     order by s.sequence
     limit $4
       for no key update skip locked
)
update sends s
   set conversation_id = $3, deferred_until = null
 where s.ctid = any (array(select place from held))
returning 1
"""

_FIND = """
select t.message_id, t.sequence
  from messages t
 where t.org_id = $1 and t.conversation_id = $2 and t.sequence >= $3 and t.sequence < $4
 order by t.sequence desc
 limit $5
"""

_SENDS_OF = """
select s.message_id, s.attempt
  from unnest($2::uuid[]) as u (message_id)
  join sends s on s.org_id = $1 and s.message_id = u.message_id
"""

_FREE_SENDS_OF = _SENDS_OF + "   for no key update of s skip locked"

# What belongs to a message may stand under another id meanwhile: a send is moved before its message.
_MOVE = """
with free as materialized (
    select t.message_id
      from unnest($4::uuid[]) as u (message_id)
      join messages t on t.org_id = $1 and t.message_id = u.message_id and t.conversation_id = $2
       for no key update of t skip locked
), decided as (
    update decisions d
       set conversation_id = $3
      from free f
     where d.org_id = $1 and d.intent_id = f.message_id
       and exists (select from conversation_aliases a where a.alias = d.conversation_id and a.conversation_id = $3)
), charged as (
    update charges c
       set conversation_id = $3
      from free f
     where c.org_id = $1 and c.message_id = f.message_id
       and exists (select from conversation_aliases a where a.alias = c.conversation_id and a.conversation_id = $3)
), sent as (
    update sends s
       set conversation_id = $3, deferred_until = null
      from free f
     where s.org_id = $1 and s.message_id = f.message_id
       and exists (select from conversation_aliases a where a.alias = s.conversation_id and a.conversation_id = $3)
)
update messages t
   set conversation_id = $3
  from free f
 where t.org_id = $1 and t.message_id = f.message_id
returning t.message_id
"""

_GO_ON = """
update conversation_merges
   set below = $3, moved = moved + $4, looks = $5, due_at = clock_timestamp() + make_interval(secs => $6)
 where org_id = $1 and loser = $2
"""

_PUT_OFF = """
with first as (
    select g.org_id, g.loser
      from conversation_merges g
     where g.due_at <= now()
     order by g.due_at
     limit 1
       for update skip locked
)
update conversation_merges g
   set due_at = clock_timestamp() + $1::interval
  from first f
 where g.org_id = f.org_id and g.loser = f.loser
"""

_END = "delete from conversation_merges where org_id = $1 and loser = $2"

_TOP = 2**63 - 1
_LOOKS = (2.0, 60.0, 600.0)
"""Seconds from the last slice, and from each look, to the next look for late rows.

After the last look the merge has ended.
"""
_HELD_WAIT = 0.2
"""Seconds until rows that are held are tried again."""
_LATE = 1_000_000
"""A late message took its sequence at most so many before the merge: seconds before it is stored, at any rate."""


class Slice(NamedTuple):
    """The result of a slice.

    ``moved``: messages, over all slices of this merge. ``complete``: the last slice; only looks follow.
    """

    org_id: str
    conversation_id: UUID
    moved: int
    complete: bool


class _Merge(NamedTuple):
    loser: UUID
    org_id: str
    winner: UUID
    since: int
    below: int
    moved: int
    looks: int


async def move_some(db: Connection, limit: int) -> Slice | None:
    """Move up to ``limit`` messages, and as many sends, of the merge whose turn it is; None where nothing is due.

    Call inside a transaction.
    """
    row = await db.fetchrow(_TAKE)
    if row is None:
        return None
    merge = _Merge(**row)
    ids = merge.org_id, merge.loser
    if len(await db.fetch(_SENDS, *ids, merge.winner, limit)) == limit:
        await db.execute(_GO_ON, *ids, merge.below, 0, merge.looks, 0.0)
        return Slice(merge.org_id, merge.winner, merge.moved, complete=False)
    lowest = merge.since - _LATE if merge.looks else -1
    found = await db.fetch(_FIND, *ids, lowest, merge.below, limit)
    moved = await _move(db, merge, [r["message_id"] for r in found])
    left = [r["sequence"] for r in found if r["message_id"] not in moved]
    total = merge.moved + len(moved)
    if left or len(found) == limit:
        below = max(left) + 1 if left else found[-1]["sequence"]
        await db.execute(_GO_ON, *ids, below, len(moved), merge.looks, _HELD_WAIT if left else 0.0)
        return Slice(merge.org_id, merge.winner, total, complete=False)
    if merge.looks == len(_LOOKS):
        await db.execute(_END, *ids)
    else:
        await db.execute(_GO_ON, *ids, _TOP, len(moved), merge.looks + 1, _LOOKS[merge.looks])
    return Slice(merge.org_id, merge.winner, total, complete=merge.looks == 0)


async def postpone(db: Connection, wait: timedelta) -> None:
    """Postpone the merge whose turn it is, because it failed.

    Where another replica has it by now, the next one is postponed for nothing.
    """
    await db.execute(_PUT_OFF, wait)


async def _move(db: Connection, merge: _Merge, messages: list[UUID]) -> set[UUID]:
    """Move these messages; returns those that were moved. A message stays if it is held, or a send of it."""
    if not messages:
        return set()
    sends = {tuple(row) for row in await db.fetch(_SENDS_OF, merge.org_id, messages)}
    free = {tuple(row) for row in await db.fetch(_FREE_SENDS_OF, merge.org_id, messages)}
    held = {message_id for message_id, _ in sends - free}
    wanted = [message_id for message_id in messages if message_id not in held]
    return {row["message_id"] for row in await db.fetch(_MOVE, merge.org_id, merge.loser, merge.winner, wanted)}


@dataclass(slots=True)
class SliceMover:
    """``size``: how many rows the next slice takes."""

    pool: Pool
    size: int = MOST

    async def move(self) -> None:
        """Move all that is due. Errors are raised after the next slice was made smaller, or its merge postponed.

        At rest this is one round trip.
        """
        async with self.pool.acquire() as db:
            if not await db.fetchval(_ANY_DUE):
                return
        clock = asyncio.get_running_loop()
        while True:
            began = clock.time()
            try:
                async with self.pool.acquire() as db, db.transaction():
                    done = await move_some(db, self.size)
            except Exception as error:
                await self._after(error)
                raise
            if done is None:
                return
            if done.complete:
                log.info(
                    "conversation.merged",
                    org_id=done.org_id,
                    conversation_id=str(done.conversation_id),
                    records=done.moved,
                )
            took = clock.time() - began
            if took > _LONG:
                self._smaller()
            elif took < _SHORT:
                self.size = min(MOST, 2 * self.size)
            await asyncio.sleep(took)

    async def _after(self, error: Exception) -> None:
        if not is_retryable(error) or (self.size == 1 and is_statement_timeout(error)):
            async with self.pool.acquire() as db:
                await postpone(db, PUT_OFF)
        else:  # a statement was too slow, or the server is away
            self._smaller()

    def _smaller(self) -> None:
        self.size = max(1, self.size // 2)
