"""Records that somebody compressed on the way: an outside producer, or a broker told to."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from tests.support.consuming import Bench, Handled
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
