"""aiokafka says the same thing ten times a second while a broker is away; once a minute tells as much."""

import logging
import time
from collections.abc import Callable

PERIOD_SECONDS = 60.0
_LOUD = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)


class OncePerPeriod(logging.Filter):
    """Passes a line of a given place in a library's source once per ``PERIOD_SECONDS``, whatever it speaks of."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._told: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        place, now = (record.pathname, record.lineno), self._seconds()
        if now - self._told.get(place, -PERIOD_SECONDS) < PERIOD_SECONDS:
            return False
        self._told[place] = now
        return True


_ONCE = OncePerPeriod()


def throttle_aiokafka_logs() -> None:
    """Let each complaint of aiokafka through once a minute. May be called again."""
    for name in _LOUD:
        logging.getLogger(name).addFilter(_ONCE)
