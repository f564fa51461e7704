"""The portal: a page of a stored conversation, and a message on its way to an open page.

Every reader has a session and a thread that is read (``seed``). A page is asked for by one visitor after the other, and
by several at a time. A page that is open learns of a message by its stream, which asks every ``PERIOD`` seconds: the
floor's streams ask as often, so the ratio is what the portal adds to the waiting.
"""

import urllib.request
from collections.abc import Mapping

from libs.common.events.topics import PORTAL_MESSAGES
from tests.bench.figures import Better, percentile
from tests.bench.rates import Who
from tests.bench.rounds import Bench, Side
from tests.bench.seed import THREAD_MESSAGES, messages
from tests.bench.stage import BenchError, Running, Stage, ask
from tests.bench.traffic import reader_headers

VISITORS = 16
_RATE = 50.0  # messages a second, over all open pages
_PAGE_P50, _PAGE_P99 = "portal page, p50", "portal page, p99"
_PAGES = f"portal pages, {VISITORS} visitors at a time"
_OWN = "portal page, own processor time each"
_SHOWN_P50, _SHOWN_P99 = "message stored → event at an open page, p50", "message stored → event at an open page, p99"
FIGURES: Mapping[str, tuple[str, Better]] = {
    _PAGE_P50: ("ms", "less"),
    _PAGE_P99: ("ms", "less"),
    _PAGES: ("/s", "more"),
    _OWN: ("µs", "less"),
    _SHOWN_P50: ("ms", "less"),
    _SHOWN_P99: ("ms", "less"),
}
"""The unit of each figure, and which way is better."""
SLOWEST = frozenset({_PAGE_P99, _SHOWN_P99})
"""The slowest of a few: chance, when populations are compared."""


async def part(bench: Bench) -> None:
    """Its figures and their floor are of the largest population."""
    largest = bench.populations[-1]
    of = f", {messages(largest):,} messages"
    runs: list[tuple[str, Side, Who, int]] = [(of, "few", "service", largest), (of, "floor", "floor", largest)]
    if largest != bench.size.few:
        runs += [("", "few", "service", bench.size.few)]
    try:
        for number in range(1, bench.size.rounds + 1):
            for suffix, side, who, population in runs:
                bench.say(f"portal, round {number}: {who}, {population:,} conversations")
                for name, value in (await portal(bench.stage, who, population, bench.size.portal_seconds)).items():
                    bench.values(name + suffix, side).append(value)
    finally:
        for name, (unit, better) in FIGURES.items():
            bench.figure(name, unit, better, of=of)
            few, many = bench.spread(name), bench.spread(name + of)
            if few is not None and many is not None and name not in SLOWEST:
                bench.grown(name, unit, better, few, many)


async def portal(stage: Stage, who: Who, population: int, seconds: float) -> dict[str, float]:
    """All figures, of one process."""
    async with stage.ground(population, (PORTAL_MESSAGES,)) as ground:
        runs = ground.service("portal", load=None) if who == "service" else ground.floor("portal")
        async with runs as running:
            _look(running)
            many = await _pages(
                running, VISITORS, seconds
            )  # first: all readers' rows are read once before one is alone
            spent = running.seconds_between(many["begins_at"], many["begins_at"] + seconds)
            one = await _pages(running, 1, seconds)
            given = {
                "port": running.port,
                "dsn": ground.dsn,
                "population": population,
                "rate": _RATE,
                "seconds": seconds * 2,
            }
            shown = (await ask("streams", given, [running]))["shown"]
            return {
                _PAGE_P50: one["p50_ms"],
                _PAGE_P99: one["p99_ms"],
                _PAGES: many["rate"],
                _OWN: spent / max(1, many["answered"]) * 1e6,
                _SHOWN_P50: percentile(shown, 0.5),
                _SHOWN_P99: percentile(shown, 0.99),
            }


async def _pages(running: Running, connections: int, seconds: float) -> dict[str, float]:
    given = {"kind": "pages", "port": running.port, "connections": connections, "seconds": seconds}
    found: dict[str, float] = await ask("closed", given, [running])
    if found["refused"]:
        raise BenchError(f"{running.name} refused {found['refused']:.0f} pages (log: {running.log})")
    return found


def _look(running: Running) -> None:
    """Raises BenchError when a page does not show its thread."""
    request = urllib.request.Request(f"{running.url}/conversation", headers=reader_headers(0))
    with urllib.request.urlopen(request, timeout=10) as answer:
        page = answer.read().decode()
    if page.count("ready by six") != THREAD_MESSAGES // 2:
        raise BenchError(f"{running.name} does not show the thread (log: {running.log})")
