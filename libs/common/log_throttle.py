"""Throttles for log lines: those that a client can cause as often as it likes, and those that aiokafka repeats."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

PERIOD_SECONDS = 60.0
_LOGGERS = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)

WriteLine = Callable[[int], None]
"""Writes the log line. The argument is the number of events since the last line."""


@dataclass(slots=True)
class LogThrottle:
    """Logs the first event of a key at once, and the events of the next ``seconds`` together when these are over.

    Keys are static words.
    """

    seconds: float = 1.0
    _waiting: dict[str, tuple[int, WriteLine]] = field(default_factory=dict)

    def report(self, key: str, write: WriteLine) -> None:
        """One more event. The latest ``write`` logs all events that were not logged yet."""
        if key in self._waiting:
            self._waiting[key] = (self._waiting[key][0] + 1, write)
            return
        write(1)
        self._start_timer(key, write)

    def _start_timer(self, key: str, write: WriteLine) -> None:
        self._waiting[key] = (0, write)
        asyncio.get_running_loop().call_later(self.seconds, self._on_timer, key)

    def _on_timer(self, key: str) -> None:
        count, write = self._waiting.pop(key)
        if count:
            write(count)
            self._start_timer(key, write)


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
    """Let each of aiokafka's lines through once a minute: while a broker is away it logs one ten times a second.

    May be called again.
    """
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_ONCE)
