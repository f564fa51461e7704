"""What may come thousands of times a minute is told once a minute, with how often it came. Pure; times are seconds of any one clock.

Rule 1: the first of its kind is told at once; what comes within ``PERIOD`` of a telling is counted and told then, so no count is lost.
Rule 2: at most ``limit`` kinds are kept apart; what comes beyond them is told as one kind, whose key is None.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

PERIOD = 60.0

KeyT = TypeVar("KeyT")
SampleT = TypeVar("SampleT")


@dataclass(frozen=True, slots=True)
class Told(Generic[KeyT, SampleT]):
    """To be told now: how many came since the last time, and one of them."""

    key: KeyT | None
    count: int
    sample: SampleT


@dataclass(slots=True)
class _Kind(Generic[SampleT]):
    told_at: float
    sample: SampleT
    waiting: int = 0


@dataclass(slots=True)
class Tally(Generic[KeyT, SampleT]):
    """Counts by key. ``add`` and ``due`` say what is to be told."""

    limit: int = 100
    _kinds: dict[KeyT | None, _Kind[SampleT]] = field(default_factory=dict)

    def add(self, key: KeyT, sample: SampleT, at: float, count: int = 1) -> Told[KeyT, SampleT] | None:
        """``count`` more of them; what to tell at once, or None."""
        known: KeyT | None = key if key in self._kinds or len(self._kinds) < self.limit else None
        kind = self._kinds.get(known)
        if kind is None:
            self._kinds[known] = _Kind(at, sample)
            return Told(known, count, sample)
        kind.waiting += count
        kind.sample = sample
        return self._tell(known, kind, at) if at - kind.told_at >= PERIOD else None

    def due(self, at: float) -> list[Told[KeyT, SampleT]]:
        """What came since it was told, where that is long enough ago. What is quiet for as long is forgotten."""
        over = [(key, kind) for key, kind in self._kinds.items() if at - kind.told_at >= PERIOD]
        for key, kind in over:
            if not kind.waiting:
                del self._kinds[key]
        return [self._tell(key, kind, at) for key, kind in over if kind.waiting]

    def rest(self, at: float) -> list[Told[KeyT, SampleT]]:
        """All that was counted and not told: at an end."""
        return [self._tell(key, kind, at) for key, kind in self._kinds.items() if kind.waiting]

    @staticmethod
    def _tell(key: KeyT | None, kind: _Kind[SampleT], at: float) -> Told[KeyT, SampleT]:
        told = Told(key, kind.waiting, kind.sample)
        kind.waiting, kind.told_at = 0, at
        return told
