"""What one edge refused, as stretches of time, in bounded memory until they are stored. Pure.

Times are steady seconds. Refusals of a kind within ``JOIN`` of each other are one stretch, so that a storm is one row
and not thousands. Beyond ``MOST`` stretches the two oldest of a kind become one. A stretch covers more than was
refused, never less.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from libs.common.sending.coverage import RefusalKind

JOIN = 60.0
MOST = 64


@dataclass(frozen=True, slots=True)
class Stretch:
    """From the first refusal to the last, and how many of them there were."""

    number: int
    kind: RefusalKind
    reason: str
    began: float
    ended: float
    times: int = 1


@dataclass(slots=True)
class Refusals:
    """Stretches that are not stored, or may still grow."""

    _stretches: dict[int, Stretch] = field(default_factory=dict)
    _latest: dict[RefusalKind, int] = field(default_factory=dict)
    _stored: dict[int, Stretch] = field(default_factory=dict)
    _count: int = 0

    def happened(self, kind: RefusalKind, reason: str, at: float, *, since: float | None = None) -> None:
        """One more refusal at ``at``; with ``since``, refusals from then until ``at``."""
        began = at if since is None else since
        last = self._stretches.get(self._latest.get(kind, -1))
        if last is not None and began - last.ended <= JOIN:
            self._stretches[last.number] = replace(
                last, began=min(last.began, began), ended=max(last.ended, at), times=last.times + 1
            )
            return
        self._stretches[self._count] = Stretch(self._count, kind, reason, began, at)
        self._latest[kind] = self._count
        self._count += 1
        if len(self._stretches) > MOST:
            self._join_oldest()

    def unstored(self) -> Sequence[Stretch]:
        """What is to be stored, oldest first."""
        return [one for number, one in self._stretches.items() if self._stored.get(number) != one]

    def stored(self, stretches: Sequence[Stretch]) -> None:
        """These are stored as they are here. Those that can no longer grow are dropped."""
        self._stored |= {one.number: one for one in stretches}
        latest = set(self._latest.values())
        for number in [n for n, one in self._stored.items() if n not in latest and self._stretches.get(n) == one]:
            del self._stretches[number], self._stored[number]

    def _join_oldest(self) -> None:
        kinds: Mapping[RefusalKind, list[Stretch]] = {"refused": [], "doubtful": []}
        for one in self._stretches.values():
            kinds[one.kind].append(one)
        first, second = max(kinds.values(), key=len)[:2]
        joined = replace(first, ended=second.ended, times=first.times + second.times)
        self._stretches = {n: one for n, one in self._stretches.items() if n != second.number} | {first.number: joined}
        self._stretches = dict(sorted(self._stretches.items()))
