"""Partitions are added while nothing waits and nobody writes, and every conversation keeps its order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from deploy.cli.partitions import add_partitions
from libs.common.clock import utc_now
from libs.common.errors import ConfigurationError
from libs.common.events.access import PRINCIPALS
from libs.common.events.topics import INBOUND_MESSAGES, INBOX_NOTICES, OUTBOUND_SMS, WEBHOOKS, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.partition_growth import PartitionAdmin, own_groups
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.topics import declare
from libs.common.kafka.topology import Subscription
from tests.support.consumer_bench import Handled, text
from tests.support.waiting import eventually

FEW, MANY, KEYS = 2, 5, 24
Said = list[str]


@pytest.fixture
def connection(kafka_bootstrap: str, topic_prefix: str) -> KafkaConnection:
    return KafkaConnection(kafka_bootstrap, topic_prefix=topic_prefix)


async def counts(connection: KafkaConnection, admin: AIOKafkaAdminClient, *topics: Topic) -> list[int]:
    found = await admin.describe_topics([connection.name(topic.name) for topic in topics])
    by_name = {topic["topic"]: len(topic["partitions"]) for topic in found}
    return [by_name[connection.name(topic.name)] for topic in topics]


@asynccontextmanager
async def reads(
    connection: KafkaConnection, handled: Handled, service: str = "ingest", topic: Topic = WEBHOOKS
) -> AsyncIterator[BatchConsumer]:
    """What reads the topic, in the group in which it does."""
    async with Producer(connection) as producer:
        consumer = BatchConsumer(
            connection,
            group=service,
            service="test",
            subscriptions=[Subscription(topic, text, handled)],
            producer=producer,
            now=utc_now,
        )
        async with consumer:
            yield consumer


async def write(connection: KafkaConnection, topic: Topic, values: dict[int, str]) -> None:
    """By key. A producer of its own, as a service that was started again has one."""
    async with Producer(connection) as producer:
        await producer.publish([Record(topic, f"key {key}".encode(), value.encode()) for key, value in values.items()])


async def refusal(connection: KafkaConnection, said: Said) -> str:
    with pytest.raises(ConfigurationError, match="no partitions were added") as refused:
        await add_partitions(connection, MANY, wait=0, say=said.append)
    return str(refused.value)


async def test_what_nobody_has_written_to_grows_at_once_and_never_shrinks(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    await declare(connection, [WEBHOOKS, OUTBOUND_SMS], partitions=FEW)
    async with PartitionAdmin.at(connection) as brokers:
        await brokers.add(connection.name(WEBHOOKS.name), MANY)  # by a run that was interrupted before the other one
    said: Said = []
    await add_partitions(connection, MANY, wait=0, say=said.append)
    assert await counts(connection, kafka_admin, WEBHOOKS, OUTBOUND_SMS, WEBHOOKS.dlq) == [MANY, MANY, FEW]
    assert [line for line in said if WEBHOOKS.name in line] == []
    again: Said = []
    for partitions in (MANY, FEW, 1):
        await add_partitions(connection, partitions, wait=0, say=again.append)
    assert again == []
    assert await counts(connection, kafka_admin, WEBHOOKS, OUTBOUND_SMS) == [MANY, MANY]


async def test_drain_add_go_on_and_every_key_keeps_its_order(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    await declare(connection, [WEBHOOKS], partitions=FEW)
    handled, said = Handled(), Said()
    for number in range(3):
        await write(connection, WEBHOOKS, {key: f"{key} {number}" for key in range(KEYS)})
    told = await refusal(connection, said)
    assert f"{3 * KEYS} records of {connection.name('webhooks.v1')} are unread" in told
    assert told.endswith("start ingest")

    adding = asyncio.create_task(add_partitions(connection, MANY, wait=60, say=said.append))
    async with reads(connection, handled):
        await eventually(lambda: len(handled.records) == 3 * KEYS)
        await eventually(lambda: any("everything is read; stop ingest" in line for line in said))
        assert not adding.done()
    await adding
    assert await counts(connection, kafka_admin, WEBHOOKS) == [MANY]
    assert said[-1].startswith("go on")
    assert not any(line.startswith("beware") for line in said)

    for number in range(3, 6):
        await write(connection, WEBHOOKS, {key: f"{key} {number}" for key in range(KEYS)})
    async with reads(connection, handled):
        await eventually(lambda: len(handled.records) == 6 * KEYS)
    values = [value.split() for value in handled.values()]
    for key in range(KEYS):
        assert [number for of, number in values if of == str(key)] == [str(number) for number in range(6)]
    where = {record.key: set[int]() for record in handled.records}
    for record in handled.records:
        where[record.key].add(record.partition)
    assert any(len(partitions) == 2 for partitions in where.values())  # else nothing was shown


async def test_the_inbox_is_the_last_to_be_stopped(connection: KafkaConnection) -> None:
    """It reads what all others publish."""
    await declare(connection, [WEBHOOKS, INBOUND_MESSAGES], partitions=FEW)
    said: list[str] = []
    async with reads(connection, Handled(), "inbox", INBOUND_MESSAGES):
        async with reads(connection, Handled()):
            assert (await refusal(connection, said)).endswith("everything is read; stop ingest, inbox, in this order")
        assert (await refusal(connection, said)).endswith("everything is read; stop inbox")


async def test_an_outsider_that_is_behind_counts_unless_it_is_said_to_be_gone(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    await declare(connection, [INBOX_NOTICES], partitions=FEW)
    await write(connection, INBOX_NOTICES, dict.fromkeys(range(KEYS), "decided"))
    place, group = TopicPartition(connection.name(INBOX_NOTICES.name), 0), connection.name("agent-1")
    async with AIOKafkaConsumer(**connection.client_options(), group_id=group, enable_auto_commit=False) as agent:
        agent.assign([place])
        await agent.commit({place: 1})
    said: Said = []
    assert f"unread by {group}" in await refusal(connection, said)
    assert await counts(connection, kafka_admin, INBOX_NOTICES) == [FEW]
    await add_partitions(connection, MANY, wait=0, ignored=(group,), say=said.append)
    assert await counts(connection, kafka_admin, INBOX_NOTICES) == [MANY]


async def test_while_somebody_writes_nothing_grows(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    await declare(connection, [INBOX_NOTICES], partitions=FEW)

    begun, enough = asyncio.Event(), asyncio.Event()

    async def keep_writing() -> None:
        async with Producer(connection) as producer:
            while not enough.is_set():
                await producer.publish([Record(INBOX_NOTICES, b"key", b"decided")])
                begun.set()

    writing = asyncio.create_task(keep_writing())
    try:
        await begun.wait()
        told = await refusal(connection, [])
    finally:
        enough.set()
        await writing
    assert told.endswith(f"records are written to {connection.name(INBOX_NOTICES.name)}")
    assert await counts(connection, kafka_admin, INBOX_NOTICES) == [FEW]


async def test_a_topic_that_has_its_partitions_already_is_no_trouble(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    await declare(connection, [INBOX_NOTICES], partitions=MANY)
    async with PartitionAdmin.at(connection) as brokers:
        await brokers.add(connection.name(INBOX_NOTICES.name), MANY)
        with pytest.raises(ConfigurationError):
            await brokers.add(connection.name(WEBHOOKS.name), MANY)
    assert await counts(connection, kafka_admin, INBOX_NOTICES) == [MANY]


async def test_what_is_written_while_a_topic_grows_is_counted(connection: KafkaConnection) -> None:
    await declare(connection, [INBOX_NOTICES], partitions=FEW)
    async with PartitionAdmin.at(connection) as brokers:
        state = await brokers.state({connection.name(INBOX_NOTICES.name): FEW})
        assert await brokers.written_since(state) == {}
        await write(connection, INBOX_NOTICES, dict.fromkeys(range(3), "decided"))
        assert await brokers.written_since(state) == {connection.name(INBOX_NOTICES.name): 3}


async def test_marks_of_transactions_are_nothing_unread(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    await declare(connection, [WEBHOOKS], partitions=1)
    async with (
        AIOKafkaProducer(**connection.client_options(), transactional_id=connection.name("transactions")) as producer,
        producer.transaction(),
    ):
        await producer.send_and_wait(connection.name(WEBHOOKS.name), b"x", key=b"k")
    handled = Handled()
    async with reads(connection, handled):
        await eventually(lambda: handled.records)
    await add_partitions(connection, MANY, wait=20, say=Said().append)
    assert await counts(connection, kafka_admin, WEBHOOKS) == [MANY]


def test_the_groups_of_the_services_are_known_by_their_names(connection: KafkaConnection) -> None:
    known = own_groups(connection)
    assert known[connection.name("ingest.webhooks.v1")] == ("ingest", connection.name("webhooks.v1"))
    assert {service for service, _topic in known.values()} == {
        one.group or one.name for one in PRINCIPALS if one.is_service and one.reads
    }
