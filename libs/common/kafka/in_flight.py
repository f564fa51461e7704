"""The partitions of a topic that are worked on."""

import asyncio
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager


class InFlight:
    """The partitions with a batch in flight: it was read and is not finished. No more of them is read meanwhile."""

    def __init__(self) -> None:
        self.partitions: frozenset[int] = frozenset()
        self._limit: asyncio.Timeout | None = None

    def take(self, partitions: AbstractSet[int]) -> frozenset[int]:
        taken = frozenset(partitions)
        self.partitions |= taken
        return taken

    def give_back(self, partitions: frozenset[int]) -> None:
        self.partitions -= partitions
        limit, self._limit = self._limit, None  # a block is broken off once
        if limit is not None:
            limit.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def until_given_back(self) -> AsyncIterator[None]:
        """The block is broken off as soon as partitions are given back. One block at a time."""
        try:
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                try:
                    yield
                finally:
                    self._limit = None
        except TimeoutError:
            if not limit.expired():
                raise
