import asyncio
import random
from datetime import timedelta
from functools import partial

import pytest
import redis.exceptions as redis
from aiokafka.errors import KafkaConnectionError

from libs.common.errors import Transient
from libs.common.periodic import BEAT, STUCK_AFTER, StallDetector, run_periodically, side_by_side, until_beat
from tests.support.logs import LogLines
from tests.support.waiting import eventually


async def test_a_bad_round_is_told_and_does_not_end_the_rounds(log_lines: LogLines) -> None:
    outcomes: list[Exception | None] = [
        None,
        Transient("postgres is away"),
        KafkaConnectionError(),
        redis.ConnectionError(),
        ValueError("customer said hello"),
        None,
    ]
    done = asyncio.Event()

    async def tick() -> None:
        outcome = outcomes.pop(0)
        if not outcomes:
            done.set()
        if outcome is not None:
            raise outcome

    task = asyncio.create_task(run_periodically("sweep", timedelta(milliseconds=1), tick))
    await done.wait()
    task.cancel()
    await asyncio.wait({task})
    assert [(line["event"], line["level"], line["attempt"]) for line in log_lines.all()] == [
        ("task.retried", "warning", 1),
        ("task.retried", "warning", 2),
        ("task.retried", "warning", 3),
        ("task.failed", "error", 4),
    ]
    assert "hello" not in log_lines.raw


async def test_a_task_that_fails_again_and_again_or_hangs_is_named_after_a_minute_and_no_more_when_it_ends_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pulse, now = StallDetector(), 1_000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", partial(float, now))
    pulse.begins("sweep.claims")
    pulse.begins("dispatch")
    pulse.ends("dispatch")
    pulse.begins("sweep.claims")
    assert pulse.why(now + STUCK_AFTER - 1) is None
    assert pulse.why(now + STUCK_AFTER + 2) == "sweep.claims has made no progress for 62 s"
    pulse.ends("sweep.claims")
    monkeypatch.undo()
    assert pulse.why(now + STUCK_AFTER + 2) is None


async def test_a_repeated_task_knows_of_rounds_that_do_not_end_well() -> None:
    pulse, well, rounds = StallDetector(), asyncio.Event(), 0

    async def tick() -> None:
        nonlocal rounds
        rounds += 1
        if not well.is_set():
            raise ConnectionResetError

    task = asyncio.create_task(run_periodically("task", timedelta(milliseconds=1), tick, pulse))
    later = asyncio.get_running_loop().time() + STUCK_AFTER + 30
    await eventually(lambda: rounds >= 2)
    assert pulse.why(later) is not None
    well.set()
    await eventually(lambda: pulse.why(later) is None)
    task.cancel()


async def test_one_item_that_fails_and_one_that_is_slow_keep_none_of_the_others_waiting() -> None:
    done: list[int] = []
    rest = asyncio.Event()

    async def work(item: int) -> None:
        if item == 0:
            raise Transient("this one is away")
        if item == 1:
            await rest.wait()
        done.append(item)
        if len(done) == 8:
            rest.set()

    with pytest.raises(Transient):
        await side_by_side(range(10), work, at_once=2)
    assert done == [*range(2, 10), 1]


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.5, 5.0, 30.0])
async def test_rounds_begin_on_one_beat_whenever_the_round_before_ended(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(200):
        ended = random.uniform(0.0, 1e6)
        monkeypatch.setattr(loop, "time", partial(float, ended))
        wait = until_beat(seconds)
        monkeypatch.setattr(loop, "time", partial(float, ended + wait))
        assert min(until_beat(BEAT) % BEAT, BEAT - until_beat(BEAT) % BEAT) < 0.001, "it is a beat now"
        assert max(0.0, seconds - BEAT) < wait < seconds + 0.05
    monkeypatch.undo()


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.3, 0.499])
async def test_a_period_shorter_than_a_beat_is_kept_at_any_time(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    waits = set()
    for step in range(500):
        monkeypatch.setattr(loop, "time", partial(float, 1_000 + step * BEAT / 500))
        waits.add(until_beat(seconds))
    monkeypatch.undo()
    assert waits == {seconds}
