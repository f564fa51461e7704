"""Which records of a batch are handled, dead or retried. No Kafka in it: records in, a result out.

Rule 1: records of one partition and key are handled in their order. What is finished is always a prefix of each
        partition.
Rule 2: a record that cannot be decoded is a dead letter before the handler is called; its neighbours are handled.
Rule 3: a retryable error ends the batch: what was handled before it is finished, the rest is read again.
Rule 4: any other exception splits the batch until one record is left. That one is tried a few times, then it is a dead
        letter.
Rule 5: stopping dead letters are counted in a row over batches, by partition: records that nobody can decode, bugs of
        ours, and records that are too slow. Any other record, handled or refused, begins the count anew. At the limit
        the partition is stopped behind its last dead letter.
Rule 6: a record that is too slow alone is found in the same way (``bisection``), and is a dead letter once it is clear
        that the database is not slow for all. Until then it and the later records of its key are read again. All others
        are handled, up to ``AHEAD`` records further on, and not handled again when they are read again with it. A
        record that waits for another session's lock is none before others have to wait for it there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from libs.common.bisection import SEARCH_SECONDS, Bisection, Faulty, Passed, Pause, TooSlow
from libs.common.errors import Permanent
from libs.common.kafka.records import Handle, RawRecord, Received, Reject
from libs.common.retryable import is_lock_timeout
from libs.common.slow_suspects import SlowSuspects

T = TypeVar("T")

STATEMENT_TOO_SLOW = "statement_too_slow"
"""The reason of a dead letter whose work alone takes longer than a statement may."""
AHEAD = 5_000
"""At most so many records of a partition are read ahead of one that is too slow."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that will not be handled, and why."""

    record: RawRecord
    reason: str
    detail: str
    attempts: int
    error: Exception | None = None
    """What a handler with a bug raised, for the log."""


Remember = Callable[[Sequence[DeadLetter], datetime], Awaitable[None]]
"""Stores a trace of dead letters, with the time at which they died."""


@dataclass(slots=True)
class BatchResult:
    """What became of a batch. ``next_offsets``: by partition the first unfinished offset."""

    next_offsets: dict[int, int] = field(default_factory=dict)
    dead: list[DeadLetter] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    readable: set[int] = field(default_factory=set)
    """Partitions of which a record was handled, or refused for its content."""
    stopped: set[int] = field(default_factory=set)
    transient_error: Exception | None = None
    splits: int = 0
    suspected: list[RawRecord] = field(default_factory=list)
    """Records that became suspects in this batch: too slow alone. They are read again."""
    resume: dict[int, int] = field(default_factory=dict)
    """Where reading goes on in partitions of this batch with an open offset (``BatchProcessor.open_offsets``)."""
    wait: float = 0.0
    """Seconds until the next try of a slow record, when all that is left waits for it."""


Entry = Received[T] | Reject
_Place = tuple[int, int]
"""partition, offset"""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a record; without ``letter`` it was handled."""

    letter: DeadLetter | None = None
    stops: bool = False


_HANDLED = _Outcome()


@dataclass(slots=True)
class BatchProcessor(Generic[T]):
    """Processes the batches of one subscription, and remembers open records from one batch to the next.

    ``tries``: how often a record that fails alone is tried. ``budget``: a batch that had to be split is ended after so
    many seconds, so that the group does not take us for dead; the rest is read again.
    """

    handle: Handle[T]
    pause: Pause
    run_limit: int
    tries: int = 3
    budget: float = SEARCH_SECONDS
    now: Callable[[], float] | None = None
    """The clock of retries of slow records, in seconds; the event loop's time without it."""
    _suspects: SlowSuspects[_Place] = field(default_factory=SlowSuspects)
    _outcomes: dict[_Place, _Outcome] = field(default_factory=dict)
    """Of records behind an open one of their partition."""
    _ordering_keys: dict[_Place, Hashable] = field(default_factory=dict)
    """Of the suspects."""
    _open_at: dict[int, int] = field(default_factory=dict)
    """By partition the first open record, where reading has gone on ahead of it."""
    _rewound: dict[int, int] = field(default_factory=dict)
    """Partitions that are read again from their open offset, and the last offset that is due there."""
    _in_the_way: set[_Place] = field(default_factory=set)
    """Suspects of which nothing is read further ahead."""

    def open_offsets(self) -> dict[int, int]:
        """By partition the first record that waits for a retry while reading goes on, of all batches so far."""
        return dict(self._open_at)

    def due(self) -> set[int]:
        """Partitions with a retry due: they are to be read again from their open offset."""
        if not self._open_at:
            return set()
        now = asyncio.get_running_loop().time() if self.now is None else self.now()
        return {
            partition for partition, _offset in self._suspects.due(now)
        } & self._open_at.keys() - self._rewound.keys()

    def rewound(self, partitions: Iterable[int]) -> None:
        """These are being read again.

        They are not due again before the last due record was read, or it never would be.
        """
        now = asyncio.get_running_loop().time() if self.now is None else self.now()
        due = self._suspects.due(now)
        self._rewound |= {p: max((offset for where, offset in due if where == p), default=0) for p in partitions}

    def forget(self) -> None:
        """Forget all: after a rebalance it is not valid."""
        self._suspects.forget(lambda _place: True)
        self._outcomes.clear()
        self._ordering_keys.clear()
        self._open_at.clear()
        self._rewound.clear()
        self._in_the_way.clear()

    def deleted(self, partition: int, first: int) -> None:
        """Forget what stood before ``first``: it is gone from the topic, so no retry of it can be read."""
        self._suspects.forget(lambda place: place[0] == partition and place[1] < first)
        if self._open_at.get(partition, first) < first:
            del self._open_at[partition]
            self._rewound.pop(partition, None)

    async def process(self, entries: Sequence[Entry[T]], runs: Mapping[int, int]) -> BatchResult:
        """Handle ``entries`` (in order). ``runs``: by partition the stopping dead letters in a row so far."""
        result = BatchResult(runs=dict(runs))
        if self._rewound:
            lasts = _lasts(entries)
            self._rewound = {p: until for p, until in self._rewound.items() if lasts.get(p, -1) < until}
        outcomes = self._known_outcomes(entries) if self._outcomes or self._suspects or self._open_at else {}
        bisection = Bisection[Received[T], Sequence[Reject] | None, _Place](
            self.handle,
            self._suspects,
            key=lambda received: _place(received.record),
            ordering_key=lambda received: _ordering_key(received.record),
            tries=self.tries,
            pause=self.pause,
            allowed=lambda part: self._before_the_limit(part, entries, outcomes, runs),
            hurried=lambda received: _place(received.record) in self._in_the_way,
            budget=self.budget,
            now=self.now,
            blocked=set(self._ordering_keys.values()),
        )
        waiting = [e for e in entries if isinstance(e, Received) and (not outcomes or _place(e.record) not in outcomes)]
        known = len(outcomes)
        plain = len(waiting) == len(entries) and not self._remembers()
        async for found in bisection.run(waiting):
            match found:
                case Passed(items, refusals, _) if plain and not refusals and len(items) == len(entries):
                    _all_handled(entries, result)
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
        result.transient_error, result.splits = bisection.transient_error, bisection.splits
        result.suspected = [received.record for received in bisection.suspected]
        if plain and result.next_offsets:
            return result  # nothing was refused and nothing is remembered, as of most batches
        idle = result.transient_error is None and len(outcomes) == known
        self._collect(entries, outcomes, result)
        self._ordering_keys |= {
            _place(received.record): _ordering_key(received.record) for received in bisection.suspected
        }
        self._ordering_keys = {place: key for place, key in self._ordering_keys.items() if place in self._suspects}
        ahead = (
            result.transient_error is None and not bisection.out_of_time and self._read_ahead(entries, outcomes, result)
        )
        if idle and not result.next_offsets and not ahead and self._suspects:
            result.wait = self._suspects.wait(bisection.clock())
        return result

    def _remembers(self) -> bool:
        """Whether records are open, or known already."""
        return bool(self._outcomes or self._suspects or self._ordering_keys or self._open_at)

    def _known_outcomes(self, entries: Sequence[Entry[T]]) -> dict[_Place, _Outcome]:
        """The known outcomes of these.

        Outcomes before them in their partitions are forgotten, unless these are read ahead.
        """
        begins = _begins(entries)
        for partition, begin in begins.items():
            if begin <= self._open_at.get(partition, begin):
                self._open_at.pop(partition, None)
        needed = begins | self._open_at
        self._suspects.forget(lambda place: place[1] < needed.get(place[0], 0))
        self._in_the_way = {place for place in self._in_the_way if place in self._suspects}
        self._ordering_keys = {place: key for place, key in self._ordering_keys.items() if place in self._suspects}
        self._outcomes = {
            place: outcome for place, outcome in self._outcomes.items() if place[1] >= needed.get(place[0], 0)
        }
        return {place: self._outcomes[place] for e in entries if (place := _place(e.record)) in self._outcomes}

    def _read_ahead(
        self, entries: Sequence[Entry[T]], outcomes: Mapping[_Place, _Outcome], result: BatchResult
    ) -> bool:
        """Let reading go on where all open records wait for a suspect; returns whether it does anywhere.

        Where a suspect ended in this batch, the records that waited for it are read first: later records of its key may
        have been read ahead.
        """
        ahead = False
        suspected = {partition for partition, _offset in self._ordering_keys}
        lasts = _lasts(entries)
        unblocked = self._first_unblocked(entries, outcomes)
        for partition, begin in _begins(entries).items():
            if partition not in suspected or partition in result.stopped:
                continue
            last = lasts[partition]
            stands = self._open_at.setdefault(partition, result.next_offsets.get(partition, begin))
            if partition in unblocked:
                result.resume[partition] = unblocked[partition]
                continue
            is_near = last < stands + AHEAD
            if not is_near:
                self._in_the_way.add((partition, stands))
            result.resume[partition] = last + 1 if is_near else stands
            ahead |= is_near
        return ahead

    def _first_unblocked(self, entries: Sequence[Entry[T]], outcomes: Mapping[_Place, _Outcome]) -> dict[int, int]:
        """By partition the first unfinished record whose key has no suspect left."""
        blocked = set(self._ordering_keys.values())
        return {
            entry.record.partition: entry.record.offset
            for entry in reversed(entries)
            if isinstance(entry, Received)
            and _place(entry.record) not in outcomes
            and _ordering_key(entry.record) not in blocked
        }

    def _before_the_limit(
        self,
        part: Sequence[Received[T]],
        entries: Sequence[Entry[T]],
        outcomes: Mapping[_Place, _Outcome],
        runs: Mapping[int, int],
    ) -> Sequence[Received[T]]:
        """``part`` up to the record at which its partition's limit is reached, if all open records are handled."""
        if len(part) == len(entries) and not outcomes:  # nothing is refused
            return part
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

    def _collect(self, entries: Sequence[Entry[T]], outcomes: Mapping[_Place, _Outcome], result: BatchResult) -> None:
        """Put each partition's outcomes before its first open record into ``result``, and remember those behind it."""
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


def _all_handled(entries: Sequence[Entry[T]], result: BatchResult) -> None:
    for partition, last in _lasts(entries).items():
        result.next_offsets[partition] = last + 1
        result.runs[partition] = 0
        result.readable.add(partition)


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


def _ordering_key(record: RawRecord) -> Hashable:
    return (record.partition, record.key) if record.key is not None else _place(record)
