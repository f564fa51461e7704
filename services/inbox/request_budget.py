"""How many requests a person may make: a bucket for each of them, in each process. Pure; the time is an argument.

A loop that went wrong in one program does not take the process from everybody else. The numbers are far above what a
person or a program at work needs.
"""

from collections import OrderedDict

BURST = 2_000
RATE = 200.0
"""Requests a second that a bucket gets back."""
_MOST_PEOPLE = 10_000


class RequestBudget:
    """Counts the requests of each person."""

    def __init__(self) -> None:
        self._left: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, org_id: str, user_id: str, now: float) -> float | None:
        """Take one request. None: it may be answered. Else the seconds until the next one may. ``now``: seconds."""
        key = org_id, user_id
        left, since = self._left.pop(key, (float(BURST), now))
        left = min(float(BURST), left + max(0.0, now - since) * RATE)
        wait = None if left >= 1 else (1 - left) / RATE
        self._left[key] = (left if wait is not None else left - 1), now
        if len(self._left) > _MOST_PEOPLE:
            self._left.popitem(last=False)
        return wait
