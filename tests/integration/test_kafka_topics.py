"""Topics are created as declared, once, and compared afterwards."""

from datetime import timedelta

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.clock import utc_now
from libs.common.errors import ConfigurationError
from libs.common.events.topics import DIRECTORY_CHANGES, OUTBOUND_INTENTS, OUTBOUND_SMS, TOPICS, WEBHOOKS, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.topics import Difference, declare, delete
from tests.support.topics import config_of


@pytest.fixture
def connection(kafka_bootstrap: str, topic_prefix: str) -> KafkaConnection:
    return KafkaConnection(kafka_bootstrap, topic_prefix=topic_prefix)


async def test_every_topic_and_its_dead_letters_come_to_be_as_declared(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    declaration = await declare(connection)

    wanted = {connection.name(each.name): each for topic in TOPICS for each in (topic, topic.dlq)}
    assert set(declaration.created) == set(wanted)
    found = await kafka_admin.describe_topics(list(wanted))
    assert {topic["topic"]: len(topic["partitions"]) for topic in found} == {
        name: topic.partitions for name, topic in wanted.items()
    }
    config = await config_of(kafka_admin, connection.name("webhooks.v1"))
    assert config["retention.ms"] == str(14 * 24 * 3600 * 1000)
    assert config["max.message.bytes"] == str(WEBHOOKS.max_record_bytes)


@pytest.mark.parametrize("topic", [OUTBOUND_INTENTS, DIRECTORY_CHANGES], ids=lambda topic: topic.name)
@pytest.mark.parametrize("dated", [0, 4_000_000_000_000], ids=["1970", "2096"])
async def test_a_producer_outside_whose_clock_is_wrong_is_taken_and_its_record_has_the_brokers_time(
    connection: KafkaConnection, topic: Topic, dated: int
) -> None:
    """By its own time the brokers would delete it before it is read, or refuse it."""
    await declare(connection, [topic], partitions=1)
    began = int(utc_now().timestamp() * 1000)
    async with AIOKafkaProducer(bootstrap_servers=connection.bootstrap) as producer:
        kept = await producer.send_and_wait(connection.name(topic.name), b"{}", timestamp_ms=dated)
    assert began - 60_000 <= kept.timestamp <= int(utc_now().timestamp() * 1000) + 60_000


async def test_declaring_again_changes_nothing_and_reports_what_differs(connection: KafkaConnection) -> None:
    await declare(connection, [WEBHOOKS], partitions=2)

    again = await declare(connection, [WEBHOOKS, OUTBOUND_SMS])

    webhooks, dead = connection.name("webhooks.v1"), connection.name("webhooks.v1.dlq")
    assert again.existing == (webhooks, dead)
    assert again.created == (connection.name("outbound.sms.v1"), connection.name("outbound.sms.v1.dlq"))
    assert again.differing == (Difference(webhooks, 12, 2), Difference(dead, 3, 2))


async def test_retention_can_be_overridden(connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient) -> None:
    await declare(connection, [WEBHOOKS], partitions=1, retention=timedelta(hours=1))
    assert (await config_of(kafka_admin, connection.name("webhooks.v1")))["retention.ms"] == "3600000"


async def test_more_replicas_than_brokers_are_refused_in_one_line(connection: KafkaConnection) -> None:
    with pytest.raises(ConfigurationError, match="InvalidReplicationFactor"):
        await declare(connection, [WEBHOOKS], replication_factor=3)


async def test_only_what_is_under_the_prefix_is_deleted(
    connection: KafkaConnection, kafka_admin: AIOKafkaAdminClient
) -> None:
    inner = KafkaConnection(connection.bootstrap, topic_prefix=f"{connection.topic_prefix}inner.")
    await declare(connection, [WEBHOOKS], partitions=1)
    await declare(inner, [WEBHOOKS], partitions=1)

    assert set(await delete(inner)) == {inner.name("webhooks.v1"), inner.name("webhooks.v1.dlq")}
    assert connection.name("webhooks.v1") in await kafka_admin.list_topics()


async def test_without_a_prefix_nothing_is_deleted(kafka_bootstrap: str) -> None:
    with pytest.raises(ConfigurationError):
        await delete(KafkaConnection(kafka_bootstrap))
