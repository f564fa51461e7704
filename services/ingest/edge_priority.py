"""The edge has priority: while requests queue at it, the worker of the same process takes little.

Both share one event loop. What the worker stores later is stored all the same. But a webhook that the edge does not
take in time is refused, and comes again after minutes.

Rule 1: without a queue the worker never waits. A queue is what waits for Kafka's acknowledgement while the event loop
        has no time to spare. Where it has time, the edge would not be any faster without the worker.
Rule 2: with a queue the worker takes one record for every ``WEBHOOKS_PER_RECORD`` that the edge takes, on any machine.
Rule 3: no batch waits longer than ``LONGEST_SECONDS``, so the worker goes on however long the queue lasts.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, thread_time

from services.ingest.coalescing_producer import CoalescingProducer

QUEUE = 8.0  # requests that wait at once, in the mean
BUSY = 0.8  # of the time
WEBHOOKS_PER_RECORD = (
    20  # storing one costs as much as taking one or two, and the edge is to keep nine tenths of the time
)
LONGEST_SECONDS = 3.0  # less than a rebalance leaves to the batch in hand
_SAMPLE_SECONDS = 0.05


def occupied() -> float:
    """Seconds for which this thread has run or waited for a processor.

    Where the system does not say, only those it has run.
    """
    try:
        run, waited, *_ = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()
    except (OSError, ValueError):
        return thread_time()
    return (int(run) + int(waited)) / 1e9


@dataclass(frozen=True, slots=True)
class _Sample:
    """``queued`` and ``occupied`` only ever grow: the differences of two samples are the means."""

    at: float
    queued: float
    occupied: float

    def is_queue_since(self, before: "_Sample") -> bool:
        lasted = self.at - before.at
        return (
            lasted > 0
            and self.queued - before.queued >= QUEUE * lasted
            and self.occupied - before.occupied >= BUSY * lasted
        )


class EdgePriority:
    """``edge`` is what the edge publishes with; without one the worker never waits."""

    def __init__(
        self,
        edge: CoalescingProducer | None = None,
        *,
        longest_seconds: float = LONGEST_SECONDS,
        occupied: Callable[[], float] = occupied,
    ) -> None:
        self._edge = edge
        self._longest_seconds = longest_seconds
        self._occupied = occupied
        self._one_by_one = asyncio.Lock()  # else batches side by side would wait side by side
        self._before = None if edge is None else self._sample(edge)

    async def wait_for_edge(self, records: int) -> None:
        """Return when so many records may be worked on."""
        edge = self._edge
        if edge is None:
            return
        ends = perf_counter() + self._longest_seconds
        async with self._one_by_one:
            enough = edge.taken + records * WEBHOOKS_PER_RECORD
            while self._is_queue(edge) and perf_counter() < ends and edge.taken < enough:  # noqa: ASYNC110 -- what it waits for is no event
                await asyncio.sleep(_SAMPLE_SECONDS)

    def _is_queue(self, edge: CoalescingProducer) -> bool:
        """Since the sample before this."""
        before, self._before = self._before, self._sample(edge)
        return before is not None and self._before.is_queue_since(before)

    def _sample(self, edge: CoalescingProducer) -> _Sample:
        return _Sample(perf_counter(), edge.queued(), self._occupied())
