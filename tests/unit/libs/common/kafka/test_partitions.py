"""Up to when all of a partition is done, by what the brokers said of its end."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import TopicPartition

from libs.common.kafka.partitions import Partitions

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

    async def position(self, _place: TopicPartition) -> int:
        return self.reached

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


@pytest.fixture
def bench() -> Bench:
    return Bench()


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
