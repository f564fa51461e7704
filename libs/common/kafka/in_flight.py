"""The partitions of a topic that are worked on."""

import asyncio
from collections.abc import Set as AbstractSet
from contextlib import suppress


class InFlight:
    """The partitions with a batch in flight: it was read and is not finished. No more of them is read meanwhile."""

    def __init__(self) -> None:
        self.partitions: frozenset[int] = frozenset()
        self._changed = asyncio.Event()

    def take(self, partitions: AbstractSet[int]) -> frozenset[int]:
        taken = frozenset(partitions)
        self.partitions |= taken
        return taken

    def give_back(self, partitions: frozenset[int]) -> None:
        self.partitions -= partitions
        self._changed.set()

    async def change(self, seen: frozenset[int], seconds: float) -> None:
        """Wait until other partitions than ``seen`` are in flight, at most ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.partitions == seen:
                    self._changed.clear()
                    await self._changed.wait()
