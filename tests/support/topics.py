"""Topics for one test."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import for_code

from libs.common.events.topics import TOPICS, Topic
from libs.common.kafka.topology import Topology

_THE_END = -1  # in Kafka's protocol
EVERY_TOPIC = tuple(topic for declared in TOPICS for topic in (declared, declared.dlq))


def used_by(*topologies: Topology[Any]) -> list[Topic]:
    """The topics that these services write, and those that they read with their dead letters."""
    read = [subscriber.topic for topology in topologies for subscriber in topology.subscribers]
    written = [publisher.topic for topology in topologies for publisher in topology.publishers]
    return list(dict.fromkeys([*read, *(topic.dlq for topic in read), *written]))


async def config_of(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    """The settings of a topic, as a broker shows them."""
    [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {entry[0]: entry[1] for entry in answer.resources[0][4]}


class OwnTopics:
    """Creates topics under one prefix and deletes all that came to be under it.

    Partitions are few, whatever a topic declares: a test wants one order, or two to show that orders are independent.
    """

    def __init__(self, admin: AIOKafkaAdminClient, prefix: str) -> None:
        self._admin = admin
        self.prefix = prefix

    async def create(self, topics: Iterable[Topic] = EVERY_TOPIC, *, partitions: int = 1) -> None:
        """Create ``topics``, by default every declared one and its dead letters, and wait until the broker has them."""
        new = [
            NewTopic(
                f"{self.prefix}{topic.name}",
                partitions,
                1,
                topic_configs={"max.message.bytes": str(topic.max_record_bytes)},
            )
            for topic in topics
        ]
        answer = await self._admin.create_topics(new)
        for name, code, message in answer.topic_errors:
            if code:
                raise for_code(code)(f"{name}: {message}")
        names = {topic.name for topic in new}
        await self._until(lambda present: names <= present)

    async def delete(self) -> None:
        """Have everything under the prefix deleted. The broker may still be at it on return: prefixes never return."""
        if mine := [name for name in await self._admin.list_topics() if name.startswith(self.prefix)]:
            await self._admin.delete_topics(mine)

    async def lose(self, topic: Topic, partition: int = 0) -> None:
        """What lies in this partition is gone, as when its retention has passed."""
        place = TopicPartition(f"{self.prefix}{topic.name}", partition)
        await self._admin.delete_records({place: RecordsToDelete(before_offset=_THE_END)})

    async def limit(self, topic: Topic, size: int = 0) -> None:
        """Let the brokers take at most ``size`` bytes at once for this topic; without it as many as are declared.

        A broker shows a change before it heeds it, and makes one after the other: where the second is shown, the first
        holds.
        """
        name = f"{self.prefix}{topic.name}"
        for more in ({}, {"file.delete.delay.ms": "61000"}):
            wanted = {"max.message.bytes": str(size or topic.max_record_bytes), **more}
            await self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=wanted)])
            while not wanted.items() <= (await config_of(self._admin, name)).items():  # noqa: ASYNC110 - see _until
                await asyncio.sleep(0.01)

    async def _until(self, wanted: Callable[[set[str]], bool]) -> None:
        """The broker's own view of what exists follows its controller's by some milliseconds."""
        while not wanted(set(await self._admin.list_topics())):  # noqa: ASYNC110 - the broker can only be polled
            await asyncio.sleep(0.01)


async def commit_from_the_start(bootstrap: str, group: str, places: list[TopicPartition]) -> None:
    """Set a group that has no members back to offset 0."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(places)
        await consumer.commit(dict.fromkeys(places, 0))
    finally:
        await consumer.stop()
