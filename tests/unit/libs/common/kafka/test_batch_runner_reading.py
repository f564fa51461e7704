"""Where a batch runner lets reading go on, what it waits for, and what is committed."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiokafka import TopicPartition

from libs.common.clock import utc_now
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.batch_processor import AHEAD, DeadLetter
from libs.common.kafka.in_flight import InFlight
from tests.support.batch_runners import a_batch, a_lane, slow_where_one_is_slow
from tests.support.consumer_bench import Handled
from tests.support.waiting import eventually

PATIENCE = 30.0
PLACE = TopicPartition(WEBHOOKS.name, 0)


@dataclass
class Reader:
    """A consumer that notes where it is to read on, and what is committed. It has read one partition up to offset 7."""

    end: int = 0
    answered_ms: int = 0
    """What the brokers said of its end, and when."""
    sought: list[tuple[int, int]] = field(default_factory=list)
    committed: list[dict[int, int]] = field(default_factory=list)
    in_flight: InFlight | None = None

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.sought.append((place.partition, offset))

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.committed.append({place.partition: offset for place, offset in offsets.items()})

    def assignment(self) -> set[TopicPartition]:
        return {PLACE}

    def positions(self) -> dict[TopicPartition, int]:
        return {PLACE: 7}

    def highwater(self, _place: TopicPartition) -> int:
        return self.end

    def last_poll_timestamp(self, _place: TopicPartition) -> int:
        return self.answered_ms


async def turns() -> None:
    """Let everything run that waits for nothing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_record_whose_header_is_no_text_is_a_dead_letter_and_not_handled() -> None:
    handled, kept = Handled(), list[DeadLetter]()
    runner = a_lane(handled)

    async def remember(letters: Sequence[DeadLetter], _at: object) -> None:
        kept.extend(letters)
        raise OSError

    runner.remember = remember
    await runner.on_batch([replace(a_batch()[0], headers=(("h", b"\xff"),))])
    assert (handled.batches, [letter.reason for letter in kept]) == ([], ["bad_header"])


async def test_after_a_bug_beside_the_handler_the_batch_is_read_again() -> None:
    def broken() -> Any:
        runner.leave()
        raise ZeroDivisionError

    reader = Reader()
    runner = a_lane(Handled(), reader)
    runner.now = broken  # asked when there is a dead letter
    await runner.on_batch([*a_batch(value=b"\xff"), *a_batch(offset=8)])
    assert (reader.sought, runner.partitions.commits.pending) == ([(0, 7)], {})


async def test_reading_goes_on_behind_a_record_that_waits_and_goes_back_to_it_once_when_it_is_due() -> None:
    reader = Reader()
    runner = a_lane(Handled(slow_where_one_is_slow), reader)
    await runner.on_batch([*a_batch(partition=1, value=b"slow"), *a_batch(partition=1, offset=8, key=b"other")])
    assert reader.sought == []

    def is_due() -> bool:
        runner.retry(0.0)
        return bool(reader.sought)

    await eventually(is_due)
    runner.retry(0.0)
    assert reader.sought == [(1, 7)]


async def test_a_batch_that_is_too_far_ahead_of_a_record_that_waits_is_not_read_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("libs.common.kafka.batch_runner.SUSPECT_WAIT", PATIENCE)
    runner = a_lane(Handled(slow_where_one_is_slow))
    await runner.on_batch([*a_batch(value=b"slow"), *a_batch(offset=8, key=b"other")])
    ahead = asyncio.create_task(runner.on_batch(a_batch(offset=8 + AHEAD)))
    await turns()
    assert not ahead.done()
    runner.leave()
    await ahead


async def test_beside_full_batches_nothing_is_read_of_them_and_no_more_are_taken_than_may_be() -> None:
    answer, reader = asyncio.Event(), Reader()
    runner = a_lane(Handled(lambda _batch: answer.wait()), reader, max_records=1, side_by_side=2)
    await runner.on_batch(a_batch())
    assert reader.in_flight is runner.partitions.in_flight
    second = asyncio.create_task(runner.on_batch(a_batch(partition=1)))
    await turns()
    assert not second.done()
    answer.set()
    await second
    await runner.until_idle(PATIENCE)


async def test_what_is_idle_has_committed_its_offsets() -> None:
    """A stop and a rebalance wait for that, or the records would be handled again."""
    reader = Reader()
    runner = a_lane(Handled(), reader)
    await runner.on_batch(a_batch())
    await runner.until_idle(PATIENCE)
    assert reader.committed == [{0: 8}]


async def test_an_end_that_is_reached_and_passed_between_two_questions_is_known_at_the_second() -> None:
    now_ms = int(utc_now().timestamp() * 1000)
    reader = Reader(5, now_ms - 3000)
    runner = a_lane(Handled(), reader)
    assert await runner.partitions.behind() == {0: math.inf}
    for end, ago in ((7, 2000), (9, 1000)):
        reader.end, reader.answered_ms = end, now_ms - ago
        runner.retry(0.0)
    assert (await runner.partitions.behind())[0] < PATIENCE
