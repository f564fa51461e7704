"""What the services weigh: at rest what latency did not measure, under load what every other part measured, and the
bridge.
"""

from collections import defaultdict

from tests.bench import rates
from tests.bench.delays import PACED, at_rest
from tests.bench.figures import highest
from tests.bench.rates import ALONE, APART, TOGETHER
from tests.bench.rounds import Bench
from tests.bench.targets import SERVICES


async def part(bench: Bench) -> None:
    """The last part: it tells what the others saw."""
    topics = tuple(dict.fromkeys((*rates.INGEST_TOPICS, *rates.ROUTER_TOPICS, *rates.SENDER_TOPICS)))
    for population in bench.populations:
        for service in SERVICES:
            found = bench.values(at_rest(service), bench.side(population))
            if not found:
                bench.say(f"memory: {service} at rest, {population:,} conversations")
                found.append(await rates.at_rest(bench.stage, service, population, topics))
    for number in range(1, bench.size.rounds + 1):
        for population in bench.populations:
            bench.say(f"memory, round {number}: sms-bridge under load, {population:,} conversations")
            await rates.rate(bench.stage, rates.TEXTING, "service", population, bench.size.records["texting"])
    for service in SERVICES:
        bench.figure(at_rest(service), "MB", "less")
    for service in SERVICES:
        _under_load(bench, service)


def _under_load(bench: Bench, service: str) -> None:
    """The peak of each round under the loads that both populations had. Other loads have their own row."""
    name = f"memory under load, {service}"
    both: dict[int, list[list[float]]] = defaultdict(list)
    for (whose, population, load), found in bench.stage.resident.items():
        if whose == service and load in (TOGETHER, rates.FULL, PACED):
            both[population].append(found[: bench.size.rounds])  # latency has more rounds, and they weigh less
        elif whose == service:
            bench.values(f"{name}, {load}").extend(found)
    for population, series in both.items():
        bench.values(name, bench.side(population)).extend(highest(series).values)
    for row in (name, f"{name}, {ALONE}", f"{name}, {APART}"):
        bench.figure(row, "MB", "less")
