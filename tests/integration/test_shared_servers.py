"""What a test is given on the run's servers is its own."""

from uuid import uuid4

import asyncpg
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.db.migrate import pending
from libs.common.events.topics import WEBHOOKS
from tests.support.topics import EVERY_TOPIC, OwnTopics


async def test_a_topic_of_the_test_carries_a_record(topics: OwnTopics, kafka_bootstrap: str) -> None:
    await topics.create([WEBHOOKS])
    name = f"{topics.prefix}{WEBHOOKS.name}"
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        await producer.send_and_wait(name, b"hello")
    async with AIOKafkaConsumer(name, bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest") as consumer:
        assert (await consumer.getone()).value == b"hello"


async def test_topics_of_a_test_are_deleted_with_it(kafka_admin: AIOKafkaAdminClient) -> None:
    mine = OwnTopics(kafka_admin, f"t-deleted-{uuid4().hex[:12]}.")
    await mine.create(partitions=2)
    assert {f"{mine.prefix}{topic.name}" for topic in EVERY_TOPIC} <= set(await kafka_admin.list_topics())
    await mine.delete()
    assert not [name for name in await kafka_admin.list_topics() if name.startswith(mine.prefix)]


async def test_a_database_of_the_test_has_every_migration(database: str) -> None:
    assert await pending(database) == []


async def test_two_tests_never_share_a_database(database: str, postgres_dsn: str) -> None:
    assert database != postgres_dsn
    db = await asyncpg.connect(database)
    try:
        assert await db.fetchval("select count(*) from conversations") == 0
    finally:
        await db.close()


def test_a_redis_database_of_the_test_is_empty_and_not_the_shared_one(redis_url: str, redis_server: str) -> None:
    assert redis_url != redis_server
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "over")
