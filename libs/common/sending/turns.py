"""Accounts with work take turns, and none takes all the room. Pure.

Rule 1: an account that has had its turn and has more to do stands behind the others that wait.
Rule 2: an account may have half of the room that the others leave, never all of it, so the next account finds some.
Rule 3: an account with open claims waits while little room is left, of its own or of all, because a claim of a few
        rows costs as much as a large one.
Rule 4: a call has its place until its answer is in hand. Rows of one conversation that are claimed together have one
        place, because their calls follow each other. A claim is open until the answer is recorded, and at most twice as
        many claims are open as there are places. So recording never keeps a place, and a slow database stops the
        claiming before memory fills with answers.
Rule 5: a row that is being stored may have a place at once, unless its account waits for a turn, or little room is
        left: that belongs to the accounts whose turn it is.
Rule 6: a full batch may wait before it is stored, while the claims of its accounts have the room and are recorded so
        fast that there will be room within a second or two. Where calls hang, nothing is recorded, and no batch waits
        for them. Nor does one of which an account has more than half, because the others would wait for that account.
Rule 7: room that a claim may use is reserved until the claim is made, because two may be under way.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

_LEAST = 8
_MOST = 0.5
_KNOWN_WAITS = 10_000


@dataclass(slots=True)
class _Room:
    """What the accounts have of ``size``."""

    size: int
    of: Counter[str] = field(default_factory=Counter)
    taken: int = 0

    @property
    def free(self) -> int:
        return self.size - self.taken

    def take(self, wanted: Mapping[str, int]) -> None:
        self.of.update(wanted)
        self.taken += sum(wanted.values())

    def give_back(self, account: str, number: int) -> None:
        mine = self.of[account]  # reading a Counter stores no key
        self.taken -= min(number, mine)
        if number < mine:
            self.of[account] = mine - number
        else:
            self.of.pop(account, None)

    def left_for(self, account: str) -> int:
        """How much more the account may take; 0 while it could take only a little."""
        mine = self.of[account]
        most = min(self.size, max(_LEAST, int((self.free + mine) * _MOST)))
        left = max(0, most - mine)
        return left if not mine or left >= max(1, most // 8) else 0


@dataclass(slots=True)
class _Pace:
    """How many answers of each account were recorded in this second and in the one before."""

    second: int = 0
    now: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)

    def add(self, answers: Mapping[str, int], at: float) -> None:
        self._turn(at)
        self.now.update(answers)

    def of(self, account: str, at: float) -> int:
        self._turn(at)
        return self.now[account] + self.before[account]

    def _turn(self, at: float) -> None:
        if (second := int(at)) != self.second:
            self.before = self.now if second == self.second + 1 else Counter()
            self.second, self.now = second, Counter()


class Turns:
    """The accounts that may have due rows, in turn, their calls and their claims. At most ``room`` calls run in all.

    This is memory of one process and may be incomplete: the dispatcher's look finds the rest.
    """

    def __init__(self, room: int) -> None:
        self._ready: dict[str, None] = {}
        self._waiting: set[str] = set()
        """Accounts that may have pending rows. The end of a row wakes no other account."""
        self._calls = _Room(room)
        self._claims = _Room(2 * room)
        self._pace = _Pace()
        self._waits: list[tuple[datetime, str]] = []

    def wake(self, accounts: Iterable[str]) -> None:
        """These accounts may have due rows. An account that waits already keeps its place."""
        for account in accounts:
            self._ready.setdefault(account)
            self._waiting.add(account)

    def moved(self, accounts: Iterable[str]) -> None:
        """Rows of these accounts are settled: rows behind them may be due now."""
        self.wake(self._waiting.intersection(accounts))

    def emptied(self, accounts: Iterable[str]) -> None:
        """A claim has left no due row of these accounts."""
        self._waiting.difference_update(set(accounts) - self._ready.keys())

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
    def free(self) -> int:
        """How many rows may be claimed now."""
        return min(self._calls.free, self._claims.free)

    @property
    def is_crowded(self) -> bool:
        return self.free < self._calls.size // 8

    def take(self, most: int) -> dict[str, int]:
        """The accounts whose turn it is, and how much each may claim, together at most ``most``.

        These accounts leave the queue until they are woken again.
        """
        left = min(most, self.free)
        able: dict[str, int] = {}
        for account in self._ready:
            if len(able) >= left:
                break
            if room := self._room_of(account):
                able[account] = room
        share = left // len(able) if able else 0
        for account in able:
            del self._ready[account]
        return {account: min(room, share) for account, room in able.items()}

    def take_at_once(self, rows: Mapping[str, int]) -> dict[str, int]:
        """How many rows of each account may be claimed while they are stored."""
        found: dict[str, int] = {}
        left = self.free - self._calls.size // 8
        for account, number in rows.items():
            room = 0 if account in self._ready else min(number, self._room_of(account), left)
            if room > 0:
                found[account] = room
                left -= room
        return found

    def room_comes(self, rows: Mapping[str, int], at: float) -> bool:
        """Whether these rows of each account have no room, and claims of these accounts leave it soon enough."""
        number = sum(rows.values())
        missing = number + self._calls.size // 8 - self.free
        if missing <= 0 or max(rows.values()) > number * _MOST:
            return False
        return missing <= sum(min(self._claims.of[account], self._pace.of(account, at)) for account in rows)

    @contextmanager
    def reserved(self, room: Mapping[str, int]) -> Iterator[None]:
        """Within the block nobody else takes this room. The claim counts what it opens itself."""
        self.opened(room, room)
        try:
            yield
        finally:
            for account, number in room.items():
                self._calls.give_back(account, number)
            self._close(room)

    def with_claims(self, accounts: Iterable[str]) -> set[str]:
        """Those of these accounts that have open claims."""
        return {account for account in accounts if self._claims.of[account]}

    def opened(self, runs: Mapping[str, int], claims: Mapping[str, int]) -> None:
        """Rows of these accounts are claimed, and their calls begin. ``runs``: how many begin at once."""
        self._calls.take(runs)
        self._claims.take(claims)

    def answered(self, account: str) -> bool:
        """The last answer of a run of this account is in hand. Returns whether a waiting account may claim now."""
        was_full, was_crowded = self.free <= 0, self.is_crowded
        self._calls.give_back(account, 1)
        if not self._ready or self.free <= 0:
            return False
        return was_full or was_crowded != self.is_crowded or (account in self._ready and self._room_of(account) > 0)

    def recorded(self, claims: Mapping[str, int], at: float) -> None:
        """The answers of so many claims of these accounts are recorded. ``at``: seconds of a clock that only grows."""
        self._pace.add(claims, at)
        self._close(claims)

    def _close(self, claims: Mapping[str, int]) -> None:
        for account, number in claims.items():
            self._claims.give_back(account, number)

    def _room_of(self, account: str) -> int:
        """How many rows it may claim; 0 while it could claim only a few."""
        if self.is_crowded and self._claims.of[account]:
            return 0
        return min(self._calls.left_for(account), self._claims.left_for(account))
