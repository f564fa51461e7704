"""Services at rest: what looks for work asks PostgreSQL one question, and Kafka is asked rarely and answers at once."""

from collections.abc import Awaitable, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.fetch import FetchRequest, FetchRequest_v4
from aiokafka.protocol.metadata import MetadataRequest, MetadataRequest_v5

from deploy.local.sandbox.client import SandboxClient
from libs.common.db.planner_statistics import forget_emptiness
from libs.common.db.pool import open_pool
from libs.common.kafka.producer import Producer
from libs.common.sending.merge_slices import SliceMover
from libs.common.sending.sweeping import ROW_TASKS
from libs.common.sending.whatsapp_charges import charge_due
from services.inbox.touched import tell_touched
from services.ingest import consent, sms
from services.ingest.edge_coverage import EdgeCoverage
from tests.support.consumer_bench import Bench, Handled
from tests.support.inbox_world import RULE
from tests.support.sending import Garage, a_sender
from tests.support.statements import statements_of
from tests.support.waiting import eventually

NOBODY: Any = None
"""A producer, where nothing is to be published."""

INGEST: dict[str, Callable[[Any], Awaitable[None]]] = {
    "consents": lambda pool: consent.publish(pool, NOBODY),
    "charges": lambda pool: charge_due(pool, pool.now),
    "merges": lambda pool: SliceMover(pool).move(),
    "statistics": forget_emptiness,
    "sms_parts": lambda pool: sms.publish_overdue(SimpleNamespace(pool=pool)),  # type: ignore[arg-type] # at rest
}


@pytest.mark.parametrize("task", INGEST)
async def test_a_task_of_ingest_asks_one_question(database: str, task: str) -> None:
    async with open_pool(database, application_name="test", size=1, command_seconds=10) as pool:
        async with statements_of(pool, size=1) as sent:
            await INGEST[task](pool)
        assert len(sent) == 1


async def test_an_edge_tells_of_itself_in_one_statement(database: str) -> None:
    coverage = EdgeCoverage()
    coverage.begin()
    async with open_pool(database, application_name="test", size=1, command_seconds=10) as pool:
        sent: list[Any] = []
        async with pool.acquire() as db:
            db.add_query_logger(sent.append)
            await coverage.store(db, pool.now.earliest)
        asked = [one.query for one in sent]
        assert (len([one for one in asked if "webhook_edges" in one]), "select clock_timestamp()" in asked) == (
            1,
            False,
        )


async def test_the_inbox_looks_for_touched_customers_with_one_question(database: str) -> None:
    async with open_pool(database, application_name="test", size=1, command_seconds=10) as pool:
        async with statements_of(pool, size=1) as sent:
            await tell_touched(pool, RULE, NOBODY)
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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that aiokafka sends to brokers."""
    requests: list[Any] = []

    def send(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT001, FBT002 -- as aiokafka calls it
        requests.append(request)
        return sent(connection, request, expect_response)

    sent = AIOKafkaConnection.send
    monkeypatch.setattr(AIOKafkaConnection, "send", send)
    return requests


async def test_readiness_asks_the_brokers_for_no_topic(producer: Producer, asked: list[Any]) -> None:
    """A cluster's metadata grow with its topics, and decoding them costs more than a batch of messages."""
    assert await producer.unready() is None
    [request] = [one for one in asked if isinstance(one, MetadataRequest)]
    assert request.build(MetadataRequest_v5).to_object()["topics"] == []


async def test_what_nobody_waits_for_is_fetched_a_fourth_as_often(bench: Bench, asked: list[Any]) -> None:
    def fetches(wait_ms: int) -> int:
        waits = [
            one.build(FetchRequest_v4).to_object()["max_wait_time"] for one in asked if isinstance(one, FetchRequest)
        ]
        return waits.count(wait_ms)

    async with bench.consumer(Handled(), hurried=False), bench.consumer(Handled()):
        await eventually(lambda: fetches(100) > 4)  # both have partitions
        asked.clear()
        await eventually(lambda: fetches(100) > 12)
        assert 0 < fetches(400) < fetches(100)  # how much more rarely they come is the machine's to say, too
