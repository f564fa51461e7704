"""The parts of the bench, in the order of the table."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial

from tests.bench import (
    delays,
    lists,
    live,
    memory,
    neighbour,
    portal,
    processes,
    rates,
    rest,
    slow_provider,
    statuses,
    throughput,
)
from tests.bench.machine import CpuClock
from tests.bench.rounds import Bench

PARTS: Mapping[str, Callable[[Bench], Awaitable[None]]] = {
    "intake": throughput.intake,
    "through": partial(throughput.rate, name="through", work=rates.THROUGH),
    "statuses": statuses.part,
    "routing": partial(throughput.rate, name="routing", work=rates.ROUTING),
    "sending": partial(throughput.rate, name="sending", work=rates.SENDING),
    slow_provider.PART: slow_provider.part,
    "portal": portal.part,
    "live": live.part,
    "lists": lists.part,
    "latency": delays.part,
    "neighbour": neighbour.part,
    "memory": memory.part,
    "rest": rest.part,
    "processes": processes.part,
    # last: after it the router answers the large population by SMS, and the other parts wait for WhatsApp
    "inbound SMS": partial(throughput.rate, name="inbound SMS", work=rates.INBOUND_SMS),
}


async def run(bench: Bench, wanted: Collection[str]) -> None:
    """Those that are wanted."""
    began = CpuClock.read()
    for name, part in PARTS.items():
        if name in wanted:
            async with bench.part(name):
                await part(bench)
    bench.found.shares["whole run"] = CpuClock.read().since(began)
