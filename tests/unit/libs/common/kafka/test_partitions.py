"""Up to when all of a partition is done, by what the brokers said of its end."""

import asyncio
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from libs.common.kafka.partitions import Partitions
from tests.support.logs import LogLines
from tests.support.scraped import scraped

BEGAN = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)
PLACE = TopicPartition("webhooks.v1", 0)


@dataclass
class Consumer:
    """One partition as aiokafka knows it: its position, and the end offset of the last fetch response."""

    reached: int = 0
    end: int = 0
    answered: datetime = BEGAN

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    def positions(self) -> dict[TopicPartition, int]:
        return {PLACE: self.reached}

    def highwater(self, _place: TopicPartition) -> int:
        return self.end

    def last_poll_timestamp(self, _place: TopicPartition) -> int:
        return int(self.answered.timestamp() * 1000)


@dataclass
class Bench:
    consumer: Consumer = field(default_factory=Consumer)
    now: datetime = BEGAN

    def __post_init__(self) -> None:
        found: Any = self.consumer
        self.partitions = Partitions("webhooks.v1", "webhooks.v1", lambda: self.now, 100, lambda: found)

    def answers(self, after: float, end: int) -> None:
        """The brokers answer, so many seconds after they did before."""
        self.now += timedelta(seconds=after)
        self.consumer.end, self.consumer.answered = end, self.now
        self.partitions.note_ends()

    async def behind(self) -> float:
        return (await self.partitions.behind())[0]


@pytest_asyncio.fixture
async def bench() -> Bench:
    """A bench that was asked before: ends are noted from the first question on."""
    bench = Bench()
    assert await bench.behind() == math.inf
    return bench


async def test_one_answer_does_not_say_how_old_it_is(bench: Bench) -> None:
    bench.answers(0, 0)
    assert await bench.behind() == math.inf


async def test_all_is_done_up_to_when_the_brokers_were_asked_and_not_to_when_their_answer_was_read(
    bench: Bench,
) -> None:
    bench.answers(0, 0)
    bench.answers(0.5, 0)
    assert await bench.behind() == 0.5
    bench.answers(40, 0)  # it stood still, or the answer was long on its way
    assert await bench.behind() == 40
    bench.answers(0.5, 0)
    assert await bench.behind() == 0.5


async def test_what_is_not_done_yet_counts_from_the_last_end_that_is_reached(bench: Bench) -> None:
    for _ in range(3):
        bench.answers(0.5, 0)
    bench.answers(1, 3)
    assert await bench.behind() == 1.5
    bench.consumer.reached = 3
    assert await bench.behind() == 1


async def test_a_clock_of_this_host_that_is_put_back_makes_nothing_look_read_later_than_it_was(bench: Bench) -> None:
    for _ in range(3):
        bench.answers(0.5, 0)
    bench.answers(-100, 3)
    assert await bench.behind() == math.inf
    bench.consumer.reached = 3
    bench.answers(0.5, 3)
    assert await bench.behind() == 0.5


class OfAMemberWithout(Consumer):
    """The other members have the partitions. Of the one partition so much is committed."""

    done = 0

    def assignment(self) -> set[TopicPartition]:
        return set()

    def partitions_for_topic(self, _topic: str) -> set[int]:
        return {0}

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    async def committed(self, _place: TopicPartition) -> int:
        return self.done


@pytest.mark.parametrize("done", [7, 3])
async def test_a_member_without_partitions_tells_whether_the_others_move_on(done: int) -> None:
    """It says that nothing waits, or since when the group stands."""
    consumer: Any = OfAMemberWithout(end=7)
    consumer.done, now = done, [BEGAN]
    partitions = Partitions("portal.messages.v1", "portal.messages.v1", lambda: now[0], 100, lambda: consumer)
    began = BEGAN.timestamp()
    assert scraped("transom_kafka_caught_up_timestamp_seconds", topic="portal.messages.v1") == began
    await partitions.measure_lag()
    await asyncio.sleep(0.01)
    now[0] += timedelta(seconds=90)
    await partitions.measure_lag()
    for name in ("transom_kafka_caught_up_timestamp_seconds", "transom_kafka_progress_timestamp_seconds"):
        told = scraped(name, topic="portal.messages.v1") - began
        assert told == 90 if done == 7 else told < 90


class Asked(Consumer):
    """The one partition is ours. The brokers say its end, or nothing."""

    away = False

    def pause(self, *_places: TopicPartition) -> None:
        assert _places == ()

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        if self.away:
            raise KafkaError
        return dict.fromkeys(places, self.end)


async def test_brokers_that_answer_nothing_let_the_metrics_grow_old() -> None:
    consumer: Any = Asked()
    now = [BEGAN]
    partitions = Partitions("inbox.notices.v1", "webhooks.v1", lambda: now[0], 100, lambda: consumer)
    partitions.on_assigned({PLACE})
    now[0] += timedelta(seconds=5)
    await partitions.measure_lag()
    names = ("transom_kafka_caught_up_timestamp_seconds", "transom_kafka_progress_timestamp_seconds")
    told = [scraped(name, topic="inbox.notices.v1") for name in names]
    assert all(0 <= now[0].timestamp() - at < 1 for at in told)
    consumer.away = True
    now[0] += timedelta(seconds=600)
    await partitions.measure_lag()
    assert [scraped(name, topic="inbox.notices.v1") for name in names] == told


async def test_the_first_batch_of_a_partition_waits_from_the_moment_it_is_read() -> None:
    """A handler that hangs at its first batch must not look as if nothing waited."""
    consumer: Any = Asked(reached=3, end=3)  # aiokafka has moved behind the batch
    partitions = Partitions("inbox.notices.v1", "webhooks.v1", lambda: BEGAN, 100, lambda: consumer)
    partitions.on_assigned({PLACE})
    partitions.progress.partitions[0].until -= 500
    batch: Any = [SimpleNamespace(partition=0, offset=offset) for offset in range(3)]
    assert partitions.take(batch) == {0}
    await partitions.measure_lag()
    name = "transom_kafka_caught_up_timestamp_seconds"
    assert BEGAN.timestamp() - scraped(name, topic="inbox.notices.v1") >= 500
    assert partitions.lag == {0: 3}
    partitions.measure(batch, {0: 3})
    await partitions.measure_lag()
    assert BEGAN.timestamp() - scraped(name, topic="inbox.notices.v1") < 1
    assert partitions.lag == {0: 0}


async def test_a_rebalance_that_leaves_a_partition_here_forgets_nothing_of_it() -> None:
    consumer: Any = Asked(end=7)
    partitions = Partitions("inbox.notices.v1", "webhooks.v1", lambda: BEGAN, 100, lambda: consumer)
    partitions.on_assigned({PLACE})
    partitions.progress.partitions[0].until -= 500
    partitions.on_revoked()
    partitions.on_assigned({PLACE})
    await partitions.measure_lag()
    told = scraped("transom_kafka_caught_up_timestamp_seconds", topic="inbox.notices.v1")
    assert 500 <= BEGAN.timestamp() - told < 501


async def test_a_stop_names_how_many_died_since_the_partition_was_tried_before(log_lines: LogLines) -> None:
    """What nobody can read may be twice as much each time, until a record is handled. Their count begins below zero."""
    partitions = Partitions("inbox.notices.v1", "webhooks.v1", lambda: BEGAN, 100)
    begins = []
    for _ in range(3):
        partitions.stop(0, 1, unreadable=True)
        partitions.log_stopped()
        partitions.retry_stopped(math.inf)
        begins.append(partitions.runs[0])
    assert [line["records"] for line in log_lines.of("consumer.stopped")] == [100, 100, 200, 400]
    assert begins == [-100, -300, -700]


async def test_after_a_rebalance_a_stop_names_how_many_died_since_then(log_lines: LogLines) -> None:
    """What died before counts no more, so no more than usual may die until the next stop."""
    partitions = Partitions("inbox.notices.v1", "webhooks.v1", lambda: BEGAN, 100)
    partitions.stop(0, 1, unreadable=True)
    partitions.retry_stopped(math.inf)
    partitions.on_revoked()
    partitions.on_assigned({PLACE})
    assert partitions.runs == {}
    partitions.stop(0, 2, unreadable=True)
    partitions.log_stopped()
    assert [line["records"] for line in log_lines.of("consumer.stopped")] == [100, 100]


@dataclass
class Held(Consumer):
    """One partition is ours. What is paused, resumed and sought is noted."""

    told: list[tuple[Any, ...]] = field(default_factory=list)

    def pause(self, *places: TopicPartition) -> None:
        self.told.append(("pause", *places))

    def resume(self, *places: TopicPartition) -> None:
        self.told.append(("resume", *places))

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.told.append(("seek", place, offset))

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, self.end)


@dataclass
class Ours:
    """Partition 0 is ours; 1 belongs to another member."""

    consumer: Held = field(default_factory=Held)

    def __post_init__(self) -> None:
        found: Any = self.consumer
        self.partitions = Partitions("inbox.notices.v1", PLACE.topic, lambda: BEGAN, 100, lambda: found)


@pytest.fixture
def ours() -> Ours:
    return Ours()


async def test_after_a_rebalance_a_stopped_partition_stays_stopped_here_alone_and_begins_no_new_count(
    ours: Ours,
) -> None:
    partitions = ours.partitions
    partitions.stop(0, 7, unreadable=True)
    partitions.stop(1, 9, unreadable=True)
    partitions.runs = {0: 100, 1: 100}
    ours.consumer.told.clear()
    partitions.on_revoked()
    partitions.on_assigned({PLACE})
    assert (partitions.stopped, partitions.runs) == ({0: 7}, {0: 100})
    assert ours.consumer.told == [("pause", PLACE)]


async def test_after_a_rebalance_others_are_counted_anew(ours: Ours) -> None:
    ours.partitions.runs = {0: 99}
    ours.partitions.on_revoked()
    ours.partitions.on_assigned({PLACE})
    assert ours.partitions.runs == {}


async def test_a_stopped_partition_is_read_no_more(ours: Ours) -> None:
    ours.partitions.stop(0, 7, unreadable=True)
    assert ours.consumer.told == [("pause", PLACE)]


async def test_a_stop_that_is_over_resumes_what_is_still_ours(ours: Ours) -> None:
    ours.partitions.stop(0, 7, unreadable=True)
    ours.partitions.stop(1, 9, unreadable=True)
    ours.consumer.told.clear()
    ours.partitions.retry_stopped(math.inf)
    assert (ours.partitions.stopped, ours.consumer.told) == ({}, [("resume", PLACE)])


async def test_nothing_of_before_a_rebalance_is_committed_or_read_again_after_it(ours: Ours) -> None:
    partitions = ours.partitions
    partitions.commits.pending = {0: 4}
    partitions.open_offsets = {0: 3}
    partitions.stalls.waits_at({0: 3}, 0.0)
    partitions.on_revoked()
    assert (partitions.commits.pending, partitions.open_offsets, partitions.stalls.longest(100.0)) == ({}, {}, 0.0)


async def test_a_partition_in_flight_is_not_read_again_from_its_open_offset_yet(ours: Ours) -> None:
    partitions = ours.partitions
    partitions.open_offsets = {0: 3, 1: 4}
    held = partitions.in_flight.take({0})
    assert partitions.rewind_to_open({0, 2}) == set()
    partitions.in_flight.give_back(held)
    assert partitions.rewind_to_open({0, 2}) == {0}
    assert ours.consumer.told == [("seek", PLACE, 3)]


async def test_a_batch_that_is_read_ahead_counts_nothing_as_processed(ours: Ours) -> None:
    batch: Any = [SimpleNamespace(partition=0, offset=offset) for offset in range(5, 8)]
    ours.partitions.processed = {0: 3}
    ours.partitions.take(batch)
    assert ours.partitions.processed == {0: 3}


@pytest.mark.parametrize("works", ["in flight", "stopped", "waits for a retry", None])
async def test_a_partition_that_nobody_works_on_or_has_stopped_stalls_before_its_end(
    ours: Ours, works: str | None
) -> None:
    partitions = ours.partitions
    partitions.on_assigned({PLACE})
    ours.consumer.reached, ours.consumer.end = 3, 7
    if works == "in flight":
        partitions.in_flight.take({0})
    elif works == "stopped":
        partitions.stopped = {0: 3}
    elif works == "waits for a retry":
        partitions.open_offsets = {0: 2}
    await partitions.measure_lag()
    later = asyncio.get_running_loop().time() + 90
    assert (partitions.stalls.longest(later) > 0) is (works is None)
