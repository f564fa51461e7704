"""The batch consumer on a real broker: nothing is lost, nothing is skipped, one bad record costs its neighbours nothing."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from libs.common.clock import utc_now
from libs.common.errors import Permanent, Transient
from libs.common.events.topics import DIRECTORY_CHANGES, WEBHOOKS
from libs.common.kafka import metrics
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.lane import Subscription
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.records import Received, Rejected
from tests.integration.kafka_bench import Bench, Handled, text, told
from tests.support.logs import LogLines
from tests.support.stray import send_stray_header
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually

PARTITIONS = 2


@pytest_asyncio.fixture
async def bench(kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Bench]:
    await topics.create([WEBHOOKS, WEBHOOKS.dlq], partitions=PARTITIONS)
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    async with Producer(connection) as producer, AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as raw:
        yield Bench(connection, producer, raw)


def numbered(count: int, name: str = "v") -> list[str]:
    return [f"{name}{number}" for number in range(count)]


async def test_what_was_handled_is_committed_per_partition(bench: Bench) -> None:
    await bench.put(*numbered(30), partition=0)
    await bench.put(*numbered(7), partition=1)
    handled = Handled()

    async with bench.consumer(handled):
        await eventually(lambda: len(handled.records) == 37)

    assert (handled.values(0), handled.values(1)) == (numbered(30), numbered(7))
    assert await bench.committed(0, 1) == [30, 7]


async def test_a_second_start_goes_on_where_the_first_ended(bench: Bench) -> None:
    await bench.put("a", "b")
    first, second = Handled(), Handled()
    async with bench.consumer(first):
        await eventually(lambda: len(first.records) == 2)
    await bench.put("c")
    async with bench.consumer(second):
        await eventually(lambda: second.records)
    assert second.values() == ["c"]


async def test_bad_bytes_become_dead_letters_and_their_neighbours_are_handled(bench: Bench) -> None:
    await bench.put("before", b"\xff\xfe", "between")
    await bench.put("bad header value", headers=[("source", b"\xff")])
    await bench.put("after", headers=[("source", b"meta")])
    handled = Handled()

    async with bench.consumer(handled):
        await eventually(lambda: len(handled.records) == 3)
        letters = await bench.dead(2)

    assert handled.values() == ["before", "between", "after"]
    assert [
        (letter.key, letter.value, told(letter, "reason"), told(letter, "source_offset")) for letter in letters
    ] == [
        (b"k", b"\xff\xfe", "not_utf8", "1"),
        (b"k", b"bad header value", "bad_header", "3"),
    ]
    assert {told(letter, "source_topic") for letter in letters} == {bench.connection.name("webhooks.v1")}
    assert dict(letters[1].headers)["source"] == b"\xff"
    assert await bench.committed(0) == [5]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
async def test_a_header_key_that_is_not_utf8_neither_wedges_its_partition_nor_costs_another_its_records(
    bench: Bench,
    *,
    compressed: bool,
) -> None:
    await bench.put(*numbered(20, "other"), partition=1)
    await send_stray_header(
        bench.raw,
        bench.connection.name("webhooks.v1"),
        0,
        key=b"k",
        values=[b"a", b"bad", b"c"],
        stray=1,
        compressed=compressed,
    )
    await bench.put("d")
    handled = Handled()

    async with bench.consumer(handled):
        await eventually(lambda: len(handled.records) == 23)
        [letter] = await bench.dead(1)

    assert (handled.values(0), handled.values(1)) == (["a", "c", "d"], numbered(20, "other"))
    assert (letter.value, told(letter, "reason")) == (b"bad", "bad_header")
    assert "stray\\xffkey" in dict(letter.headers)


async def test_one_guilty_record_in_a_batch_is_found_and_the_rest_goes_through_in_order(bench: Bench) -> None:
    values = numbered(60)
    values[17] = "poison"
    await bench.put(*values)

    def fault(batch: list[str]) -> None:
        if "poison" in batch:
            raise ZeroDivisionError("07700 900123")

    handled = Handled(fault)
    async with bench.consumer(handled):
        await eventually(lambda: len(handled.records) == 59)
        [letter] = await bench.dead(1)

    assert handled.values() == [value for value in values if value != "poison"]
    assert (letter.value, told(letter, "reason"), told(letter, "detail"), told(letter, "attempts")) == (
        b"poison",
        "handler_failed",
        "ZeroDivisionError",
        "3",
    )
    assert await bench.committed(0) == [60]


async def test_a_handler_may_refuse_records_without_halving_the_batch(bench: Bench) -> None:
    await bench.put("ours", "not ours", "ours")

    batches: list[list[str]] = []

    async def handle(batch: Sequence[Received[str]]) -> Sequence[Rejected]:
        batches.append([received.value for received in batch])
        return [Rejected(r.record, "unknown_number", "not known") for r in batch if r.value == "not ours"]

    async with bench.consumer(handle):
        await eventually(lambda: sum(map(len, batches)) >= 3)
        [letter] = await bench.dead(1)

    assert (letter.value, told(letter, "reason")) == (b"not ours", "unknown_number")
    assert batches == [["ours", "not ours", "ours"]]
    assert await bench.committed(0) == [3]


async def test_a_permanent_failure_names_its_own_reason(bench: Bench) -> None:
    await bench.put("fine", "never")

    def fault(batch: list[str]) -> None:
        if "never" in batch:
            raise Permanent("too_old", "by a week")

    handled = Handled(fault)
    async with bench.consumer(handled):
        [letter] = await bench.dead(1)
        await eventually(lambda: handled.records)

    assert (letter.value, told(letter, "reason"), told(letter, "detail"), told(letter, "attempts")) == (
        b"never",
        "too_old",
        "by a week",
        "1",
    )


async def test_through_an_outage_every_record_waits_and_comes_in_order_on_both_partitions(
    bench: Bench, log_lines: LogLines
) -> None:
    await bench.put(*numbered(40, "p"), partition=0)
    await bench.put(*numbered(40, "q"), partition=1)
    outage = iter(range(6))

    def fault(_batch: list[str]) -> None:
        if next(outage, None) is not None:
            raise Transient("the database is away")

    handled = Handled(fault)
    async with bench.consumer(handled, max_records=15):
        await eventually(lambda: len(handled.records) >= 10)
        await bench.put("late", partition=0)
        await eventually(lambda: len(handled.records) >= 81)

    assert handled.values(0) == [*numbered(40, "p"), "late"]
    assert handled.values(1) == numbered(40, "q")
    assert await bench.committed(0, 1) == [41, 40]
    assert [line["reason"] for line in log_lines.of("record.retried")] == ["Transient", "recovered"]


async def test_nothing_is_committed_while_the_outage_lasts(bench: Bench) -> None:
    await bench.put("a", "b")

    def fault(_batch: list[str]) -> None:
        raise ConnectionRefusedError

    handled = Handled(fault)
    async with bench.consumer(handled):
        await eventually(lambda: len(handled.batches) >= 4)

    assert (handled.records, await bench.committed(0)) == ([], [0])


async def test_trouble_in_the_middle_of_halving_keeps_what_is_done_and_reads_the_rest_again(bench: Bench) -> None:
    await bench.put("a", "b", "c", "poison", "d")
    trouble = [Transient("away")]

    def fault(batch: list[str]) -> None:
        if len(batch) > 1 and "poison" in batch:
            raise RuntimeError
        if "poison" in batch and trouble:
            raise trouble.pop()
        if "poison" in batch:
            raise RuntimeError

    handled = Handled(fault)
    async with bench.consumer(handled):
        await eventually(lambda: "d" in handled.values())

    assert handled.values() == ["a", "b", "c", "d"]
    assert await bench.committed(0) == [5]


async def test_dead_letters_are_written_before_the_offset_is_committed(bench: Bench, topics: OwnTopics) -> None:
    """Its dead-letter topic is missing: the record must neither be committed nor be forgotten."""
    await bench.producer.stop()
    without_dlq = KafkaConnection(bench.connection.bootstrap, topic_prefix=f"{topics.prefix}x.")
    async with Producer(without_dlq, delivery_timeout=1.0) as lost:
        bench.producer = lost
        await bench.put(b"\xff", "good")
        handled = Handled()
        async with bench.consumer(handled):
            await eventually(lambda: len(handled.batches) >= 2, "the batch is read again")
    assert await bench.committed(0) == [0]


async def test_at_the_limit_a_partition_stops_says_so_and_leaves_the_others_alone(
    bench: Bench, log_lines: LogLines
) -> None:
    await bench.put(*[b"\xff"] * 8, "behind", partition=0)
    await bench.put("fine", partition=1)
    handled = Handled()

    async with bench.consumer(handled, dlq_run_limit=5) as consumer:
        await eventually(consumer.unready)
        await bench.put("still fine", partition=1)
        await eventually(lambda: len(handled.records) == 2)
        reason = consumer.unready()
        letters = await bench.dead(5)

    assert reason is not None
    assert "webhooks.v1" in reason
    assert "partition 0" in reason
    assert handled.values() == ["fine", "still fine"]
    assert [told(letter, "source_offset") for letter in letters] == ["0", "1", "2", "3", "4"]
    assert await bench.committed(0, 1) == [5, 2]
    assert [(line["partition"], line["offset"]) for line in log_lines.of("consumer.stopped")] == [(0, 5)]


async def test_a_stopped_partition_is_not_read_over_and_over(bench: Bench) -> None:
    def batches() -> float:
        return sum(
            sample.value
            for metric in metrics.BATCH_SECONDS.collect()
            for sample in metric.samples
            if sample.name.endswith("_count")
        )

    await bench.put(*[b"\xff"] * 4)
    async with bench.consumer(Handled(), dlq_run_limit=2) as consumer:
        await eventually(consumer.unready)
        before = batches()
        await bench.put("one", partition=1)
        await asyncio.sleep(0.5)
        assert batches() - before < 5


async def test_a_restart_tries_a_stopped_partition_again(bench: Bench) -> None:
    await bench.put(*[b"\xff"] * 5, "behind")
    handled = Handled()
    async with bench.consumer(handled, dlq_run_limit=3) as consumer:
        await eventually(consumer.unready)
    async with bench.consumer(handled, dlq_run_limit=3) as consumer:
        await eventually(lambda: handled.records)
        assert consumer.unready() is None
    assert handled.values() == ["behind"]
    assert len(await bench.dead(5)) == 5


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
        async with bench.consumer(handled, instance_id="replica-0"):
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
        "tests.integration.kafka_victim",
        kafka_bootstrap,
        bench.connection.topic_prefix,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    assert (await child.stdout.readline()).decode().split() == ["handled", "a", "b"]
    child.send_signal(signal.SIGKILL)
    await child.wait()
    again = Handled()
    async with bench.consumer(again):
        await eventually(lambda: len(again.records) == 2)
    assert again.values() == ["a", "b"]


async def test_what_is_done_is_counted(bench: Bench) -> None:
    def counted() -> tuple[float, float]:
        dead = metrics.DEAD_LETTERED.labels("webhooks.v1", "not_utf8")
        return metrics.HANDLED.labels("webhooks.v1")._value.get(), dead._value.get()

    before = counted()
    await bench.put("a", b"\xff", "b")
    handled = Handled()
    async with bench.consumer(handled):
        await eventually(lambda: len(handled.records) == 2)
        await bench.dead(1)
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (3, 1)
