"""The rate card's prices: for one customer, and for an organisation. Every statement names the organisation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection

_BILLED = """
select k.phone, c.wa_id, c.bsuid, o.currency,
       coalesce((select s.delivered from service_months s
                  where s.org_id = c.org_id and s.phone_number_id = c.phone_number_id and s.month = $3), 0) as delivered
  from conversations c
  join customers k on k.org_id = c.org_id and k.customer_id = c.customer_id
  join orgs o on o.org_id = c.org_id
 where c.org_id = $1 and c.conversation_id = $2
"""

_CURRENCY = "select currency from orgs where org_id = $1"

# The order is that of charges (libs.common.sending): the organisation's currency wins, then a country's own price, then
# the newest date that is not in the future.
_RATES = """
select u.channel, u.category, r.price, r.currency
  from unnest($1::text[], $2::text[], $3::text[]) as u (channel, category, country)
 cross join lateral (
       select r.price, r.currency from rate_card r
        where r.channel = u.channel and r.category = u.category and r.country in (u.country, '*') and r.valid_from <= $5
        order by r.currency is distinct from $4, r.country = '*', r.valid_from desc, r.currency
        limit 1) r
"""


@dataclass(frozen=True, slots=True)
class Billed:
    """What prices depend on. ``delivered`` counts the free-form messages of the business number in a month."""

    phone: str | None
    wa_id: str | None
    bsuid: str | None
    currency: str | None
    delivered: int


async def billed(db: Connection, org_id: str, conversation_id: UUID, month: date) -> Billed | None:
    """None: the organisation has no such conversation."""
    row = await db.fetchrow(_BILLED, org_id, conversation_id, month)
    return None if row is None else Billed(**row)


async def currency(db: Connection, org_id: str) -> str | None:
    """The organisation's currency, where it has one."""
    found: str | None = await db.fetchval(_CURRENCY, org_id)
    return found


async def rates(
    db: Connection, wanted: Sequence[tuple[str, str, str]], currency: str | None, day: date
) -> Mapping[tuple[str, str], tuple[Decimal, str]]:
    """Price and currency by (channel, category), of those of ``wanted`` (and country) that the rate card has."""
    rows = await db.fetch(_RATES, *as_columns(wanted), currency, day)
    return {(row["channel"], row["category"]): (row["price"], row["currency"]) for row in rows}
