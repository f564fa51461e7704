"""What a message costs: by the rate card, and as Meta's statuses say.

Rule 1: Meta's words are kept as they are. Types, categories and models are an open list, and ``billable`` is going
        away.
Rule 2: once for each id that a send got. Of statuses that say something else the last in their order counts
        (``ProviderStatus.order``), whichever comes first; a repeat changes nothing. Meta charges on delivery, and says
        the price with ``sent`` and again with ``delivered`` or ``read``, often of the same second.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection

_MAX_WORD = 100


class Rate(NamedTuple):
    """One price of the rate card, of an SMS that of a segment.

    ``country`` is ISO 3166-1 alpha-2, or ``*`` for any; ``currency`` is ISO 4217.
    """

    valid_from: date
    channel: str
    category: str
    country: str
    currency: str
    price: Decimal


_UPSERT_RATES = """
insert into rate_card (valid_from, channel, category, country, currency, price)
select * from unnest($1::date[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[])
on conflict (channel, category, country, currency, valid_from) do update set price = excluded.price
"""


async def upsert_rates(db: Connection, rates: Sequence[Rate]) -> None:
    """Store these prices; each (channel, category, country, currency, day) stands in them once."""
    if rates:
        await db.execute(_UPSERT_RATES, *as_columns(rates))


class Pricing(NamedTuple):
    """One ``pricing`` object. ``more`` is what it holds beside the known fields, None for nothing.

    ``at``: the status's time. Meta's are whole seconds; its place among those of one second is added in microseconds.
    """

    org_id: str
    message_id: UUID
    provider_id: str
    attempt: int
    type: str | None
    category: str | None
    model: str | None
    billable: bool | None
    more: dict[str, Any] | None
    at: datetime


_KNOWN = frozenset({"type", "category", "pricing_model", "billable"})


def pricing_of(
    item: Mapping[str, Any],
    *,
    org_id: str,
    message_id: UUID,
    provider_id: str,
    attempt: int,
    order: tuple[datetime, int],
) -> Pricing | None:
    """What a status says of the price, or None. ``order`` is the status's. Pure."""
    priced = item.get("pricing")
    if not isinstance(priced, dict) or not priced:
        return None
    billable = priced.get("billable")
    more = None if _KNOWN.issuperset(priced) else {n: value for n, value in priced.items() if n not in _KNOWN}
    return Pricing(
        org_id,
        message_id,
        provider_id,
        attempt,
        _word(priced.get("type")),
        _word(priced.get("category")),
        _word(priced.get("pricing_model")),
        billable if isinstance(billable, bool) else None,
        more,
        order[0] + timedelta(microseconds=order[1]),
    )


_KEEP = """
insert into message_pricing as p (org_id, message_id, provider_id, attempt, type, category, model, billable, more, at)
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[], $8::bool[],
    $9::jsonb[], $10::timestamptz[])
on conflict (org_id, message_id, provider_id) do update
   set type = excluded.type, category = excluded.category, model = excluded.model, billable = excluded.billable,
       more = excluded.more, at = excluded.at, charge_due = true
 where p.at < excluded.at
   and (p.type, p.category, p.model, p.billable, p.more) is distinct from
       (excluded.type, excluded.category, excluded.model, excluded.billable, excluded.more)
"""


async def keep_pricing(db: Connection, prices: Iterable[Pricing]) -> None:
    """Keep it; of several for one message the latest said."""
    newest: dict[tuple[str, UUID, str], Pricing] = {}
    for one in sorted(prices, key=lambda one: one.at):
        newest[one.org_id, one.message_id, one.provider_id] = one
    if newest:
        rows = [newest[key] for key in sorted(newest)]
        await db.execute(_KEEP, *as_columns(rows))


def _word(value: object) -> str | None:
    return value[:_MAX_WORD] if isinstance(value, str) and value else None
