"""Tasks that run again and again beside the main work: a sweeper, a refresher."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

from libs.common.backoff import backoff
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable

log = get_logger()

Task = tuple[timedelta, Callable[[], Awaitable[object]]]
"""The time between two rounds, and one round."""

_LONGEST_WAIT = timedelta(seconds=30)
STUCK_AFTER = 60.0


@dataclass(slots=True)
class StallDetector:
    """Which tasks make no progress, and since when: they hang, or fail again and again.

    Times are those of the event loop.
    """

    _since: dict[str, float] = field(default_factory=dict)

    def begins(self, name: str) -> None:
        """A round of this task begins. Its time counts from the first round that has not succeeded since."""
        self._since.setdefault(name, asyncio.get_running_loop().time())

    def ends(self, name: str) -> None:
        self._since.pop(name, None)

    def why(self, now: float) -> str | None:
        """Which tasks have made no progress for a minute, in words, or None."""
        stuck = {name: now - since for name, since in sorted(self._since.items()) if now - since > STUCK_AFTER}
        return "; ".join(f"{name} has made no progress for {seconds:.0f} s" for name, seconds in stuck.items()) or None


async def run_periodically(
    name: str, period: timedelta, tick: Callable[[], Awaitable[object]], stalls: StallDetector | None = None
) -> None:
    """Call ``tick`` for ever, ``period`` after the last call ended; never returns.

    A tick that fails is called again after a growing, jittered wait, never shorter than the period. A retryable error
    is logged as a warning, any other as an error with its exception. ``stalls`` notes rounds that do not succeed.
    """
    failures = 0
    while True:
        wait = period
        try:
            if stalls is not None:
                stalls.begins(name)
            await tick()
            if stalls is not None:
                stalls.ends(name)
            failures = 0
        except Exception as error:  # one bad round must not end the rounds; it is logged as what it is
            failures += 1
            wait = max(period, backoff(failures, base=period, cap=_LONGEST_WAIT, jitter=random.random))
            if is_retryable(error):
                log.warning("task.retried", task=name, attempt=failures, exc_info=error)
            else:
                log.exception("task.failed", task=name, attempt=failures)
        await asyncio.sleep(wait.total_seconds())
