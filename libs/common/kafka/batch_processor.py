"""What becomes of one batch. No Kafka in it: records in, a result out.

Rule 1: records of a line (a partition's records of one key) are handled in their order; what is done with is always a prefix of each partition.
Rule 2: a record that was not understood is dead before any handler is asked; it costs its neighbours nothing.
Rule 3: expected trouble (``is_retryable``) ends the batch: what came before is done, the rest comes again.
Rule 4: any other exception halves the batch until one record is left; that one is tried a few times, then it is dead.
Rule 5: dead letters that stop (what nobody could read, bugs of ours, what is too slow) are counted in a row over batches, by partition. Any other
        record begins the count anew, whether it was handled or refused. With the limit reached the partition is stopped behind its last dead
        letter, and nothing more of it is handled.
Rule 6: a record that is too slow alone is found in the same way (``halving``), and dead once it is clear that it is not the database. Until then it
        and what stands behind it on its line come again; all others are handled, up to ``AHEAD`` records further on, and not handled again when
        they are read again with it.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from libs.common.bisection import SEARCH_SECONDS, Bisection, Faulty, Passed, Pause, TooSlow
from libs.common.errors import Permanent
from libs.common.kafka.records import Handle, RawRecord, Received, Reject
from libs.common.retryable import is_lock_timeout
from libs.common.slow_suspects import SlowSuspects

__all__ = ["STATEMENT_TOO_SLOW", "BatchProcessor", "BatchResult", "DeadLetter", "Entry", "Pause"]

T = TypeVar("T")

STATEMENT_TOO_SLOW = "statement_too_slow"
"""The reason of a record's dead letter whose work alone takes longer than a statement may."""


AHEAD = 5_000
"""So many records of a partition at most are read ahead of one that is too slow."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that will not be handled, and why."""

    record: RawRecord
    reason: str
    detail: str
    attempts: int
    error: Exception | None = None
    """What a handler with a bug raised, for the log."""


@dataclass(slots=True)
class BatchResult:
    """How far a batch came. ``next_offsets`` says per partition from where on nothing is done with yet."""

    next_offsets: dict[int, int] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    readable: set[int] = field(default_factory=set)
    """Partitions of which a record was handled, or refused for what it says."""
    stopped: set[int] = field(default_factory=set)
    transient_error: Exception | None = None
    splits: int = 0
    suspected: list[RawRecord] = field(default_factory=list)
    """Records that turned out to be too slow alone in this batch; they come again."""
    resume: dict[int, int] = field(default_factory=dict)
    """Where reading goes on in partitions of this batch in which something waits to be tried again (``BatchProcessor.open_offsets``)."""
    wait: float = 0.0
    """Nothing can be done before so many seconds: what is left waits for the next try of a record that is too slow."""


Entry = Received[T] | Reject
_Place = tuple[int, int]
"""partition, offset"""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A record's end; ``letter`` None: it was handled."""

    letter: DeadLetter | None = None
    stops: bool = False


_HANDLED = _Outcome()


@dataclass(slots=True)
class BatchProcessor(Generic[T]):
    """How batches of one subscription are handled, and what is remembered from one to the next.

    ``tries`` is how often a record that fails alone is tried; ``budget`` is after how many seconds a batch that had to be cut is broken
    off (the rest comes again), so that the group does not take us for dead.
    """

    handle: Handle[T]
    pause: Pause
    run_limit: int
    tries: int = 3
    budget: float = SEARCH_SECONDS
    now: Callable[[], float] | None = None
    """Seconds, for when what was too slow is tried again; the event loop's time without it."""
    _suspects: SlowSuspects[_Place] = field(default_factory=SlowSuspects)
    _outcomes: dict[_Place, _Outcome] = field(default_factory=dict)
    """Of records behind one whose own is not known yet."""
    _lines: dict[_Place, Hashable] = field(default_factory=dict)
    """Of suspects."""
    _open_at: dict[int, int] = field(default_factory=dict)
    """By partition the first record whose outcome is not known yet, where reading has gone on."""
    _turned: dict[int, int] = field(default_factory=dict)
    """Partitions that are being read again, and up to where."""

    def open_offsets(self) -> dict[int, int]:
        """Partitions in which something waits to be tried again while reading goes on, and where the first of that stands; of all batches so far."""
        return dict(self._open_at)

    def due(self) -> set[int]:
        """Partitions in which something is to be tried again now: they are to be read again from where it stands."""
        if not self._open_at:
            return set()
        now = asyncio.get_running_loop().time() if self.now is None else self.now()
        return {
            partition for partition, _offset in self._suspects.due(now)
        } & self._open_at.keys() - self._turned.keys()

    def turned(self, partitions: Iterable[int]) -> None:
        """These are read again from where the first stands; not once more before reading has come to the last that is due, or it never would."""
        now = asyncio.get_running_loop().time() if self.now is None else self.now()
        due = self._suspects.due(now)
        self._turned |= {p: max((offset for where, offset in due if where == p), default=0) for p in partitions}

    def forget(self) -> None:
        """The partitions were given out anew: what is remembered of their records holds no more."""
        self._suspects.forget(lambda _place: True)
        self._outcomes.clear()
        self._lines.clear()
        self._open_at.clear()
        self._turned.clear()

    async def process(self, entries: Sequence[Entry[T]], runs: Mapping[int, int]) -> BatchResult:
        """Handle ``entries`` (in order); ``runs`` holds, by partition, how many that stop came in a row so far."""
        result = BatchResult(runs=dict(runs))
        if self._turned:
            lasts = _lasts(entries)
            self._turned = {p: until for p, until in self._turned.items() if lasts.get(p, -1) < until}
        outcomes = self._recall(entries) if self._outcomes or self._suspects or self._open_at else {}
        search = Bisection[Received[T], Sequence[Reject] | None, _Place](
            self.handle,
            self._suspects,
            key=lambda received: _place(received.record),
            line=lambda received: _line(received.record),
            tries=self.tries,
            pause=self.pause,
            allowed=lambda part: self._before_the_limit(part, entries, outcomes, runs),
            budget=self.budget,
            now=self.now,
            held=set(self._lines.values()),
        )
        waiting = [e for e in entries if isinstance(e, Received) and _place(e.record) not in outcomes]
        known = len(outcomes)
        async for found in search.run(waiting):
            match found:
                case Passed(items, refusals, attempts):
                    outcomes |= dict.fromkeys((_place(item.record) for item in items), _HANDLED)
                    outcomes |= {_place(refusal.record): _refused(refusal, attempts) for refusal in refusals or ()}
                case Faulty(item, Permanent() as error, attempts):
                    refusal = Reject(item.record, error.reason, error.detail, error.stops)
                    outcomes[_place(item.record)] = _refused(refusal, attempts)
                case Faulty(item, error, attempts):
                    letter = DeadLetter(item.record, "handler_failed", type(error).__name__, attempts, error)
                    outcomes[_place(item.record)] = _Outcome(letter, stops=True)
                case TooSlow(item, error, attempts):
                    letter = DeadLetter(item.record, STATEMENT_TOO_SLOW, _slowness(error), attempts, error)
                    outcomes[_place(item.record)] = _Outcome(letter, stops=True)
        result.transient_error, result.splits = search.transient_error, search.splits
        result.suspected = [received.record for received in search.suspected]
        idle = result.transient_error is None and len(outcomes) == known
        self._settle(entries, outcomes, result)
        self._lines |= {_place(received.record): _line(received.record) for received in search.suspected}
        self._lines = {place: line for place, line in self._lines.items() if place in self._suspects}
        ahead = result.transient_error is None and not search.out_of_time and self._go_ahead(entries, outcomes, result)
        if idle and not result.next_offsets and not ahead and self._suspects:
            result.wait = self._suspects.wait(search.clock())
        return result

    def _recall(self, entries: Sequence[Entry[T]]) -> dict[_Place, _Outcome]:
        """What is known already of these; what lies before them in their partitions is not needed any more, unless they are read ahead."""
        begins = _begins(entries)
        for partition, begin in begins.items():
            if begin <= self._open_at.get(partition, begin):
                self._open_at.pop(partition, None)
        needed = begins | self._open_at
        self._suspects.forget(lambda place: place[1] < needed.get(place[0], 0))
        self._lines = {place: line for place, line in self._lines.items() if place in self._suspects}
        self._outcomes = {
            place: outcome for place, outcome in self._outcomes.items() if place[1] >= needed.get(place[0], 0)
        }
        return {place: self._outcomes[place] for e in entries if (place := _place(e.record)) in self._outcomes}

    def _go_ahead(self, entries: Sequence[Entry[T]], outcomes: Mapping[_Place, _Outcome], result: BatchResult) -> bool:
        """Where all that is left waits for a suspect, reading may go on; whether it does anywhere.

        Where a suspect ended in this batch, what waited for it is read first, for more of its line may stand ahead.
        """
        ahead = False
        suspected = {partition for partition, _offset in self._lines}
        lasts = _lasts(entries)
        waits_no_more = self._first_free(entries, outcomes)
        for partition, begin in _begins(entries).items():
            if partition not in suspected or partition in result.stopped:
                continue
            last = lasts[partition]
            stands = self._open_at.setdefault(partition, result.next_offsets.get(partition, begin))
            if partition in waits_no_more:
                result.resume[partition] = waits_no_more[partition]
                continue
            is_near = last < stands + AHEAD
            result.resume[partition] = last + 1 if is_near else stands
            ahead |= is_near
        return ahead

    def _first_free(self, entries: Sequence[Entry[T]], outcomes: Mapping[_Place, _Outcome]) -> dict[int, int]:
        """By partition the first record that is not done with though no suspect of its line is left."""
        held = set(self._lines.values())
        return {
            entry.record.partition: entry.record.offset
            for entry in reversed(entries)
            if isinstance(entry, Received) and _place(entry.record) not in outcomes and _line(entry.record) not in held
        }

    def _before_the_limit(
        self,
        part: Sequence[Received[T]],
        entries: Sequence[Entry[T]],
        outcomes: Mapping[_Place, _Outcome],
        runs: Mapping[int, int],
    ) -> Sequence[Received[T]]:
        """``part`` up to where, supposing that everything that is left will be handled, each partition's limit is reached."""
        if not any(runs.values()) and not any(_stops(entry, outcomes) for entry in entries):
            return part
        counted = dict(runs)
        over = dict[int, int]()
        for entry in entries:
            partition = entry.record.partition
            if partition in over:
                continue
            counted[partition] = counted.get(partition, 0) + 1 if _stops(entry, outcomes) else 0
            if counted[partition] >= self.run_limit:
                over[partition] = entry.record.offset
        return [e for e in part if e.record.offset <= over.get(e.record.partition, e.record.offset)]

    def _settle(self, entries: Sequence[Entry[T]], outcomes: Mapping[_Place, _Outcome], result: BatchResult) -> None:
        """Take in what is known up to the first record of each partition of which nothing is; remember what is known behind it."""
        behind = set(self._open_at)
        left = dict[_Place, _Outcome]()
        for entry in entries:
            record, place = entry.record, _place(entry.record)
            outcome = _refused(entry, 1) if isinstance(entry, Reject) else outcomes.get(place)
            if outcome is None or record.partition in behind or record.partition in result.stopped:
                behind.add(record.partition)
                if outcome is not None and isinstance(entry, Received):
                    left[place] = outcome
                continue
            if outcome.letter is not None:
                result.dead.append(outcome.letter)
            if outcome.stops:
                result.runs[record.partition] = result.runs.get(record.partition, 0) + 1
                if result.runs[record.partition] >= self.run_limit:
                    result.stopped.add(record.partition)
            else:
                result.runs[record.partition] = 0
                result.readable.add(record.partition)
            result.next_offsets[record.partition] = record.offset + 1
        if self._outcomes:
            places = {_place(entry.record) for entry in entries}
            self._outcomes = {place: outcome for place, outcome in self._outcomes.items() if place not in places}
        self._outcomes |= left


def _refused(refusal: Reject, attempts: int) -> _Outcome:
    letter = DeadLetter(refusal.record, refusal.reason, refusal.detail, attempts)
    return _Outcome(letter, refusal.stops)


def _stops(entry: Received[T] | Reject, outcomes: Mapping[_Place, _Outcome]) -> bool:
    if isinstance(entry, Reject):
        return entry.stops
    return outcomes.get(_place(entry.record), _HANDLED).stops


def _slowness(error: Exception) -> str:
    code = getattr(error, "sqlstate", None) or type(error).__name__
    if is_lock_timeout(error):
        return f"{code}: alone it waits for a lock of another session longer than a statement may, again and again"
    return f"{code}: alone it takes longer than a statement may (TRANSOM_POSTGRES_TIMEOUT_SECONDS), others do not"


def _begins(entries: Sequence[Entry[T]]) -> dict[int, int]:
    return {entry.record.partition: entry.record.offset for entry in reversed(entries)}


def _lasts(entries: Sequence[Entry[T]]) -> dict[int, int]:
    return {entry.record.partition: entry.record.offset for entry in entries}


def _place(record: RawRecord) -> _Place:
    return record.partition, record.offset


def _line(record: RawRecord) -> Hashable:
    return (record.partition, record.key) if record.key is not None else _place(record)
