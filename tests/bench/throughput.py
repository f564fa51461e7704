"""The parts that count pieces per second: webhooks acknowledged, records worked off from a full topic."""

from tests.bench import rates
from tests.bench.rates import ALONE, APART, TOGETHER, Pace, Who, Work
from tests.bench.rounds import Bench, Side


async def intake(bench: Bench) -> None:
    """The edge alone, and edge and worker in one process."""

    async def once(who: Who, population: int) -> dict[str, float]:
        if who == "floor":
            floor = await rates.intake(bench.stage, who, population, bench.size.intake_seconds, alone=True)
            return _intake(ALONE, floor) | _intake(TOGETHER, floor)
        found = _intake(
            TOGETHER, await rates.intake(bench.stage, who, population, bench.size.intake_seconds, alone=False)
        )
        if population == bench.size.few:  # the edge alone never asks the database
            found |= _intake(
                ALONE, await rates.intake(bench.stage, who, population, bench.size.intake_seconds, alone=True)
            )
        return found

    try:
        await bench.rounds("intake", once)
    finally:
        for name in (ALONE, TOGETHER):
            bench.figure(f"intake, {name}", "/s", "more")
            bench.figure(f"intake, {name}, own processor time each", "µs", "less")
            bench.figure(f"intake p50, {name}", "ms", "less")
            bench.figure(f"intake p99, {name}", "ms", "less", grows=False)


async def rate(bench: Bench, name: str, work: Work) -> None:
    """Records of ``work`` from a full topic, of the conversations that are active."""

    async def once(who: Who, population: int) -> dict[str, float]:
        pace = await rates.rate(bench.stage, work, who, population, bench.size.records[name])
        return of_pace(name, pace)

    async def apart() -> None:
        """As many records, each for its own conversation: batches hold more customers in every population."""
        population, count = bench.size.large, bench.size.records[name]
        sides: list[tuple[Side, Who]] = [("few", "service"), ("floor", "floor")]
        for number in range(1, bench.size.rounds + 1):
            for side, who in sides:
                bench.say(f"{name}, {APART}, round {number}: {who}, {population:,} conversations")
                pace = await rates.rate(bench.stage, work, who, population, count, active=count)
                bench.values(f"{name}, {APART}", side).append(pace.rate)

    try:
        await bench.rounds(name, once)
        await apart()
    finally:
        pace_figures(bench, name)
        bench.figure(f"{name}, {APART}", "/s", "more")


def of_pace(name: str, pace: Pace) -> dict[str, float]:
    """The values of a pace by the names of their figures."""
    found = {name: pace.rate, f"{name}, own processor time each": pace.own_us}
    return found if pace.all_us is None else found | {f"{name}, all processor time each": pace.all_us}


def pace_figures(bench: Bench, name: str) -> None:
    """The figures of such values."""
    bench.figure(name, "/s", "more")
    bench.figure(f"{name}, own processor time each", "µs", "less")
    bench.figure(f"{name}, all processor time each", "µs", "less")


def _intake(name: str, found: rates.Intake) -> dict[str, float]:
    return {
        f"intake, {name}": found.rate,
        f"intake, {name}, own processor time each": found.own_us,
        f"intake p50, {name}": found.p50,
        f"intake p99, {name}": found.p99,
    }
