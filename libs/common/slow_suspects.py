"""Distinguishes an item that is too slow by itself from one that met a slow database. Pure.

Times are seconds of any clock that does not go back.

An item whose statement timed out while it was alone is a suspect. It is tried again alone, after growing pauses or as
soon as others pass, while the others are worked on. A failure is *confirmed* when others pass right before or right
after it. A suspect that is found to be too slow by itself is *poison*.

Rule 1: a suspect is poison after ``TRIES`` confirmed failures. Where no other item is left to confirm one, as many
        failures do: over ``CONFIRMED`` seconds if one was confirmed, over ``UNCONFIRMED`` if none was. And only while
        suspects are few: ``PASSED`` others must have passed for each of them. Where the database is slow for everybody
        no item passes, and none is poison.
Rule 2: a suspect that passes after all is cleared, and its failures count as signs of a database that is slow now and
        then: so many failures more are asked of the others, until there was neither a suspect nor a cleared one for
        ``CALM`` seconds.
Rule 3: a suspect that waits for a lock of another session is not slow by itself, for locks end: what counted against
        it counts no more. It is poison only where others have to wait for it, after ``LOCKED`` seconds.
Rule 4: a lone suspect that cannot be compared is poison after ``ALONE`` seconds. Meanwhile nothing else waits for it.
Rule 5: more than ``MANY`` suspects at once are not caused by single items: none is poison.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

TRIES = 4
PASSED = 2
CONFIRMED = 10.0
LOCKED = 30.0
UNCONFIRMED = 60.0
ALONE = 300.0
CALM = 60.0
MANY = 20
_BESIDE = 1.0
"""An item that passes within so many seconds of a failure confirms it."""
_PAUSE, _LONGEST_PAUSE = 1.0, 8.0


@dataclass(slots=True)
class _Suspect:
    since: float
    slow_since: float
    """Since when it has waited for no lock."""
    failed_at: float = 0.0
    retry_at: float = 0.0
    failures: int = 0
    slow: int = 0
    """Failures since ``slow_since``."""
    confirmed: int = 0
    """How many of these are confirmed."""


@dataclass(slots=True)
class SlowSuspects(Generic[K]):
    """The suspects of one consumer or task."""

    _known: dict[K, _Suspect] = field(default_factory=dict)
    _passed: int = 0
    _passed_at: float | None = None
    """When other items passed, if no item timed out since."""
    _failed: K | None = None
    """The latest suspect that failed, if no other item was tried since."""
    _passed_before: int = 0
    """How many had passed before the first of these suspects failed."""
    _poison: int = 0
    _cleared: int = 0
    _cleared_at: float = 0.0

    def __bool__(self) -> bool:
        return bool(self._known)

    def __contains__(self, key: K) -> bool:
        return key in self._known

    def failures(self, key: K) -> int:
        return self._known[key].failures if key in self._known else 0

    def is_due(self, key: K, now: float) -> bool:
        """Whether it may be tried at ``now``."""
        one = self._known.get(key)
        return one is None or one.retry_at <= now

    def resting(self, now: float) -> list[K]:
        """The suspects that are not to be tried yet."""
        return [key for key, one in self._known.items() if one.retry_at > now]

    def due(self, now: float) -> list[K]:
        """The suspects that are to be tried at ``now``."""
        return [key for key, one in self._known.items() if one.retry_at <= now]

    def wait(self, now: float) -> float:
        """Seconds until the next suspect may be tried; 0 where none waits."""
        return max(0.0, min((one.retry_at for one in self._known.values()), default=now) - now)

    def begin(self, now: float) -> None:
        """New work begins. Without suspects, earlier counts are dropped."""
        if not self._known:
            self._passed_before, self._poison = self._passed, 0
            if now - self._cleared_at > CALM:
                self._cleared = 0

    def others_passed(self, count: int, now: float) -> None:
        """Record that ``count`` items passed that are no suspects."""
        self._passed += count
        self._passed_at = now
        for key, one in self._known.items():
            one.retry_at = min(one.retry_at, max(now, one.failed_at + _PAUSE * one.failures))
            if key == self._failed and now - one.failed_at <= _BESIDE:
                one.confirmed += 1
        self._failed = None

    def some_are_slow(self) -> None:
        """Record that several items together timed out."""
        self._passed_at = self._failed = None

    def is_poison(self, key: K, began: float, now: float, *, locked: bool, hurried: bool) -> bool:
        """The item was tried alone from ``began`` to ``now`` and timed out again. Poison is no suspect any more.

        ``locked``: it waited for a lock. ``hurried``: others have to wait for it.
        """
        one = self._known.setdefault(key, _Suspect(now, now))
        one.failures += 1
        one.slow += 1
        one.failed_at = now
        one.retry_at = now + min(_PAUSE * 2 ** min(one.failures - 1, 62), _LONGEST_PAUSE)
        if self._passed_at is not None and began - self._passed_at <= _BESIDE:
            one.confirmed += 1
            self._failed = None
        else:
            self._failed = key
        self._passed_at = None
        if locked:
            one.slow_since, one.slow, one.confirmed, self._failed = now, 0, 0, None
        is_over = hurried and now - one.since >= LOCKED and self._few()
        if len(self._known) > MANY or not (is_over if locked else self._is_slow(one, now)):
            return False
        del self._known[key]
        self._poison += 1
        return True

    def _is_slow(self, one: _Suspect, now: float) -> bool:
        asked, lasted = TRIES + self._cleared, now - one.slow_since
        if one.slow < asked:
            return False
        if self._few():
            return one.confirmed >= asked or lasted >= (CONFIRMED if one.confirmed else UNCONFIRMED)
        return len(self._known) == 1 and lasted >= ALONE

    def _few(self) -> bool:
        """Whether the suspects are few among the others that passed."""
        return self._passed - self._passed_before >= PASSED * (len(self._known) + self._poison)

    def passes(self, key: K, now: float) -> None:
        """Clear a suspect that passed after all, or ended otherwise."""
        one = self._known.pop(key, None)
        if one is not None:
            self._cleared += one.slow
            self._cleared_at = now

    def forget(self, gone: Callable[[K], bool]) -> None:
        """Drop the suspects that no longer belong to this consumer."""
        for key in [key for key in self._known if gone(key)]:
            del self._known[key]
