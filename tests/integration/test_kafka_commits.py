"""A commit that failed is made up for, also when nothing more comes."""

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.servers.kafka import KafkaServer
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from tests.support.consuming import Bench, Handled
from tests.support.logs import LogLines
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually


async def test_what_was_handled_while_the_broker_was_silent_is_committed_when_it_answers_again(
    own_kafka: KafkaServer, log_lines: LogLines
) -> None:
    connection = KafkaConnection(own_kafka.address)
    admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.address)
    await admin.start()
    await OwnTopics(admin, "").create([WEBHOOKS, WEBHOOKS.dlq])
    await admin.close()

    paused: list[str] = []

    async def fault(batch: list[str]) -> None:
        if "last" in batch and not paused:  # the session may end meanwhile, and then it comes again
            paused.extend(batch)
            await asyncio.to_thread(own_kafka.pause)

    handled = Handled(fault)
    async with (
        Producer(connection) as producer,
        AIOKafkaProducer(bootstrap_servers=own_kafka.address) as raw,
    ):
        bench = Bench(connection, producer, raw)
        async with bench.consumer(handled):
            await bench.put("first")
            await eventually(lambda: handled.values() == ["first"])
            await bench.put("last")
            await eventually(lambda: log_lines.of("offsets.commit_failed"))
            await asyncio.to_thread(own_kafka.resume)
            async with asyncio.timeout(40):
                while await bench.committed(0) != [2]:  # noqa: ASYNC110 -- the broker tells nobody
                    await asyncio.sleep(0.2)
    assert set(handled.values()) == {"first", "last"}
