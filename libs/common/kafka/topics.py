"""Topics on the brokers: created as declared, compared, deleted (by tests)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from libs.common.errors import ConfigurationError
from libs.common.events.topics import TOPICS, Topic
from libs.common.kafka.connection import KafkaConnection

SETTLE_SECONDS = 15.0
_SAFE_REPLICAS = 3


@dataclass(frozen=True, slots=True)
class Difference:
    """A topic with another number of partitions than declared. It stays so: keys would move (``partition_growth``)."""

    name: str
    declared: int
    found: int


@dataclass(frozen=True, slots=True)
class Declaration:
    """What ``declare`` found and did; names are those on the broker."""

    created: tuple[str, ...]
    existing: tuple[str, ...]
    differing: tuple[Difference, ...]


async def declare(
    connection: KafkaConnection,
    topics: Sequence[Topic] = TOPICS,
    *,
    partitions: int | None = None,
    retention: timedelta | None = None,
    replication_factor: int = 1,
) -> Declaration:
    """Create missing topics and their dead-letter topics, and wait until they are usable. Many may call it at once.

    ``partitions`` and ``retention`` override the declaration (tests, sandbox). With three replicas or more, two must be
    in sync to acknowledge. Raises ConfigurationError when the brokers cannot be reached or refuse.
    """
    wanted = [each for topic in topics for each in (topic, topic.dlq)]
    if partitions is not None:
        wanted = [replace(topic, partitions=partitions) for topic in wanted]
    if retention is not None:
        wanted = [replace(topic, retention=retention) for topic in wanted]
    async with administered(connection) as admin:
        before = await partitions_of(admin, [connection.name(topic.name) for topic in wanted])
        missing = [topic for topic in wanted if connection.name(topic.name) not in before]
        if missing:
            response = await admin.create_topics([_new(connection, topic, replication_factor) for topic in missing])
            for name, code, *_message in response.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise ConfigurationError(f"Kafka refuses to create the topic {name}: {error.__name__}")
            await _settled(admin, [connection.name(topic.name) for topic in missing])
    counts = {connection.name(topic.name): topic.partitions for topic in wanted}
    return Declaration(
        created=tuple(connection.name(topic.name) for topic in missing),
        existing=tuple(name for name in counts if name in before),
        differing=tuple(
            Difference(name, declared, before[name])
            for name, declared in counts.items()
            if name in before and before[name] != declared
        ),
    )


async def delete(connection: KafkaConnection) -> tuple[str, ...]:
    """Delete every topic that begins with the connection's prefix; for tests. Without a prefix nothing is deleted."""
    if not connection.topic_prefix:
        raise ConfigurationError("topics are deleted by prefix only, and the prefix is empty")
    async with administered(connection) as admin:
        names = tuple(sorted(name for name in await admin.list_topics() if name.startswith(connection.topic_prefix)))
        if names:
            await admin.delete_topics(list(names))
        return names


@asynccontextmanager
async def administered(connection: KafkaConnection) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client. Raises ConfigurationError when the brokers cannot be reached or refuse."""
    admin = AIOKafkaAdminClient(**connection.client_options(), request_timeout_ms=10_000)
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError) as error:
        raise await connection.error("administered", error) from error
    finally:
        await admin.close()


def _new(connection: KafkaConnection, topic: Topic, replication_factor: int) -> NewTopic:
    config = {
        "retention.ms": str(int(topic.retention.total_seconds() * 1000)),
        "max.message.bytes": str(topic.max_record_bytes),
    }
    if topic.from_outside:
        config["message.timestamp.type"] = "LogAppendTime"
    if replication_factor >= _SAFE_REPLICAS:
        config["min.insync.replicas"] = "2"
    return NewTopic(connection.name(topic.name), topic.partitions, replication_factor, topic_configs=config)


async def partitions_of(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """How many partitions with a leader each existing topic has."""
    existing = set(await admin.list_topics())
    asked = [name for name in names if name in existing]
    if not asked:
        return {}
    return {
        topic["topic"]: sum(1 for partition in topic["partitions"] if partition["leader"] >= 0)
        for topic in await admin.describe_topics(asked)
        if topic["error_code"] == 0
    }


async def _settled(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Wait until every topic has its leaders: a producer that asks too early learns that the topic is unknown."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while sum(map(bool, (await partitions_of(admin, names)).values())) < len(names):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
