"""The statements that find customers' SMS whose callback no edge took."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.phone import spellings
from libs.common.providers.accounts import AccountKey


class Look(NamedTuple):
    """A number whose list is due, its organisation, and up to when it was read."""

    number: str
    org_id: str
    read_until: datetime


# This goes over all tenants: an account is shared by them. What came before the directory told of the number is not
# looked for: another system may have answered it. A row that another replica has taken meanwhile is no longer due.
_TAKE = """
with called as (
    select o.sms_number as number, o.org_id, o.upserted_at
      from orgs o
      join unnest($2::text[], $3::text[]) as r (provider, name)
        on o.sms_provider is not distinct from r.provider and o.sms_account is not distinct from r.name
     where o.sms_number is not null
    union all
    select f.sms_line, f.org_id, o.upserted_at
      from former_sms_numbers f
      join orgs o using (org_id)
      join unnest($2::text[], $3::text[]) as r (provider, name)
        on f.sms_provider is not distinct from r.provider and f.sms_account is not distinct from r.name
), due as (
    select distinct on (c.number) c.number, c.org_id, c.upserted_at, l.due_at
      from called c
      left join missed_sms_looks l on l.account = $1 and l.number = c.number
     where l.due_at is null or l.due_at <= $4::timestamptz
     order by c.number, c.upserted_at desc
), first as (
    select number, org_id, upserted_at from due order by due_at nulls first, number limit $7
), taken as (
    insert into missed_sms_looks as l (account, number, read_until, due_at)
    select $1, number, greatest($4::timestamptz - $5::interval, upserted_at), $4::timestamptz + $6::interval
      from first order by number
    on conflict (account, number) do update set due_at = excluded.due_at where l.due_at <= $4::timestamptz
    returning l.number, l.read_until
)
select t.number, f.org_id, t.read_until from taken t join first f using (number)
"""

_STORED = """
select m.provider_id from messages m
 where m.provider = $1 and m.account = any($2::text[]) and m.provider_id = any($3::text[]) and m.direction = 'in'
"""

_MOVE = """
update missed_sms_looks l set read_until = greatest(l.read_until, $3::timestamptz), due_at = $4
 where l.account = $1 and l.number = any($2::text[])
"""


async def take_due(
    db: Connection,
    account: str,
    routes: Sequence[tuple[str | None, str | None]],
    now: datetime,
    *,
    back: timedelta,
    lease: timedelta,
    limit: int,
) -> list[Look]:
    """The numbers at this account that are due; nobody else takes them within ``lease``.

    ``routes``: the (``sms_provider``, ``sms_account``) of organisations that have the account. A number that was never
    looked at is read from ``back`` before now.
    """
    rows = await db.fetch(_TAKE, account, *as_columns(routes), now, back, lease, limit)
    return [Look(**row) for row in rows]


async def stored_ids(db: Connection, key: AccountKey, number: str, provider_ids: Collection[str]) -> set[str]:
    """Which of these SMS to the number are stored already."""
    lines = sorted({number, *spellings(number)})
    return {row["provider_id"] for row in await db.fetch(_STORED, key.provider, lines, sorted(provider_ids))}


async def move(db: Connection, account: str, numbers: Collection[str], read_until: datetime, due_at: datetime) -> None:
    """The lists of these numbers were read up to then, and what was missing is published. When they are due again."""
    if numbers:
        await db.execute(_MOVE, account, sorted(numbers), read_until, due_at)
