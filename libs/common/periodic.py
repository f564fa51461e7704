"""Tasks that run again and again beside the main work: a sweeper, a refresher.

Rounds begin on the beats of the process. A process that wakes up once for ten tasks spends less than half of what ten
times cost, for most of a wake-up is finding its own code and data again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from libs.common.backoff import backoff
from libs.common.ids import AttemptKey
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable

log = get_logger()

ItemT = TypeVar("ItemT")
Task = tuple[timedelta, Callable[[], Awaitable[object]]]
"""The time between two rounds, and one round."""

_LONGEST_WAIT = timedelta(seconds=30)
STUCK_AFTER = 60.0
BEAT = 0.5
"""Seconds from one beat to the next. Each process has beats of its own, or all would ask PostgreSQL at once."""
_FIRST_BEAT = random.uniform(0.0, BEAT)  # noqa: S311 -- spreads the load
_EARLY = 0.02
"""A timer may ring so many seconds before its time."""


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


def log_trouble(task: str, error: BaseException, **fields: int) -> None:
    """A round failed: a warning where the error is retryable, else an error."""
    write, event = (log.warning, "task.retried") if is_retryable(error) else (log.error, "task.failed")
    write(event, task=task, exc_info=error, **fields)


def log_retried(task: str, errors: Sequence[BaseException]) -> None:
    """One warning for all calls of a slice that met expected trouble; nothing where none did."""
    if errors:
        log.warning("task.retried", task=task, times=len(errors), exc_info=errors[-1])


def log_set_aside(task: str, key: AttemptKey, error: BaseException, due: datetime | None = None) -> None:
    """Work on this row failed or is too slow, and goes on without it. ``due``: when the row is tried again."""
    org_id, message_id, attempt = key
    more = {} if due is None else {"due_at": due.isoformat()}
    log.error(
        "row.set_aside",
        task=task,
        org_id=org_id,
        message_id=str(message_id),
        attempt=attempt,
        exc_info=error,
        **more,
    )


async def side_by_side(items: Collection[ItemT], work: Callable[[ItemT], Awaitable[object]], *, at_once: int) -> None:
    """Do the work on each item, on so many at a time. One that fails or is slow keeps none of the others waiting.

    Raises the first error once all have ended.
    """
    few = asyncio.Semaphore(at_once)

    async def one(item: ItemT) -> None:
        async with few:
            await work(item)

    ended = await asyncio.gather(*map(one, items), return_exceptions=True)
    for error in ended:
        if error is not None:
            raise error


async def run_periodically(
    name: str, period: timedelta, tick: Callable[[], Awaitable[object]], stalls: StallDetector | None = None
) -> None:
    """Call ``tick`` for ever, with the last beat that comes within ``period`` of the end of the last call.

    It never returns. A period shorter than a beat is kept as it is. A tick that fails is called again after a growing,
    jittered wait, never shorter than the period. A retryable error is logged as a warning, any other as an error with
    its exception. ``stalls`` notes rounds that do not succeed.
    """
    failures = 0
    while True:
        wait: timedelta | None = None
        try:
            if stalls is not None:
                stalls.begins(name)
            await tick()
            if stalls is not None:
                stalls.ends(name)
            failures = 0
        except Exception as error:  # noqa: BLE001 -- one bad round must not end the rounds; it is logged as what it is
            failures += 1
            wait = max(period, backoff(failures, base=period, cap=_LONGEST_WAIT, jitter=random.random))
            log_trouble(name, error, attempt=failures)
        await asyncio.sleep(until_beat(period.total_seconds()) if wait is None else wait.total_seconds())


def until_beat(seconds: float) -> float:
    """Seconds until the last beat within ``seconds``. Less than the time between two beats is kept as it is."""
    if seconds < BEAT:
        return seconds
    behind = (asyncio.get_running_loop().time() + seconds - _FIRST_BEAT + _EARLY) % BEAT - _EARLY
    return seconds - behind
