"""Told at once, then at most once in a while: for lines that a stranger can cause as often as he likes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

Tell = Callable[[int], None]
"""Write the line; the argument is how many times it happened since the line before."""


@dataclass(slots=True)
class Seldom:
    """By key, the first time is told at once, what follows within ``seconds`` together, when they are over. Keys are static words."""

    seconds: float = 1.0
    _waiting: dict[str, tuple[int, Tell]] = field(default_factory=dict)

    def happened(self, key: str, tell: Tell) -> None:
        """Once more. The latest ``tell`` speaks for all that were not told."""
        if key in self._waiting:
            self._waiting[key] = (self._waiting[key][0] + 1, tell)
            return
        tell(1)
        self._rest(key, tell)

    def _rest(self, key: str, tell: Tell) -> None:
        self._waiting[key] = (0, tell)
        asyncio.get_running_loop().call_later(self.seconds, self._rested, key)

    def _rested(self, key: str) -> None:
        count, tell = self._waiting.pop(key)
        if count:
            tell(count)
            self._rest(key, tell)
