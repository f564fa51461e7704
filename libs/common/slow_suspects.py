"""Who is too slow alone, and who only met a slow database. Pure; times are seconds of any clock that does not go back.

A record or row whose statement ran out of its time although nothing else was in hand is a suspect. It is tried again alone, after growing pauses or
as soon as others pass, while the others are worked on. A failure is *shown* to be its own by others that pass right before or right after it.

Rule 1: a suspect is guilty after ``TRIES`` failures that were shown. Where nobody is left to show it, as many failures do: over ``SEEN`` seconds if one was
        shown, over ``UNSHOWN`` if none was. And only while suspects are few: ``PASSED`` others must have passed for each since there are any. Where
        the database is slow for everybody nobody passes, and nobody is guilty.
Rule 2: a suspect that passes after all was innocent, and its failures speak for a database that is slow now and then: so many failures more
        are asked of the others, until there has been neither a suspect nor an innocent one for ``CALM`` seconds.
Rule 3: who waits for a lock that another session holds is given ``LOCKED`` seconds: locks end.
Rule 4: a lone suspect with nobody to be compared with is guilty after ``ALONE`` seconds, unless it waits for a lock. It holds up nobody meanwhile.
Rule 5: more than ``MANY`` suspects at once are no matter of single records: nobody is guilty.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

TRIES = 4
PASSED = 2
SEEN = 10.0
LOCKED = 30.0
UNSHOWN = 60.0
ALONE = 300.0
CALM = 60.0
MANY = 20
_BESIDE = 1.0
"""What passes within so many seconds before or after a failure shows that the database was well."""
_PAUSE, _LONGEST_PAUSE = 1.0, 8.0


@dataclass(slots=True)
class _Suspect:
    since: float
    failed_at: float = 0.0
    again_at: float = 0.0
    failures: int = 0
    shown: int = 0


@dataclass(slots=True)
class SlowSuspects(Generic[K]):
    """What one consumer or task remembers of those that were too slow alone."""

    _known: dict[K, _Suspect] = field(default_factory=dict)
    _passed: int = 0
    _passed_at: float | None = None
    """When others passed, if nothing was slow since."""
    _failed: K | None = None
    """Who was slow, if nothing else was tried since."""
    _passed_before: int = 0
    """How many had passed before the work in which the first of these became a suspect."""
    _guilty: int = 0
    _innocent: int = 0
    _innocent_at: float = 0.0

    def __bool__(self) -> bool:
        return bool(self._known)

    def __contains__(self, key: K) -> bool:
        return key in self._known

    def failures(self, key: K) -> int:
        """How often it failed alone."""
        return self._known[key].failures if key in self._known else 0

    def is_due(self, key: K, now: float) -> bool:
        """Whether it may be tried now."""
        one = self._known.get(key)
        return one is None or one.again_at <= now

    def resting(self, now: float) -> list[K]:
        """Those that are not to be tried now."""
        return [key for key, one in self._known.items() if one.again_at > now]

    def due(self, now: float) -> list[K]:
        """Those that are to be tried now."""
        return [key for key, one in self._known.items() if one.again_at <= now]

    def wait(self, now: float) -> float:
        """Seconds until the next one may be tried; 0 where none waits."""
        return max(0.0, min((one.again_at for one in self._known.values()), default=now) - now)

    def begin(self, now: float) -> None:
        """Work on something new begins; where nobody is suspected, what was before does not count any more."""
        if not self._known:
            self._passed_before, self._guilty = self._passed, 0
            if now - self._innocent_at > CALM:
                self._innocent = 0

    def others_passed(self, count: int, now: float) -> None:
        """So many that are no suspects went through."""
        self._passed += count
        self._passed_at = now
        for key, one in self._known.items():
            one.again_at = min(one.again_at, max(now, one.failed_at + _PAUSE * one.failures))
            if key == self._failed and now - one.failed_at <= _BESIDE:
                one.shown += 1
        self._failed = None

    def some_are_slow(self) -> None:
        """Several together were too slow."""
        self._passed_at = self._failed = None

    def is_guilty(self, key: K, began: float, now: float, *, locked: bool) -> bool:
        """It was tried alone from ``began`` until ``now`` and too slow once more; ``locked``: it waited for a lock.

        Who is guilty is no suspect any more.
        """
        one = self._known.setdefault(key, _Suspect(now))
        one.failures += 1
        one.failed_at = now
        one.again_at = now + min(_PAUSE * 2 ** (one.failures - 1), _LONGEST_PAUSE)
        if self._passed_at is not None and began - self._passed_at <= _BESIDE:
            one.shown += 1
            self._failed = None
        else:
            self._failed = key
        self._passed_at = None
        if not self._is_guilty(one, now - one.since, locked=locked):
            return False
        del self._known[key]
        self._guilty += 1
        return True

    def _is_guilty(self, one: _Suspect, lasted: float, *, locked: bool) -> bool:
        asked = TRIES + self._innocent
        if one.failures < asked or len(self._known) > MANY or (locked and lasted < LOCKED):
            return False
        few = self._passed - self._passed_before >= PASSED * (len(self._known) + self._guilty)
        if few:
            return one.shown >= asked or lasted >= (SEEN if one.shown else UNSHOWN)
        return len(self._known) == 1 and lasted >= ALONE and not locked

    def passes(self, key: K, now: float) -> None:
        """It went through after all, or ended otherwise."""
        one = self._known.pop(key, None)
        if one is not None:
            self._innocent += one.failures
            self._innocent_at = now

    def forget(self, gone: Callable[[K], bool]) -> None:
        """These are no longer ours to try."""
        for key in [key for key in self._known if gone(key)]:
            del self._known[key]
