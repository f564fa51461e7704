"""Requests that arrive in one turn of the event loop are published as one batch.

Each request waits for the acknowledgement of its batch. A lone request waits for no other.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from libs.common.errors import Permanent, TransomError
from libs.common.kafka.producer import Producer, Record

_Waiting = tuple[Sequence[Record], "asyncio.Future[None]"]


@dataclass(slots=True)
class CoalescingProducer:
    """In front of a producer that others may use as well."""

    producer: Producer
    _waiting: list[_Waiting] = field(default_factory=list)
    _in_flight: set["asyncio.Task[None]"] = field(default_factory=set)
    taken: int = 0
    """Requests that were acknowledged so far."""
    _waits: int = 0
    _queued: float = 0.0
    _since: float = field(default_factory=perf_counter)
    """Requests that wait now; the seconds that all have waited up to ``_since``; and that time."""

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when all are acknowledged. Raises Transient or Permanent, as the producer does."""
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()
        self._waiting.append((records, acknowledged))
        if len(self._waiting) == 1:
            loop.call_soon(self._flush)
        self._count_waits(self._waits + 1)
        try:
            await acknowledged
            self.taken += 1
        finally:
            self._count_waits(self._waits - 1)

    def queued(self) -> float:
        """The seconds that all requests have waited for acknowledgement so far. Each second adds as many as wait."""
        return self._queued + self._waits * (perf_counter() - self._since)

    def _count_waits(self, count: int) -> None:
        self._queued, self._since, self._waits = self.queued(), perf_counter(), count

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        task = asyncio.create_task(self._publish(waiting))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _publish(self, waiting: Sequence[_Waiting]) -> None:
        failure: BaseException | None = None
        try:
            await self.producer.publish([record for records, _ in waiting for record in records])
        except Permanent as error:
            if len(waiting) > 1:  # one request's record is at fault: the others must not pay for it
                await asyncio.gather(*(self._publish([one]) for one in waiting))
                return
            failure = error
        except TransomError as error:
            failure = error
        except BaseException as error:
            _acknowledge(waiting, error)
            raise
        _acknowledge(waiting, failure)


def _acknowledge(waiting: Sequence[_Waiting], failure: BaseException | None) -> None:
    for _, acknowledged in waiting:
        if acknowledged.done():  # the request was cut short
            continue
        if failure is None:
            acknowledged.set_result(None)
        else:
            acknowledged.set_exception(failure)
