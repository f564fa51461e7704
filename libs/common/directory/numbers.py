"""WhatsApp business numbers: whose they are, and where a number moved to another WhatsApp Business Account (WABA).

Rule 1: a business number belongs to one organisation. Another organisation's claim is refused as
        ``number_of_another_org``, until the owner gives the number up by ``number.removed.v1``.
Rule 2: the changes of a batch count one after the other. A change counts only where it is not older than what is
        stored.
Rule 3: Meta gives a number a new ``phone_number_id`` when it moves to another WABA. A display number is in one WABA at
        a time. So a number that is new replaces another one of its organisation that has the same
        display number in another WABA.
Rule 4: the conversations of a replaced number go on under the new id, with thread, window and bridge slot. What still
        comes under the old id belongs to them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.merge import Merge, merge_conversations
from libs.common.directory.organisations import OF_ANOTHER_ORG, RefusedChange
from libs.common.directory.touched import touch
from libs.common.events.directory import NumberRemoved, NumberUpserted
from libs.common.phone import spellings

NumberChange = tuple[int, NumberUpserted | NumberRemoved]
"""A change with its index in the batch."""

_AT_ONCE = 2000  # rows; the time of a statement is bounded


class _Number(NamedTuple):
    """A business number as it is stored; ``org_id`` None: it was removed."""

    org_id: str | None
    phone_number_id: str
    waba_id: str
    display_number: str
    at: datetime


_OWNERS = """
select phone_number_id, org_id, waba_id from whatsapp_numbers
 where phone_number_id = any($1::text[]) and org_id is not null
"""

_NUMBERS = """
select org_id, phone_number_id, waba_id, display_number, upserted_at as at
  from whatsapp_numbers
 where phone_number_id = any($1::text[])
"""

# A token belongs to the organisation that had it set.
_UPSERT = """
insert into whatsapp_numbers as n (org_id, phone_number_id, waba_id, display_number, upserted_at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[]) order by 2
on conflict (phone_number_id) do update
   set org_id = excluded.org_id, waba_id = excluded.waba_id, display_number = excluded.display_number,
       upserted_at = excluded.upserted_at, token = case when n.org_id = excluded.org_id then n.token end
"""

# "for update" waits for every transaction that has opened a conversation with one of them, and no other one opens any
# before the commit (``conversations.ensure``).
_REPLACE = """
with held as (
    select n.phone_number_id
      from whatsapp_numbers n
     where n.org_id = $1
       and (n.phone_number_id = $2
            or n.replaced_by in (select o.phone_number_id from whatsapp_numbers o
                                  where o.org_id = $1 and o.phone_number_id <> $2 and o.waba_id <> $3
                                    and o.display_number = any($4::text[]))
            or (n.phone_number_id <> $2 and n.waba_id <> $3 and n.display_number = any($4::text[])))
     order by n.phone_number_id
       for update
)
update whatsapp_numbers n
   set replaced_by = case when n.phone_number_id = $2 then null else $2 end
  from held h
 where n.phone_number_id = h.phone_number_id
returning n.phone_number_id
"""

_CONVERSATIONS_OF = """
select conversation_id, customer_id from conversations
 where org_id = $1 and phone_number_id = $2
 order by conversation_id
"""

# "offset 0": each is found by its key. Statistics know nothing of a number that is being filled. Ids come in order, in
# which rows are locked.
_MOVE_CONVERSATIONS = """
with moving as (
    select k.conversation_id
      from unnest($4::uuid[]) as u (conversation_id)
     cross join lateral (
           select c.conversation_id from conversations c
            where c.conversation_id = u.conversation_id and c.org_id = $1 and c.phone_number_id = $2
              and not exists (select from conversations o
                               where o.phone_number_id = $3 and o.customer_id = c.customer_id offset 0)
           offset 0 for no key update of c) k
)
update conversations c set phone_number_id = $3 from moving m where c.conversation_id = m.conversation_id
"""

_PAIRS = """
select o.org_id, o.conversation_id as loser, n.conversation_id as winner
  from unnest($4::uuid[]) as u (conversation_id)
 cross join lateral (select * from conversations x where x.conversation_id = u.conversation_id offset 0) o
 cross join lateral (
       select * from conversations x where x.phone_number_id = $3 and x.customer_id = o.customer_id offset 0) n
 where o.org_id = $1 and o.phone_number_id = $2 and n.org_id = o.org_id
 order by o.conversation_id
"""


class NumberOwner(NamedTuple):
    """The organisation and the WhatsApp Business Account of a business number."""

    org_id: str
    waba_id: str


async def owners(db: Connection, phone_number_ids: Sequence[str]) -> dict[str, NumberOwner]:
    """The owner of each of these business numbers that belongs to an organisation."""
    rows = await db.fetch(_OWNERS, phone_number_ids)
    return {row["phone_number_id"]: NumberOwner(row["org_id"], row["waba_id"]) for row in rows}


async def store_numbers(db: Connection, changes: Sequence[NumberChange]) -> list[RefusedChange]:
    """Store the business numbers; another organisation's stay as they are. The caller holds their ``CLAIMS`` locks."""
    refused: list[RefusedChange] = []
    for part in _one_per_org(changes):
        phone_number_ids = sorted({change.phone_number_id for _, change in part})
        stored = {row["phone_number_id"]: _Number(**row) for row in await db.fetch(_NUMBERS, phone_number_ids)}
        rows, not_ours = _applied(stored, part)
        if rows:
            await db.execute(_UPSERT, *as_columns(rows))
        for row in rows:
            if row.org_id is not None and _is_new(stored.get(row.phone_number_id), row):
                await _replace(db, row.org_id, row)
        refused += not_ours
    return refused


def _one_per_org(changes: Sequence[NumberChange]) -> list[list[NumberChange]]:
    """The changes in their order, in parts that name no organisation twice.

    Whether a number replaces another one depends on the changes of its organisation before.
    """
    parts: list[list[NumberChange]] = []
    orgs: set[str] = set()
    for index, change in changes:
        if not parts or change.org_id in orgs:
            parts.append([])
            orgs = set()
        parts[-1].append((index, change))
        orgs.add(change.org_id)
    return parts


def _applied(stored: dict[str, _Number], changes: Sequence[NumberChange]) -> tuple[list[_Number], list[RefusedChange]]:
    """The numbers as these changes leave them, and the changes that are refused (rules 1 and 2)."""
    rows: dict[str, _Number] = {}
    refused: list[RefusedChange] = []
    for index, change in changes:
        before = rows.get(change.phone_number_id) or stored.get(change.phone_number_id)
        if before is not None and before.org_id not in (None, change.org_id):
            detail = "phone_number_id belongs to another organisation"
            refused.append(RefusedChange(index, OF_ANOTHER_ORG, detail))
            continue
        if before is not None and before.at > change.at:
            continue
        match change:
            case NumberUpserted():
                row = _Number(change.org_id, change.phone_number_id, change.waba_id, change.display_number, change.at)
            case NumberRemoved() if before is None:
                continue
            case NumberRemoved():
                row = before._replace(org_id=None, at=change.at)
        rows[change.phone_number_id] = row
    return list(rows.values()), refused


def _is_new(before: _Number | None, row: _Number) -> bool:
    return before is None or before.org_id != row.org_id or before.display_number != row.display_number


async def _replace(db: Connection, org_id: str, row: _Number) -> None:
    """Let a new number replace those with its display number (rules 3 and 4)."""
    numbers = list(spellings(row.display_number))
    for replaced in await db.fetch(_REPLACE, org_id, row.phone_number_id, row.waba_id, numbers):
        if replaced["phone_number_id"] != row.phone_number_id:
            await _move_conversations(db, org_id, replaced["phone_number_id"], row.phone_number_id)


async def _move_conversations(db: Connection, org_id: str, old: str, new: str) -> None:
    of_old = [(row["conversation_id"], row["customer_id"]) for row in await db.fetch(_CONVERSATIONS_OF, org_id, old)]
    slices = [as_columns(of_old[n : n + _AT_ONCE]) for n in range(0, len(of_old), _AT_ONCE)]
    for some, _ in slices:
        await db.execute(_MOVE_CONVERSATIONS, org_id, old, new, some)
    for some, customers in slices:
        if pairs := [Merge(**row) for row in await db.fetch(_PAIRS, org_id, old, new, some)]:
            await merge_conversations(db, pairs)
        await touch(db, [(org_id, customer_id) for customer_id in customers])  # lists show them by number
