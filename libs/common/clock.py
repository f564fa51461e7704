"""The only reader of clocks.

Everything that judges time takes ``now`` as an argument; whoever needs it calls a ``Clock`` that was handed to it. There are two:

- ``DatabaseClock``: what replicas compare with each other (claims, leases, due times, pauses, progress, slots, deadlines). It is the clock of
  PostgreSQL, so a host whose own clock is wrong judges like every other. A pool has one: ``pool.now``.
- ``utc_now``: this host's clock. For what is only told (log lines, dead letters), for what is compared within one process, and for when the
  edge received something, which needs no database.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

MEASURE_EVERY = 1.0
DRIFT = 0.001
"""How far two hosts' steady clocks may part in a second: twice what a time service may slew."""
_LEAST = 0.000002
"""Two readings are this far apart at least, also while the clock waits for a server's that was set back: what is looked through in the order of
time is cut between two instants."""


def utc_now() -> datetime:
    """The present instant by this host's clock, timezone-aware, in UTC."""
    return datetime.fromtimestamp(time.time(), UTC)


def steady() -> float:
    """Seconds of a clock that nobody sets; where the system has one, one that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class DatabaseClock:
    """The present instant by PostgreSQL's clock, timezone-aware, in UTC; a ``Clock``. It never goes backwards.

    Time passes by this host's steady clock. What that lacks to the server's is measured: the server read its clock between the question
    and the answer, and so it lies within the round trip. Measurements that agree narrow it down; one that contradicts the earlier ones
    (another server answers, or its clock was set) counts alone. Without measurements the clock goes on, and ``bound`` grows.
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
            raise RuntimeError("PostgreSQL's clock was not measured yet")
        self._last = max(self._last + _LEAST, self._ticks() + (self._least + self._most) / 2)
        return datetime.fromtimestamp(self._last, UTC)

    @property
    def bound(self) -> timedelta:
        """How far this clock may be off the server's, either way, if neither was set meanwhile."""
        least, most = self._widened(self._ticks())
        return timedelta(seconds=(most - least) / 2)

    def is_due(self) -> bool:
        """Whether to measure now; says so once in a while, whoever asks first measures."""
        tick = self._ticks()
        if self._asked is not None and tick - self._asked < MEASURE_EVERY:
            return False
        self._asked = tick
        return True

    def ask(self) -> Callable[[datetime], None]:
        """Call it, ask the server for its time, and call what is returned with the answer at once."""
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
