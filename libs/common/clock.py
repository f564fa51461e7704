"""The only module that reads clocks.

Code that depends on time takes ``now`` as an argument. Code that needs the time itself is given a ``Clock``. There are
two:

- ``DatabaseClock``: for times that replicas compare with each other (claims, leases, due times, pauses, progress,
  slots, deadlines). It is PostgreSQL's clock, so a host with a wrong clock agrees with the others. A pool has one:
  ``pool.now``.
- ``utc_now``: this host's clock. It is for times that are only shown (log lines, dead letters), and for times compared
  within one process. It is also for the edge's time of receipt, which needs no database.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

MEASURE_EVERY = 1.0
STANDS = 120.0
"""A server that is so many seconds behind the last reading, or fewer, is waited for."""
DRIFT = 0.001
"""The drift of two hosts' steady clocks per second, at most: twice the slew of a time service."""
_STEADY: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_UNKNOWN = "PostgreSQL's clock was not measured yet"
_LEAST = 0.000002
"""Two readings differ by at least this many seconds, also while the clock waits for a server's that was set back.

So a scan in the order of time can be cut between two readings.
"""


def utc_now() -> datetime:
    """The present instant by this host's clock, timezone-aware, in UTC."""
    return datetime.fromtimestamp(time.time(), UTC)


def unix_now() -> float:
    """The same instant in seconds since 1970, for a third of the time."""
    return time.time()


def steady() -> float:
    """Seconds of a monotonic clock. Where the system has one, it goes on while the machine sleeps."""
    return time.clock_gettime(_STEADY)


class DatabaseClock:
    """The present instant by PostgreSQL's clock, timezone-aware, in UTC; a ``Clock``.

    It goes backwards only with a server that is more than ``STANDS`` behind: its clock was wrong and was set right, and
    to stand still until it is reached would hold everything up for as long as it was wrong. Otherwise it waits.

    Time passes by this host's steady clock. Its offset to the server's clock is measured: the server read its clock
    between question and answer, so the offset lies within the round trip.

    Measurements that agree narrow the offset down. One that contradicts the earlier ones replaces them: another server
    answers, or its clock was set. Without measurements the clock goes on, and ``bound`` grows.
    """

    def __init__(self, ticks: Callable[[], float] = steady) -> None:
        self._ticks = ticks
        self._least = self._most = self._at = 0.0
        self._asked: float | None = None
        self._measured = False
        self._last = 0.0

    def __call__(self) -> datetime:
        """The present instant. Raises RuntimeError before the first measurement."""
        if not self._measured:
            raise RuntimeError(_UNKNOWN)
        now = self._ticks() + (self._least + self._most) / 2
        self._last = now if self._last - now > STANDS else max(self._last + _LEAST, now)
        return datetime.fromtimestamp(self._last, UTC)

    @property
    def bound(self) -> timedelta:
        """The largest error against the server's clock, in both directions, if neither was set meanwhile."""
        least, most = self._widened(self._ticks())
        return timedelta(seconds=(most - least) / 2)

    @property
    def earliest(self) -> datetime:
        """What the server's clock has reached by now at the least. Raises RuntimeError before the first measurement."""
        if not self._measured:
            raise RuntimeError(_UNKNOWN)
        tick = self._ticks()
        return datetime.fromtimestamp(tick + self._widened(tick)[0], UTC)

    def is_due(self) -> bool:
        """Whether to measure now. Only the first caller per ``MEASURE_EVERY`` gets True."""
        tick = self._ticks()
        if self._asked is not None and tick - self._asked < MEASURE_EVERY:
            return False
        self._asked = tick
        return True

    def ask(self) -> Callable[[datetime], None]:
        """Begin a measurement: ask the server for its time, and call the returned function with its answer at once."""
        sent = self._asked = self._ticks()
        return lambda answer: self._measure(answer.timestamp(), sent, self._ticks())

    def _measure(self, answer: float, sent: float, received: float) -> None:
        least, most = answer - received, answer - sent
        if self._measured:
            before = self._widened(received)
            if max(least, before[0]) <= min(most, before[1]):
                least, most = max(least, before[0]), min(most, before[1])
        self._least, self._most, self._at, self._measured = least, most, received, True

    def _widened(self, tick: float) -> tuple[float, float]:
        drift = max(0.0, tick - self._at) * DRIFT
        return self._least - drift, self._most + drift
