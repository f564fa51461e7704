"""Work that repeats beside the main one: a sweeper, a refresher."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

from libs.common.backoff import backoff
from libs.common.logging import get_logger
from libs.common.transience import is_transient

log = get_logger()

_LONGEST_WAIT = timedelta(seconds=30)


async def repeatedly(name: str, period: timedelta, tick: Callable[[], Awaitable[object]]) -> None:
    """Call ``tick`` for ever, ``period`` after the last call ended; never returns.

    A tick that fails is tried again after a growing, jittered wait: expected trouble is a warning, anything else an error with its
    exception. The wait is never shorter than the period.
    """
    failures = 0
    while True:
        wait = period
        try:
            await tick()
            failures = 0
        except Exception as error:  # one bad round must not end the rounds; it is logged as what it is
            failures += 1
            wait = max(period, backoff(failures, base=period, cap=_LONGEST_WAIT, jitter=random.random))
            if is_transient(error):
                log.warning("task.retried", task=name, attempt=failures, exc_info=error)
            else:
                log.exception("task.failed", task=name, attempt=failures)
        await asyncio.sleep(wait.total_seconds())
