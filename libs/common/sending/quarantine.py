"""Quarantine: a row on which work fails, or is too slow, is left out for a time. The rows behind it go on.

A quarantined row is logged as an error and tried again after growing waits. A quarantine is memory of one process: a
row that fails everywhere is quarantined by every replica, until its deadline ends it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from libs.common.backoff import backoff
from libs.common.bisection import Bisection, Faulty, TooSlow
from libs.common.ids import SendKey
from libs.common.periodic import log_set_aside
from libs.common.sending.rows import SendRow
from libs.common.slow_suspects import SlowSuspects

_FIRST = timedelta(seconds=30)
_LONGEST = timedelta(hours=1)
_MOST = 1_000


@dataclass(slots=True)
class Quarantine:
    """The rows that one task has quarantined."""

    task: str
    suspects: SlowSuspects[SendKey] = field(default_factory=SlowSuspects)
    """Rows that were too slow even alone. Times are the event loop's."""
    _rows: dict[SendKey, tuple[datetime, int]] = field(default_factory=dict)

    def keys(self, now: datetime) -> list[SendKey]:
        """The rows to leave out now."""
        resting = self.suspects.resting(asyncio.get_running_loop().time())
        return [*resting, *(key for key, (until, _times) in self._rows.items() if until > now)]

    def passed(self, count: int) -> None:
        if self.suspects:
            self.suspects.others_passed(count, asyncio.get_running_loop().time())

    def put(self, row: SendRow, error: Exception, now: datetime) -> None:
        """Quarantine this row: work on it alone failed. Beyond ``_MOST`` rows the oldest are forgotten."""
        _until, times = self._rows.pop(row.key, (now, 0))
        while len(self._rows) >= _MOST:
            del self._rows[next(iter(self._rows))]
        wait = backoff(times + 1, base=_FIRST, cap=_LONGEST, jitter=lambda: 1.0, factor=4)
        self._rows[row.key] = (now + wait, times + 1)
        log_set_aside(self.task, row.key, error, now + wait)


async def halving(
    rows: Sequence[SendRow], work: Callable[[Sequence[SendRow]], Awaitable[None]], aside: Quarantine, now: datetime
) -> None:
    """Do the work on all rows. After a bug or a timeout it is done on halves, down to the row that causes the failure.

    Raises any other transient error, and a timeout that every row has.
    """
    search = Bisection[SendRow, None, SendKey](
        work, aside.suspects, key=lambda row: row.key, ordering_key=lambda row: row.key
    )
    async for found in search.run(rows):
        if isinstance(found, Faulty | TooSlow):
            aside.put(found.item, found.error, now)
    if search.transient_error is not None:
        raise search.transient_error
