"""What may come thousands of times a minute is reported once a minute, with how often it came. Pure.

Rule 1: the first of a kind is reported at once. What comes within ``PERIOD`` of a report is counted in the next one.
        So no count is lost.
Rule 2: at most ``limit`` kinds are kept apart. What comes beyond them is reported as one kind, whose key is None.

Times are seconds of any one clock.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

PERIOD = 60.0

KeyT = TypeVar("KeyT")
SampleT = TypeVar("SampleT")


@dataclass(frozen=True, slots=True)
class Report(Generic[KeyT, SampleT]):
    """How many came since the last report, and one of them."""

    key: KeyT | None
    count: int
    sample: SampleT


@dataclass(slots=True)
class _Kind(Generic[SampleT]):
    reported_at: float
    sample: SampleT
    waiting: int = 0


@dataclass(slots=True)
class Tally(Generic[KeyT, SampleT]):
    """Counts by key. ``add`` and ``due`` return what to report."""

    limit: int = 100
    _kinds: dict[KeyT | None, _Kind[SampleT]] = field(default_factory=dict)

    def add(self, key: KeyT, sample: SampleT, at: float, count: int = 1) -> Report[KeyT, SampleT] | None:
        """Add ``count``; returns what to report at once, or None."""
        known: KeyT | None = key if key in self._kinds or len(self._kinds) < self.limit else None
        kind = self._kinds.get(known)
        if kind is None:
            self._kinds[known] = _Kind(at, sample)
            return Report(known, count, sample)
        kind.waiting += count
        kind.sample = sample
        return self._report(known, kind, at) if at - kind.reported_at >= PERIOD else None

    def due(self, at: float) -> list[Report[KeyT, SampleT]]:
        """What came since the last report, where that is ``PERIOD`` ago. A kind that is absent as long is forgotten."""
        over = [(key, kind) for key, kind in self._kinds.items() if at - kind.reported_at >= PERIOD]
        for key, kind in over:
            if not kind.waiting:
                del self._kinds[key]
        return [self._report(key, kind, at) for key, kind in over if kind.waiting]

    def rest(self, at: float) -> list[Report[KeyT, SampleT]]:
        """All that was counted and not reported: at an end."""
        return [self._report(key, kind, at) for key, kind in self._kinds.items() if kind.waiting]

    @staticmethod
    def _report(key: KeyT | None, kind: _Kind[SampleT], at: float) -> Report[KeyT, SampleT]:
        report = Report(key, kind.waiting, kind.sample)
        kind.waiting, kind.reported_at = 0, at
        return report
