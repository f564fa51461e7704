"""What SMS cost: the estimate by the rate card, then the provider's figure.

Rule 1: an accepted SMS has one charge, also where two messages were bought because of a resend.
Rule 2: the price is the estimate until the provider has given a figure for each message of the charge. The estimate
        stays beside it.
Rule 3: a figure may come with the answer, with a status, or when the provider is asked (``due``). The same again
        changes nothing, and a later figure of a message replaces the earlier one.
Rule 4: a figure without a currency is in that of the estimate, else in the organisation's.
Rule 5: a delivery receipt tells the price of one part alone. It counts only where no answer told that of the whole
        message, because the answer was lost, and once there is one for each segment.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.ids import AttemptKey
from libs.common.providers import Provider
from libs.common.providers.cost import Cost
from libs.common.sending.spent import Spent
from libs.common.sms_policy import SegmentRate

Category = Literal["bridge", "sms"]
SpentByMessage = defaultdict[AttemptKey, Spent]
"""What changed, by the message of the charge; to be logged after the commit."""

ASK_AFTER = timedelta(minutes=5)
"""When the provider is asked for the price that it has not told."""
ASKED_FOR = timedelta(days=2)
"""A charge that is older keeps its estimate."""


class Charge(NamedTuple):
    """The cost of an accepted SMS: ``segments`` times the price in ``country`` on that day.

    ``sender`` is the number that it came from (E.164). ``provider_ids`` are those of ``account`` that were bought, two
    after a resend; ``segments`` are those of all.
    """

    org_id: str
    message_id: UUID
    attempt: int
    conversation_id: UUID
    provider: Provider | None
    category: Category
    account: str
    sender: str | None
    provider_ids: tuple[str, ...]
    segments: int
    country: str


class Figure(NamedTuple):
    """What a provider asks for one message."""

    org_id: str
    message_id: UUID
    attempt: int
    provider_id: str
    cost: Cost


class Unpriced(NamedTuple):
    """A message of a charge whose price the provider is to be asked for."""

    org_id: str
    message_id: UUID
    attempt: int
    provider_id: str


# The organisation's currency wins, then a country's own price over the price for any country, then the newest date
# that is not in the future.
_RATE = """
      select currency, price from rate_card
       where channel = 'sms' and category = 'sms' and country in (u.country, '*') and valid_from <= {day}
       order by currency is distinct from {currency}, country = '*', valid_from desc, currency
       limit 1"""

_RATES = f"""
select u.country, r.currency, r.price from unnest($1::text[]) as u (country)
 cross join lateral ({_RATE.format(day="$2", currency="null")}) r
"""  # noqa: S608 -- a constant

_CHARGE = f"""
insert into charges (org_id, message_id, attempt, conversation_id, channel, provider, category, account, sender,
                     provider_ids, segments, currency, price, estimate, estimate_currency, at, price_due_at)
select u.org_id, u.message_id, u.attempt, u.conversation_id, 'sms', u.provider, u.category, u.account, u.sender,
       string_to_array(u.provider_ids, ' '), u.segments, r.currency, r.price * u.segments, r.price * u.segments,
       r.currency, $12::timestamptz, $12::timestamptz + $13::interval
  from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::int[], $11::text[])
    as u (org_id, message_id, attempt, conversation_id, provider, category, account, sender, provider_ids, segments,
          country)
  join orgs o on o.org_id = u.org_id
  left join lateral ({_RATE.format(day="$14", currency="o.currency")}) r on true
on conflict (org_id, message_id, attempt) do nothing
returning org_id, message_id, attempt, channel, category, null::text as former_category, null::text as former_currency,
          null::numeric as former_price, currency, price
"""  # noqa: S608 -- a constant

# An answer's figure is of the whole message, so those of its parts add nothing to it.
_KEEP_PARTS = """
update charges c
   set figures = c.figures || f.figures
  from (select u.org_id, u.message_id, u.attempt,
               jsonb_object_agg(u.provider_id, jsonb_build_array(null, u.amount, u.currency, 'part')) as figures
          from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::int[], $6::numeric[], $7::text[])
            as u (org_id, message_id, attempt, provider_id, segments, amount, currency)
         group by u.org_id, u.message_id, u.attempt) f
 where c.org_id = f.org_id and c.message_id = f.message_id and c.attempt = f.attempt and c.channel = 'sms'
   and not exists (select from jsonb_each(c.figures) x where x.value ->> 3 is null)
   and not c.figures @> f.figures
returning c.org_id, c.message_id, c.attempt
"""

# Of one message an update may keep one figure; of another message of the same charge the next one comes.
_KEEP = """
update charges c
   set figures = c.figures || f.figures
  from (select u.org_id, u.message_id, u.attempt,
               jsonb_object_agg(u.provider_id, jsonb_build_array(u.segments, u.amount, u.currency)) as figures
          from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::int[], $6::numeric[], $7::text[])
            as u (org_id, message_id, attempt, provider_id, segments, amount, currency)
         group by u.org_id, u.message_id, u.attempt) f
 where c.org_id = f.org_id and c.message_id = f.message_id and c.attempt = f.attempt and c.channel = 'sms'
returning c.org_id, c.message_id, c.attempt
"""

_CONCLUDE = """
update charges c
   set segments = coalesce(t.segments::int, c.segments), price = coalesce(t.price, c.price),
       currency = coalesce(t.currency, c.estimate_currency, (select o.currency from orgs o where o.org_id = c.org_id)),
       estimated = t.price is null, price_due_at = case when t.price is null then c.price_due_at end
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
 cross join lateral (
       select case when count(f.value ->> 0) >= cardinality(x.provider_ids)
                   then sum((f.value ->> 0)::int) end as segments,
              case when count(f.value ->> 1) >= case when count(f.value ->> 3) > 0 then x.segments
                                                     else cardinality(x.provider_ids) end
                        and count(distinct f.value ->> 2) <= 1
                   then sum((f.value ->> 1)::numeric) end as price,
              min(f.value ->> 2) as currency
         from charges x, jsonb_each(x.figures) f
        where x.org_id = u.org_id and x.message_id = u.message_id and x.attempt = u.attempt
        group by x.provider_ids, x.segments) t
 where c.org_id = u.org_id and c.message_id = u.message_id and c.attempt = u.attempt
   and (t.price is not null or t.segments is not null)
returning c.org_id, c.message_id, c.attempt, c.channel, new.category, old.category as former_category,
          old.currency as former_currency, old.price as former_price, new.currency, new.price
"""

_DUE = """
with due as materialized (
    select ctid as place, org_id, message_id, attempt, provider_ids
      from charges
     where provider = $1 and account = $2 and price_due_at <= $3
     order by price_due_at
     limit $4
       for update skip locked
), put_off as (
    update charges c
       set price_due_at = case when $3::timestamptz - c.at < $5::interval
                                then $3::timestamptz + greatest($6::interval, $3::timestamptz - c.at) end
     where c.ctid = any (array(select place from due))
)
select d.org_id, d.message_id, d.attempt, unnest(d.provider_ids) as provider_id from due d
"""


async def segment_rates(db: Connection, countries: Collection[str], day: date) -> dict[str, SegmentRate]:
    """What one segment costs in each of these countries on this day; countries without a price are left out."""
    rows = await db.fetch(_RATES, sorted(countries), day)
    return {row["country"]: SegmentRate(row["price"], row["currency"]) for row in rows}


async def charge(db: Connection, charges: Sequence[Charge], *, day: date, now: datetime, spent: SpentByMessage) -> None:
    """Record what was bought, without a price where no rate card covers the country and day."""
    if charges:
        rows = [
            (*one[:8], " ".join(one.provider_ids), one.segments, one.country)
            for one in sorted(charges, key=lambda one: one[:3])
        ]
        _note(spent, await db.fetch(_CHARGE, *as_columns(rows), now, ASK_AFTER, day))


async def keep_figures(
    db: Connection, figures: Sequence[Figure], spent: SpentByMessage, *, of_parts: bool = False
) -> None:
    """Store the figures of charges that stand, the last one of each message.

    ``of_parts``: each is of one part of its message, under the part's own id, as a receipt tells it.
    """
    newest = {one[:4]: one for one in figures}
    if not newest:
        return
    rows = [(*one[:4], *one.cost) for _, one in sorted(newest.items(), key=lambda item: item[0])]
    kept = await db.fetch(_KEEP_PARTS if of_parts else _KEEP, *as_columns(rows))
    if kept:
        _note(spent, await db.fetch(_CONCLUDE, *as_columns([tuple(row.values()) for row in kept])))


def _note(spent: SpentByMessage, changed: Iterable[Any]) -> None:
    for row in changed:
        org_id, message_id, attempt, *change = row
        spent[org_id, message_id, attempt].add([(org_id, *change)])


async def take_unpriced(db: Connection, provider: Provider, account: str, now: datetime, limit: int) -> list[Unpriced]:
    """Messages whose price is due to be asked for. The next look is as far off again as the charge is old."""
    rows = await db.fetch(_DUE, provider, account, now, limit, ASKED_FOR, ASK_AFTER)
    return [Unpriced(**row) for row in rows]
