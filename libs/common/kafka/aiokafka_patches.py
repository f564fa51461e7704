"""Every private name of aiokafka that is used, and every name of it that is replaced.

Reasons, figures and the tests that notice a change: docs/decisions/0008.

- ``install``: consumers read batches with stray header keys, inflate within a bound, and raise FencedError
- ``positions_of``: where reading stands, without waiting
- ``fetched_of`` and ``free``: what was fetched of a partition and is not read yet, freed at once
- ``hang_up``: close a consumer's connections
- ``fail_batches``: give up what a producer cannot deliver
- ``enqueue``: hand records to a producer at a quarter of the cost of its ``send``
"""

import asyncio
import random
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.consumer import consumer, fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import CorruptRecordException, KafkaError, ProducerClosed
from aiokafka.partitioner import murmur2
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from libs.common.kafka.inflate import BrokenError, TooLargeError, inflate
from libs.common.kafka.records import Headers, Skipped


class FencedError(KafkaError):  # type: ignore[misc] # aiokafka has no types
    """Another process has joined the group under our instance name."""


def install() -> None:
    """Let every consumer of this process read and join as described here. May be called again."""
    fetcher.MemoryRecords = _KeepingRecords
    fetcher.PartitionRecords = _TolerantPartitionRecords
    consumer.GroupCoordinator = _FencedCoordinator


def positions_of(reader: AIOKafkaConsumer) -> dict[TopicPartition, int]:
    """The next offset of each assigned partition that has one.

    The public ``position`` waits where there is none yet.
    """
    subscription = reader._subscription.subscription
    assignment = subscription.assignment if subscription else None
    if assignment is None:
        return {}
    states = {partition: assignment.state_value(partition) for partition in assignment.tps}
    return {partition: state.position for partition, state in states.items() if state.has_valid_position}


def fetched_of(reader: AIOKafkaConsumer, partition: TopicPartition) -> Any:
    """What was fetched of a partition and is not read yet, or None."""
    waiting = reader._fetcher
    return None if waiting is None else getattr(waiting._records.get(partition), "_partition_records", None)


def free(fetched: Any) -> None:
    """Break the cycle of what ``fetched_of`` returned. It must not be read any more.

    Its iterator holds it until the last record is read, and the process collects cycles rarely.
    """
    if fetched is not None:
        fetched._records_iterator = None


async def hang_up(reader: AIOKafkaConsumer) -> None:
    """Close its connections.

    Requests under way fail at once; without this a stop waits for their answers, up to 40 s.
    """
    await reader._client.close()


def fail_batches(producer: AIOKafkaProducer, reason: str) -> None:
    """Fail all batches that are not acknowledged, and send none of those that wait.

    An idempotent producer retries for ever, and its stop waits for that.
    """
    accumulator = producer._message_accumulator
    accumulator.fail_all(KafkaError(reason))
    for batch in [batch for batches in accumulator._batches.values() for batch in batches]:
        batch._drain_waiter.exception()  # asyncio logs an exception that nothing reads
    accumulator._batches.clear()


# -- What a batch holds must not break a consumer.
#
# aiokafka decodes header keys while it unpacks a batch. A key that is not UTF-8 raises out of ``getmany``, and the
# partition never gets past it. ``_TolerantPartitionRecords`` unpacks such a batch once more, with stray bytes as lone
# surrogates.
#
# aiokafka inflates a compressed batch whatever its size. Here at most ``inflate.LIMIT`` bytes are made of one. A batch
# beyond the limit, or one that its codec did not write, is skipped: one record whose value is ``Skipped`` takes its
# place.

_LENGTH = struct.Struct(">qi")  # base offset, then how many bytes of the batch follow
_MAGIC_AT, _ATTRIBUTES_AT, _RECORDS_AT = 16, 21, 61  # of a batch in the format since Kafka 0.11
_MODERN = 2  # brokers of today take no other
_CODEC = 0x07


class _KeepingRecords:
    """aiokafka's ``MemoryRecords`` that also keeps the bytes of the batch it gave last."""

    def __init__(self, fetched: bytes) -> None:
        self._fetched = fetched
        self._inner = MemoryRecords(fetched)
        self._begin = self._end = 0

    def has_next(self) -> bool:
        return bool(self._inner.has_next())

    def size_in_bytes(self) -> int:
        return int(self._inner.size_in_bytes())

    def next_batch(self) -> Any:
        batch = self._inner.next_batch()
        self._begin = self._end
        self._end += _LENGTH.size + _LENGTH.unpack_from(self._fetched, self._begin)[1]
        modern = self._fetched[self._begin + _MAGIC_AT] >= _MODERN
        compressed = modern and self._fetched[self._begin + _ATTRIBUTES_AT + 1] & _CODEC
        return _BoundedBatch(batch, self.last_batch_bytes()) if compressed else batch

    def last_batch_bytes(self) -> bytes:
        return self._fetched[self._begin : self._end]


class _BoundedBatch:
    """A compressed batch of aiokafka that is inflated within the limit."""

    def __init__(self, batch: Any, batch_bytes: bytes) -> None:
        self._batch = batch
        self._bytes = batch_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        header = bytearray(self._bytes[:_RECORDS_AT])
        codec = header[_ATTRIBUTES_AT + 1] & _CODEC
        try:
            records = inflate(codec, self._bytes[_RECORDS_AT:])
        except TooLargeError:
            yield self._placeholder("batch_too_large")
        except BrokenError:
            yield self._placeholder("batch_unreadable")
        else:
            header[_ATTRIBUTES_AT + 1] &= ~_CODEC
            yield from DefaultRecordBatch(bytes(header) + records)

    def _placeholder(self, reason: str) -> "_Placeholder":
        last = self._batch.next_offset - 1
        return _Placeholder(last, self._batch.max_timestamp, Skipped.of(reason, self._batch.base_offset, last))


@dataclass(frozen=True, slots=True)
class _Placeholder:
    """A record of aiokafka's that stands for a whole batch, at its last offset."""

    offset: int
    timestamp: int
    value: Skipped
    timestamp_type: int = 0
    key: None = None
    checksum: None = None
    headers: tuple[()] = ()


class _TolerantBytes(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return _TolerantBytes(part) if isinstance(place, slice) else part

    def decode(self, encoding: str = "utf-8", _errors: str = "strict") -> str:
        return super().decode(encoding, "surrogateescape")


class _TolerantPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc] # aiokafka has no types here
    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        while True:
            try:
                yield from super()._unpack_records()
            except (UnicodeDecodeError, CorruptRecordException) as error:
                if not _is_about_text(error):
                    raise
                yield from self._unpack_tolerantly(self._records.last_batch_bytes())
            else:
                return

    def _unpack_tolerantly(self, batch_bytes: bytes) -> Iterator[Any]:
        batch = _DefaultRecordBatchPy(batch_bytes)
        batch._maybe_uncompress()
        batch._buffer = _TolerantBytes(batch._buffer)
        for record in batch:
            if record.offset >= self.next_fetch_offset:
                consumer_record = self._consumer_record(self._tp, record)
                self.next_fetch_offset = record.offset + 1
                yield consumer_record
        self.next_fetch_offset = batch.next_offset


def _is_about_text(error: Exception) -> bool:
    return isinstance(error, UnicodeDecodeError) or isinstance(error.__cause__, UnicodeDecodeError)


# -- Of two processes with one instance name the older one ends.
#
# aiokafka 0.14 joins with its ``group_instance_id`` but sends it with no heartbeat and no commit. So the brokers cannot
# say that another process has joined under the name; they say that they do not know the member. aiokafka then joins
# anew and takes the place back, and the two processes take it from each other for ever.

_UNIQUE = 37  # characters that the brokers put behind the name: a dash and a UUID


class _FencedCoordinator(GroupCoordinator):  # type: ignore[misc] # aiokafka has no types
    """aiokafka's coordinator, which asks who has the place before it joins anew.

    Raises FencedError when another process has it.
    """

    _placed = False
    member_id: str

    async def ensure_active_group(self, subscription: Any, prev_assignment: Any) -> Any:
        if self._group_instance_id is None:
            return await super().ensure_active_group(subscription, prev_assignment)
        if self._placed and self.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID:
            await self._require_place()
        try:
            assignment = await super().ensure_active_group(subscription, prev_assignment)
        except KafkaError:
            await self._require_place()
            raise
        self._placed = self._placed or assignment is not None
        return assignment

    async def _require_place(self) -> None:
        answer = await self._send_req(DescribeGroupsRequest([self.group_id]))
        members: list[str] = [member[0] for member in answer.groups[0][5]]
        for member in members:
            if member[:-_UNIQUE] == self._group_instance_id and member != self.member_id:
                raise FencedError(self.group_id)


# -- Records into aiokafka's accumulator, in their order.
#
# ``send`` waits for metadata, lists the topic's partitions, measures the record and makes a future, record by record.
# Here a topic is looked up once per publish, and a batch has one future, aiokafka's own: resolved when the brokers
# acknowledged it, failed when they refused it. Several publishes share a batch as they do with ``send``. Sequence
# numbers, retries and the order of batches stay aiokafka's.

_NO_HEADERS: list[tuple[str, bytes | None]] = []

Sendable = tuple[str, bytes | None, bytes | None, Headers]
"""Topic on the broker, key, value, headers."""


async def enqueue(
    inner: AIOKafkaProducer,
    records: Iterable[Sendable],
    batches: "dict[asyncio.Future[Any], Any]",
    answered: "Callable[[Any, asyncio.Future[Any]], None]",
    size_of: "Callable[[str], int | None]",
) -> None:
    """Hand over every record. ``answered`` is called with a batch and its future as soon as it is done.

    A batch that has reached the size of its topic in bytes (``size_of``), where there is one, takes no further record.

    ``batches`` gets the futures to await and their batches, in order, also of the records before a failure.

    It waits where a partition's batch is full, without a time limit of its own. Raises KafkaError.
    """
    accumulator = inner._message_accumulator
    known: dict[str, tuple[list[TopicPartition], int | None]] = {}
    _check(accumulator)
    for topic, key, value, headers in records:
        if topic not in known:
            known[topic] = _places(topic, len(await inner.partitions_for(topic))), size_of(topic)
            _check(accumulator)
        every, size = known[topic]
        place = partition(key, every, _with_leader(inner, topic) if key is None else ())
        while True:
            pending = accumulator._batches.get(place)
            batch = pending[-1] if pending else accumulator._append_batch(accumulator.create_builder(), place)
            builder = batch._builder
            given = list(headers) if headers else _NO_HEADERS
            if builder.append(timestamp=None, key=key, value=value, headers=given) is not None:
                if batch.future not in batches:
                    batches[batch.future] = batch
                    batch.future.add_done_callback(partial(answered, batch))
                if size is not None and builder.size() >= size:
                    builder.close()
                break
            if not accumulator.waiter().done():  # full: wake the sender, and wait until it has taken the batch
                accumulator.waiter().set_result(None)
            await batch.wait_drain()
            _check(accumulator)


def partition(key: bytes | None, every: "Sequence[Any]", available: "Sequence[Any]") -> Any:
    """The partition of a record, as every Kafka client chooses it: by the hash of its key, at random without a key."""
    return random.choice(available or every) if key is None else every[_hash(key) % len(every)]  # noqa: S311


@lru_cache(maxsize=16_384)
def _hash(key: bytes) -> int:
    """Kafka's own hash. It takes 7 µs in Python for a conversation's id, and a conversation comes more than once."""
    return int(murmur2(key)) & 0x7FFFFFFF


@lru_cache(maxsize=256)
def _places(topic: str, count: int) -> list[TopicPartition]:
    """A topic's partitions in their order; a broker numbers them from 0 without a gap."""
    return [TopicPartition(topic, number) for number in range(count)]


def _with_leader(inner: AIOKafkaProducer, topic: str) -> list[TopicPartition]:
    available = inner.client.cluster.available_partitions_for_topic(topic) or ()
    return [TopicPartition(topic, number) for number in available]


def _check(accumulator: Any) -> None:
    if accumulator._closed:
        raise ProducerClosed
    if accumulator._exception is not None:
        raise accumulator._exception
