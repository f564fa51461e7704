"""Up to when every record of a partition is handled, by ends that the brokers named. Pure.

Rule 1: an end that was asked for at some moment, and that is reached, proves that all is handled that lay there then.
        So the oldest record that waits came after that moment. Clocks of producers do not count.
Rule 2: what is forgotten makes the moment earlier, never later: while records wait for hours, fewer ends are kept.
Rule 3: of a partition that is new here nothing is proved until its first end is reached. Until then the moment is that
        of its assignment, or of the first record that was read, whichever is earlier.

Times are those of one steady clock, in seconds: no step of the host's clock moves them.
"""

from dataclasses import dataclass, field

KEPT = 64
"""At most so many ends. Beyond that every second one is forgotten, and of new ones so many more are left out."""


@dataclass(slots=True)
class CaughtUp:
    """One partition. ``until``: everything that came before is handled."""

    until: float
    proved: bool = False
    """Whether an end was reached since the partition is ours."""
    _ends: list[tuple[float, int]] = field(default_factory=list)
    """When it was asked for, and the end; not reached yet."""
    _apart: float = 0.0
    """The least time between two of them."""

    def first_record(self, at: float) -> None:
        """A record from then is the first that waits."""
        if not self.proved:
            self.until = min(self.until, at)

    def asked(self, at: float, end: int) -> None:
        """The brokers were asked at ``at``, and named this end."""
        if self._ends and at - self._ends[-1][0] < self._apart:
            return
        self._ends.append((at, end))
        if len(self._ends) > KEPT:
            del self._ends[1::2]
            self._apart = 2 * (self._ends[-1][0] - self._ends[0][0]) / len(self._ends)

    def handled(self, next_offset: int) -> None:
        """Everything below this offset is handled."""
        reached = [at for at, end in self._ends if end <= next_offset]
        if reached:
            self.until = max(self.until, *reached)
            self.proved = True
            self._ends = [(at, end) for at, end in self._ends if end > next_offset]
            self._apart = self._apart if self._ends else 0.0
