"""Offsets of one topic that are committed while the next batches are handled."""

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from libs.common import metrics
from libs.common.logging import get_logger

log = get_logger()

APART = 0.1
"""Seconds from one commit to the next. A commit costs the brokers as much as a publish, so the offsets of many small
batches are committed together."""
_TIMEOUT = 10.0
_LAST_TRY = 2.0
"""Of what is tried once more before a stop, which is to take no longer than before while the brokers are away."""


@dataclass(slots=True)
class Commits:
    """``topic`` is the declared name, ``source_topic`` the name on the broker. Times are those of the event loop.

    What is handled and not committed comes again after a crash, which handlers tolerate.
    """

    topic: str
    source_topic: str
    find_consumer: Callable[[], AIOKafkaConsumer | None]
    pending: dict[int, int] = field(default_factory=dict)
    """By partition the next offset that is not committed yet."""
    failing_since: float | None = None
    """Since when commits fail."""
    _generation: int = 0
    """Grows with each rebalance."""
    _one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _task: "asyncio.Task[None] | None" = None
    """Commits what ``soon`` was given."""
    _latest: float = -math.inf
    _hurried: asyncio.Event = field(default_factory=asyncio.Event)

    def soon(self, next_offsets: Mapping[int, int]) -> None:
        """Commit these offsets while the next batches are handled.

        One commit is under way at a time, and begins ``APART`` after the one before. Offsets that come meanwhile are
        the next one together.
        """
        self.pending |= next_offsets
        if self.pending and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._commit_pending())

    async def until_done(self) -> None:
        """Return once no commit of ``soon`` is under way. None waits for its time any more.

        What has failed is tried once more: after a stop nobody does it.
        """
        self._hurried.set()
        try:
            if self._task is not None:
                await asyncio.wait({self._task})
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_TRY):
                    await self.retry()
        finally:  # a wait that is given up hurries no later commit
            self._hurried.clear()

    async def commit(self) -> bool:
        """Commit the pending offsets. Returns whether they are committed; there may be none.

        A commit that fails is counted and logged, and stays pending. Without ``retry`` the records would come again
        after the next start or rebalance.
        """
        async with self._one_by_one:  # or an older offset could overtake a newer one
            generation = self._generation
            consumer = self.find_consumer()
            if not self.pending or consumer is None:
                return False
            pending = dict(self.pending)
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await consumer.commit(
                        {TopicPartition(self.source_topic, partition): offset for partition, offset in pending.items()}
                    )
            except (KafkaError, TimeoutError) as error:
                metrics.COMMIT_FAILURES.labels(self.topic).inc()
                log.warning("offsets.commit_failed", topic=self.topic, reason=type(error).__name__)
                if generation == self._generation and self.failing_since is None:
                    self.failing_since = asyncio.get_running_loop().time()
                return False
            if generation != self._generation:
                return False  # what is pending now is of the new generation
            self.failing_since = None
            self.pending = {place: offset for place, offset in self.pending.items() if pending.get(place) != offset}
            return True

    async def retry(self) -> None:
        """Commit the pending offsets. On a topic without new records no batch would."""
        if self.pending:
            await self.commit()

    def forget(self) -> None:
        """A rebalance begins: nothing that is pending may be committed any more."""
        self._generation += 1
        self.pending.clear()
        self.failing_since = None

    async def _commit_pending(self) -> None:
        while self.pending:
            await self._until_due()
            generation = self._generation
            if not await self.commit() and generation == self._generation:
                return  # after a rebalance what is pending came meanwhile, and nobody else commits it soon

    async def _until_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._latest + APART:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._latest + APART):
                    await self._hurried.wait()
        self._latest = asyncio.get_running_loop().time()
