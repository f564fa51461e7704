"""What every part of the bench does: rounds of the service on few conversations, its floor, and the service on many.

Rounds follow each other, so that every comparison is between neighbours in time. A part is a function that is given the
``Bench``; it notes values by figure and side, and makes figures of them at its end.
"""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.bench.figures import Better, Figure, Growth, Spread
from tests.bench.machine import CpuClock, Shares
from tests.bench.rates import Who
from tests.bench.size import Size
from tests.bench.stage import BenchError, Stage
from tests.bench.targets import targets

Say = Callable[[str], None]
Side = Literal["few", "floor", "many"]
Once = Callable[[Who, int], Awaitable[Mapping[str, float]]]
"""One run of the service or its floor on a population: values by the name of their figure."""


@dataclass(slots=True)
class Findings:
    """Everything a run of the bench found. ``seconds``: how long each part took."""

    figures: list[Figure] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    shares: dict[str, Shares] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Bench:
    """The stage, how much is wanted, and what was found until now."""

    stage: Stage
    size: Size
    say: Say
    found: Findings = field(default_factory=Findings)
    _values: dict[tuple[str, Side], list[float]] = field(default_factory=lambda: defaultdict(list))

    def values(self, name: str, side: Side = "few") -> list[float]:
        """Those of a figure, in the order of the rounds; what is added to the list is noted."""
        return self._values[name, side]

    def side(self, population: int) -> Side:
        """Of the service on that population."""
        return "few" if population == self.size.few else "many"

    @property
    def populations(self) -> Sequence[int]:
        """Those that are stored: the small one, and the large one unless growth is left out."""
        return [self.size.few] if self.size.many is None else [self.size.few, self.size.many]

    @contextlib.asynccontextmanager
    async def part(self, name: str) -> AsyncIterator[None]:
        """A part that fails is said to have failed, and the others go on."""
        before = CpuClock.read()
        try:
            yield
        except* BenchError as failed:
            self.found.failures += [f"{name}: {error}" for error in failed.exceptions]
        now = CpuClock.read()
        self.found.shares[name] = now.since(before)
        self.found.seconds[name] = now.at - before.at

    async def rounds(self, name: str, once: Once, rounds: int | None = None) -> None:
        """Few, floor, many; and again. ``rounds``: how often, where it is not the size's."""
        sides: list[tuple[Side, Who, int]] = [("few", "service", self.size.few), ("floor", "floor", self.size.few)]
        if self.size.many is not None:
            sides.append(("many", "service", self.size.many))
        for number in range(1, (rounds or self.size.rounds) + 1):
            for side, who, population in sides:
                self.say(f"{name}, round {number}: {who}, {population:,} conversations")
                for figure, value in (await once(who, population)).items():
                    self.values(figure, side).append(value)

    def figure(self, name: str, unit: str, better: Better, *, grows: bool = True, of: str = "") -> None:
        """Make a figure of what was noted under ``name`` and ``of``; nothing where nothing was.

        ``grows``: whether it is compared over populations; the slowest of a few dozen pieces is chance. ``of`` says of
        what it is and follows the name, which has the targets.
        """
        few, floor, many = (self.spread(name + of, side) for side in ("few", "floor", "many"))
        if few is not None:
            self.found.figures.append(Figure(name + of, unit, better, few, floor, targets(name)))
            if many is not None and grows:
                self.grown(name + of, unit, better, few, many)

    def grown(self, name: str, unit: str, better: Better, few: Spread, many: Spread) -> None:
        """Compare a figure over populations."""
        self.found.growth.append(Growth(name, unit, better, few, many))

    def spread(self, name: str, side: Side = "few") -> Spread | None:
        """What was noted; None where nothing was."""
        found = self._values.get((name, side))
        return Spread.of(found) if found else None
