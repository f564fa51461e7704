"""The one budget of a stop. Pure: the clock is given.

Law 1: every step of a stop is handed what remains, so that all of them together take no longer than the budget.
Law 2: a step that comes early leaves something to those behind it: it has until its own share of the budget is over. What it does not need is theirs.
Law 3: the last step ends before the budget does: at its end everything is cut short.
Law 4: what a step has not finished by then is left as it stands: records come again, claims are settled by evidence.
"""

from collections.abc import Callable
from typing import Final

# Until which share of the budget each step may take, in the order of the steps.
HTTP: Final = 0.4  # requests under way are answered
BATCHES: Final = 0.55  # batches in hand are finished and committed
LEAVING: Final = 0.6  # consumers leave their groups
CALLS: Final = 0.8  # calls to providers under way are answered, and background work ends
RECORDS: Final = 0.84  # what they brought is recorded
TELLING: Final = 0.88  # and told
FLUSHING: Final = 0.92  # producers hand over what they hold
HANGING_UP: Final = 0.95  # and end their connections
CLOSING: Final = 0.97  # pools close, in order or not
BESIDE: Final = 0.99  # what closes its own pool beside the main work has done so; what is left of the budget is for ends that wait for nobody


class Drain:
    """``seconds`` for everything from ``begin`` on. ``now`` tells seconds, of any beginning."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self.seconds = seconds
        self._now = now
        self._began: float | None = None

    @property
    def begun(self) -> bool:
        return self._began is not None

    def begin(self) -> None:
        """The stop begins; only the first call counts."""
        if self._began is None:
            self._began = self._now()

    def left(self, share: float = CLOSING) -> float:
        """Seconds until that share of the budget is over, never less than none. Without a stop that has begun: all of that share."""
        spent = 0.0 if self._began is None else self._now() - self._began
        return max(0.0, self.seconds * share - spent)
