"""The batch consumer comes and goes on a real broker: drains, rebalances, restarts, kills."""

import asyncio
import signal
import sys
from pathlib import Path

from libs.common import metrics
from libs.common.clock import utc_now
from libs.common.errors import Transient
from libs.common.events.topics import DIRECTORY_CHANGES, WEBHOOKS
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.producer import Record
from libs.common.kafka.topology import Subscription
from tests.support.child_guard import ends_with_us
from tests.support.consumer_bench import Bench, Handled, text
from tests.support.topics import OwnTopics
from tests.support.waiting import DEADLINE_SECONDS, eventually


async def test_a_drain_finishes_the_batch_in_hand_and_takes_no_other(bench: Bench) -> None:
    await bench.put("in hand")
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def fault(_batch: list[str]) -> None:
        begun.set()
        await go_on.wait()

    handled = Handled(fault)
    consumer = bench.consumer(handled)
    await consumer.start()
    await begun.wait()
    await bench.put("not taken")
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.sleep(0.2)
    assert not stopping.done()
    go_on.set()
    await stopping

    assert handled.values() == ["in hand"]
    assert await bench.committed(0) == [1]


async def test_a_batch_that_does_not_end_is_broken_off_and_comes_again(bench: Bench) -> None:
    await bench.put("endless")
    begun = asyncio.Event()

    async def fault(_batch: list[str]) -> None:
        begun.set()
        await asyncio.Event().wait()

    consumer = bench.consumer(Handled(fault))
    await consumer.start()
    await begun.wait()
    await consumer.stop(timeout=0.2)
    again = Handled()
    async with bench.consumer(again):
        await eventually(lambda: again.records)
    assert again.values() == ["endless"]


async def test_a_drain_does_not_wait_for_an_outage_to_end(bench: Bench) -> None:
    await bench.put("waits")

    def fault(_batch: list[str]) -> None:
        raise Transient("away")

    handled = Handled(fault)
    consumer = bench.consumer(handled)
    await consumer.start()
    await eventually(lambda: len(handled.batches) >= 5, "the back-off has grown")
    await consumer.stop(timeout=30)
    assert await bench.committed(0) == [0]


async def test_partitions_move_between_two_consumers_and_every_record_is_handled(bench: Bench) -> None:
    first, second = Handled(lambda _: asyncio.sleep(0.02)), Handled(lambda _: asyncio.sleep(0.02))
    sent: dict[int, list[str]] = {0: [], 1: []}

    async def feed(count: int) -> None:
        for partition, values in sent.items():
            new = [f"{partition}-{len(values) + number}" for number in range(count)]
            values.extend(new)
            await bench.put(*new, partition=partition)

    async with bench.consumer(first, max_records=20):
        await feed(100)
        await eventually(lambda: first.records)
        async with bench.consumer(second, max_records=20):
            while not second.records:
                await feed(20)
                await asyncio.sleep(0.02)
        await feed(50)
        everything = {value for values in sent.values() for value in values}
        await eventually(lambda: {*first.values(), *second.values()} == everything)
        await eventually(lambda: first.values(0)[-1:] == sent[0][-1:] and first.values(1)[-1:] == sent[1][-1:])

    assert await bench.committed(0, 1) == [len(sent[0]), len(sent[1])]
    for handled in (first, second):
        for partition in sent:
            seen = list(dict.fromkeys(handled.values(partition)))
            assert seen == sorted(seen, key=lambda value: int(value.split("-")[1]))


async def test_a_static_member_that_restarts_goes_on_without_a_rebalance_timeout(bench: Bench) -> None:
    for value in ("a", "b"):
        await bench.put(value)
        handled = Handled()
        async with bench.consumer(handled, instance_id="replica-0", SESSION_SECONDS=2 * DEADLINE_SECONDS):
            await eventually(lambda: handled.records)  # noqa: B023 -- asked within the turn
        assert handled.values() == [value]


async def test_two_topics_of_one_service_do_not_wait_for_each_other(bench: Bench, topics: OwnTopics) -> None:
    await topics.create([DIRECTORY_CHANGES])

    def fault(_batch: list[str]) -> None:
        raise Transient("away")

    stuck, flowing = Handled(fault), Handled()
    await bench.put("stuck")
    await bench.producer.publish([Record(DIRECTORY_CHANGES, b"k", b"flows")])
    consumer = BatchConsumer(
        bench.connection,
        group="two",
        service="test",
        subscriptions=[Subscription(WEBHOOKS, text, stuck), Subscription(DIRECTORY_CHANGES, text, flowing)],
        producer=bench.producer,
        now=utc_now,
    )
    async with consumer:
        await eventually(lambda: stuck.batches and flowing.records)
    assert (stuck.records, flowing.values()) == ([], ["flows"])


async def test_a_record_handled_by_a_killed_process_comes_again(bench: Bench, kafka_bootstrap: str) -> None:
    await bench.put("a", "b")
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.kafka_victim",
        kafka_bootstrap,
        bench.connection.topic_prefix,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    ends_with_us(child.pid)
    assert child.stdout is not None
    said = b"-"
    while said and not said.startswith(b"handled"):  # on a busy machine it says before that it waits for its place
        said = await child.stdout.readline()
    assert said.decode().split() == ["handled", "a", "b"]
    child.send_signal(signal.SIGKILL)
    await child.wait()
    again = Handled()
    async with bench.consumer(again):
        await eventually(lambda: len(again.records) == 2)
    assert again.values() == ["a", "b"]


async def test_what_is_done_is_counted(bench: Bench) -> None:
    def counted() -> tuple[float, float]:
        dead = metrics.DEAD_LETTERED.labels("webhooks.v1", "not_utf8")
        return metrics.RECORDS_HANDLED.labels("webhooks.v1")._value.get(), dead._value.get()

    before = counted()
    await bench.put("a", b"\xff", "b")
    handled = Handled()
    async with bench.consumer(handled):
        await eventually(lambda: len(handled.records) == 2)
        await bench.dead(1)
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (3, 1)
