"""Finds the item that fails among many, for batches of records and for rows.

Rule 1: without a failure all items cost one call.
Rule 2: a bug halves the items, down to the item that causes it. That item is tried ``tries`` times, then it is faulty.
Rule 3: a statement that timed out splits the items into eight parts, not two, for each part may cost its whole time
        limit again. An item that times out alone becomes a suspect (``slow_suspects``): the later items of its ordering
        key wait for it, all others go on, and it is tried again later.
Rule 4: any other retryable error ends the bisection, and so does a right that the role lacks. So does a slow database:
        several items in a row time out alone, or new ones do and nothing passes. Items that were not yielded are not
        done, and are delivered again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from libs.common.errors import Permanent
from libs.common.retryable import blames_no_item, is_lock_timeout, is_statement_timeout
from libs.common.slow_suspects import SlowSuspects

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K", bound=Hashable)

PIECES = 8
SLOW_IN_A_ROW = 4
SEARCH_SECONDS = 40.0

Pause = Callable[[int], Awaitable[bool]]
"""Wait before try number n (2 is the second); False means: the process stops, do not try again."""


@dataclass(frozen=True, slots=True)
class Passed(Generic[T, R]):
    """These items passed together."""

    items: Sequence[T]
    result: R
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Faulty(Generic[T]):
    """This item raised a bug or ``Permanent``."""

    item: T
    error: Exception
    attempts: int


@dataclass(frozen=True, slots=True)
class TooSlow(Generic[T]):
    """This item times out alone, while others pass."""

    item: T
    error: Exception
    attempts: int


@dataclass(slots=True)
class AdaptiveBatchSize:
    """The number of rows of a statement: halved after a timeout, doubled after each success."""

    most: int
    size: int = 0

    def __post_init__(self) -> None:
        self.size = self.most

    @contextmanager
    def taken(self) -> Iterator[int]:
        """The size to use in the block. Errors of the block are raised."""
        try:
            yield self.size
        except Exception as error:
            if is_statement_timeout(error):
                self.size = max(1, self.size // 2)
            raise
        self.size = min(self.most, self.size * 2)

    async def until_done(self, some: Callable[[int], Awaitable[int]]) -> None:
        """Call ``some`` with the size until it takes fewer. Raises where one row times out, and any other error."""
        while True:
            try:
                with self.taken() as size:
                    number = await some(size)
            except Exception as error:
                if not is_statement_timeout(error) or size == 1:
                    raise
                continue
            if number < size:
                return


async def no_pause(_attempt: int) -> bool:
    """No pause between the tries."""
    return True


def _whole(part: Sequence[T]) -> Sequence[T]:
    return part


def _always(_item: object) -> bool:
    return True


@dataclass(slots=True)
class Bisection(Generic[T, R, K]):
    """One pass over some items.

    ``key`` names an item for ``suspects``, which outlive this pass. Items with one ``ordering_key`` keep their order.
    ``allowed`` leaves out of a part the items that are not to be worked on any more. ``hurried`` says for which items
    others have to wait, if not for all. After ``budget`` seconds a pass that had to split ends.
    """

    work: Callable[[Sequence[T]], Awaitable[R]]
    suspects: SlowSuspects[K]
    key: Callable[[T], K]
    ordering_key: Callable[[T], Hashable]
    tries: int = 1
    pause: Pause = no_pause
    allowed: Callable[[Sequence[T]], Sequence[T]] = _whole
    hurried: Callable[[T], bool] = _always
    budget: float = SEARCH_SECONDS
    now: Callable[[], float] | None = None
    """The clock of the suspects; the event loop's time without it."""
    blocked: set[Hashable] = field(default_factory=set)
    """Ordering keys of suspects that are not among the items; the bisection adds those of its own suspects."""
    transient_error: Exception | None = None
    """The error that ended the pass."""
    out_of_time: bool = False
    """The budget ran out."""
    splits: int = 0
    suspected: list[T] = field(default_factory=list)
    """The items that became suspects in this pass."""
    slow: Exception | None = None
    """The error of the latest item that timed out alone."""
    _any_passed: bool = False
    _deadline: float = 0.0

    async def run(self, items: Sequence[T]) -> AsyncIterator[Passed[T, R] | Faulty[T] | TooSlow[T]]:
        """Work on ``items`` in their order, except those that wait for a suspect. Yields the results."""
        self._deadline = self._loop_time() + self.budget
        self.suspects.begin(self.clock())
        fresh, later = self._separate(items)
        async for found in self._run_parts(fresh):
            yield found
        if self.transient_error is None:
            async for found in self._retry_suspects(later):
                yield found
        if self.transient_error is None and self.suspected and not self._any_passed:
            self.transient_error = self.slow

    async def _run_parts(self, items: Sequence[T]) -> AsyncIterator[Passed[T, R] | Faulty[T] | TooSlow[T]]:
        """All of them at once, or the parts that they were split into."""
        waiting: list[Sequence[T]] = [items]
        slow_in_a_row = 0
        while waiting and self.transient_error is None:
            if self.splits and self._loop_time() > self._deadline:
                self.out_of_time = True
                return
            part = self.allowed(self._unblocked(waiting.pop()))
            if not part:
                continue
            match await self._attempt(part):
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

    async def _retry_suspects(self, suspects: Sequence[T]) -> AsyncIterator[Passed[T, R] | Faulty[T] | TooSlow[T]]:
        """Try the suspects that are due, alone, until one is slow again: no longer do the others wait for them."""
        for item in sorted(suspects, key=lambda one: self.suspects.failures(self.key(one))):
            key = self.key(item)
            if not self.suspects.is_due(key, self.clock()) or not self.allowed([item]):
                continue
            if self.transient_error is not None or self._loop_time() > self._deadline:
                self.out_of_time = True
                return
            match await self._attempt([item]):
                case TooSlow() as poison:
                    yield poison
                case Passed() | Faulty() as found:
                    self._any_passed = True
                    self.suspects.passes(key, self.clock())
                    yield found
                case _:
                    return

    async def _attempt(self, part: Sequence[T]) -> Passed[T, R] | Faulty[T] | TooSlow[T] | list[Sequence[T]] | None:
        """The result. A list holds the parts to split it into. None: a suspect, or ``transient_error``."""
        attempt = 1
        while True:
            began = self.clock()
            try:
                return Passed(part, await self.work(part), attempt)
            except Exception as error:  # noqa: BLE001 -- the policy for every exception of batch work is here
                if is_statement_timeout(error):
                    if len(part) == 1:
                        return self._too_slow(part[0], error, began)
                    self.suspects.some_are_slow()
                    return self._split(part, PIECES)
                if len(part) > 1 and not blames_no_item(error):
                    return self._split(part, 2)
                if isinstance(error, Permanent) or (attempt == self.tries and not blames_no_item(error)):
                    return Faulty(part[0], error, attempt)
                attempt += 1
                if blames_no_item(error) or not await self.pause(attempt):
                    self.transient_error = error
                    return None

    def _too_slow(self, item: T, error: Exception, began: float) -> TooSlow[T] | None:
        self.slow = error
        key, known = self.key(item), self.key(item) in self.suspects
        failures = self.suspects.failures(key) + 1
        locked, hurried = is_lock_timeout(error), self.hurried(item)
        if self.suspects.is_poison(key, began, self.clock(), locked=locked, hurried=hurried):
            return TooSlow(item, error, failures)
        self.blocked.add(self.ordering_key(item))
        if not known:
            self.suspected.append(item)
        return None

    def _separate(self, items: Sequence[T]) -> tuple[Sequence[T], list[T]]:
        """The items to work on, and the suspects of earlier passes. Items that wait for a suspect are in neither."""
        if not self.suspects:
            return items, []
        fresh, later = list[T](), list[T]()
        for item in items:
            ordering_key = self.ordering_key(item)
            if self.key(item) in self.suspects:
                self.blocked.add(ordering_key)
                later.append(item)
            elif ordering_key not in self.blocked:
                fresh.append(item)
        return fresh, later

    def _unblocked(self, part: Sequence[T]) -> Sequence[T]:
        return [item for item in part if self.ordering_key(item) not in self.blocked] if self.blocked else part

    @staticmethod
    def _split(part: Sequence[T], pieces: int) -> list[Sequence[T]]:
        size = -(-len(part) // pieces)
        return [part[at : at + size] for at in range(0, len(part), size)]

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    def clock(self) -> float:
        """The suspects' clock."""
        return self._loop_time() if self.now is None else self.now()


async def run_bisected(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[None]],
    *,
    key: Callable[[T], Hashable],
    failed: Callable[[T, Exception], None],
) -> None:
    """Work on rows that are selected again in any case.

    ``failed`` is called for each row that fails or times out alone.

    Raises any other retryable error, and the timeout of a slow database.
    """
    bisection = Bisection[T, None, Hashable](work, SlowSuspects(), key=key, ordering_key=key)
    async for found in bisection.run(items):
        if isinstance(found, Faulty | TooSlow):
            failed(found.item, found.error)
    if bisection.transient_error is not None:
        raise bisection.transient_error
    for item in bisection.suspected:
        if bisection.slow is not None:
            failed(item, bisection.slow)
