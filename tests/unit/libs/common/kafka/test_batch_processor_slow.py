"""A record that alone is too slow is found and set aside, its neighbours go on, and a slow database costs nobody
anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.errors import Transient
from libs.common.kafka.batch_processor import AHEAD, BatchProcessor, DeadLetter
from libs.common.kafka.records import RawRecord, Received
from libs.common.slow_suspects import ALONE, LOCKED, TRIES, UNCONFIRMED
from tests.support.examples import examples
from tests.support.records import a_record

GOOD, SLOW, LOCKING = "good", "slow", "locking"
STATEMENT = 1.8
Place = tuple[int, int]


def too_slow() -> Exception:
    return asyncpg.QueryCanceledError("canceling statement due to statement timeout")


def locked() -> Exception:
    return asyncpg.LockNotAvailableError("canceling statement due to lock timeout")


@dataclass
class World:
    """Records of some partitions, a handler whose statements take their time, and the reading again of what is not
    done.
    """

    partitions: list[list[tuple[str, str]]]
    """By partition each record's key and what it is like."""
    slow_until: float = 0.0
    """For everybody, whatever it is."""
    slowness: Callable[[], Exception] = too_slow
    locked_until: float = float("inf")
    """Until then another session holds the lock that some records wait for."""
    works: Callable[[float], bool] = lambda _now: True
    arrives: dict[int, float] = field(default_factory=dict)
    """By partition how many of its records come a second; of others all are there."""
    limit: int = 500
    """So many records are read at once."""
    now: float = 0.0
    handled: list[RawRecord] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    calls: int = 0
    at: dict[int, int] = field(default_factory=dict)
    """By partition what is committed."""
    reads: dict[int, int] = field(default_factory=dict)
    behind: dict[int, int] = field(default_factory=dict)
    processor: BatchProcessor[str] = field(init=False)

    def __post_init__(self) -> None:
        self.processor = BatchProcessor(self, lambda _: _true(), run_limit=100, budget=1e9, now=lambda: self.now)

    async def __call__(self, batch: Sequence[Received[str]]) -> None:
        self.calls += 1
        kinds = {received.value for received in batch}
        if SLOW in kinds or self.now < self.slow_until or not self.works(self.now):
            self.now += STATEMENT
            raise self.slowness() if SLOW not in kinds else too_slow()
        if LOCKING in kinds and self.now < self.locked_until:
            self.now += STATEMENT
            raise locked()
        self.now += 0.001
        self.handled += [received.record for received in batch]

    def waiting(self) -> list[Received[str]]:
        """The next batch, as the consumer reads it."""
        limit = self.limit
        found = list[Received[str]]()
        for partition, records in enumerate(self.partitions):
            begin = self.reads.get(partition, 0)
            there = len(records)
            if partition in self.arrives:
                there = min(there, int(self.now * self.arrives[partition]) + 1)
            found += [
                Received(
                    records[offset][1], a_record(partition=partition, offset=offset, key=records[offset][0].encode())
                )
                for offset in range(begin, min(there, begin + limit))
            ]
        return found[:limit]

    async def until(self, seconds: float) -> None:
        """Read and handle again and again, until then or until nothing is left."""
        while self.now < seconds and sum(self.at.values()) < sum(map(len, self.partitions)):
            rewound = {p: self.behind[p] for p in self.processor.due() if p in self.behind}
            self.reads |= rewound
            self.processor.rewound(rewound)
            entries = self.waiting()
            result = await self.processor.process(entries, {})
            for partition, offset in result.next_offsets.items():
                assert offset > self.at.get(partition, 0), "nothing is committed twice"
                self.at[partition] = offset
            self.behind = self.processor.open_offsets()
            begins = {e.record.partition: e.record.offset for e in reversed(entries)}
            self.reads |= begins | result.next_offsets | result.resume
            self.dead += result.dead
            self.now += 0.25

    @property
    def done(self) -> list[Place]:
        return [(record.partition, record.offset) for record in self.handled]

    @property
    def set_aside(self) -> list[Place]:
        return [(letter.record.partition, letter.record.offset) for letter in self.dead]


def all_of(world: World, kind: str) -> list[Place]:
    return [(p, o) for p, records in enumerate(world.partitions) for o, (_, k) in enumerate(records) if k == kind]


def by_key(world: World) -> dict[tuple[int, bytes | None], list[int]]:
    order = dict[tuple[int, bytes | None], list[int]]()
    for record in world.handled:
        order.setdefault((record.partition, record.key), []).append(record.offset)
    return order


a_key = st.sampled_from(["a", "b", "c", "d"])
good_records = st.lists(st.tuples(a_key, st.just(GOOD)), min_size=3, max_size=12)


@given(st.lists(good_records, min_size=1, max_size=3), st.data())
async def test_exactly_those_that_are_too_slow_alone_are_set_aside_and_all_others_handled_once_in_order(
    partitions: list[list[tuple[str, str]]], data: st.DataObject
) -> None:
    poisoned = data.draw(st.integers(0, len(partitions) - 1))
    partitions[poisoned].insert(data.draw(st.integers(0, len(partitions[poisoned]))), ("poison", SLOW))
    world = World(partitions)

    await world.until(UNCONFIRMED)

    assert world.set_aside == all_of(world, SLOW)
    assert sorted(world.done) == all_of(world, GOOD)
    assert all(offsets == sorted(offsets) for offsets in by_key(world).values())
    [letter] = world.dead
    assert letter.reason == "statement_too_slow"
    assert letter.attempts >= TRIES
    assert letter.detail.startswith("57014: ")


async def test_two_that_are_further_apart_than_a_batch_reaches_are_both_tried_again() -> None:
    records = [("a", SLOW), ("a", GOOD), ("a", GOOD), ("b", SLOW), ("a", GOOD)]
    world = World([records, [(f"n{i}", GOOD) for i in range(200)]], arrives={1: 1.0}, limit=3)
    await world.until(300)
    assert world.set_aside == [(0, 0), (0, 3)]
    assert sorted(world.done) == all_of(world, GOOD)
    assert all(offsets == sorted(offsets) for offsets in by_key(world).values())


@settings(max_examples=examples(40))
@given(st.lists(good_records, min_size=1, max_size=3), st.floats(0, 200), st.sampled_from([too_slow, locked]))
async def test_while_the_database_is_slow_for_everybody_nothing_is_set_aside_and_afterwards_all_is_handled(
    partitions: list[list[tuple[str, str]]], slow_for: float, how: Callable[[], Exception]
) -> None:
    world = World(partitions, slow_until=slow_for, slowness=how)
    await world.until(10_000)
    assert world.set_aside == []
    assert sorted(set(world.done)) == all_of(world, GOOD)
    assert all(offsets == sorted(offsets) for offsets in by_key(world).values())


@pytest.mark.parametrize(("slow", "well"), [(8.0, 2.0), (5.0, 5.0), (0.75, 2.0), (0.5, 0.5), (30.0, 3.0), (2.0, 1.0)])
async def test_a_database_that_is_slow_now_and_then_costs_no_record(slow: float, well: float) -> None:
    """Slow for a while, well for a while, and others come all the time."""
    stream = [(f"s{number}", GOOD) for number in range(200)]
    records = [(key, GOOD) for key in "aabbcdefghab"]
    world = World([records, stream], works=lambda now: now > 200 or now % (slow + well) > slow, arrives={1: 1.0})
    await world.until(10_000)
    assert world.set_aside == []
    assert sorted(set(world.done)) == all_of(world, GOOD)


async def test_what_stands_behind_it_on_its_line_waits_and_its_neighbours_do_not() -> None:
    records = [("k", GOOD), ("k", SLOW), ("k", GOOD), *[(f"n{i}", GOOD) for i in range(40)]]
    world = World([records])
    await world.until(2 * STATEMENT + 1)
    assert world.set_aside == []
    assert sorted(world.done) == [(0, o) for o in range(43) if o not in (1, 2)]
    assert world.at == {0: 1}, "committed is what is done with to the last"
    await world.until(60)
    assert (world.set_aside, world.done[-1]) == ([(0, 1)], (0, 2))
    assert len(world.done) == len(set(world.done)) == 42


async def test_what_waited_for_one_goes_before_what_came_later_though_another_one_is_still_looked_into() -> None:
    """They are of one batch. The first is found out; the second is not; more of the first one's line comes behind."""
    records = [
        ("k", SLOW),
        ("k", GOOD),
        ("l", LOCKING),
        ("l", GOOD),
        *[(f"n{i}", GOOD) for i in range(600)],
        ("k", GOOD),
    ]
    world = World([records, [(f"s{i}", GOOD) for i in range(200)]], arrives={1: 5.0}, locked_until=100)
    await world.until(LOCKED - 5)
    assert by_key(world)[0, b"k"] == [1, len(records) - 1]
    await world.until(200)
    assert world.set_aside == [(0, 0)]
    assert all(offsets == sorted(offsets) for offsets in by_key(world).values())
    assert len(world.done) == len(set(world.done)) == len(records) - 1 + 200


async def test_reading_goes_no_further_ahead_than_its_bound_and_waits_there() -> None:
    world = World([])

    async def resumed_behind(*records: tuple[int, str, str]) -> tuple[dict[int, int], bool]:
        entries = [Received(kind, a_record(offset=offset, key=key.encode())) for offset, key, kind in records]
        result = await world.processor.process(entries, {})
        return result.resume, result.wait > 0

    assert await resumed_behind((0, "a", SLOW), (1, "b", GOOD)) == ({0: 2}, False)
    assert await resumed_behind((AHEAD - 1, "a", GOOD)) == ({0: AHEAD}, False)
    assert await resumed_behind((AHEAD, "a", GOOD)) == ({0: 0}, True)
    assert world.done == [(0, 1)]


async def test_far_behind_it_reading_goes_on_until_it_is_clear_what_it_is() -> None:
    records = [(f"k{i}", SLOW if i in (40, 3_000) else GOOD) for i in range(9_000)]
    records[4_999] = ("k40", GOOD)
    world = World([records])
    await world.until(8)
    assert world.set_aside == []
    assert world.at[0] == 40
    assert len(world.done) > 1_000
    await world.until(600)
    assert world.set_aside == all_of(world, SLOW)
    assert sorted(world.done) == all_of(world, GOOD)
    assert world.at == {0: 9_000}


async def test_several_that_are_too_slow_are_all_found() -> None:
    records = [(f"k{i}", SLOW if i in (3, 4, 5, 6, 7, 200, 499) else GOOD) for i in range(500)]
    world = World([records])
    await world.until(600)
    assert world.set_aside == all_of(world, SLOW)
    assert sorted(world.done) == all_of(world, GOOD)


async def test_a_lone_record_that_is_too_slow_is_set_aside_after_five_minutes() -> None:
    world = World([[("k", SLOW)]])
    await world.until(ALONE - 5)
    assert world.set_aside == []
    await world.until(ALONE + 20)
    assert world.set_aside == [(0, 0)]


async def test_two_that_are_too_slow_with_nobody_beside_them_wait_for_company() -> None:
    world = World([[("k", SLOW), ("l", SLOW)]])
    await world.until(1000)
    assert world.set_aside == []
    world.partitions.append([(f"n{i}", GOOD) for i in range(8)])
    await world.until(1100)
    assert world.set_aside == [(0, 0), (0, 1)]


@pytest.mark.parametrize("lasts", [LOCKED, 4 * LOCKED, 3600.0])
async def test_who_waits_for_a_lock_is_no_dead_letter_however_long_it_lasts_and_its_neighbours_go_on(
    lasts: float,
) -> None:
    records = [("k", LOCKING), ("k", GOOD), *[(f"n{i}", GOOD) for i in range(20)]]
    world = World([records, [(f"s{i}", GOOD) for i in range(2_000)]], arrives={1: 0.5}, locked_until=lasts)
    await world.until(lasts)
    assert {(0, o) for o in range(2, 22)} <= set(world.done)
    assert (0, 1) not in world.done
    await world.until(10_000)
    assert world.set_aside == []
    assert by_key(world)[0, b"k"] == [0, 1]
    assert sorted(set(world.done)) == sorted(all_of(world, GOOD) + all_of(world, LOCKING))


async def test_where_nothing_is_read_further_ahead_who_waits_for_a_lock_is_a_dead_letter() -> None:
    """Of two that wait only the first is in the way."""
    records = [("k", LOCKING), *[(f"n{i}", GOOD) for i in range(100)], ("l", LOCKING)]
    records += [(f"m{i}", GOOD) for i in range(AHEAD - 100)]
    world = World([records], locked_until=500)
    await world.until(LOCKED - 2)
    assert world.set_aside == []
    await world.until(2 * LOCKED)
    assert world.set_aside == [(0, 0)]
    assert world.dead[0].detail.startswith("55P03: ")
    await world.until(10_000)
    assert world.set_aside == [(0, 0)]
    assert len(set(world.done)) == len(records) - 1


async def test_one_that_waited_for_a_lock_is_not_poison_for_being_slow_once_afterwards() -> None:
    stream = [(f"s{i}", GOOD) for i in range(2_000)]
    world = World([[("k", LOCKING)], stream], arrives={1: 2.0}, locked_until=120)
    await world.until(120)
    world.partitions[0][0] = ("k", SLOW)
    await world.until(world.now + 2 * STATEMENT + 6)
    assert world.set_aside == []
    await world.until(world.now + UNCONFIRMED)
    assert world.set_aside == [(0, 0)]


async def test_after_a_lock_that_many_waited_for_a_slow_one_is_found_as_soon_as_ever() -> None:
    records = [(f"k{i}", LOCKING) for i in range(15)] + [("poison", SLOW)]
    world = World([records, [(f"s{i}", GOOD) for i in range(2_000)]], arrives={1: 2.0}, locked_until=120)
    await world.until(120 + UNCONFIRMED)
    assert world.set_aside == [(0, 15)]


async def test_after_the_partitions_were_given_out_anew_everything_is_handled_again() -> None:
    world = World([[("k", SLOW), ("n", GOOD), ("m", GOOD)]])
    processor = BatchProcessor(world, lambda _: _true(), run_limit=100, now=lambda: world.now)
    await processor.process(world.waiting(), {})
    processor.forget()
    await processor.process(world.waiting(), {})
    assert world.done == [(0, 1), (0, 2), (0, 1), (0, 2)]


async def test_what_was_too_slow_before_the_partitions_were_given_out_anew_is_compared_with_nothing_here() -> None:
    """It may be another member's now. Of two that are slow neither would be set aside."""
    world = World([[("k", SLOW)], [("l", SLOW)]])
    await world.until(10)
    world.processor.forget()
    world.partitions[1].clear()
    world.reads.clear()
    await world.until(world.now + ALONE + 20)
    assert world.set_aside == [(0, 0)]


async def test_what_was_too_slow_and_was_then_deleted_unread_is_compared_with_nothing() -> None:
    world = World([[("k", SLOW), ("l", SLOW)]], limit=1)
    await world.processor.process(world.waiting(), {})
    world.reads, world.at = {0: 1}, {0: 1}
    await world.until(world.now + ALONE + 20)
    assert world.set_aside == [(0, 1)]


async def test_one_that_is_deleted_while_reading_goes_on_ahead_of_it_is_not_due_any_more() -> None:
    world = World([[("k", SLOW), ("l", GOOD), ("m", GOOD)], [("n", SLOW), ("o", GOOD)]])
    await world.processor.process(world.waiting(), {})
    assert world.processor.open_offsets() == {0: 0, 1: 0}
    world.processor.deleted(0, 3)
    world.now += ALONE
    assert (world.processor.open_offsets(), world.processor.due()) == ({1: 0}, {1})
    world.processor.rewound({1})
    world.processor.deleted(1, 0)  # nothing of this one
    assert world.processor.open_offsets() == {1: 0}


async def test_the_others_wait_for_one_of_those_that_are_locked_at_a_time_and_each_of_these_has_its_turn() -> None:
    held = [(f"held {n}", LOCKING) for n in range(6)]
    records = [one for key in held for one in (key, (key[0] + " not", GOOD))]
    world = World([records, [("k", GOOD)] * 999], arrives={1: 2}, locked_until=2 * LOCKED)
    await world.until(LOCKED / 2)
    waits, before = list[float](), world.now
    while world.now < 2 * LOCKED:
        await world.until(world.now + 0.01)
        waits.append(world.now - before)
        before = world.now
    assert max(waits) < 2 * STATEMENT
    assert not {(0, o) for o in range(0, 12, 2)} & set(world.done)
    await world.until(3 * LOCKED)
    assert {(0, o) for o in range(12)} <= set(world.done)
    assert world.dead == []


async def test_a_server_that_does_not_answer_costs_one_call() -> None:
    calls = 0

    async def handle(_batch: Sequence[Received[str]]) -> None:
        nonlocal calls
        calls += 1
        raise Transient("postgres is away") from TimeoutError()

    processor = BatchProcessor(handle, lambda _: _true(), run_limit=100)
    result = await processor.process(World([[("k", GOOD)] * 50]).waiting(), {})
    assert (calls, result.next_offsets) == (1, {})
    assert isinstance(result.transient_error, Transient)


async def _true() -> bool:
    return True
