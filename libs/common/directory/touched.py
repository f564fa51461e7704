"""Customers of whom something changed that no event tells, and their conversations, for whoever shows them.

A call opens a window; a name, a phone or a consent changes; a customer is in the portal; two customers become one.
Events of the directory are read by others at about the time at which they are applied, so they do not say that a change
can be read by now.

Rule 1: ``touch`` is called in the transaction that stores the change, or behind it where a redelivery stores it again.
Rule 2: every change adds a row, so whoever stores one waits for nobody: neither for who tells nor for another change.
        It takes away the customer's older rows, so that a customer has one where nobody tells, and a few at most.
Rule 3: rows go by organisation, in turn. An organisation whose customers all change delays nobody else's.
"""

from collections.abc import Collection
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection

# "offset 0": each is found by its key, whatever the planner believes of a table that is mostly empty.
_TOUCH = """
with older as (
    delete from touched_customers
     where ctid = any (array(
           select t.place
             from unnest($1::text[], $2::uuid[]) as u (org_id, customer_id)
            cross join lateral (
                  select x.ctid as place from touched_customers x
                   where x.org_id = u.org_id and x.customer_id = u.customer_id and x.merged is null
                  offset 0 for update skip locked) t))
)
insert into touched_customers (org_id, customer_id)
select u.org_id, u.customer_id from unnest($1::text[], $2::uuid[]) as u (org_id, customer_id)
"""

_ANY = "select exists (select from touched_customers)"

_TAKE = """
with recursive organisations as (
    (select org_id, 1 as number from touched_customers where org_id > $1 order by org_id limit 1)
     union all
    select x.org_id, o.number + 1
      from organisations o
     cross join lateral (
           select t.org_id from touched_customers t where t.org_id > o.org_id order by t.org_id limit 1) x
     where o.number < $2
), taken as (
    delete from touched_customers
     where ctid = any (array(
           select t.place
             from organisations o
            cross join lateral (
                  select x.ctid as place from touched_customers x
                   where x.org_id = o.org_id order by x.touch_id limit $3 for update skip locked) t))
    returning org_id, customer_id, merged
)
select distinct t.org_id, c.conversation_id
  from taken t
  left join lateral (
       select k.conversation_id from conversations k
        where k.org_id = t.org_id and k.customer_id = t.customer_id
        union all
       select t.merged where t.merged is not null
       offset 0) c on true
 order by t.org_id, c.conversation_id
"""


async def touch(db: Connection, customers: Collection[tuple[str, UUID]]) -> None:
    """Something changed of these (organisation, customer)."""
    if customers:
        await db.execute(_TOUCH, *as_columns(sorted(set(customers))))


async def any_touched(db: Connection) -> bool:
    """Whether there is something to take."""
    return bool(await db.fetchval(_ANY))


async def take(db: Connection, after: str, organisations: int, share: int) -> list[tuple[str, UUID | None]]:
    """The conversations (organisation, id) of touched customers; None of a customer without any.

    A conversation that became part of another one is named by its id of before, once.
    They are of the next organisations by id, and of ``share`` changes of each at most. They are nobody else's to take
    unless the caller's transaction is rolled back.
    """
    rows = await db.fetch(_TAKE, after, organisations, share)
    return [(row["org_id"], row["conversation_id"]) for row in rows]
