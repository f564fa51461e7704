"""Who reads a topic: the services, of which it is known how far they have come, and systems outside.

A replay publishes a batch, and the next one once the services have handled it. So at most one batch of a replay waits
in a topic at any time. Live records stand between the batches, and a service that is slow slows the replay down. Only
the partitions that a batch went to are waited for: one that stands still elsewhere ends no replay.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.errors import ConfigurationError, Transient
from libs.common.events.access import PRINCIPALS
from libs.common.events.topics import INBOX_NOTICES, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.groups import committed, members
from libs.common.kafka.partition_growth import own_groups

_ASK_EVERY = 0.05
STALL_SECONDS = 60.0
_OPERATOR = "operator"


def outside_of(topic: Topic) -> list[str]:
    """The kinds of systems outside Transom that read a topic: they get its records once more."""
    readers = [p.name for p in PRINCIPALS if not p.is_service and p.name != _OPERATOR and topic in p.reads]
    return [*readers, "whoever tells people"] if topic == INBOX_NOTICES else readers


@dataclass(slots=True)
class Readers:
    """The services that read a topic and run now. ``absent`` run nowhere, and read when they are started."""

    admin: AIOKafkaAdminClient
    groups: Mapping[str, str]
    """By consumer group: the service."""
    absent: tuple[str, ...]

    @classmethod
    async def of(cls, connection: KafkaConnection, admin: AIOKafkaAdminClient, topic: Topic) -> "Readers":
        """Raises ConfigurationError where a topic that services read is read by none of them now."""
        name = connection.name(topic.name)
        own = {group: service for group, (service, read) in own_groups(connection).items() if read == name}
        running = {group: service for group, service in own.items() if await members(admin, group)}
        if own and not running:
            raise ConfigurationError(
                f"nobody reads {name}: start `transom run {' or '.join(sorted(set(own.values())))}`, then repeat"
            )
        return cls(admin, running, tuple(sorted({own[group] for group in own if group not in running})))

    async def handled(self, ends: Mapping[TopicPartition, int]) -> None:
        """Return once every service has handled everything before ``ends``.

        Raises Transient where one of them makes no progress for ``STALL_SECONDS``.
        """
        clock = asyncio.get_running_loop().time
        for group, service in self.groups.items():
            since, seen = clock(), -1
            while behind := await self._behind(group, ends):
                if (left := sum(behind.values())) != seen:
                    since, seen = clock(), left
                elif clock() - since > STALL_SECONDS:
                    place = max(behind, key=lambda one: behind[one])
                    raise Transient(
                        f"{service} makes no progress on {place.topic}, partition {place.partition}: what was published"
                        " is read when it does; repeat the command then, which is safe"
                    )
                await asyncio.sleep(_ASK_EVERY)

    async def _behind(self, group: str, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """By partition, how many records the group has not handled."""
        done = await committed(self.admin, group, ends)
        lags = {place: end - done.get(place, 0) for place, end in ends.items()}
        return {place: lag for place, lag in lags.items() if lag > 0}
