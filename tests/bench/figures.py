"""Figures as the table shows them: medians with their extremes, ratios to a floor, targets reached or missed. Pure.

Rule 1: runs alternate with their floor, so a ratio is the median of the ratios of neighbours: what slows the machine
        for a minute slows both.
Rule 2: a target is judged by the median, and nothing is rounded in its favour. Only ratios are judged: an absolute
        figure is an aim for one kind of machine.
Rule 3: a figure that is worse beyond the limit with many stored conversations has missed it when its runs lie apart
        from those with few; where they overlap, chance does as much, and nothing is claimed either way.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import inf
from statistics import median
from typing import Literal, Self

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Spread:
    """What several runs gave, in the order in which they ran."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Raises ValueError without a value."""
        if not values:
            raise ValueError("no run, no figure")
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Target:
    """What was promised: a ``ratio`` to the floor, or an ``aim`` in the figure's unit."""

    of: Literal["ratio", "aim"]
    bound: float

    def reached(self, figure: "Figure") -> bool | None:
        """None for an aim, and where there is no floor."""
        found = figure.ratio
        if self.of == "aim" or found is None:
            return None
        return found >= self.bound if figure.better == "more" else found <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``floor``: the same work at its barest, from runs in between."""

    name: str
    unit: str
    better: Better
    service: Spread
    floor: Spread | None = None
    targets: tuple[Target, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Service to floor, as the median over neighbouring runs. None where the floor is nothing in one of them."""
        return None if self.floor is None or 0 in self.floor.values else paired_ratio(self.service, self.floor)


@dataclass(frozen=True, slots=True)
class Growth:
    """The same figure with few and with many stored conversations."""

    name: str
    unit: str
    better: Better
    few: Spread
    many: Spread
    limit: float = 0.10

    @property
    def worse(self) -> float:
        """How much worse the larger population is: 0.1 is ten per cent worse, below zero it is better."""
        ratio = paired_ratio(self.many, self.few)
        return 1 - ratio if self.better == "more" else ratio - 1

    @property
    def reached(self) -> bool | None:
        """None when it cannot be judged."""
        if self.worse <= self.limit:
            return True
        apart = self.many.high < self.few.low if self.better == "more" else self.many.low > self.few.high
        return False if apart else None


def highest(series: Sequence[Sequence[float]]) -> Spread:
    """The highest value of each round. A shorter series counts in its own rounds only.

    Raises ValueError without a value.
    """
    rounds = zip_longest(*series)
    return Spread.of([max(value for value in values if value is not None) for values in rounds])


def paired_ratio(above: Spread, below: Spread) -> float:
    """The median of the ratios of the runs that followed each other; runs without a neighbour are left out."""
    return median(a / b for a, b in zip(above.values, below.values, strict=False))


@dataclass(frozen=True, slots=True)
class Stretch:
    """``count`` events from ``begin`` to ``end``, in seconds."""

    begin: float
    end: float
    count: int

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.count / (self.end - self.begin)


def steady(instants: Sequence[float], skip: float = 0.1) -> Stretch:
    """The events, in any order, without the first ``skip`` of them, in which caches and connections warm up.

    Raises ValueError when too few are left for a figure.
    """
    ordered = sorted(instants)
    first = int(len(ordered) * skip)
    left = len(ordered) - first - 1
    if left < 1 or ordered[-1] <= ordered[first]:
        raise ValueError("too few events for a rate")
    return Stretch(ordered[first], ordered[-1], left)


def interpolated(points: Sequence[tuple[float, float]], x: float) -> float:
    """The value at ``x`` on the line through ``points``, which are ordered; beyond them the nearest point's.

    Raises ValueError without a point.
    """
    if not points:
        raise ValueError("no point, no line")
    after = bisect_left(points, (x, -inf))
    if after == 0 or after == len(points):
        return points[min(after, len(points) - 1)][1]
    (left, low), (right, high) = points[after - 1], points[after]
    return high if right == left else low + (high - low) * (x - left) / (right - left)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all are not above."""
    if not values:
        raise ValueError("no value, no percentile")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))]
