"""The time budget of a stop. Pure: the clock is given.

Rule 1: each step of a stop gets the time that remains, so all steps together take no longer than the budget.
Rule 2: an early step leaves time to the later ones: it may run until its own share of the budget is over. Time that it
        does not use passes to them.
Rule 3: the last step ends before the budget does. At the end of the budget everything is cancelled.
Rule 4: unfinished work is left as it is: records are delivered again, claims are settled by evidence.
"""

from collections.abc import Callable
from typing import Final

# The share of the budget at which each step ends, in the order of the steps.
HTTP: Final = 0.4  # requests under way are answered
BATCHES: Final = 0.55  # batches in hand are finished and committed
LEAVING: Final = 0.6  # consumers leave their groups
CALLS: Final = 0.8  # calls to providers under way are answered, and background work ends
RECORDS: Final = 0.84  # their results are recorded
PUBLISHING: Final = 0.88  # and published
FLUSHING: Final = 0.92  # producers flush their buffers
DISCONNECTING: Final = 0.95  # and close their connections
CLOSING: Final = 0.97  # pools close, by force if need be
# Work with a pool of its own beside the main work has closed it. The rest is for what takes no time limit.
BESIDE: Final = 0.99


class Drain:
    """``seconds`` for all steps, counted from ``begin``. ``now`` returns the seconds of any monotonic clock."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self.seconds = seconds
        self._now = now
        self._began: float | None = None

    @property
    def begun(self) -> bool:
        return self._began is not None

    def begin(self) -> None:
        """Begin the stop. Only the first call counts."""
        if self._began is None:
            self._began = self._now()

    def left(self, share: float = CLOSING) -> float:
        """Seconds until that share of the budget is over, at least 0.

        Before a stop it is the whole share.
        """
        spent = 0.0 if self._began is None else self._now() - self._began
        return max(0.0, self.seconds * share - spent)
