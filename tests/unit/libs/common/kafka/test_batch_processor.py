"""What becomes of a batch: the laws of ``libs.common.kafka.batch_processor``."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Permanent, Transient
from libs.common.kafka.batch_processor import BatchProcessor, BatchResult, Entry
from libs.common.kafka.records import Handle, RawRecord, Received, Reject
from tests.support.records import a_record

GOOD, UNREADABLE, UNKNOWN, REFUSED, POISON, PERMANENT = (
    "good",
    "unreadable",
    "unknown",
    "refused",
    "poison",
    "permanent",
)
BAD = (UNREADABLE, UNKNOWN, REFUSED, POISON, PERMANENT)
STOPPING = (UNREADABLE, POISON)


class Worker:
    """A handler that meets each record as its value says, and remembers what went through."""

    def __init__(self, *, away_after: int | None = None) -> None:
        self.handled: list[RawRecord] = []
        self.calls: list[int] = []
        self._away_after = away_after

    async def __call__(self, batch: Sequence[Received[str]]) -> Sequence[Reject]:
        self.calls.append(len(batch))
        if self._away_after is not None and len(self.calls) > self._away_after:
            raise Transient("the database is away")
        kinds = {received.value for received in batch}
        if POISON in kinds:
            raise ZeroDivisionError("a phone number")
        if PERMANENT in kinds:
            raise Permanent("never", "not this one")
        self.handled += [received.record for received in batch if received.value == GOOD]
        return [Reject(received.record, "unknown_number") for received in batch if received.value == REFUSED]


def entries_of(*partitions: Sequence[str]) -> list[Entry[str]]:
    """One partition after the other, as Kafka hands them over."""
    entries: list[Entry[str]] = []
    for partition, kinds in enumerate(partitions):
        for offset, kind in enumerate(kinds):
            record = a_record(partition=partition, offset=offset)
            match kind:
                case "unreadable":
                    entries.append(Reject(record, "not_json", stops=True))
                case "unknown":
                    entries.append(Reject(record, "unknown_field"))
                case _:
                    entries.append(Received(kind, record))
    return entries


async def judged(
    handle: Handle[str],
    entries: Sequence[Entry[str]],
    *,
    limit: int = 100,
    runs: dict[int, int] | None = None,
    waits: list[int] | None = None,
    pause: Callable[[int], bool] = lambda _: True,
) -> BatchResult:
    async def no_waiting(attempt: int) -> bool:
        if waits is not None:
            waits.append(attempt)
        return pause(attempt)

    return await BatchProcessor(handle, no_waiting, limit).process(entries, runs or {})


def places(records: Sequence[RawRecord]) -> list[tuple[int, int]]:
    return [(record.partition, record.offset) for record in records]


a_kind = st.sampled_from([GOOD, GOOD, GOOD, *BAD])
some_partitions = st.lists(st.lists(a_kind, max_size=12), min_size=1, max_size=3)


@given(some_partitions)
async def test_every_record_is_handled_once_or_dead_once_and_order_is_kept(partitions: list[list[str]]) -> None:
    worker = Worker()

    result = await judged(worker, entries_of(*partitions))

    all_of = {
        k: [(p, o) for p, kinds in enumerate(partitions) for o, kind in enumerate(kinds) if kind == k] for k in BAD
    }
    good = [(p, o) for p, kinds in enumerate(partitions) for o, kind in enumerate(kinds) if kind == GOOD]
    assert places(worker.handled) == good
    assert places([letter.record for letter in result.dead]) == sorted(
        place for found in all_of.values() for place in found
    )
    assert result.next_offsets == {p: len(kinds) for p, kinds in enumerate(partitions) if kinds}
    assert result.transient_error is None


@given(some_partitions, st.integers(0, 12))
async def test_trouble_leaves_a_done_prefix_of_each_partition_and_nothing_done_behind_it(
    partitions: list[list[str]], away_after: int
) -> None:
    worker = Worker(away_after=away_after)

    result = await judged(worker, entries_of(*partitions))

    done = set(places(worker.handled)) | set(places([letter.record for letter in result.dead]))
    prefix = {(p, o) for p, end in result.next_offsets.items() for o in range(end)}
    assert done == prefix
    assert len(worker.handled) + len(result.dead) == len(prefix)
    if result.transient_error is None:
        assert len(prefix) == sum(map(len, partitions))


@given(some_partitions, st.integers(1, 5), st.integers(0, 4))
async def test_no_partition_gets_more_that_stop_in_a_row_than_the_limit_and_nothing_else_stops_it(
    partitions: list[list[str]], limit: int, run: int
) -> None:
    before = min(run, limit - 1)

    worker = Worker()
    result = await judged(worker, entries_of(*partitions), limit=limit, runs={0: before})

    for partition, kinds in enumerate(partitions):
        in_a_row, end = (before if partition == 0 else 0), len(kinds)
        for offset, kind in enumerate(kinds):
            in_a_row = in_a_row + 1 if kind in STOPPING else 0
            if in_a_row == limit:
                end = offset + 1
                break
        assert result.next_offsets.get(partition, 0) == end
        assert (partition in result.stopped) == (in_a_row == limit)
        dead = [letter.record.offset for letter in result.dead if letter.record.partition == partition]
        assert dead == [offset for offset in range(end) if kinds[offset] != GOOD]
        handled = [record.offset for record in worker.handled if record.partition == partition]
        assert handled == [offset for offset in range(end) if kinds[offset] == GOOD]


async def test_a_batch_without_fault_costs_one_call() -> None:
    worker = Worker()
    await judged(worker, entries_of([GOOD, UNREADABLE, REFUSED, GOOD]))
    assert worker.calls == [3]


async def test_a_guilty_record_among_five_hundred_is_found_by_halving_and_tried_three_times() -> None:
    worker, waits = Worker(), list[int]()
    result = await judged(worker, entries_of([GOOD] * 300 + [POISON] + [GOOD] * 199), waits=waits)
    assert [(letter.record.offset, letter.reason, letter.attempts) for letter in result.dead] == [
        (300, "handler_failed", 3)
    ]
    assert waits == [2, 3]
    assert len(worker.calls) < 30


async def test_a_bug_is_told_by_its_class_alone() -> None:
    result = await judged(Worker(), entries_of([POISON]))
    assert result.dead[0].detail == "ZeroDivisionError"


async def test_a_permanent_failure_of_a_lone_record_is_not_tried_again() -> None:
    worker, waits = Worker(), list[int]()
    result = await judged(worker, entries_of([PERMANENT]), waits=waits)
    assert [(letter.reason, letter.detail, letter.attempts) for letter in result.dead] == [("never", "not this one", 1)]
    assert (worker.calls, waits) == ([1], [])


async def test_a_record_that_goes_through_at_the_second_try_is_not_dead() -> None:
    failures = [RuntimeError("once")]

    async def handle(batch: Sequence[Received[str]]) -> None:
        if failures:
            raise failures.pop()

    result = await judged(handle, entries_of([GOOD]))
    assert (result.dead, result.next_offsets) == ([], {0: 1})


async def test_trouble_while_a_guilty_record_is_tried_again_is_trouble_and_not_its_death() -> None:
    failures: list[Exception] = [Transient("away"), RuntimeError("a bug, perhaps")]

    async def handle(batch: Sequence[Received[str]]) -> None:
        raise failures.pop()

    result = await judged(handle, entries_of([GOOD]))
    assert isinstance(result.transient_error, Transient)
    assert (result.dead, result.next_offsets) == ([], {})


async def test_who_leaves_while_a_record_is_tried_again_leaves_it_to_the_next() -> None:
    result = await judged(Worker(), entries_of([POISON]), pause=lambda _: False)
    assert (result.dead, result.next_offsets) == ([], {})
    assert result.transient_error is not None


async def test_a_batch_that_is_halved_too_long_is_broken_off_behind_what_is_done() -> None:
    worker = Worker()

    async def pause(attempt: int) -> bool:
        return True

    processor = BatchProcessor(worker, pause, run_limit=100, budget=-1)
    result = await processor.process(entries_of([POISON, GOOD]), {})
    assert (result.next_offsets, result.transient_error, worker.handled) == ({}, None, [])


@pytest.mark.parametrize("kind", STOPPING)
@pytest.mark.parametrize("between", [GOOD, UNKNOWN, REFUSED, PERMANENT])
async def test_a_record_that_was_read_begins_the_count_anew(kind: str, between: str) -> None:
    result = await judged(Worker(), entries_of([kind, kind, between, kind, kind]), limit=3)
    assert (result.stopped, result.runs, result.readable) == (set(), {0: 2}, {0})
