import asyncio
from datetime import timedelta

import redis.exceptions as redis
from aiokafka.errors import KafkaConnectionError

from libs.common.background import repeatedly
from libs.common.errors import Transient
from tests.support.logs import LogLines


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

    task = asyncio.create_task(repeatedly("sweep", timedelta(milliseconds=1), tick))
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
