"""More partitions for topics, without a conversation losing its order.

The partition of a key depends on the number of partitions. After partitions were added, later records of a conversation
may be in another partition than earlier ones. A reader that is behind on the earlier partition would read them first.

Rule 1: partitions are added while no record waits and none is written: every group has read the topic to its end, and
        the ends do not move.
Rule 2: none of Transom's own services may be in its group then. Each of them also writes, and for minutes it uses the
        number of partitions that it knows.
Rule 3: a topic never gets fewer partitions. Each topic is a step of its own, so an interrupted run is run again and
        does the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import InvalidPartitionsError, KafkaError

from libs.common.errors import ConfigurationError
from libs.common.events.access import PRINCIPALS
from libs.common.events.topics import TOPICS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.groups import committed, members
from libs.common.kafka.topics import SETTLE_SECONDS, administered, partitions_of

_AT_ONCE = 50
_FEW = 100
_READ_MS = 500


@dataclass(frozen=True, slots=True)
class GroupLag:
    """A group is behind on a topic; names are those on the broker.

    ``service`` is whose group it is, None for an outsider's.
    """

    topic: str
    group: str
    records: int
    service: str | None


@dataclass(frozen=True, slots=True)
class TopicsState:
    """The ends of the partitions, the groups that are behind, and the services of ours that are in their groups."""

    ends: Mapping[TopicPartition, int]
    unread: tuple[GroupLag, ...]
    running: tuple[str, ...]


def own_groups(connection: KafkaConnection) -> dict[str, tuple[str, str]]:
    """By consumer group of Transom's own: (service, topic on the broker)."""
    return {
        connection.name(f"{one.group or one.name}.{topic.name}"): (one.group or one.name, connection.name(topic.name))
        for one in PRINCIPALS
        if one.is_service
        for topic in one.reads
    }


class PartitionAdmin:
    """Reads the state of topics and groups, and adds partitions; see ``at``."""

    def __init__(self, connection: KafkaConnection, admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer) -> None:
        self._connection = connection
        self._admin = admin
        self._reader = reader

    @classmethod
    @asynccontextmanager
    async def at(cls, connection: KafkaConnection) -> AsyncIterator["PartitionAdmin"]:
        """Connected; raises ConfigurationError where the brokers cannot be reached or refuse."""
        async with administered(connection) as admin:
            reader = AIOKafkaConsumer(
                **connection.client_options(), enable_auto_commit=False, isolation_level="read_committed"
            )
            try:
                await reader.start()
                yield cls(connection, admin, reader)
            finally:
                await reader.stop()

    async def fewer_than(self, partitions: int) -> dict[str, int]:
        """The declared topics that exist with fewer, and how many they have. Dead letters need no order."""
        found = await partitions_of(self._admin, [self._connection.name(topic.name) for topic in TOPICS])
        return {name: count for name, count in found.items() if count < partitions}

    async def state(self, topics: Mapping[str, int], *, ignored: Collection[str] = ()) -> TopicsState:
        """How these topics (with their numbers of partitions) stand. ``ignored``: groups that do not count."""
        places = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
        begins: dict[TopicPartition, int] = await self._reader.beginning_offsets(places)
        ends: dict[TopicPartition, int] = await self._reader.end_offsets(places)
        own = own_groups(self._connection)
        groups = sorted({name for name, _protocol in await self._admin.list_consumer_groups()} | own.keys())
        unread: list[GroupLag] = []
        for some in _slices([group for group in groups if group not in ignored]):
            for group, offsets in zip(
                some, await asyncio.gather(*(committed(self._admin, group) for group in some)), strict=True
            ):
                unread += await self._behind(group, offsets, begins, ends)
        return TopicsState(ends, tuple(unread), await self._running(own))

    async def add(self, topic: str, partitions: int) -> None:
        """Give this topic so many partitions, and wait until all have leaders.

        Raises ConfigurationError when the brokers refuse.
        """
        try:
            with suppress(InvalidPartitionsError):  # it has them since an earlier run, which did not see their leaders
                await self._admin.create_partitions({topic: NewPartitions(partitions)})
            async with asyncio.timeout(SETTLE_SECONDS):
                while (await partitions_of(self._admin, [topic])).get(topic, 0) < partitions:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except KafkaError as error:
            raise ConfigurationError(f"Kafka refuses more partitions for {topic}: {type(error).__name__}") from error
        except TimeoutError as error:
            raise ConfigurationError(f"new partitions of {topic} have no leaders yet: run the command again") from error

    async def written_since(self, state: TopicsState) -> dict[str, int]:
        """By topic, how many records were written to its partitions since that state."""
        ends: dict[TopicPartition, int] = await self._reader.end_offsets(list(state.ends))
        written: dict[str, int] = {}
        for place, end in ends.items():
            if end > state.ends[place]:
                written[place.topic] = written.get(place.topic, 0) + end - state.ends[place]
        return written

    async def _running(self, own: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
        """The services with members in their groups."""
        running = {service for group, (service, _topic) in sorted(own.items()) if await members(self._admin, group)}
        return tuple(sorted(running))

    async def _behind(
        self,
        group: str,
        offsets: Mapping[TopicPartition, int],
        begins: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> list[GroupLag]:
        """Where this group is behind: on topics that it has read. A group of ours has its own topic in any case."""
        service, reads = own_groups(self._connection).get(group, (None, None))
        names = {place.topic for place in offsets} | ({reads} if reads else set())
        left: dict[str, int] = {}
        for place in (place for place in ends if place.topic in names):
            at = max(offsets.get(place, 0), begins[place])
            if at < ends[place] and not await self._only_marks(place, at, ends[place]):
                left[place.topic] = left.get(place.topic, 0) + ends[place] - at
        return [GroupLag(topic, group, records, service) for topic, records in sorted(left.items())]

    async def _only_marks(self, place: TopicPartition, at: int, end: int) -> bool:
        """Whether no record is left: transactions leave markers behind the last one, and no group commits them."""
        if end - at > _FEW:
            return False
        self._reader.assign([place])
        try:
            self._reader.seek(place, at)
            if await self._reader.getmany(place, timeout_ms=_READ_MS, max_records=1):
                return False
            return bool(await self._reader.position(place) >= end)
        except KafkaError:  # a principal that may not read there cannot know
            return False


def _slices(groups: Sequence[str]) -> Iterable[Sequence[str]]:
    return (groups[at : at + _AT_ONCE] for at in range(0, len(groups), _AT_ONCE))
