"""The batch consumer on a real broker: nothing is lost, nothing is skipped, one bad record costs its neighbours
nothing.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from libs.common import metrics
from libs.common.errors import Permanent, Transient, Undecodable
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import RawRecord, Received, Reject
from tests.support.consumer_bench import Bench, Handled, header_of, numbered
from tests.support.logs import LogLines
from tests.support.raw_headers import send_stray_header
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually


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
        (letter.key, letter.value, header_of(letter, "reason"), header_of(letter, "source_offset"))
        for letter in letters
    ] == [
        (b"k", b"\xff\xfe", "not_utf8", "1"),
        (b"k", b"bad header value", "bad_header", "3"),
    ]
    assert {header_of(letter, "source_topic") for letter in letters} == {bench.connection.name("webhooks.v1")}
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
    assert (letter.value, header_of(letter, "reason")) == (b"bad", "bad_header")
    assert "stray\\xffkey" in dict(letter.headers)


async def test_one_guilty_record_in_a_batch_is_found_and_the_rest_goes_through_in_order(
    bench: Bench, log_lines: LogLines
) -> None:
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
    assert (letter.value, header_of(letter, "reason"), header_of(letter, "detail"), header_of(letter, "attempts")) == (
        b"poison",
        "handler_failed",
        "ZeroDivisionError",
        "3",
    )
    assert await bench.committed(0) == [60]
    [line] = log_lines.of("record.dead_lettered")
    [bug] = line["exception"]
    assert (line["level"], bug["type"]) == ("error", "ZeroDivisionError")
    assert "test_kafka_consumer.py" in bug["at"][-1]
    assert "900123" not in log_lines.raw


async def test_a_handler_may_refuse_records_without_halving_the_batch(bench: Bench) -> None:
    await bench.put("ours", "not ours", "ours")

    batches: list[list[str]] = []

    async def handle(batch: Sequence[Received[str]]) -> Sequence[Reject]:
        batches.append([received.value for received in batch])
        return [Reject(r.record, "unknown_number", "not known") for r in batch if r.value == "not ours"]

    async with bench.consumer(handle):
        await eventually(lambda: sum(map(len, batches)) >= 3)
        [letter] = await bench.dead(1)

    assert (letter.value, header_of(letter, "reason")) == (b"not ours", "unknown_number")
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

    assert (letter.value, header_of(letter, "reason"), header_of(letter, "detail"), header_of(letter, "attempts")) == (
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


NEVER = timedelta(hours=1)


async def test_at_the_limit_a_partition_stops_says_so_and_leaves_the_others_alone(
    bench: Bench, log_lines: LogLines
) -> None:
    await bench.put(*[b"\xff"] * 8, "behind", partition=0)
    await bench.put("fine", partition=1)
    handled = Handled()

    async with bench.consumer(handled, dlq_run_limit=5, STOP_BASE=NEVER) as consumer:
        await eventually(consumer.unready)
        await bench.put("still fine", partition=1)
        await eventually(lambda: len(handled.records) == 2)
        reason = consumer.unready()
        letters = await bench.dead(5)

    assert reason is not None
    assert "webhooks.v1" in reason
    assert "partition 0" in reason
    assert handled.values() == ["fine", "still fine"]
    assert [header_of(letter, "source_offset") for letter in letters] == ["0", "1", "2", "3", "4"]
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
    async with bench.consumer(Handled(), dlq_run_limit=2, STOP_BASE=NEVER) as consumer:
        await eventually(consumer.unready)
        before = batches()
        await bench.put("one", partition=1)
        await asyncio.sleep(0.5)
        assert batches() - before < 5


async def test_a_stopped_partition_is_tried_again_by_itself_until_what_nobody_can_read_is_over(
    bench: Bench, log_lines: LogLines
) -> None:
    """It goes on with twice as many each time, or a flood of them would hold up for hours what comes behind.

    The next flood behind a record that is handled stops it as the first one did.
    """
    await bench.put(*[b"\xff"] * 30, "behind", *[b"\xff"] * 10, "behind those")
    handled = Handled()
    async with bench.consumer(handled, dlq_run_limit=3, STOP_BASE=timedelta(milliseconds=1)) as consumer:
        await eventually(lambda: len(handled.records) == 2)
        await eventually(lambda: consumer.unready() is None)
    assert handled.values() == ["behind", "behind those"]
    assert len(await bench.dead(40)) == 40
    assert await bench.committed(0) == [42]
    assert [line["offset"] for line in log_lines.of("consumer.resumed")] == [3, 9, 21, 34, 40]
    told = [(line["offset"], line["records"], line["attempt"]) for line in log_lines.of("consumer.stopped")]
    assert told == [(3, 3, 1), (34, 3, 1)]
    assert [line["records"] for line in log_lines.of("record.dead_lettered")] == [1, 39]


async def test_after_bugs_of_ours_a_partition_goes_on_with_no_more_each_time(bench: Bench, log_lines: LogLines) -> None:
    await bench.put(*numbered(6, "poison"), "behind")

    def fault(batch: list[str]) -> None:
        if any(value.startswith("poison") for value in batch):
            raise ZeroDivisionError

    async with bench.consumer(Handled(fault), dlq_run_limit=2, STOP_BASE=timedelta(milliseconds=1)):
        await eventually(lambda: len(log_lines.of("consumer.resumed")) == 3)
    assert [line["offset"] for line in log_lines.of("consumer.resumed")] == [2, 4, 6]


async def test_a_restart_tries_a_stopped_partition_again(bench: Bench) -> None:
    await bench.put(*[b"\xff"] * 5, "behind")
    handled = Handled()
    async with bench.consumer(handled, dlq_run_limit=3, STOP_BASE=NEVER) as consumer:
        await eventually(consumer.unready)
    async with bench.consumer(handled, dlq_run_limit=3, STOP_BASE=NEVER) as consumer:
        await eventually(lambda: handled.records)
        assert consumer.unready() is None
    assert handled.values() == ["behind"]
    assert len(await bench.dead(5)) == 5


async def test_what_was_read_and_refused_stops_nothing_however_much_of_it_comes(
    bench: Bench, log_lines: LogLines
) -> None:
    """A number that nobody has, a field of tomorrow: thousands of them in a row, told in two lines."""
    await bench.put(*numbered(1500, "refused"), *numbered(1500, "undecodable"), "behind")

    seen: list[str] = []

    async def refuse(batch: Sequence[Received[str]]) -> Sequence[Reject]:
        seen.extend(r.value for r in batch if r.value == "behind")
        return [Reject(r.record, "unknown_number") for r in batch if r.value.startswith("refused")]

    def decode(record: RawRecord) -> str:
        value = (record.value or b"").decode()
        if value.startswith("undecodable"):
            raise Undecodable("unknown_field", "not known here")
        return value

    async with bench.consumer(refuse, decode=decode, dlq_run_limit=5, STOP_BASE=NEVER) as consumer:
        assert len(await bench.dead(3000)) == 3000
        assert consumer.unready() is None
        await eventually(lambda: seen, "what comes behind is handled")

    lines = [(line["reason"], line["records"]) for line in log_lines.of("record.dead_lettered")]
    assert {reason: sum(n for r, n in lines if r == reason) for reason, _ in lines} == {
        "unknown_number": 1500,
        "unknown_field": 1500,
    }
    assert len(lines) == 4


async def test_a_bug_of_ours_stops_a_partition_as_what_nobody_can_read_does(bench: Bench) -> None:
    await bench.put(*numbered(5, "poison"), "behind")

    def fault(batch: list[str]) -> None:
        if any(value.startswith("poison") for value in batch):
            raise ZeroDivisionError

    async with bench.consumer(Handled(fault), dlq_run_limit=3, STOP_BASE=NEVER) as consumer:
        await eventually(consumer.unready)
    assert await bench.committed(0) == [3]
