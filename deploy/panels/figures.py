"""Computes the figures of panels from lines, one line after the other, for all organisations and for each.

Law 1: figures do not depend on the order of the lines, except where one says which line came first; there the times of
       the lines count, as far back as ``Limits`` remember.
Law 2: memory is bounded, whatever the lines hold. What goes beyond a limit is counted under ``OTHERS`` or as
       ``left_out``, and never silently lost.
Law 3: a word of a line is data. It is cut, and shown by the caller only without control characters.
No I/O, no clock: callers pass ``now`` (seconds since 1970).
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from deploy.panels.line import Line, instant
from deploy.panels.panel import HOUR_SECONDS, MOST_RECENT_SECONDS, Followed, Highest, Panel, Take, Total, Until

OTHERS = "others"
NONE = "none"
_SLOT_SECONDS = 300
_GAUGE_SLOT_SECONDS = 30
_WORD = 60  # characters
_ZERO = Decimal(0)

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is told apart: rows of a panel, organisations, and keys that are remembered."""

    rows: int = 200
    organisations: int = 5_000
    keys: int = 100_000


class Row(NamedTuple):
    """One row of a panel. ``recent``: of the last hour, to five minutes; None where the figure is one of now."""

    words: Words
    value: Decimal
    recent: Decimal | None


class Shown(NamedTuple):
    """A panel with its rows, the largest first. ``left_out``: keys that were forgotten because there were too many."""

    panel: Panel
    rows: Sequence[Row]
    left_out: int = 0


@dataclass(slots=True)
class _Tally:
    value: Decimal = _ZERO
    slots: dict[int, Decimal] = field(default_factory=dict)

    def add(self, amount: Decimal, at: float | None) -> None:
        self.value += amount
        if at is not None:
            slot = int(at // _SLOT_SECONDS)
            self.slots[slot] = self.slots.get(slot, _ZERO) + amount
            if len(self.slots) > 2 * HOUR_SECONDS // _SLOT_SECONDS:
                del self.slots[min(self.slots)]

    def recent(self, now: float) -> Decimal:
        since, until = (now - HOUR_SECONDS) // _SLOT_SECONDS, now // _SLOT_SECONDS
        return sum((amount for slot, amount in self.slots.items() if since < slot <= until), _ZERO)


class _Totals:
    """Of one ``Total``: a tally for each organisation (None: all) and each row."""

    def __init__(self, how: Total, limits: Limits) -> None:
        self._how, self._limits = how, limits
        self._tallies: dict[str | None, dict[Words, _Tally]] = defaultdict(dict)

    def add(self, take: Take, line: Line, org_id: str | None) -> None:
        amount = Decimal(1) if self._how.amount is None else _number(line.fields.get(self._how.amount))
        if amount is None:
            return
        words = _words(self._how.by, take, line.fields)
        for whose in {None, org_id}:
            _tally(self._tallies[whose], words, self._limits).add(amount, line.at)

    def rows(self, now: float, org_id: str | None) -> list[Row]:
        found = self._tallies.get(org_id, {})
        return sorted((Row(words, one.value, one.recent(now)) for words, one in found.items()), key=_largest)


class _Highests:
    """Of one ``Highest``: the highest amount of each half minute, for each row."""

    def __init__(self, how: Highest, limits: Limits) -> None:
        self._how, self._limits = how, limits
        self._slots: dict[Words, dict[int, Decimal]] = {}

    def add(self, take: Take, line: Line, _org_id: str | None) -> None:
        amount = _number(line.fields.get(self._how.amount))
        words = _words(self._how.by, take, line.fields)
        if amount is None or line.at is None:
            return
        if words not in self._slots and len(self._slots) >= self._limits.rows:
            words = (OTHERS,) * len(words)
        slots = self._slots.setdefault(words, {})
        slot = int(line.at // _GAUGE_SLOT_SECONDS)
        slots[slot] = max(amount, slots.get(slot, amount))
        if len(slots) > 2 * MOST_RECENT_SECONDS // _GAUGE_SLOT_SECONDS:
            del slots[min(slots)]

    def rows(self, now: float, _org_id: str | None) -> list[Row]:
        since, until = (now - MOST_RECENT_SECONDS) // _GAUGE_SLOT_SECONDS, now // _GAUGE_SLOT_SECONDS
        found = []
        for words, slots in self._slots.items():
            if recent := [amount for slot, amount in slots.items() if since <= slot <= until]:
                found.append(Row(words, max(recent), None))
        return sorted(found, key=_largest)


class _Untils:
    """Of one ``Until``: the latest moment of each key. The keys that were heard of longest ago are forgotten first."""

    def __init__(self, how: Until, limits: Limits) -> None:
        self._how, self._limits = how, limits
        self._moments: OrderedDict[tuple[str | None, str], float] = OrderedDict()
        self.left_out = 0
        self._latest = 0.0

    def add(self, _take: Take, line: Line, org_id: str | None) -> None:
        key, moment = line.fields.get(self._how.key), instant(line.fields.get(self._how.moment))
        if not isinstance(key, str) or moment is None:
            return
        self._latest = max(self._latest, line.at or 0.0)
        whose = (org_id, key[:_WORD])
        self._moments[whose] = max(moment, self._moments.get(whose, moment))
        self._moments.move_to_end(whose)
        while len(self._moments) > self._limits.keys:
            _, forgotten = self._moments.popitem(last=False)
            self.left_out += forgotten > self._latest

    def rows(self, now: float, org_id: str | None) -> list[Row]:
        open_now = soon = 0
        for (whose, _key), moment in self._moments.items():
            if moment > now and org_id in {None, whose}:
                open_now += 1
                soon += moment <= now + HOUR_SECONDS
        return [Row((word,), Decimal(n), None) for word, n in zip(self._how.words, (open_now, soon), strict=True) if n]


class _Follows:
    """Of one ``Followed``: beginnings that wait, ends whose beginning may still come, and what became of the others."""

    def __init__(self, how: Followed, limits: Limits) -> None:
        self._how, self._limits = how, limits
        self._begun: OrderedDict[tuple[str | None, str], float] = OrderedDict()
        self._ended: OrderedDict[tuple[str | None, str], tuple[float, str]] = OrderedDict()
        self._tallies: dict[str | None, dict[Words, _Tally]] = defaultdict(dict)
        self.left_out = 0

    def add(self, take: Take, line: Line, org_id: str | None) -> None:
        key = line.fields.get(self._how.key)
        if not isinstance(key, str) or line.at is None:
            return
        whose = (org_id, key[:_WORD])
        if take is self._how.begins:
            self._begin(whose, line.at)
        else:
            self._end(whose, line.at, _word(line.fields.get(self._how.by)))

    def _begin(self, whose: tuple[str | None, str], at: float) -> None:
        if (before := self._begun.pop(whose, None)) is not None:
            self._count(whose[0], self._how.words[0], min(before, at))
            at = max(before, at)
        ended = self._ended.get(whose)
        if ended is not None and 0 <= ended[0] - at <= self._how.within_seconds:
            self._count(whose[0], ended[1], at)
            return
        self._begun[whose] = at
        while len(self._begun) > self._limits.keys:
            self._begun.popitem(last=False)
            self.left_out += 1

    def _end(self, whose: tuple[str | None, str], at: float, word: str) -> None:
        begun = self._begun.get(whose)
        if begun is not None and begun <= at:
            del self._begun[whose]
            in_time = at - begun <= self._how.within_seconds
            self._count(whose[0], word if in_time else self._how.words[0], begun)
            return
        self._ended[whose] = max((at, word), self._ended.pop(whose, (at, word)))
        while len(self._ended) > self._limits.keys // 10:
            self._ended.popitem(last=False)

    def _count(self, org_id: str | None, word: str, at: float) -> None:
        for whose in {None, org_id}:
            _tally(self._tallies[whose], (word,), self._limits).add(Decimal(1), at)

    def rows(self, now: float, org_id: str | None) -> list[Row]:
        over, waiting = self._how.words
        found = {words: one.value for words, one in self._tallies.get(org_id, {}).items()}
        for (whose, _key), at in self._begun.items():
            if org_id in {None, whose}:
                word = over if now - at > self._how.within_seconds else waiting
                found[word,] = found.get((word,), _ZERO) + 1
        return sorted((Row(words, value, None) for words, value in found.items()), key=_largest)


_State = _Totals | _Highests | _Untils | _Follows


class Figures:
    """The figures of these panels. ``add`` every line; ``shown`` says what they come to."""

    def __init__(self, panels: Sequence[Panel], limits: Limits | None) -> None:
        self._panels = panels
        self._limits = limits or Limits()
        self._states = [_state_of(panel, self._limits) for panel in panels]
        self._takes: dict[str | None, list[tuple[int, Take]]] = defaultdict(list)
        for number, panel in enumerate(panels):
            for take in panel.how.takes:
                for event in take.events or (None,):
                    self._takes[event].append((number, take))
        self._organisations: dict[str, int] = {}
        self.organisations_left_out = 0
        """Lines of organisations beyond the limit. They count in the figures of all."""

    @property
    def organisations(self) -> list[str]:
        """Those that have figures of their own, by name."""
        return sorted(self._organisations)

    def add(self, line: Line) -> None:
        """Count a line wherever it counts."""
        org_id = self._organisation(line.fields.get("org_id"))
        event = line.fields.get("event")
        for number, take in (*self._takes.get(event, ()), *self._takes[None]):
            if _counts(take, line.fields):
                own = org_id if self._panels[number].of_organisations else None
                self._states[number].add(take, line, own)

    def shown(self, now: float, org_id: str | None = None) -> Iterator[Shown]:
        """Every panel that tells something of this organisation; of all where it is None."""
        for panel, state in zip(self._panels, self._states, strict=True):
            if org_id is None or panel.of_organisations:
                yield Shown(panel, state.rows(now, org_id), getattr(state, "left_out", 0))

    def _organisation(self, org_id: object) -> str | None:
        if not isinstance(org_id, str) or not org_id:
            return None
        if org_id not in self._organisations:
            if len(self._organisations) >= self._limits.organisations:
                self.organisations_left_out += 1
                return None
            self._organisations[org_id] = len(self._organisations)
        return org_id


def _tally(rows: dict[Words, _Tally], words: Words, limits: Limits) -> _Tally:
    """The tally of these words, or of the others where there are too many already."""
    if words not in rows and len(rows) >= limits.rows:
        words = (OTHERS,) * len(words)
    return rows.setdefault(words, _Tally())


def _state_of(panel: Panel, limits: Limits) -> _State:
    match panel.how:
        case Total() as how:
            return _Totals(how, limits)
        case Highest() as how:
            return _Highests(how, limits)
        case Until() as how:
            return _Untils(how, limits)
        case Followed() as how:
            return _Follows(how, limits)


def _counts(take: Take, fields: Mapping[str, Any]) -> bool:
    """Whether a line counts that has one of the take's events."""
    for name, words in take.where.items():  # loops: every line comes here
        if name != "event" and _word(fields.get(name)) not in words:
            return False
    for name, words in take.unless.items():
        if _word(fields.get(name)) in words:
            return False
    for name in take.having:  # noqa: SIM110 -- as above
        if fields.get(name) is None:
            return False
    return True


def _words(by: tuple[str, ...], take: Take, fields: Mapping[str, Any]) -> Words:
    return tuple((take.label or NONE) if name == "label" else _word(fields.get(name)) for name in by)


def _word(value: object) -> str:
    """A word of a line. What is neither text nor a whole number is no word."""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)[:_WORD] or NONE
    return NONE


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    found = Decimal(repr(value))
    return found if found.is_finite() else None


def _largest(row: Row) -> tuple[Decimal, Words]:
    return -row.value, row.words
