"""aiokafka's log lines, once a minute each: while a broker is away it logs the same line ten times a second."""

import logging
import time
from collections.abc import Callable

PERIOD_SECONDS = 60.0
_LOGGERS = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)


class OncePerPeriod(logging.Filter):
    """Passes the lines of one place in a library's source once per ``PERIOD_SECONDS``, whatever their arguments."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._passed_at: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place, now = (record.pathname, record.lineno), self._seconds()
        if now - self._passed_at.get(place, -PERIOD_SECONDS) < PERIOD_SECONDS:
            return False
        self._passed_at[place] = now
        return True


_ONCE = OncePerPeriod()


def throttle_aiokafka_logs() -> None:
    """Let each of aiokafka's lines through once a minute. May be called again."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_ONCE)
