"""An aggregator of frequent log events: each key is logged at most once a minute, with its count. Pure.

Rule 1: the first event of a key is reported at once. Events within ``PERIOD`` of a report are counted in the next one.
        So no count is lost.
Rule 2: at most ``limit`` keys are distinguished. Events of all further keys are reported together, with the key None.

Times are seconds of any one clock.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

PERIOD = 60.0

KeyT = TypeVar("KeyT")
SampleT = TypeVar("SampleT")


@dataclass(frozen=True, slots=True)
class Report(Generic[KeyT, SampleT]):
    """The number of events since the last report, and the latest of them."""

    key: KeyT | None
    count: int
    sample: SampleT


@dataclass(slots=True)
class _Entry(Generic[SampleT]):
    reported_at: float
    sample: SampleT
    waiting: int = 0


@dataclass(slots=True)
class LogAggregator(Generic[KeyT, SampleT]):
    """Counts events by key. ``add`` and ``due`` return the reports to log."""

    limit: int = 100
    _entries: dict[KeyT | None, _Entry[SampleT]] = field(default_factory=dict)

    def add(self, key: KeyT, sample: SampleT, at: float, count: int = 1) -> Report[KeyT, SampleT] | None:
        """Count ``count`` events. Returns a report to log at once, or None."""
        known: KeyT | None = key if key in self._entries or len(self._entries) < self.limit else None
        entry = self._entries.get(known)
        if entry is None:
            self._entries[known] = _Entry(at, sample)
            return Report(known, count, sample)
        entry.waiting += count
        entry.sample = sample
        return self._report(known, entry, at) if at - entry.reported_at >= PERIOD else None

    def due(self, at: float) -> list[Report[KeyT, SampleT]]:
        """The reports of the keys whose last report is ``PERIOD`` ago. A key without an event since then is removed."""
        over = [(key, entry) for key, entry in self._entries.items() if at - entry.reported_at >= PERIOD]
        for key, entry in over:
            if not entry.waiting:
                del self._entries[key]
        return [self._report(key, entry, at) for key, entry in over if entry.waiting]

    def remaining(self, at: float) -> list[Report[KeyT, SampleT]]:
        """The reports of all events that were not reported yet: for a stop."""
        return [self._report(key, entry, at) for key, entry in self._entries.items() if entry.waiting]

    @staticmethod
    def _report(key: KeyT | None, entry: _Entry[SampleT], at: float) -> Report[KeyT, SampleT]:
        report = Report(key, entry.waiting, entry.sample)
        entry.waiting, entry.reported_at = 0, at
        return report
