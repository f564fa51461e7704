"""Countries that an SMS provider has not enabled for an account: nothing is sent there for an hour.

Rule 1: the message that met it fails with the code. What follows within the hour is ``country_not_allowed``, without a
        call. Other countries of the account, and other accounts, go on.
Rule 2: Jamaica rests alone, though it shares +1 with the United States (``country_of``). A provider enables country by
        country, and many organisations share an account.
Rule 3: one line says it when the pause begins. After its end the next SMS tries the country out.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from libs.common.countries import ANYWHERE, country_of
from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.faults import CountryClosed
from libs.common.ids import SendKey
from libs.common.logging import get_logger
from libs.common.providers import Provider, fault_of
from libs.common.sending.outcomes import Refused
from libs.common.sending.rows import SendRow, Settled
from libs.common.thread.failure_reasons import failure_reason
from services.sms_bridge.gate import GateFacts

log = get_logger()

COUNTRY_PAUSE = timedelta(hours=1)

_RESTING = """
select distinct p.provider, p.account, p.country
  from unnest($1::text[], $2::text[], $3::text[]) as u (provider, account, country)
  join country_pauses p using (provider, account, country)
 where p.until_at > $4
"""

_PAUSE = """
insert into country_pauses as p (provider, account, country, code, since, until_at)
select u.provider, u.account, u.country, u.code, $5::timestamptz, $5::timestamptz + $6::interval
  from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as u (provider, account, country, code)
 order by 1, 2, 3
on conflict (provider, account, country) do update
   set code = excluded.code, since = excluded.since, until_at = excluded.until_at
 where p.until_at <= excluded.since
returning p.provider, p.country, p.code
"""

Going = tuple[SendRow, GateFacts, tuple[Provider, str] | None]
"""An SMS that the gate let pass, with the account that would take it."""


async def resting(db: Connection, going: Sequence[Going], now: datetime) -> dict[SendKey, Refused]:
    """Those of the SMS whose country rests for their account."""
    asked = {(*by, to) for row, _, by in going if by is not None and (to := _country(row)) is not None}
    if not asked:
        return {}
    found = {tuple(row.values()) for row in await db.fetch(_RESTING, *as_columns(sorted(asked)), now)}
    return {
        row.key: Refused(None, failure_reason("country_not_allowed", facts.closed_by(now)))
        for row, facts, by in going
        if by is not None and (*by, _country(row)) in found
    }


async def begin(db: Connection, settled: Sequence[Settled], now: datetime) -> None:
    """Pause the countries that these sends met as not enabled. One that rests already is left as it is."""
    closed = {found[:3]: found[3] for one in settled if (found := _closed(one)) is not None}
    if not closed:
        return
    rows = [(*key, code) for key, code in sorted(closed.items())]
    for row in await db.fetch(_PAUSE, *as_columns(rows), now, COUNTRY_PAUSE):
        log.error(
            "country.paused",
            provider=row["provider"],
            country=row["country"],
            provider_code=row["code"],
        )


def _closed(one: Settled) -> tuple[Provider, str, str, str] | None:
    row = one.row
    match one.final:
        case Refused(str(code), _) if row.provider is not None and row.provider_account is not None:
            to = _country(row)
            if to is not None and isinstance(fault_of(row.provider, code), CountryClosed):
                return row.provider, row.provider_account, to, code
        case _:
            pass
    return None


def _country(row: SendRow) -> str | None:
    found = country_of(str(row.command.get("to") or ""))
    return None if found == ANYWHERE else found
