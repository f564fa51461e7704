"""Work that repeats beside the main one: a sweeper, a refresher."""

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
    """Which of some tasks have come to no end since when: they hang, or fail again and again. Times are those of the event loop."""

    _since: dict[str, float] = field(default_factory=dict)

    def begins(self, name: str) -> None:
        """A round of this task begins; where the last one failed, it goes on."""
        self._since.setdefault(name, asyncio.get_running_loop().time())

    def ends(self, name: str) -> None:
        """Its round came to a good end."""
        self._since.pop(name, None)

    def why(self, now: float) -> str | None:
        """Who has made no progress for a minute, in words, or None."""
        stuck = {name: now - since for name, since in sorted(self._since.items()) if now - since > STUCK_AFTER}
        return "; ".join(f"{name} has made no progress for {seconds:.0f} s" for name, seconds in stuck.items()) or None


async def run_periodically(
    name: str, period: timedelta, tick: Callable[[], Awaitable[object]], pulse: StallDetector | None = None
) -> None:
    """Call ``tick`` for ever, ``period`` after the last call ended; never returns.

    A tick that fails is tried again after a growing, jittered wait: expected trouble is a warning, anything else an error with its
    exception. The wait is never shorter than the period. ``pulse`` knows of rounds that do not end well.
    """
    failures = 0
    while True:
        wait = period
        try:
            if pulse is not None:
                pulse.begins(name)
            await tick()
            if pulse is not None:
                pulse.ends(name)
            failures = 0
        except Exception as error:  # one bad round must not end the rounds; it is logged as what it is
            failures += 1
            wait = max(period, backoff(failures, base=period, cap=_LONGEST_WAIT, jitter=random.random))
            if is_retryable(error):
                log.warning("task.retried", task=name, attempt=failures, exc_info=error)
            else:
                log.exception("task.failed", task=name, attempt=failures)
        await asyncio.sleep(wait.total_seconds())
