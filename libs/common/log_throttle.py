"""A throttle for log lines that a client can cause as often as it likes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

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
