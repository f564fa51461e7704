"""Records that somebody compressed on the way: an outside producer, or a broker told to."""

import gzip
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from tests.support.consumer_bench import Bench, Handled, header_of
from tests.support.logs import LogLines
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually

CODECS = ["gzip", "snappy", "lz4", "zstd"]


@pytest_asyncio.fixture(params=CODECS)
async def compressing(
    request: pytest.FixtureRequest, bench: Bench, kafka_bootstrap: str
) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, compression_type=request.param) as producer:
        yield producer


async def test_a_record_of_every_codec_is_handled(bench: Bench, compressing: AIOKafkaProducer) -> None:
    values = [f"{number} " + "text that repeats " * 50 for number in range(20)]
    bench.raw = compressing
    await bench.put(*values)
    handled = Handled()
    async with bench.consumer(handled):
        await eventually(lambda: len(handled.records) >= len(values))
    assert handled.values() == values
    assert await bench.committed(0) == [len(values)]


@pytest.mark.parametrize("codec", CODECS)
async def test_what_a_broker_compresses_by_itself_is_handled(
    kafka_bootstrap: str, topics: OwnTopics, kafka_admin: AIOKafkaAdminClient, codec: str
) -> None:
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    await kafka_admin.create_topics(
        [NewTopic(connection.name(WEBHOOKS.name), 1, 1, topic_configs={"compression.type": codec})]
    )
    handled = Handled()
    async with Producer(connection) as producer, AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as raw:
        bench = Bench(connection, producer, raw)
        await bench.put("text that repeats " * 50)
        async with bench.consumer(handled):
            await eventually(lambda: handled.records)
    assert handled.values() == ["text that repeats " * 50]


async def test_a_letter_larger_than_its_topic_takes_is_packed_or_left_out_and_blocks_nothing(
    bench: Bench, kafka_bootstrap: str
) -> None:
    """What came compressed is larger than the limit it came through."""
    packable = b"\xff" * 5_000_000
    unpackable = random.Random(0).randbytes(100_000) * 50  # zstd looks back that far, gzip does not
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_bootstrap, compression_type="zstd", max_request_size=16_000_000
    ) as producer:
        bench.raw = producer
        await bench.put(packable)
        await bench.put(unpackable)
        await bench.put("behind")
    handled = Handled()
    async with bench.consumer(handled):
        await eventually(lambda: handled.records)
        packed, left_out = await bench.dead(2)
    assert handled.values() == ["behind"]
    assert (gzip.decompress(packed.value), header_of(packed, "value_encoding")) == (packable, "gzip")
    assert (left_out.value, header_of(left_out, "left_out"), header_of(left_out, "value_bytes")) == (
        b"",
        "value",
        "5000000",
    )
    assert await bench.committed(0) == [3]


async def test_a_letter_that_the_broker_refuses_gets_smaller_and_blocks_nothing(
    kafka_bootstrap: str, topics: OwnTopics, kafka_admin: AIOKafkaAdminClient
) -> None:
    """Its dead-letter topic takes less than is declared."""
    connection = KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)
    await topics.create([WEBHOOKS])
    await kafka_admin.create_topics(
        [NewTopic(connection.name(WEBHOOKS.dlq.name), 1, 1, topic_configs={"max.message.bytes": "3000"})]
    )
    handled = Handled()
    async with Producer(connection) as producer, AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as raw:
        bench = Bench(connection, producer, raw)
        await bench.put(b"\xff", b"\xff" * 4000, random.Random(0).randbytes(4000), "behind")
        async with bench.consumer(handled):
            await eventually(lambda: handled.records)
            letters = {header_of(letter, "source_offset"): letter for letter in await bench.dead(3)}
    assert handled.values() == ["behind"]
    assert letters["0"].value == b"\xff"
    assert gzip.decompress(letters["1"].value) == b"\xff" * 4000
    assert header_of(letters["2"], "left_out") == "value"


@pytest.mark.parametrize("codec", CODECS)
async def test_a_batch_that_would_inflate_beyond_the_bound_is_skipped_loudly_and_its_neighbours_go_on(
    bench: Bench, kafka_bootstrap: str, log_lines: LogLines, codec: str
) -> None:
    megabyte = bytes(1024 * 1024)
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_bootstrap, compression_type=codec, max_request_size=1 << 30, max_batch_size=1 << 28
    ) as producer:
        bomb = producer.create_batch()
        for _ in range(70):
            assert bomb.append(key=b"k", value=megabyte, timestamp=None) is not None
        await bench.put("before")
        sent = await producer.send_batch(bomb, bench.connection.name(WEBHOOKS.name), partition=0)
        assert (await sent).offset == 1
        await bench.put("behind")
    await bench.put("beside", partition=1)
    handled = Handled()
    async with bench.consumer(handled, dlq_run_limit=1) as consumer:
        await eventually(lambda: len(handled.records) == 3)
        [letter] = await bench.dead(1)
        assert consumer.unready() is None
    assert (handled.values(0), handled.values(1)) == (["before", "behind"], ["beside"])
    assert await bench.committed(0, 1) == [72, 1]
    assert (header_of(letter, "reason"), header_of(letter, "source_offset")) == ("batch_too_large", "70")
    assert "offsets 1 to 70 " in header_of(letter, "detail")
    assert header_of(letter, "left_out") == "value, key, headers"
    [line] = log_lines.of("record.dead_lettered")
    assert (line["level"], line["reason"]) == ("error", "batch_too_large")
