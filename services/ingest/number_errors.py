"""What Meta says of a business number outside of any message and status: ``errors`` of a change.

Rule 1: each is logged, by number and code: at once, then once a minute with how many there were.
Rule 2: an account that is not in order pauses as after a late status, until a status of a later call proves it well. A
        throttled one rests for ``THROTTLED``. Every other error says nothing of what the number can send.
Rule 3: such an error has no time of its own, so it counts from when the edge took it: one that is replayed holds
        nothing up.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from libs.common.db.pool import Pool
from libs.common.faults import AccountFault, Throttled, TransientFault
from libs.common.log_aggregator import LogAggregator, Report
from libs.common.logging import get_logger
from libs.common.providers import WHATSAPP_BY_META
from libs.common.providers.meta import fault_of
from libs.common.sending import pause_queries
from libs.common.sending.rows import Pause
from services.ingest.items import NumberErrors

log = get_logger()

THROTTLED = timedelta(seconds=5)
"""Meta's limit of messages a second clears within seconds."""

_Trouble = tuple[str | None, str | None, str]
"""Business number, WABA id, code."""


@dataclass(slots=True)
class NumberTroubles:
    """Takes errors of numbers in, and counts what is to be logged."""

    _told: LogAggregator[_Trouble, _Trouble] = field(default_factory=LogAggregator)

    async def take(self, pool: Pool, errors: Sequence[NumberErrors]) -> None:
        """Pause the numbers that cannot send, and log each error."""
        newest: dict[tuple[str, str], datetime] = {}
        for one in errors:
            if (number := one.phone_number_id) is not None:
                for code in one.codes:
                    newest[number, code] = max(one.received_at, newest.get((number, code), one.received_at))
        for (number, code), at in newest.items():
            await _pause(pool, number, code, at)
        now = asyncio.get_running_loop().time()
        named = Counter((one.phone_number_id, one.waba_id, code) for one in errors for code in one.codes)
        for trouble, count in named.items():
            if (due := self._told.add(trouble, trouble, now, count)) is not None:
                _log(due)

    async def log(self) -> None:
        """Log what was counted since."""
        for due in self._told.due(asyncio.get_running_loop().time()):
            _log(due)


async def _pause(pool: Pool, number: str, code: str, at: datetime) -> None:
    match fault_of(code):
        case AccountFault(scope):
            async with pool.acquire() as db, db.transaction():
                await pause_queries.pause_account(db, WHATSAPP_BY_META, number, code, at, proof="status", scope=scope)
        case Throttled("account"):
            rest = Pause(number, "all", at + THROTTLED, 1, code, "throttle", "answer", at)
            async with pool.acquire() as db, db.transaction():
                await pause_queries.pause(db, WHATSAPP_BY_META, [rest])
        case _:
            pass


def _log(due: Report[_Trouble, _Trouble]) -> None:
    number, waba, code = due.sample
    write = log.warning if isinstance(fault_of(code), Throttled | TransientFault) else log.error
    write("number.troubled", phone_number_id=number, waba_id=waba, provider_code=code, records=due.count)
