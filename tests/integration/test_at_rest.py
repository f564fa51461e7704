"""Services at rest: what looks for work asks PostgreSQL one question, and Kafka is asked rarely and answers at once."""

from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.db.pool import open_pool
from libs.common.kafka.producer import Producer
from libs.common.sending.merge_slices import SliceMover
from libs.common.sending.sweeping import ROW_TASKS
from libs.common.sending.whatsapp_charges import charge_due
from services.ingest import consent, sms
from tests.support.consumer_bench import Bench, Handled
from tests.support.sending import Garage, a_sender
from tests.support.statements import statements_of
from tests.support.waiting import eventually

NOBODY: Any = None
"""A producer, where nothing is to be published."""

INGEST: dict[str, Callable[[Any], Awaitable[None]]] = {
    "consents": lambda pool: consent.publish(pool, NOBODY),
    "charges": lambda pool: charge_due(pool, pool.now),
    "merges": lambda pool: SliceMover(pool).move(),
    "sms_parts": lambda pool: sms.publish_overdue(SimpleNamespace(pool=pool)),  # type: ignore[arg-type] # at rest
}


@pytest.mark.parametrize("task", INGEST)
async def test_a_task_of_ingest_asks_one_question(database: str, task: str) -> None:
    async with open_pool(database, application_name="test", size=1, command_seconds=10) as pool:
        async with statements_of(pool, size=1) as sent:
            await INGEST[task](pool)
        assert len(sent) == 1


async def test_a_task_of_a_sender_asks_one_question(garage: Garage, producer: Producer, sandbox: SandboxClient) -> None:
    async with a_sender(garage, producer, sandbox.url) as line, statements_of(garage.pool) as sent:
        asked: dict[str, int] = {}
        for name, task in line._sweeper.tasks.items():
            before = len(sent)
            await task()
            asked[name] = len(sent) - before
    assert {name: asked[name] for name in ROW_TASKS} == dict.fromkeys(ROW_TASKS, 1)


def handled_is(handled: Handled, count: int) -> bool:
    return len(handled.values()) == count


async def test_a_fetch_that_waits_for_minutes_holds_up_no_lone_record_no_commit_and_no_stop(bench: Bench) -> None:
    """Any of them would wait until the test's time is over. The broker answers a fetch with the first record."""
    handled = Handled()
    async with bench.consumer(handled, FETCH_SECONDS=300.0) as consumer:
        for number, partition in enumerate((0, 1, 0, 0)):
            await bench.put(f"lone {number}", partition=partition)
            await eventually(partial(handled_is, handled, number + 1))
        assert consumer.unready() is None
    assert await bench.committed(0, 1) == [3, 1]
