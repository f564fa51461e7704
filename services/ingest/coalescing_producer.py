"""The edge publishes with priority over the worker of its process.

``CoalescingProducer``: requests that arrive in one turn of the event loop are published as one batch. Each request
waits for the acknowledgement of its batch. A lone request waits for no other.

``EdgePriority``: while requests queue at the edge, the worker of the same process takes few records. Both share one
event loop. The worker's records lose nothing by waiting. But a webhook that the edge does not take in time is refused,
and the provider sends it again after minutes.

Rule 1: without a queue the worker never waits. Requests that wait for Kafka's acknowledgement are a queue only while
        the event loop is busy. Otherwise the edge would be no faster without the worker.
Rule 2: with a queue the worker takes one record for every ``WEBHOOKS_PER_RECORD`` that the edge takes, on any machine.
Rule 3: no batch waits longer than ``LONGEST_SECONDS``, so the worker goes on however long the queue lasts.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, thread_time

from libs.common.errors import Permanent, TransomError
from libs.common.kafka.producer import Producer, Record

QUEUE = 8.0  # requests that wait at once, in the mean
BUSY = 0.8  # of the time
WEBHOOKS_PER_RECORD = (
    20  # storing one costs as much as taking one or two, and the edge is to keep nine tenths of the time
)
LONGEST_SECONDS = 3.0  # less than a rebalance leaves to the batch in hand
_SAMPLE_SECONDS = 0.05

_Waiting = tuple[Sequence[Record], "asyncio.Future[None]"]


@dataclass(slots=True)
class CoalescingProducer:
    """Publishes the records of concurrent requests in one batch, by a producer that others may use too."""

    producer: Producer
    _waiting: list[_Waiting] = field(default_factory=list)
    _in_flight: dict["asyncio.Task[None]", int] = field(default_factory=dict)
    """The batches under way, and how many requests wait for each."""
    taken: int = 0
    """How many requests were acknowledged so far."""
    _waits: int = 0
    _queued: float = 0.0
    _since: float = field(default_factory=perf_counter)
    """How many requests wait now; the seconds that all have waited up to ``_since``; and that time."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when all are acknowledged. Raises Transient or Permanent, as the producer does."""
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()
        self._waiting.append((records, acknowledged))
        if len(self._waiting) == 1:
            loop.call_soon(self._flush)
        await acknowledged

    def queued(self) -> float:
        """The seconds that all requests together have waited for acknowledgement so far."""
        return self._queued + self._waits * (perf_counter() - self._since)

    def _count_waits(self, count: int) -> None:
        now = perf_counter()
        self._queued += self._waits * (now - self._since)
        self._since, self._waits = now, count

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._count_waits(self._waits + len(waiting))
        task = asyncio.create_task(self._publish(waiting))
        self._in_flight[task] = len(waiting)
        task.add_done_callback(self._landed)

    def _landed(self, task: "asyncio.Task[None]") -> None:
        self._count_waits(self._waits - self._in_flight.pop(task))

    async def _publish(self, waiting: Sequence[_Waiting]) -> None:
        failure: BaseException | None = None
        try:
            await self.producer.publish([record for records, _ in waiting for record in records])
        except Permanent as error:
            if len(waiting) > 1:  # the record of one request is at fault: the others are published alone
                await asyncio.gather(*(self._publish([one]) for one in waiting))
                return
            failure = error
        except TransomError as error:
            failure = error
        except BaseException as error:
            _acknowledge(waiting, error)
            raise
        self.taken += len(waiting) if failure is None else 0
        _acknowledge(waiting, failure)


def _acknowledge(waiting: Sequence[_Waiting], failure: BaseException | None) -> None:
    for _, acknowledged in waiting:
        if acknowledged.done():  # the request was cut short
            continue
        if failure is None:
            acknowledged.set_result(None)
        else:
            acknowledged.set_exception(failure)


def occupied() -> float:
    """Seconds for which this thread has run or waited for a processor. Where the system hides the wait: has run."""
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
    """``edge``: the edge's producer; without one the worker never waits.

    ``occupied`` is the clock of this thread's work, and ``longest_seconds`` how long the worker waits at most.
    """

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
        self._one_by_one = asyncio.Lock()  # otherwise concurrent batches would wait at the same time
        self._before = None if edge is None else self._sample(edge)

    async def wait_for_edge(self, records: int) -> None:
        """Return when the worker may handle so many records."""
        edge = self._edge
        if edge is None:
            return
        ends = perf_counter() + self._longest_seconds
        async with self._one_by_one:
            enough = edge.taken + records * WEBHOOKS_PER_RECORD
            while self._is_queue(edge) and perf_counter() < ends and edge.taken < enough:  # noqa: ASYNC110 -- what it waits for is no event
                await asyncio.sleep(_SAMPLE_SECONDS)

    def _is_queue(self, edge: CoalescingProducer) -> bool:
        """The means since the sample before."""
        before, self._before = self._before, self._sample(edge)
        return before is not None and self._before.is_queue_since(before)

    def _sample(self, edge: CoalescingProducer) -> _Sample:
        return _Sample(perf_counter(), edge.queued(), self._occupied())
