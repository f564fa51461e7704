"""What a test is given on the run's servers is its own."""

from uuid import uuid4

import asyncpg
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.db.migrate import pending
from libs.common.events.topics import WEBHOOKS
from tests.support.databases import Databases
from tests.support.topics import EVERY_TOPIC, OwnTopics
from tests.support.waiting import eventually_true


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

    async def gone() -> bool:
        return not [name for name in await kafka_admin.list_topics() if name.startswith(mine.prefix)]

    await eventually_true(gone)


async def test_a_database_of_the_test_has_every_migration(database: str) -> None:
    assert await pending(database) == []


async def changed(dsn: str, statement: str) -> None:
    db = await asyncpg.connect(dsn)
    try:
        await db.execute(statement)
    finally:
        await db.close()


async def test_a_database_that_comes_back_is_emptied_and_used_again(empty_databases: Databases) -> None:
    first = await empty_databases.take()
    await changed(
        first, "insert into inbox_feeds (org_id, last) values ('acme', 3); select nextval('message_sequence')"
    )
    left = await asyncpg.connect(first)
    await left.execute("begin; insert into inbox_feeds (org_id, last) values ('left', 1)")
    await empty_databases.give_back(first)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await left.execute("commit")
    assert await empty_databases.take() == first
    db = await asyncpg.connect(first)
    assert await db.fetchval("select count(*) from inbox_feeds") == 0
    assert await db.fetchval("select last_value from pg_sequences where sequencename = 'message_sequence'") is None
    await db.close()
    await empty_databases.give_back(first)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table inbox_feeds add column word text",
        "create index on inbox_feeds (last)",
        "alter table inbox_feeds set (fillfactor = 50)",
        "insert into inbox_feeds (org_id, last) values ('acme', 1); analyze inbox_feeds",
        "delete from schema_migrations",
        "create function nothing() returns void language sql begin atomic; end",
        "do $$ begin execute format('alter database %I set work_mem = 4096', current_database()); end $$",
    ],
)
async def test_a_database_that_is_not_what_it_was_is_dropped(empty_databases: Databases, statement: str) -> None:
    spoilt = await empty_databases.take()
    await changed(spoilt, statement)
    await empty_databases.give_back(spoilt)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(spoilt)


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
