"""The order of runs, and the figures that come of them.

A round is: the service on the small population, its floor, the service on the large one. Rounds follow each other, so
that every comparison is between neighbours in time.
"""

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.bench import neighbour, portal, rates, seed
from tests.bench.delays import IDLE, PACED, PACES, STEPS, delays
from tests.bench.figures import Better, Figure, Growth, Spread, Target, highest
from tests.bench.machine import CpuClock, Shares
from tests.bench.rates import ALONE, APART, TOGETHER, Who, Work
from tests.bench.stage import BenchError, Stage

Say = Callable[[str], None]
Side = Literal["few", "floor", "many"]
NAMES = ("intake", "through", "inbound SMS", "routing", "sending", "portal", "latency", "neighbour", "memory")

LONE_INTENT = Target("value", 40.0)
MEMORY = Target("value", 120.0)
NEIGHBOUR = Target("value", 100.0)
MEASURED = ("ingest", "router", "whatsapp-sender", "sms-bridge")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: ``records`` by name of the work, ``pace_seconds`` by pace and kind in ``pace_rounds``."""

    rounds: int
    pace_rounds: int
    few: int
    many: int | None
    intake_seconds: float
    portal_seconds: float
    pace_seconds: float
    records: dict[str, int]


FULL = Size(
    3,
    5,
    1_000,
    1_000_000,
    3.0,
    5.0,
    2.0,
    {"through": 20_000, "inbound SMS": 10_000, "routing": 20_000, "sending": 5_000, "texting": 2_000},
)
QUICK = Size(
    1,
    1,
    1_000,
    None,
    2.0,
    2.0,
    1.5,
    {"through": 10_000, "inbound SMS": 5_000, "routing": 10_000, "sending": 2_500, "texting": 1_000},
)


@dataclass(slots=True)
class Findings:
    """Everything a run of the bench found."""

    figures: list[Figure] = field(default_factory=list)
    growth: list[Growth] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    shares: dict[str, Shares] = field(default_factory=dict)


@dataclass(slots=True)
class _Runs:
    """Values by figure and side."""

    values: dict[tuple[str, Side], list[float]] = field(default_factory=lambda: defaultdict(list))

    def spread(self, name: str, side: Side) -> Spread | None:
        found = self.values.get((name, side))
        return Spread.of(found) if found else None


class Bench:
    """``run`` the parts that are wanted; ``found`` is complete after it."""

    def __init__(self, stage: Stage, size: Size, say: Say) -> None:
        self._stage, self._size, self._say = stage, size, say
        self._runs = _Runs()
        self.found = Findings()

    async def run(self, wanted: Sequence[str]) -> None:
        """In the order of the table. A part that fails is said to have failed, and the others go on."""
        began = CpuClock.read()
        if "intake" in wanted:
            async with self._part("intake"):
                await self._intake()
        works = {
            "through": rates.THROUGH,
            "inbound SMS": rates.INBOUND_SMS,
            "routing": rates.ROUTING,
            "sending": rates.SENDING,
        }
        for name, work in works.items():
            if name in wanted:
                async with self._part(name):
                    await self._rate(name, work)
        if "portal" in wanted:
            async with self._part("portal"):
                await self._portal()
        if "latency" in wanted:
            async with self._part("latency"):
                await self._latency()
        if "neighbour" in wanted:
            async with self._part("neighbour"):
                await self._neighbour()
        if "memory" in wanted:
            async with self._part("memory"):
                await self._memory()
        self.found.shares["whole run"] = CpuClock.read().since(began)

    @contextlib.asynccontextmanager
    async def _part(self, name: str) -> AsyncIterator[None]:
        before = CpuClock.read()
        try:
            yield
        except* BenchError as failed:
            self.found.failures += [f"{name}: {error}" for error in failed.exceptions]
        self.found.shares[name] = CpuClock.read().since(before)

    async def _rounds(
        self, name: str, once: Callable[[Who, int], Awaitable[dict[str, float]]], rounds: int | None = None
    ) -> None:
        sides: list[tuple[Side, Who, int]] = [("few", "service", self._size.few), ("floor", "floor", self._size.few)]
        if self._size.many is not None:
            sides.append(("many", "service", self._size.many))
        for number in range(1, (rounds or self._size.rounds) + 1):
            for side, who, population in sides:
                self._say(f"{name}, round {number}: {who}, {population:,} conversations")
                for figure, value in (await once(who, population)).items():
                    self._runs.values[figure, side].append(value)

    def _figure(self, name: str, unit: str, better: Better, *targets: Target, grows: bool = True) -> None:
        """``grows``: whether it is compared over populations; the slowest of a few dozen pieces is chance."""
        few, floor, many = (self._runs.spread(name, side) for side in ("few", "floor", "many"))
        if few is not None:
            self.found.figures.append(Figure(name, unit, better, few, floor, targets))
            if many is not None and grows:
                self.found.growth.append(Growth(name, unit, better, few, many))

    async def _intake(self) -> None:
        async def once(who: Who, population: int) -> dict[str, float]:
            if who == "floor":
                floor = await rates.intake(self._stage, who, population, self._size.intake_seconds, alone=True)
                return _intake(ALONE, floor) | _intake(TOGETHER, floor)
            found = _intake(
                TOGETHER, await rates.intake(self._stage, who, population, self._size.intake_seconds, alone=False)
            )
            if population == self._size.few:  # the edge alone never asks the database
                found |= _intake(
                    ALONE, await rates.intake(self._stage, who, population, self._size.intake_seconds, alone=True)
                )
            return found

        try:
            await self._rounds("intake", once)
        finally:
            for name in (ALONE, TOGETHER):
                self._figure(f"intake, {name}", "/s", "more", Target("ratio", 0.6))
                self._figure(f"intake, {name}, own processor time each", "µs", "less")
                self._figure(f"intake p50, {name}", "ms", "less")
                self._figure(f"intake p99, {name}", "ms", "less", grows=False)

    async def _rate(self, name: str, work: Work) -> None:
        async def once(who: Who, population: int) -> dict[str, float]:
            pace = await rates.rate(self._stage, work, who, population, self._size.records[name])
            return {name: pace.rate, f"{name}, own processor time each": pace.own_us}

        async def everywhere() -> None:
            """As many records, each for its own conversation: batches hold more customers in every population."""
            if self._size.many is not None:
                self._say(f"{name}: each in a conversation of its own, {self._size.many:,} conversations")
                count = self._size.records[name]
                pace = await rates.rate(self._stage, work, "service", self._size.many, count, active=count)
                self._runs.values[f"{name}, {APART}", "few"].append(pace.rate)

        targets = {
            "through": (Target("ratio", 0.5), Target("value", 3000.0)),
            "routing": (Target("ratio", 0.6), Target("value", 3000.0)),
        }
        try:
            await self._rounds(name, once)
            await everywhere()
        finally:
            self._figure(name, "/s", "more", *targets.get(name, ()))
            self._figure(f"{name}, own processor time each", "µs", "less")
            self._figure(f"{name}, {APART}", "/s", "more")

    async def _portal(self) -> None:
        """Its figures and their floor are of the largest population."""
        largest = self._size.many or self._size.few
        at_largest = f", {seed.messages(largest):,} messages"
        runs: list[tuple[str, Side, Who, int]] = [
            (at_largest, "few", "service", largest),
            (at_largest, "floor", "floor", largest),
        ]
        if self._size.many is not None:
            runs += [("", "few", "service", self._size.few)]
        try:
            for number in range(1, self._size.rounds + 1):
                for of, side, who, population in runs:
                    self._say(f"portal, round {number}: {who}, {population:,} conversations")
                    found = await portal.portal(self._stage, who, population, self._size.portal_seconds)
                    for name, value in found.items():
                        self._runs.values[name + of, side].append(value)
        finally:
            for name, (unit, better) in portal.FIGURES.items():
                self._figure(name + at_largest, unit, better)
                few, many = self._runs.spread(name, "few"), self._runs.spread(name + at_largest, "few")
                if few is not None and many is not None and name not in portal.SLOWEST:
                    self.found.growth.append(Growth(name, unit, better, few, many))

    async def _latency(self) -> None:
        async def once(who: Who, population: int) -> dict[str, float]:
            found = await delays(self._stage, who, population, self._size.pace_seconds)
            if who == "service":
                for service, mb in found.at_rest.items():
                    self._runs.values[_at_rest(service), self._side(population)].append(mb)
            return {
                _of(one.step, one.pace, p): value
                for one in found.delays
                for p, value in (("p50", one.p50), ("p99", one.p99))
            }

        try:
            await self._rounds("latency", once, self._size.pace_rounds)
        finally:
            for step in STEPS:
                for pace in PACES:
                    lone = step == "called" and pace == IDLE
                    self._figure(_of(step, pace, "p50"), "ms", "less", *([LONE_INTENT] if lone else []))
                    self._figure(_of(step, pace, "p99"), "ms", "less", grows=False)

    async def _neighbour(self) -> None:
        """The floor of a lone message beside a flood is the same message without it."""
        name = f"intent → provider call beside {neighbour.ROWS:,} rows of a throttled number"
        later = "later than without them"
        try:
            for number in range(1, self._size.rounds + 1):
                self._say(f"neighbour, round {number}: {self._size.few:,} conversations")
                found = await neighbour.pair(self._stage, self._size.few, self._size.pace_seconds)
                for p, without, beside in zip(("p50", "p99"), found.without, found.beside, strict=True):
                    self._runs.values[f"{name}, {p}", "floor"].append(without)
                    self._runs.values[f"{name}, {p}", "few"].append(beside)
                    self._runs.values[f"{later}, {p}", "few"].append(beside - without)
        finally:
            for p in ("p50", "p99"):
                self._figure(f"{name}, {p}", "ms", "less")
                self._figure(f"{later}, {p}", "ms", "less", *([NEIGHBOUR] if p == "p50" else []))

    async def _memory(self) -> None:
        """At rest what latency did not measure; under load what every other run measured, and the bridge."""
        topics = tuple(dict.fromkeys((*rates.INGEST_TOPICS, *rates.ROUTER_TOPICS, *rates.SENDER_TOPICS)))
        populations = [self._size.few] if self._size.many is None else [self._size.few, self._size.many]
        for population in populations:
            for service in MEASURED:
                found = self._runs.values[_at_rest(service), self._side(population)]
                if not found:
                    self._say(f"memory: {service} at rest, {population:,} conversations")
                    found.append(await rates.at_rest(self._stage, service, population, topics))
        for number in range(1, self._size.rounds + 1):
            for population in populations:
                self._say(f"memory, round {number}: sms-bridge under load, {population:,} conversations")
                await rates.rate(self._stage, rates.TEXTING, "service", population, self._size.records["texting"])
        for service in MEASURED:
            self._figure(_at_rest(service), "MB", "less", MEMORY)
        for service in MEASURED:
            self._under_load(service)

    def _under_load(self, service: str) -> None:
        """The peak of each round under the loads that both populations had. Other loads have their own row."""
        name = f"memory under load, {service}"
        both: dict[int, list[list[float]]] = defaultdict(list)
        for (whose, population, load), found in self._stage.resident.items():
            if whose == service and load in (TOGETHER, rates.FULL, PACED):
                both[population].append(found[: self._size.rounds])  # latency has more rounds, and they weigh less
            elif whose == service:
                self._runs.values[f"{name}, {load}", "few"] += found
        for population, series in both.items():
            self._runs.values[name, self._side(population)] += highest(series).values
        for row in (name, f"{name}, {ALONE}", f"{name}, {APART}"):
            self._figure(row, "MB", "less", MEMORY)

    def _side(self, population: int) -> Side:
        return "few" if population == self._size.few else "many"


def _at_rest(service: str) -> str:
    return f"memory at rest, {service}"


def _intake(name: str, found: rates.Intake) -> dict[str, float]:
    return {
        f"intake, {name}": found.rate,
        f"intake, {name}, own processor time each": found.own_us,
        f"intake p50, {name}": found.p50,
        f"intake p99, {name}": found.p99,
    }


def _of(step: str, pace: float, p: str) -> str:
    return f"{STEPS[step]}, {'idle' if pace == IDLE else f'{pace:,.0f}/s'}, {p}"
