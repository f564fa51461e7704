"""Which SMS may not go because their country rests (``libs.common.sending.country_pauses``).

The message that met it fails with the code. What follows within the hour is ``country_not_allowed``, without a call.
Other countries, senders and accounts go on. After its end the next SMS tries the country out.
"""

from collections.abc import Sequence
from datetime import datetime

from libs.common.db.pool import Connection
from libs.common.ids import SendKey
from libs.common.providers import Provider
from libs.common.sending import country_pauses
from libs.common.sending.country_pauses import Closed, Way, way_of
from libs.common.sending.outcomes import Refused
from libs.common.sending.rows import SendRow, Settled
from libs.common.thread.failure_reasons import failure_reason
from services.sms_bridge.gate import GateFacts

Going = tuple[SendRow, GateFacts, tuple[Provider, str] | None]
"""An SMS that the gate let pass, with the account that would take it."""


async def resting(db: Connection, going: Sequence[Going], now: datetime) -> dict[SendKey, Refused]:
    """Those of the SMS whose country rests for their account or their sender."""
    ways = {row.key: way for row, _, by in going if by is not None and (way := _way(row, *by)) is not None}
    found = await country_pauses.resting(db, set(ways.values()), now)
    return {
        row.key: Refused(None, failure_reason("country_not_allowed", facts.closed_by(now)))
        for row, facts, _ in going
        if ways.get(row.key) in found
    }


async def begin(db: Connection, settled: Sequence[Settled], now: datetime) -> None:
    """Pause the countries that these sends met as closed."""
    await country_pauses.pause(db, [found for one in settled if (found := _closed(one, now)) is not None], now)


def _closed(one: Settled, now: datetime) -> Closed | None:
    row = one.row
    match one.final:
        case Refused(str(code), _) if row.provider is not None and row.provider_account is not None:
            way = _way(row, row.provider, row.provider_account)
            return None if way is None else Closed(way, code, row.org_id, now)
        case _:
            return None


def _way(row: SendRow, provider: Provider, account: str) -> Way | None:
    return way_of(provider, account, row.account, row.command.get("to"))
