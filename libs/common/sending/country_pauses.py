"""Countries that an SMS account, or one sender of it, may not send to: nothing is sent there for an hour.

Rule 1: a country that is not enabled rests for the account. One that wants a registered sender rests for that sender.
Rule 2: the hour begins with the send that met it, whenever its status comes, and one line says it. What else was sent
        within the hour changes nothing.
Rule 3: Jamaica rests alone, though it shares +1 with the United States (``country_of``).
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from operator import attrgetter
from typing import NamedTuple

from libs.common.countries import ANYWHERE, country_of
from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.faults import CountryClosed
from libs.common.logging import get_logger
from libs.common.providers import Provider, fault_of
from libs.common.sending.rows import at_account

log = get_logger()

COUNTRY_PAUSE = timedelta(hours=1)

_RESTING = """
select u.provider, u.account, u.country
  from unnest($1::text[], $2::text[], $3::text[]) as u (provider, account, country)
 cross join lateral (
       select from country_pauses p
        where p.provider = u.provider and p.account = u.account and p.country = u.country and p.until_at > $4
       offset 0) p
"""

_PAUSE = """
insert into country_pauses as p (provider, account, country, code, since, until_at)
select u.provider, u.account, u.country, u.code, u.since, u.since + $6::interval
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
       as u (provider, account, country, code, since)
 order by 1, 2, 3
on conflict (provider, account, country) do update
   set code = excluded.code, since = excluded.since, until_at = excluded.until_at
 where p.until_at <= excluded.since
returning p.provider, p.account, p.country, p.code
"""


class Way(NamedTuple):
    """How an SMS goes to a country: by this account of a provider, from this number (``sender``)."""

    provider: Provider
    account: str
    sender: str
    country: str


class Closed(NamedTuple):
    """A way that a provider refused with ``code``, for a message of this organisation that was sent at ``at``."""

    way: Way
    code: str
    org_id: str
    at: datetime


def way_of(provider: Provider, account: str, sender: str, to: object) -> Way | None:
    """The way of an SMS to the number ``to``. None where that is of no country."""
    country = country_of(str(to or ""))
    return None if country == ANYWHERE else Way(provider, account, sender, country)


async def resting(db: Connection, ways: Collection[Way], now: datetime) -> set[Way]:
    """Those of the ways that rest, for their account or for their sender."""
    if not ways:
        return set()
    asked = sorted({key for way in ways for key in (_of_account(way), _of_sender(way))})
    found = {tuple(row.values()) for row in await db.fetch(_RESTING, *as_columns(asked), now)}
    return {way for way in ways if _of_account(way) in found or _of_sender(way) in found}


async def pause(db: Connection, closed: Iterable[Closed], now: datetime) -> None:
    """Pause these ways, where their hour is not over. One that rests already is left as it is."""
    rows: dict[tuple[str, str, str], Closed] = {}
    for one in sorted(closed, key=attrgetter("at")):
        fault = fault_of(one.way.provider, one.code)
        if isinstance(fault, CountryClosed) and one.at + COUNTRY_PAUSE > now:
            rows.setdefault(_of_account(one.way) if fault.every_sender else _of_sender(one.way), one)
    if not rows:
        return
    columns = as_columns([(*key, rows[key].code, rows[key].at) for key in sorted(rows)])
    for provider, account, country, code in await db.fetch(_PAUSE, *columns, COUNTRY_PAUSE):
        met = rows[provider, account, country]
        whose = {} if account == met.way.account else {"org_id": met.org_id}
        log.error("country.paused", provider=provider, country=country, provider_code=code, **whose)


def _of_account(way: Way) -> tuple[str, str, str]:
    return way.provider, way.account, way.country


def _of_sender(way: Way) -> tuple[str, str, str]:
    return way.provider, at_account(way.sender, way.provider, way.account), way.country
