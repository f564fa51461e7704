"""A business number that moved to another WABA: Meta gives it a new ``phone_number_id``, and it is the same number all the same.

Rule 1: a number that is told for the first time, under the display number of another one of the organisation in another WABA, replaces that one: a
        display number is in one WABA at a time.
Rule 2: conversations go on under the new id, with thread, window and bridge slot. What comes under the old id belongs to them.
"""

from collections.abc import Iterable

from libs.common.db.pool import Connection
from libs.common.directory.merge import Merge, merge_conversations
from libs.common.phone import spellings
from services.ingest.directory_queries import NumberRow

_AT_ONCE = 2000

_REPLACE = """
update whatsapp_numbers n
   set replaced_by = case when n.phone_number_id = $2 then null else $2 end
 where n.org_id = $1
   and (n.phone_number_id = $2
        or n.replaced_by in (select o.phone_number_id from whatsapp_numbers o
                              where o.org_id = $1 and o.phone_number_id <> $2 and o.waba_id <> $3 and o.display_number = any($4::text[]))
        or (n.phone_number_id <> $2 and n.waba_id <> $3 and n.display_number = any($4::text[])))
returning n.phone_number_id
"""

_MOVE = """
with moving as (
    select c.conversation_id
      from conversations c
     where c.org_id = $1 and c.phone_number_id = $2
       and not exists (select from conversations o where o.phone_number_id = $3 and o.customer_id = c.customer_id)
     order by c.conversation_id
     limit $4
       for no key update of c
)
update conversations c set phone_number_id = $3 from moving m where c.conversation_id = m.conversation_id
returning 1
"""

_BOTH = """
select o.conversation_id, n.conversation_id
  from conversations o
  join conversations n on n.phone_number_id = $3 and n.customer_id = o.customer_id and n.org_id = o.org_id
 where o.org_id = $1 and o.phone_number_id = $2
 order by o.conversation_id
 limit $4
"""


async def follow(db: Connection, fresh: Iterable[NumberRow]) -> None:
    """Let these numbers, told for the first time, replace those that they are. Call inside a transaction."""
    for row in fresh:
        if row.org_id is None:
            continue
        numbers = list(spellings(row.display_number))
        replaced = await db.fetch(_REPLACE, row.org_id, row.phone_number_id, row.waba_id, numbers)
        for (old,) in replaced:
            if old != row.phone_number_id:
                await _move(db, row.org_id, old, row.phone_number_id)


async def _move(db: Connection, org_id: str, old: str, new: str) -> None:
    while len(await db.fetch(_MOVE, org_id, old, new, _AT_ONCE)) == _AT_ONCE:
        pass  # a statement's time is bounded
    while pairs := [Merge(org_id, row[0], row[1]) for row in await db.fetch(_BOTH, org_id, old, new, _AT_ONCE)]:
        await merge_conversations(db, pairs)
