"""Trouble that does not end is told again, and what cannot be read makes unready."""

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from weakref import WeakSet

import asyncpg
import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.errors import Transient
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.batch_runner import REPORT_INTERVAL, UNREADABLE_AFTER, BatchRunner
from libs.common.kafka.records import RawRecord, Received
from libs.common.kafka.rewinding_consumer import RewindingConsumer
from libs.common.kafka.stalls import STALLED_AFTER
from libs.common.kafka.topology import Subscription
from tests.support.batch_runners import a_batch, a_lane, slow_where_one_is_slow
from tests.support.consumer_bench import Handled
from tests.support.logs import LogLines

PATIENCE = 30.0


@pytest_asyncio.fixture
async def consumer() -> AsyncIterator[RewindingConsumer]:
    consumer = RewindingConsumer(bootstrap_servers="127.0.0.1:1")
    yield consumer
    await consumer.stop()


def in_words(told: str | None) -> str | None:
    """Without the seconds: 61, or more where the machine stood still for a moment."""
    return told and re.sub(r"\b6\d s\b", "N s", told)


class Outage:
    over = False

    def __call__(self, _batch: list[str]) -> None:
        if not self.over:
            raise Transient("the database is away")


class Slowness:
    def __call__(self, _batch: list[str]) -> None:
        raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")


async def test_trouble_that_lasts_is_told_again_with_its_cause_and_length_and_makes_unready(
    log_lines: LogLines,
) -> None:
    runner = a_lane(Handled(Outage()))
    await runner.on_batch(a_batch())
    now = asyncio.get_running_loop().time()
    runner.report(now)
    runner.report(now + REPORT_INTERVAL + 1)
    told = log_lines.of("record.retried")
    assert [(line["reason"], line["level"], "duration_ms" in line) for line in told] == [
        ("Transient", "warning", False),
        ("Transient", "warning", True),
    ]
    assert told[1]["duration_ms"] >= REPORT_INTERVAL * 1000
    assert runner.unready(now + STALLED_AFTER / 2) is None
    standing = "webhooks.v1: partition 0 has made no progress for N s although records wait (Transient)"
    assert in_words(runner.unready(now + STALLED_AFTER + 1)) == standing
    assert runner.unready(now + STALLED_AFTER + 1, but_away=True) is None
    [line] = log_lines.of("consumer.standing")
    assert (line["level"], line["partition"], line["offset"], line["reason"]) == ("error", 0, 7, "Transient")


async def test_a_batch_that_is_given_back_forgets_no_record_that_waits_in_another_partition() -> None:
    """Its dead letter cannot be kept, and meanwhile a record beside it turns out to be too slow: that one is to be read
    again.
    """
    runner = a_lane(Handled(slow_where_one_is_slow))
    judged = asyncio.Event()

    async def remember(_letters: object, _at: object) -> None:
        await judged.wait()
        raise OSError

    runner.remember = remember
    given_back = asyncio.create_task(runner.on_batch(a_batch(value=b"\xff")))
    await asyncio.sleep(0)
    await runner.on_batch([*a_batch(partition=1, value=b"slow"), *a_batch(partition=1, offset=8, key=b"other")])
    judged.set()
    await given_back
    assert runner.partitions.open_offsets == {1: 7}


async def test_no_offset_is_committed_before_the_dead_letters_are_kept() -> None:
    runner = a_lane(Handled())

    async def remember(_letters: object, _at: object) -> None:
        raise OSError

    runner.remember = remember
    await runner.on_batch(a_batch(value=b"\xff"))
    assert runner.partitions.commits.pending == {}
    assert runner.partitions.failing == {0}


@pytest.mark.parametrize("away", [False, True])
async def test_the_partitions_of_a_batch_are_in_flight_while_it_is_handled_and_not_afterwards(*, away: bool) -> None:
    """Whether it is handled or comes again: what is in flight is not read."""
    seen: list[frozenset[int]] = []

    def fault(_batch: list[str]) -> None:
        seen.append(runner.partitions.in_flight.partitions)
        if away:
            raise Transient("the database is away")

    runner = a_lane(Handled(fault))
    await runner.on_batch([*a_batch(partition=3), *a_batch(partition=5)])
    assert (seen, runner.partitions.in_flight.partitions) == ([frozenset({3, 5})], frozenset())


async def test_after_a_rebalance_a_record_that_waited_before_is_not_read_again() -> None:
    """It may be handled elsewhere, and reading begins at what is committed."""
    runner = a_lane(Handled(slow_where_one_is_slow))
    await runner.on_batch([*a_batch(partition=1, value=b"slow"), *a_batch(partition=1, offset=8, key=b"other")])
    assert runner.partitions.open_offsets == {1: 7}
    runner.partitions.on_revoked()
    await runner.on_batch(a_batch(partition=0))
    assert runner.partitions.open_offsets == {}


async def test_who_leaves_takes_no_batch_and_tries_no_record_again() -> None:
    def fault(_batch: list[str]) -> None:
        runner.leave()
        raise ZeroDivisionError

    handled = Handled(fault)
    runner = a_lane(handled)
    await runner.on_batch(a_batch())
    await runner.on_batch(a_batch(partition=1))
    assert (handled.batches, runner.partitions.commits.pending) == ([1], {})


async def test_work_that_is_too_slow_is_nothing_that_is_away() -> None:
    runner = a_lane(Handled(Slowness()))
    await runner.on_batch(a_batch(partition=3))
    later = asyncio.get_running_loop().time() + STALLED_AFTER + 1
    standing = "webhooks.v1: partition 3 has made no progress for N s although records wait (QueryCanceledError)"
    assert in_words(runner.unready(later)) == in_words(runner.unready(later, but_away=True)) == standing


async def test_a_handler_that_hangs_makes_unready_and_one_that_comes_back_ready() -> None:
    answer = asyncio.Event()
    runner = a_lane(Handled(lambda _batch: answer.wait()))
    hanging = asyncio.create_task(runner.on_batch(a_batch(partition=5)))
    await asyncio.sleep(0.01)
    later = asyncio.get_running_loop().time() + STALLED_AFTER + 1
    standing = "webhooks.v1: partition 5 has made no progress for N s although records wait"
    assert in_words(runner.unready(later)) == standing
    answer.set()
    await hanging
    assert runner.unready(later) is None


@pytest.mark.parametrize("ending", ["recovered", "went elsewhere"])
async def test_trouble_that_is_over_is_not_told_again(log_lines: LogLines, ending: str) -> None:
    outage = Outage()
    runner = a_lane(Handled(outage))
    await runner.on_batch(a_batch())
    if ending == "recovered":
        outage.over = True
        await runner.on_batch(a_batch())
    else:
        runner.partitions.on_revoked()
    before = len(log_lines.of("record.retried"))
    runner.report(asyncio.get_running_loop().time() + REPORT_INTERVAL)
    assert len(log_lines.of("record.retried")) == before


async def test_new_trouble_after_partitions_went_elsewhere_is_told_as_new(log_lines: LogLines) -> None:
    runner = a_lane(Handled(Outage()))
    await runner.on_batch(a_batch(partition=0))
    runner.partitions.on_revoked()
    await runner.on_batch(a_batch(partition=1))
    assert [line["attempt"] for line in log_lines.of("record.retried")] == [1, 1]


async def test_what_cannot_be_read_for_too_long_makes_unready_and_is_told(
    consumer: RewindingConsumer, log_lines: LogLines
) -> None:
    runner = a_lane(Handled(), consumer)
    began = asyncio.get_running_loop().time()
    consumer.failures.failed(began, "UnsupportedCodecError")
    runner.report(began + 1)
    assert runner.unready(began + 1) is None
    now = began + UNREADABLE_AFTER + 1
    consumer.failures.failed(began + UNREADABLE_AFTER / 2, "UnsupportedCodecError")
    consumer.failures.failed(now, "UnsupportedCodecError")
    runner.report(now)
    assert runner.unready(now) == "webhooks.v1: cannot be read for 61 s (UnsupportedCodecError)"
    [line] = log_lines.of("consumer.failing")
    assert (line["level"], line["reason"], line["duration_ms"]) == (
        "error",
        "UnsupportedCodecError",
        pytest.approx(61_000),
    )


async def test_partitions_that_are_given_out_without_end_make_unready_until_they_come() -> None:
    """A group whose coordinator went away may leave a live member that reads nothing and reports no error."""
    runner = a_lane(Handled())
    runner.partitions.on_revoked()
    began = asyncio.get_running_loop().time()
    runner.partitions.on_revoked()
    assert runner.unready(began + UNREADABLE_AFTER / 2) is None
    told = runner.unready(began + UNREADABLE_AFTER + 2)
    assert told is not None
    assert told.startswith("webhooks.v1: its partitions have been given out anew for 6")
    runner.partitions.on_assigned(set())
    assert runner.unready(began + UNREADABLE_AFTER + 2) is None


async def test_the_lag_of_all_partitions_is_told_once_it_is_measured_and_then_once_a_minute(
    log_lines: LogLines,
) -> None:
    lane = a_lane(Handled())
    lane.report_lag(0.0)
    lane.partitions.lag = {0: 3, 1: 4}
    for now in (1.0, 2.0, 1.0 + REPORT_INTERVAL - 0.1):
        lane.report_lag(now)
    lane.partitions.lag = {1: 0}
    lane.report_lag(1.0 + REPORT_INTERVAL)
    told = [(line["topic"], line["records"]) for line in log_lines.of("consumer.lag")]
    assert told == [(WEBHOOKS.name, 7), (WEBHOOKS.name, 0)]


async def test_a_batch_that_was_read_before_a_rebalance_is_not_committed_though_it_begins_after_it() -> None:
    handled = Handled()
    runner = a_lane(handled, max_records=1, side_by_side=2)
    await runner.on_batch(a_batch())  # full, so a task handles it: at the next turn of the event loop
    assert not handled.batches
    runner.partitions.on_revoked()
    await runner.until_idle(PATIENCE)
    assert (handled.batches, runner.partitions.commits.pending) == ([1], {})


class Decoded:
    """What is made of a record."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Cycles stay: a service looks for them so rarely that an outage is over before."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
async def test_a_batch_that_is_read_again_leaves_nothing_behind() -> None:
    """In an outage it is decoded again and again, and nothing but reference counting frees it."""
    alive = WeakSet[Decoded]()

    def decode(_record: RawRecord) -> Decoded:
        decoded = Decoded()
        alive.add(decoded)
        return decoded

    async def without_a_server(batch: Sequence[Received[Decoded]]) -> None:
        assert len(alive) == len(batch)
        async with asyncio.timeout(0):  # its frame keeps the error
            await asyncio.sleep(PATIENCE)

    async def handle(batch: Sequence[Received[Decoded]]) -> None:
        try:
            await without_a_server(batch)
        except TimeoutError as error:
            raise Transient("the database is away") from error

    lane = a_lane(Handled())
    subscription = Subscription(WEBHOOKS, decode, handle)
    runner = BatchRunner(subscription, lane.partitions, lane.producer, "test", utc_now)
    await runner.on_batch([*a_batch(), *a_batch(offset=8)])
    assert list(alive) == []
