"""The rate card: what a message costs from a day on. Of an SMS it is the price of one segment."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection


class Rate(NamedTuple):
    """One price. ``country`` is ISO 3166-1 alpha-2, or ``*`` for any; ``currency`` is ISO 4217."""

    valid_from: date
    channel: str
    category: str
    country: str
    currency: str
    price: Decimal


_UPSERT = """
insert into rate_card (valid_from, channel, category, country, currency, price)
select u.valid_from, u.channel, u.category, u.country, u.currency, u.price
  from unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[])
    as u (valid_from, channel, category, country, currency, price)
on conflict (channel, category, country, currency, valid_from) do update set price = excluded.price
"""


async def upsert_rates(db: Connection, rates: Sequence[Rate]) -> None:
    """Store these prices; each (channel, category, country, currency, day) stands in them once."""
    if rates:
        await db.execute(_UPSERT, *as_columns(rates))
