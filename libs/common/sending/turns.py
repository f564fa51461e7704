"""Accounts with work take turns, and none takes all the room. Pure.

Rule 1: an account that has had its turn and has more to do stands behind the others that wait.
Rule 2: an account may have most of the room that the others leave, never all of it, so the next account finds some.
Rule 3: an account with open calls waits while little room is left, of its own or of all, because a claim of a few
        rows costs as much as a large one.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

_LEAST = 8
_MOST = 0.8
_KNOWN_WAITS = 10_000


@dataclass(slots=True)
class Turns:
    """The accounts that may have due rows, in turn, and their open calls. At most ``room`` calls are open in all.

    This is memory of one process and may be incomplete: the dispatcher's look finds the rest.
    """

    room: int
    _ready: dict[str, None] = field(default_factory=dict)
    _open: Counter[str] = field(default_factory=Counter)
    _all_open: int = 0
    _waits: list[tuple[datetime, str]] = field(default_factory=list)

    def wake(self, accounts: Iterable[str]) -> None:
        """These accounts may have due rows. An account that waits already keeps its place."""
        for account in accounts:
            self._ready.setdefault(account)

    def wake_at(self, at: datetime, account: str) -> None:
        """This account may have due rows then."""
        if len(self._waits) < _KNOWN_WAITS:
            heapq.heappush(self._waits, (at, account))

    def next_wait(self) -> datetime | None:
        return self._waits[0][0] if self._waits else None

    def ended_waits(self, now: datetime) -> set[str]:
        """The accounts whose waits have ended, once."""
        over = set()
        while self._waits and self._waits[0][0] <= now:
            over.add(heapq.heappop(self._waits)[1])
        return over

    @property
    def is_crowded(self) -> bool:
        return self.room - self._all_open < self.room // 8

    def take(self, most: int) -> dict[str, int]:
        """The accounts whose turn it is, and how much each may claim, together at most ``most``.

        These accounts leave the queue until they are woken again.
        """
        free = self.room - self._all_open
        left = min(most, free)
        able: dict[str, int] = {}
        for account in self._ready:
            if len(able) >= left:
                break
            if self.is_crowded and self._open[account]:
                continue
            if room := self._room_of(account):
                able[account] = room
        share = left // len(able) if able else 0
        for account in able:
            del self._ready[account]
        return {account: min(room, share) for account, room in able.items()}

    def opened(self, calls: Mapping[str, int]) -> None:
        self._open.update(calls)
        self._all_open += sum(calls.values())

    def closed(self, calls: Mapping[str, int]) -> None:
        """Calls of these accounts have ended and are recorded."""
        for account, ended in calls.items():
            self._all_open -= min(ended, self._open[account])
            self._open[account] -= ended
            if self._open[account] <= 0:
                del self._open[account]

    def _room_of(self, account: str) -> int:
        """How many calls it may begin; 0 while it could begin only a few."""
        mine = self._open[account]  # reading a Counter stores no key
        left_by_others = self.room - self._all_open + mine
        most = min(self.room, max(_LEAST, int(left_by_others * _MOST)))
        room = max(0, most - mine)
        return room if not mine or room >= max(1, most // 8) else 0
