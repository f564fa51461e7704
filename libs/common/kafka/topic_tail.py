"""Follow topics without a consumer group: every tail gets every record, and nothing is committed.

Rule 1: a tail begins at the end of each partition, as it is when the tail opens, or at offsets that the caller names.
Rule 2: every record after that comes once, in the order of its partition. aiokafka forgets its positions when
        partitions are added, so the positions are kept here.
Rule 3: a partition that is added later is read from its beginning.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from types import TracebackType
from typing import Generic, Self, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from libs.common.events.topics import Topic
from libs.common.kafka import aiokafka_patches
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.records import RawRecord

T = TypeVar("T")
_POLL_MS = 1_000
_FETCH_WAIT_MS = 500  # a fetch is answered by the first record that comes; other questions wait behind it
_METADATA_AGE_MS = 2_000  # added partitions are seen after this time at most


class TopicTail(Generic[T]):
    """The records of ``topics``, decoded; an async context manager and an async iterator.

    ``decode`` leaves a record out by returning None; what it raises ends the iteration. ``offsets`` says where to
    begin, by declared topic name and partition; a partition that it does not name is read from its beginning. Without
    ``offsets`` the tail begins at the end. A second iteration goes on after the last record that was decoded. An
    iteration ends where ``is_over`` says so between two fetches.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        topics: Collection[Topic],
        decode: Callable[[RawRecord], T | None],
        *,
        offsets: Mapping[tuple[str, int], int] | None = None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        aiokafka_patches.install()
        self._decode = decode
        self._offsets = offsets
        self._is_over = is_over
        self._bare = {connection.name(topic.name): topic.name for topic in topics}
        self._next: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(
            *self._bare,
            **connection.client_options(),
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            metadata_max_age_ms=_METADATA_AGE_MS,
        )

    async def __aenter__(self) -> Self:
        """Return once the offsets are known: no record that is published afterwards is missed."""
        try:
            await self._consumer.start()
            if self._offsets is None:
                self._next = await self._consumer.end_offsets(list(self._consumer.assignment()))
            else:
                full = {bare: name for name, bare in self._bare.items()}
                self._next = {TopicPartition(full[bare], n): at for (bare, n), at in self._offsets.items()}
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def __aiter__(self) -> AsyncIterator[T]:
        placed: frozenset[TopicPartition] = frozenset()
        while True:
            if placed != (assigned := self._consumer.assignment()):
                placed = assigned
                for place in placed:
                    self._consumer.seek(place, self._next.get(place, 0))  # or the oldest record that is left
            fetched = await self._consumer.getmany(timeout_ms=_POLL_MS)
            for place, records in fetched.items():
                for record in records:
                    if record.offset < self._next.get(place, 0):
                        continue  # fetched before the positions were set again
                    self._next[place] = record.offset + 1
                    if (value := self._decode(self._raw(record))) is not None:
                        yield value
            if self._is_over():  # also where records come all the time, which nobody wants
                return

    def _raw(self, record: "ConsumerRecord[bytes, bytes]") -> RawRecord:
        return RawRecord(
            self._bare[record.topic],
            record.partition,
            record.offset,
            record.timestamp,
            record.key,
            record.value,
            record.headers,
        )
