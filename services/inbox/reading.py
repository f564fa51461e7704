"""What runs one at a time for each person."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class OneAtATime:
    """At most one thing at a time for each key. A second waits for the first, and a third for neither."""

    _running: Counter[tuple[str, str]] = field(default_factory=Counter)
    _locks: dict[tuple[str, str], asyncio.Lock] = field(default_factory=dict)

    @asynccontextmanager
    async def turn(self, key: tuple[str, str]) -> AsyncIterator[bool]:
        """Whether it is the caller's turn; False where one runs and another waits already."""
        if self._running[key] > 1:
            yield False
            return
        self._running[key] += 1
        lock = self._locks.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                yield True
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key], self._locks[key]
