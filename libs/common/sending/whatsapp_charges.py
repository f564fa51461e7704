"""What WhatsApp messages cost: a charge of each, from Meta's words in its statuses and the rate card.

Statuses are the most frequent webhooks, so nothing is charged on their way. They leave a row in ``message_pricing``.
A task of every ingest worker turns the rows that are due into charges, a batch at a time.

Rule 1: a message has one charge for each attempt that Meta priced, also where a resend delivered it twice.
Rule 2: a charge is estimated until the message is delivered. It is looked at again after ``FIRST_LOOK``, and then when
        it is twice as old, for ``LOOKED_AFTER``: so long Meta tries to deliver. What is not delivered costs nothing.
Rule 3: which of the month's free messages a message was is said once, in the transaction that confirms its charge, and
        stands in ``figures`` from then on. Where Meta says later that it is none, the next one has its place.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.clock import Clock
from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, Pool, changed
from libs.common.ids import AttemptKey
from libs.common.sending.spent import Spent
from libs.common.sending.whatsapp_prices import (
    FREE_SERVICE,
    MetaWords,
    country_on_whatsapp,
    counts_towards_free,
    is_free,
    rate_categories,
)
from libs.common.thread.conversations import current_conversation

PERIOD = timedelta(seconds=1)
FIRST_LOOK = timedelta(seconds=30)
LOOKED_AFTER = timedelta(days=30)
_AT_ONCE = 500
_ROUNDS = 20
_FREE = Decimal(0)

Wanted = tuple[str, str | None, str, date]
"""Country, currency, category of the rate card, day."""


class Priced(NamedTuple):
    """One of Meta's words, with what it is about: a row of ``_READ``, by the order of its columns.

    ``currency`` is the organisation's; None: it named none. ``place`` is which of its number's messages of the month it
    was, once that is known.
    """

    org_id: str
    message_id: UUID
    attempt: int
    provider_id: str
    type: str | None
    category: str | None
    billable: bool | None
    said_at: datetime
    status: str
    is_current: bool
    arrived_at: datetime | None
    conversation_id: UUID
    phone_number_id: str | None
    wa_id: str | None
    bsuid: str | None
    phone: str | None
    currency: str | None
    place: int | None

    @property
    def key(self) -> AttemptKey:
        return self.org_id, self.message_id, self.attempt

    @property
    def delivered(self) -> bool:
        return self.is_current and self.arrived_at is not None

    @property
    def words(self) -> MetaWords:
        at = self.arrived_at if self.is_current and self.arrived_at is not None else self.said_at
        return MetaWords(self.type, self.category, self.billable, at.date())

    @property
    def country(self) -> str:
        """ISO 3166-1 alpha-2: of the customer's number, else what their BSUID begins with."""
        return country_on_whatsapp(self.wa_id or self.phone, self.bsuid)


class _Judged(NamedTuple):
    """One of Meta's words, and what is derived from it, once."""

    of: Priced
    key: AttemptKey
    delivered: bool
    words: MetaWords
    wanted: tuple[Wanted, ...]  # the rates that price it: the first that is in the rate card counts


@dataclass(frozen=True, slots=True)
class _Rate:
    price: Decimal
    currency: str


_DUE = """
with due as materialized (
    select ctid, org_id, message_id, attempt from message_pricing
     where charge_due order by at limit $1
       for update skip locked
), taken as (
    update message_pricing p set charge_due = false where p.ctid = any (array(select ctid from due))
)
select distinct org_id, message_id, attempt from due
"""

_LOOKED_AT_AGAIN = """
select org_id, message_id, attempt from charges
 where channel = 'whatsapp' and price_due_at <= $2
 order by price_due_at
 limit $1
   for no key update skip locked
"""

_ANY_DUE = """
select coalesce((select true from message_pricing where charge_due order by at limit 1),
                (select true from charges
                  where channel = 'whatsapp' and price_due_at <= $1 order by price_due_at limit 1))
"""

# "offset 0": each row is looked up by its key, whatever the planner believes of tables that grow.
_PLACE = f"""
 cross join lateral (
       select m.status, m.attempt, m.delivered_at, m.read_at, {current_conversation("m")} as conversation_id
         from messages m
        where m.org_id = {{key}}.org_id and m.message_id = {{key}}.message_id offset 0) m
 cross join lateral (
       select c.* from conversations c
        where c.org_id = {{key}}.org_id and c.conversation_id = m.conversation_id offset 0) c
"""  # noqa: S608 -- constants

# Of messages that have a charge, or that another process charges at this moment: the charge is locked and then read.
# The message of a thread that is being merged may still stand under the earlier id.
_BEGIN = f"""
insert into charges (org_id, message_id, attempt, conversation_id, channel, provider, category, account, at)
select u.org_id, u.message_id, u.attempt, c.conversation_id, 'whatsapp', 'meta', '', c.phone_number_id, $4
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
{_PLACE.format(key="u")}
 order by 1, 2, 3
on conflict (org_id, message_id, attempt) do nothing
"""  # noqa: S608 -- a constant

_WORDS = f"""
select p.org_id, p.message_id, p.attempt, p.provider_id, p.type, p.category, p.billable, p.at as said_at, m.status,
       m.attempt = p.attempt as is_current, coalesce(m.delivered_at, m.read_at) as arrived_at, c.conversation_id,
       c.phone_number_id, c.wa_id, c.bsuid, k.phone, o.currency,
       (h.figures ->> p.provider_id)::int as place
  from ours h
{_PLACE.format(key="h")}
 cross join lateral (
       select p.* from message_pricing p
        where p.org_id = h.org_id and p.message_id = h.message_id and p.attempt = h.attempt offset 0) p
  left join lateral (
       select k.phone from customers k
        where c.wa_id is null and k.org_id = h.org_id and k.customer_id = c.customer_id offset 0) k on true
  join orgs o on o.org_id = h.org_id
 order by p.org_id, p.message_id, p.attempt, p.provider_id
"""  # noqa: S608 -- a constant

_READ = f"""
with ours as materialized (
    select h.*
      from (select * from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
             order by org_id, message_id, attempt offset 0) u
     cross join lateral (
           select h.org_id, h.message_id, h.attempt, h.figures from charges h
            where h.org_id = u.org_id and h.message_id = u.message_id and h.attempt = u.attempt
            limit 1
              for no key update) h
)
{_WORDS}"""  # noqa: S608 -- a constant

_READ_NEW = f"""
with ours as materialized (
    select u.*, '{{}}'::jsonb as figures
      from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
     where not exists (select from charges h
                        where h.org_id = u.org_id and h.message_id = u.message_id and h.attempt = u.attempt offset 0)
)
{_WORDS}"""  # noqa: S608 -- a constant

# The organisation's currency wins, then a country's own price over the price for any country, then the newest date
# that is not in the future.
_RATES = """
select u.country, u.currency, u.category, u.day, r.price, r.currency as priced_in
  from unnest($1::text[], $2::text[], $3::text[], $4::date[]) as u (country, currency, category, day)
 cross join lateral (
       select r.price, r.currency from rate_card r
        where r.channel = 'whatsapp' and r.category = u.category and r.country in (u.country, '*')
          and r.valid_from <= u.day
        order by r.currency is distinct from u.currency, r.country = '*', r.valid_from desc, r.currency
        limit 1) r
"""

_TAKE_PLACES = """
insert into service_months as s (org_id, phone_number_id, month, delivered)
select * from unnest($1::text[], $2::text[], $3::date[], $4::int[]) order by 1, 2, 3
on conflict (org_id, phone_number_id, month) do update set delivered = s.delivered + excluded.delivered
returning s.org_id, s.phone_number_id, s.month, s.delivered
"""

_WRITE = """
update charges c
   set category = u.category, currency = u.currency, price = u.price, estimated = u.estimated,
       estimate = coalesce(c.estimate, u.price), estimate_currency = coalesce(c.estimate_currency, u.currency),
       figures = u.figures, provider_ids = string_to_array(u.provider_ids, ' '), at = u.at, price_due_at = u.due_at
  from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::numeric[], $7::bool[], $8::jsonb[],
              $9::text[], $10::timestamptz[], $11::timestamptz[])
    as u (org_id, message_id, attempt, category, currency, price, estimated, figures, provider_ids, at, due_at)
 where c.org_id = u.org_id and c.message_id = u.message_id and c.attempt = u.attempt
returning c.org_id, c.channel, new.category, nullif(old.category, '') as former_category,
          old.currency as former_currency, old.price as former_price, new.currency, new.price
"""

_INSERT = """
insert into charges (org_id, message_id, attempt, category, currency, price, estimated, estimate, estimate_currency,
    figures, provider_ids, at, price_due_at, conversation_id, account, channel, provider)
select u.org_id, u.message_id, u.attempt, u.category, u.currency, u.price, u.estimated, u.price, u.currency, u.figures,
       string_to_array(u.provider_ids, ' '), u.at, u.due_at, u.conversation_id, u.account, 'whatsapp', 'meta'
  from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::numeric[], $7::bool[], $8::jsonb[],
              $9::text[], $10::timestamptz[], $11::timestamptz[], $12::uuid[], $13::text[])
    as u (org_id, message_id, attempt, category, currency, price, estimated, figures, provider_ids, at, due_at,
          conversation_id, account)
on conflict (org_id, message_id, attempt) do nothing
returning org_id, channel, category, null, null, null, currency, price
"""

_FORGET_MONTHS = """
delete from service_months
 where ctid = any (array(select ctid from service_months where month < $1::date order by month limit $2))
"""


async def charge_due(pool: Pool, clock: Clock) -> None:
    """Charge what is due, a bounded number of batches. At rest this is one round trip."""
    async with pool.acquire() as db:
        if not await db.fetchval(_ANY_DUE, clock()):
            return
    for _ in range(_ROUNDS):
        spent = Spent()
        async with pool.acquire() as db, db.transaction():
            taken = await charge_some(db, clock(), _AT_ONCE, spent)
        spent.log()
        if taken < _AT_ONCE:
            return


async def charge_some(db: Connection, now: datetime, limit: int, spent: Spent | None = None) -> int:
    """Charge up to ``limit`` messages of which Meta said something, and as many that are due for another look.

    ``spent`` takes what changes. Returns the larger number of the two. Call inside a transaction.
    """
    spent = spent or Spent()
    new = sorted([tuple(row) for row in await db.fetch(_DUE, limit)])
    again = [tuple(row) for row in await db.fetch(_LOOKED_AT_AGAIN, limit, now)]
    made = set[AttemptKey]()
    with suppress(_AnotherError):
        made = await _charge_new(db, new, now, spent)
    if others := [key for key in new if key not in made]:
        await db.execute(_BEGIN, *as_columns(others), now)
    if keys := sorted({*others, *again} - made):
        words = [_judged(Priced(*row)) for row in await db.fetch(_READ, *as_columns(keys))]
        if words:
            rows = await _rows(db, words, now)
            spent.add(await db.fetch(_WRITE, *as_columns([row for _, row in rows])))
    return max(len(new), len(again))


async def forget_months(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` counts of months before then; returns how many."""
    return await changed(db, _FORGET_MONTHS, before.date(), limit)


class _AnotherError(Exception):
    """Another process has charged one of these messages meanwhile."""


async def _charge_new(db: Connection, keys: Sequence[AttemptKey], now: datetime, spent: Spent) -> set[AttemptKey]:
    """Charge those of these messages that have no charge yet; which these were.

    They are read before anything is locked. Another process that has words on one of them waits for our insert, finds
    the charge, and reads all words again. Raises _AnotherError, having done nothing, where it was the first.
    """
    if not keys:
        return set()
    words = [_judged(Priced(*row)) for row in await db.fetch(_READ_NEW, *as_columns(keys))]
    if not words:
        return set()
    async with db.transaction():
        rows = await _rows(db, words, now)
        columns = as_columns([(*row, first.of.conversation_id, first.of.phone_number_id) for first, row in rows])
        changes = await db.fetch(_INSERT, *columns)
        if len(changes) < len(rows):
            raise _AnotherError
    spent.add(changes)
    return {first.key for first, _ in rows}


async def _rows(db: Connection, words: Sequence[_Judged], now: datetime) -> list[tuple[_Judged, tuple[Any, ...]]]:
    """The row of each charge, beside the first of its words."""
    rates = await _rates(db, words)
    places = await _places(db, words)
    grouped = [list(of_one) for _, of_one in groupby(words, key=attrgetter("key"))]
    return [(of_one[0], _row(of_one, rates, places, now)) for of_one in grouped]


def _judged(one: Priced) -> _Judged:
    words, country = one.words, one.country
    wanted = tuple((country, one.currency, category, words.day) for category in rate_categories(one.category))
    return _Judged(one, one.key, one.delivered, words, wanted)


async def _rates(db: Connection, words: Iterable[_Judged]) -> dict[Wanted, _Rate]:
    wanted = {rate for one in words for rate in one.wanted}
    if not wanted:
        return {}
    rows = await db.fetch(_RATES, *as_columns(sorted(wanted, key=repr)))
    return {
        (row["country"], row["currency"], row["category"], row["day"]): _Rate(row["price"], row["priced_in"])
        for row in rows
    }


async def _places(db: Connection, words: Iterable[_Judged]) -> dict[tuple[AttemptKey, str], int]:
    """Which of its number's messages of the month each is: of what is delivered, the next; else as if it were next."""
    known: dict[tuple[AttemptKey, str], int] = {}
    asked: dict[tuple[str, str, date], list[_Judged]] = {}
    taken = Counter[tuple[str, str, date]]()
    for one in words:
        counts, number, month = counts_towards_free(one.words), one.of.phone_number_id, one.words.day.replace(day=1)
        if counts and one.of.place is not None:
            known[one.key, one.of.provider_id] = one.of.place
        elif counts and number is not None:
            asked.setdefault((one.of.org_id, number, month), []).append(one)
            taken[one.of.org_id, number, month] += one.delivered
        elif number is not None and one.of.place is not None:
            taken[one.of.org_id, number, month] -= 1
    if not taken:
        return known
    rows = await db.fetch(_TAKE_PLACES, *as_columns([(*at, places) for at, places in sorted(taken.items())]))
    after = {tuple(row)[:3]: row["delivered"] for row in rows}
    for number_month, of_month in asked.items():
        place = after[number_month] - sum(one.delivered for one in of_month)
        for one in sorted(of_month, key=lambda one: (one.words.day, one.of.said_at, one.of.provider_id)):
            place += one.delivered
            known[one.key, one.of.provider_id] = place if one.delivered else place + 1
    return known


def _row(
    words: Sequence[_Judged], rates: dict[Wanted, _Rate], places: dict[tuple[AttemptKey, str], int], now: datetime
) -> tuple[Any, ...]:
    newest = words[0] if len(words) == 1 else max(words, key=lambda one: one.of.said_at)
    delivered = any(one.delivered for one in words)
    over = delivered or newest.of.status == "failed" or not newest.of.is_current
    rate = next((found for wanted in newest.wanted if (found := rates.get(wanted)) is not None), None)
    age = now - min([one.of.said_at for one in words])
    expired = age >= LOOKED_AFTER
    prices = [_price(one.words, places.get((one.key, one.of.provider_id)), rate) for one in words]
    price: Decimal | None = _FREE
    if delivered or not (over or expired):
        price = None if None in prices else sum((one for one in prices if one is not None), _FREE)
    settled = (delivered and price is not None) or expired
    figures = {
        one.of.provider_id: places[one.key, one.of.provider_id]
        for one in words
        if one.delivered and (one.key, one.of.provider_id) in places
    }
    return (
        *newest.key,
        newest.of.category or "unknown",
        newest.of.currency if rate is None else rate.currency,
        price,
        not (over or expired),
        figures,
        " ".join([one.of.provider_id for one in words]),
        min([(one.of.arrived_at or one.of.said_at) if one.delivered else one.of.said_at for one in words]),
        None if settled else now + max(FIRST_LOOK, age),
    )


def _price(words: MetaWords, place: int | None, rate: _Rate | None) -> Decimal | None:
    if is_free(words) or (place is not None and place <= FREE_SERVICE):
        return _FREE
    return None if rate is None else rate.price
