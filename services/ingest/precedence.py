"""The edge goes first: while requests queue at it, the worker of the same process takes little.

Both share one event loop. What the worker stores later is stored all the same, but a webhook that the edge does not take in time is refused, and
comes again after minutes.

Rule 1: without a queue the worker never waits.
Rule 2: with one it takes a record for every ``WEBHOOKS_PER_RECORD`` that the edge takes, whatever the machine is able to.
Rule 3: no batch waits longer than ``LONGEST_SECONDS``, so that the worker goes on however long the queue lasts.
"""

import asyncio
from time import perf_counter

from services.ingest.together import Together

QUEUE = 8  # requests that wait for Kafka's acknowledgement at once
LONG_TURN_SECONDS = 0.001  # of the event loop; with less it has time for more, however many wait for Kafka
WEBHOOKS_PER_RECORD = 20  # storing one costs as much as taking three, and the edge is to keep nine tenths of the time
LONGEST_SECONDS = 3.0  # less than a rebalance leaves to the batch in hand
_TURNS = 3
_LOOK_SECONDS = 0.05


class Precedence:
    """``edge`` is what the edge publishes with; without one nobody goes first."""

    def __init__(self, edge: Together | None = None, *, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._edge = edge
        self._longest_seconds = longest_seconds
        self._one_by_one = asyncio.Lock()  # else batches side by side would rest side by side

    async def give_way(self, records: int) -> None:
        """Return when so many records may be worked on."""
        edge = self._edge
        if edge is None:
            return
        async with self._one_by_one:
            ends, enough = perf_counter() + self._longest_seconds, edge.taken + records * WEBHOOKS_PER_RECORD
            while perf_counter() < ends and edge.taken < enough and await _is_busy(edge):  # noqa: ASYNC110 -- what it waits for is no event
                await asyncio.sleep(_LOOK_SECONDS)


async def _is_busy(edge: Together) -> bool:
    if edge.waits < QUEUE:
        return False
    began = perf_counter()
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    return perf_counter() - began > _TURNS * LONG_TURN_SECONDS
