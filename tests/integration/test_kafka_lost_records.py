"""Records that are gone before a consumer reads them, on a real broker: what was lost is told, and reading goes on."""

import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from libs.common.errors import Transient
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.rewinding_consumer import RewindingConsumer
from tests.support.consumer_bench import Bench, Handled, numbered
from tests.support.logs import LogLines
from tests.support.scraped import scraped
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually, eventually_true


async def test_records_that_are_deleted_before_they_are_read_are_told_with_their_number(
    bench: Bench, topics: OwnTopics, log_lines: LogLines
) -> None:
    """An outage is longer than the topic's retention: before a start, and while a batch waits to be tried again."""
    await bench.put(*numbered(3))
    first = Handled()
    async with bench.consumer(first):
        await eventually(lambda: len(first.records) == 3)
    await bench.put(*numbered(4, "lost before the start"))
    await topics.lose(WEBHOOKS)
    await bench.put("after the start")

    def fault(values: list[str]) -> None:
        if "waits" in values:
            raise Transient("postgres is away")

    before = scraped("transom_kafka_records_lost_total", topic=WEBHOOKS.name)
    second = Handled(fault)
    async with bench.consumer(second):
        await eventually(lambda: second.values() == ["after the start"])
        await bench.put("waits", "waits as well")
        await eventually(lambda: len(second.batches) > 2)
        await topics.lose(WEBHOOKS)
        await eventually(lambda: len(log_lines.of("records.lost")) == 2)
        await bench.put("at last")
        await eventually(lambda: second.values() == ["after the start", "at last"])
    told = [
        [line[name] for name in ("topic", "partition", "offset", "records")] for line in log_lines.of("records.lost")
    ]
    assert told == [["webhooks.v1", 0, 3, 4], ["webhooks.v1", 0, 8, 2]]
    assert scraped("transom_kafka_records_lost_total", topic=WEBHOOKS.name) == before + 6


async def test_what_was_lost_waits_no_more_in_the_metrics(bench: Bench, topics: OwnTopics, log_lines: LogLines) -> None:
    """The partition may get no further record for days, and an alert would tell of a backlog all that time."""

    def fault(_batch: list[str]) -> None:
        raise Transient("postgres is away")

    handled = Handled(fault)
    await bench.put(*numbered(2), clock_ahead=-3600)
    async with bench.consumer(handled) as consumer:
        await eventually(lambda: len(handled.batches) > 2)
        await consumer._measure_lag()
        assert scraped("transom_kafka_lag_records", topic=WEBHOOKS.name, partition="0") == 2
        assert time.time() - scraped("transom_kafka_caught_up_timestamp_seconds", topic=WEBHOOKS.name) > 1800
        await topics.lose(WEBHOOKS)
        await eventually(lambda: log_lines.of("records.lost"))
        await consumer._measure_lag()
        assert scraped("transom_kafka_lag_records", topic=WEBHOOKS.name, partition="0") == 0
        assert time.time() - scraped("transom_kafka_caught_up_timestamp_seconds", topic=WEBHOOKS.name) < 1800


async def test_a_partition_with_records_of_which_nothing_is_committed_is_told_once(
    bench: Bench, log_lines: LogLines
) -> None:
    """To the brokers a group that was deleted is one that never was."""
    await bench.put(*numbered(3), partition=1)
    first = Handled()
    async with bench.consumer(first):
        await eventually(lambda: len(first.records) == 3)
    assert await bench.committed(0, 1) == [0, 3]
    second = Handled()
    async with bench.consumer(second):
        await bench.put("behind", partition=1)
        await eventually(lambda: second.values() == ["behind"])
    told = [
        [line[name] for name in ("level", "topic", "partition", "offset", "records")]
        for line in log_lines.of("offsets.missing")
    ]
    assert told == [["warning", "webhooks.v1", 1, 0, 3]]


async def test_who_read_a_topic_that_was_deleted_reads_the_one_that_was_made_anew(
    bench: Bench, topics: OwnTopics
) -> None:
    await bench.put(*numbered(3))
    handled = Handled()
    async with bench.consumer(handled, METADATA_AGE_MS=500) as consumer:
        await eventually(lambda: len(handled.records) == 3)
        await topics.delete()

        async def without_partitions() -> bool:
            return not await consumer.behind(WEBHOOKS.name)

        await eventually_true(without_partitions)
        await topics.create([WEBHOOKS, WEBHOOKS.dlq], partitions=1)
        await bench.put("anew")
        await eventually(lambda: handled.values()[3:] == ["anew"])


async def test_where_reading_begins_is_asked_again_when_the_brokers_do_not_say_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    ask = RewindingConsumer.beginning_offsets

    async def fail_once(consumer: RewindingConsumer, places: list[Any]) -> Any:
        asked.append(consumer)
        if len(asked) == 1:
            raise KafkaConnectionError
        return await ask(consumer, places)

    monkeypatch.setattr(RewindingConsumer, "beginning_offsets", fail_once)
    await bench.put(*numbered(3))
    handled = Handled()
    async with bench.consumer(handled):
        await eventually(lambda: len(handled.records) == 3)
        assert asked[0].failures.cause == "KafkaConnectionError"


async def test_a_reading_that_fails_moves_no_partition_ahead_that_was_set_back_meanwhile(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a rebalance a partition stands at its committed offset, and what was read behind it is to be read again."""
    place = TopicPartition(bench.connection.name(WEBHOOKS.name), 0)

    async def fail(consumer: RewindingConsumer, *_partitions: Any, **_options: Any) -> None:
        consumer.seek(place, 1)
        raise KafkaConnectionError

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", fail)
    options = bench.connection.client_options() | {"group_id": bench.connection.name("alone")}
    async with RewindingConsumer(**options, enable_auto_commit=False) as consumer:
        consumer.assign([place])
        consumer.seek(place, 3)
        with pytest.raises(KafkaConnectionError):
            await consumer.getmany()
        assert consumer.positions() == {place: 1}
