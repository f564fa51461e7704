"""Finding, among many, the one that cannot be worked on: for batches of records and for rows alike.

Rule 1: where nothing is wrong all of it costs one call.
Rule 2: a bug halves what is in hand, down to the one that causes it; that one is tried ``tries`` times, then it is faulty.
Rule 3: a statement that ran out of its time cuts what is in hand into pieces: each may cost its whole limit again, so they are eight and not two. One
        that is too slow alone becomes a suspect (``suspects.py``): what stands behind it on its line waits for it, all others go on, and it is
        tried again later.
Rule 4: other expected trouble ends the search, and so does a database that is slow for everybody: several in a row that are too slow alone, or new
        ones and nothing that passes. What was not yielded is not done and comes again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from libs.common.errors import Permanent
from libs.common.retryable import is_lock_timeout, is_retryable, is_statement_timeout
from libs.common.slow_suspects import SlowSuspects

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K", bound=Hashable)

PIECES = 8
SLOW_IN_A_ROW = 4
SEARCH_SECONDS = 40.0

Pause = Callable[[int], Awaitable[bool]]
"""Wait before try number n (2 is the second); False means: we are leaving, do not try again."""


@dataclass(frozen=True, slots=True)
class Passed(Generic[T, R]):
    """These went through together."""

    items: Sequence[T]
    result: R
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Faulty(Generic[T]):
    """This one meets a bug, or is refused for good (``Permanent``)."""

    item: T
    error: Exception
    attempts: int


@dataclass(frozen=True, slots=True)
class TooSlow(Generic[T]):
    """This one alone is too slow, while others pass."""

    item: T
    error: Exception
    attempts: int


@dataclass(slots=True)
class AdaptiveBatchSize:
    """How many rows a statement takes at once: half as many after one that was too slow, twice as many again after one that passed."""

    most: int
    size: int = 0

    def __post_init__(self) -> None:
        self.size = self.most

    @contextmanager
    def taken(self) -> Iterator[int]:
        """So many; what the block raises is raised."""
        try:
            yield self.size
        except Exception as error:
            if is_statement_timeout(error):
                self.size = max(1, self.size // 2)
            raise
        self.size = min(self.most, self.size * 2)


async def at_once(_attempt: int) -> bool:
    """No pause between the tries."""
    return True


def _whole(part: Sequence[T]) -> Sequence[T]:
    return part


@dataclass(slots=True)
class Bisection(Generic[T, R, K]):
    """One pass over what is in hand.

    ``key`` names an item for ``suspects``, which outlive this pass; ``line`` names those whose order counts. ``allowed`` leaves out of a part what is not
    to be worked on any more. After ``budget`` seconds a pass that had to cut is broken off.
    """

    work: Callable[[Sequence[T]], Awaitable[R]]
    suspects: SlowSuspects[K]
    key: Callable[[T], K]
    line: Callable[[T], Hashable]
    tries: int = 1
    pause: Pause = at_once
    allowed: Callable[[Sequence[T]], Sequence[T]] = _whole
    budget: float = SEARCH_SECONDS
    now: Callable[[], float] | None = None
    """For the suspects; the event loop's time without it."""
    held: set[Hashable] = field(default_factory=set)
    """Lines on which a suspect stands that is not among what is in hand; from here on all that wait for one."""
    transient_error: Exception | None = None
    """What ended the search."""
    out_of_time: bool = False
    """The budget ran out."""
    splits: int = 0
    suspected: list[T] = field(default_factory=list)
    """Those that became suspects in this pass."""
    slow: Exception | None = None
    """What the latest one that was too slow alone raised."""
    _any_passed: bool = False
    _deadline: float = 0.0

    async def run(self, items: Sequence[T]) -> AsyncIterator[Passed[T, R] | Faulty[T] | TooSlow[T]]:
        """Work on all of ``items``, in their order but for what waits behind a suspect; yields what is done and what is found."""
        self._deadline = self._loop_time() + self.budget
        self.suspects.begin(self.clock())
        fresh, later = self._apart(items)
        async for found in self._through(fresh):
            yield found
        if self.transient_error is None:
            async for found in self._again(later):
                yield found
        if self.transient_error is None and self.suspected and not self._any_passed:
            self.transient_error = self.slow

    async def _through(self, items: Sequence[T]) -> AsyncIterator[Passed[T, R] | Faulty[T] | TooSlow[T]]:
        """All of them at once, or what they had to be cut into."""
        waiting: list[Sequence[T]] = [items]
        slow_in_a_row = 0
        while waiting and self.transient_error is None:
            if self.splits and self._loop_time() > self._deadline:
                self.out_of_time = True
                return
            part = self.allowed(self._free(waiting.pop()))
            if not part:
                continue
            match await self._once(part):
                case Passed() as passed:
                    slow_in_a_row = 0
                    self._any_passed = True
                    self.suspects.others_passed(len(part), self.clock())
                    yield passed
                case None:
                    slow_in_a_row += 1
                    if slow_in_a_row == SLOW_IN_A_ROW:
                        self.transient_error = self.transient_error or self.slow
                case list() as parts:
                    self.splits += 1
                    waiting += reversed(parts)
                case found:
                    yield found

    async def _again(self, suspects: Sequence[T]) -> AsyncIterator[Passed[T, R] | Faulty[T] | TooSlow[T]]:
        """Each alone, when it is its time."""
        for item in suspects:
            key = self.key(item)
            if not self.suspects.is_due(key, self.clock()) or not self.allowed([item]):
                continue
            if self.transient_error is not None or self._loop_time() > self._deadline:
                self.out_of_time = True
                return
            match await self._once([item]):
                case TooSlow() as guilty:
                    yield guilty
                case Passed() | Faulty() as found:
                    self._any_passed = True
                    self.suspects.passes(key, self.clock())
                    yield found
                case _:
                    continue

    async def _once(self, part: Sequence[T]) -> Passed[T, R] | Faulty[T] | TooSlow[T] | list[Sequence[T]] | None:
        """What came of it; a list: what it is to be cut into; None: a suspect, or ``trouble``."""
        attempt = 1
        while True:
            began = self.clock()
            try:
                return Passed(part, await self.work(part), attempt)
            except Exception as error:  # noqa: BLE001 -- the policy for every exception of whatever works in batches is here
                if is_statement_timeout(error):
                    if len(part) == 1:
                        return self._too_slow(part[0], error, began)
                    self.suspects.some_are_slow()
                    return self._cut(part, PIECES)
                if len(part) > 1 and not is_retryable(error):
                    return self._cut(part, 2)
                if isinstance(error, Permanent) or (attempt == self.tries and not is_retryable(error)):
                    return Faulty(part[0], error, attempt)
                attempt += 1
                if is_retryable(error) or not await self.pause(attempt):
                    self.transient_error = error
                    return None

    def _too_slow(self, item: T, error: Exception, began: float) -> TooSlow[T] | None:
        self.slow = error
        key, known = self.key(item), self.key(item) in self.suspects
        failures = self.suspects.failures(key) + 1
        if self.suspects.is_guilty(key, began, self.clock(), locked=is_lock_timeout(error)):
            return TooSlow(item, error, failures)
        self.held.add(self.line(item))
        if not known:
            self.suspected.append(item)
        return None

    def _apart(self, items: Sequence[T]) -> tuple[Sequence[T], list[T]]:
        """What may be worked on, and the suspects of former passes; what stands behind a suspect on its line is in neither."""
        if not self.suspects:
            return items, []
        fresh, later = list[T](), list[T]()
        for item in items:
            line = self.line(item)
            if self.key(item) in self.suspects:
                self.held.add(line)
                later.append(item)
            elif line not in self.held:
                fresh.append(item)
        return fresh, later

    def _free(self, part: Sequence[T]) -> Sequence[T]:
        return [item for item in part if self.line(item) not in self.held] if self.held else part

    @staticmethod
    def _cut(part: Sequence[T], pieces: int) -> list[Sequence[T]]:
        size = -(-len(part) // pieces)
        return [part[at : at + size] for at in range(0, len(part), size)]

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    def clock(self) -> float:
        """The suspects' time."""
        return self._loop_time() if self.now is None else self.now()


async def run_bisected(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[None]],
    *,
    key: Callable[[T], Hashable],
    failed: Callable[[T, Exception], None],
) -> None:
    """Work on rows that come again by themselves, however this ends; ``failed`` hears of each on which work fails or is too slow, alone.

    Raises what else is transient, and what is slow for everybody.
    """
    search = Bisection[T, None, Hashable](work, SlowSuspects(), key=key, line=key)
    async for found in search.run(items):
        if isinstance(found, Faulty | TooSlow):
            failed(found.item, found.error)
    if search.transient_error is not None:
        raise search.transient_error
    for item in search.suspected:
        if search.slow is not None:
            failed(item, search.slow)
