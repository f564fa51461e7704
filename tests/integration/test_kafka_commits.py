"""A commit that failed is made up for, also when nothing more comes; one that a rebalance overtook is dropped."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.servers.kafka import KafkaServer
from libs.common.clock import utc_now
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.partitions import Partitions
from libs.common.kafka.producer import Producer
from tests.support.consumer_bench import Bench, Handled
from tests.support.logs import LogLines
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually


async def topics_on(broker: KafkaServer, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.address)
    await admin.start()
    await OwnTopics(admin, "").create([WEBHOOKS, WEBHOOKS.dlq], partitions=partitions)
    await admin.close()


async def asked(bench: Bench) -> list[int] | None:
    """What is committed;

    None while the broker, silent for so long that it lost its own session, names no broker at all.
    """
    try:
        return await bench.committed(0)
    except AssertionError:  # aiokafka's, of a client whose first answer named none
        return None


async def test_what_was_handled_while_the_broker_was_silent_is_committed_when_it_answers_again(
    own_kafka: KafkaServer, log_lines: LogLines
) -> None:
    connection = KafkaConnection(own_kafka.address)
    await topics_on(own_kafka, partitions=1)
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
                while await asked(bench) != [2]:  # noqa: ASYNC110 -- the broker tells nobody
                    await asyncio.sleep(0.2)
    assert set(handled.values()) == {"first", "last"}


@pytest.mark.parametrize("kept", [{0}, {0, 1}], ids=["one", "both"])
async def test_a_commit_that_waited_while_the_partitions_were_given_out_anew_is_dropped_and_owes_nothing(
    own_kafka: KafkaServer, kept: set[int]
) -> None:
    await topics_on(own_kafka, partitions=2)
    places = [TopicPartition(WEBHOOKS.name, number) for number in (0, 1)]
    async with AIOKafkaConsumer(
        bootstrap_servers=own_kafka.address, group_id="anew", enable_auto_commit=False
    ) as consumer:

        async def committed() -> list[int | None]:
            return [await consumer.committed(place) for place in places]

        consumer.assign(places)
        partitions = Partitions(WEBHOOKS.name, WEBHOOKS.name, utc_now, 100, lambda: consumer)
        commits = partitions.commits
        commits.pending = {0: 1, 1: 1}
        await commits.commit()
        own_kafka.pause()
        commits.pending = {0: 10}
        first = asyncio.create_task(commits.commit())
        await asyncio.sleep(0)  # it is on its way to a broker that is silent
        commits.pending = {1: 20}
        behind = asyncio.create_task(commits.commit())
        await asyncio.sleep(0)  # it waits for the first
        partitions.on_revoked()
        consumer.unsubscribe()
        consumer.assign([place for place in places if place.partition in kept])
        own_kafka.resume()
        await asyncio.gather(first, behind)
        assert (await committed(), commits.pending) == ([10, 1], {})
        commits.pending = {0: 30}
        await commits.commit()
        assert await committed() == [30, 1]
