"""What one record or batch holds must not break a consumer: header keys that are not UTF-8, and more than a process can hold.

aiokafka decodes header keys while it unpacks what it fetched. One key that is not UTF-8 raises out of ``getmany``: the partition never gets
past it, and records of other partitions that the same call had already taken are skipped. Therefore

1. ``allow_stray_header_keys`` teaches aiokafka's fetcher to read such a batch of records again, with stray bytes as lone surrogates;
2. a compressed batch is inflated within a bound (``inflate``). One beyond it, or that is not what its codec writes, is skipped: in its place comes
   one record whose value is ``Skipped``;
3. ``SteadyConsumer.getmany`` sets every partition back when it raises, whatever the reason (a checksum, for instance): nothing is skipped,
   and it remembers for how long it has come to that.
"""

import asyncio
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from libs.common.kafka.inflate import BrokenError, TooLargeError, inflate
from libs.common.kafka.membership import FencedError
from libs.common.kafka.partitions import InFlight
from libs.common.kafka.skipped import Skipped
from libs.common.kafka.spells import Spell

_LENGTH = struct.Struct(">qi")  # base offset, then how many bytes of the batch follow
_MAGIC_AT, _ATTRIBUTES_AT, _RECORDS_AT = 16, 21, 61  # of a batch in the format since Kafka 0.11
_MODERN = 2  # brokers of today take no other
_CODEC = 0x07


class _KeepingRecords:
    """aiokafka's ``MemoryRecords``, which besides remembers the bytes of the batch it gave last."""

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
    """A compressed batch as aiokafka has it, but for the way its records are inflated."""

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
            yield self._instead("batch_too_large")
        except BrokenError:
            yield self._instead("batch_unreadable")
        else:
            header[_ATTRIBUTES_AT + 1] &= ~_CODEC
            yield from DefaultRecordBatch(bytes(header) + records)

    def _instead(self, reason: str) -> "_Placeholder":
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


class _LenientBytes(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return _LenientBytes(part) if isinstance(place, slice) else part

    def decode(self, encoding: str = "utf-8", _errors: str = "strict") -> str:
        return super().decode(encoding, "surrogateescape")


class _LenientPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc] # aiokafka has no types here
    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        while True:
            try:
                yield from super()._unpack_records()
            except (UnicodeDecodeError, CorruptRecordException) as error:
                if not _is_about_text(error):
                    raise
                yield from self._unpack_leniently(self._records.last_batch_bytes())
            else:
                return

    def _unpack_leniently(self, batch_bytes: bytes) -> Iterator[Any]:
        batch = _DefaultRecordBatchPy(batch_bytes)
        batch._maybe_uncompress()  # noqa: SLF001 -- the fallback reader has no other entrance
        batch._buffer = _LenientBytes(batch._buffer)  # noqa: SLF001 -- as above
        for record in batch:
            if record.offset >= self.next_fetch_offset:
                consumer_record = self._consumer_record(self._tp, record)
                self.next_fetch_offset = record.offset + 1
                yield consumer_record
        self.next_fetch_offset = batch.next_offset


def _is_about_text(error: Exception) -> bool:
    return isinstance(error, UnicodeDecodeError) or isinstance(error.__cause__, UnicodeDecodeError)


def allow_stray_header_keys() -> None:
    """Let every consumer of this process read records whose header keys are not UTF-8. May be called again."""
    fetcher.MemoryRecords = _KeepingRecords
    fetcher.PartitionRecords = _LenientPartitionRecords


class SteadyConsumer(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka has no types
    """A consumer that skips nothing when ``getmany`` raises, and reads nothing of a partition that is ``in_flight``."""

    in_flight: InFlight | None = None

    def __init__(self, *topics: str, fail: Callable[[BaseException], None] = lambda _: None, **options: Any) -> None:
        """``fail`` is told that another process has taken the place in the group."""
        super().__init__(*topics, **options)
        self._fail = fail
        self.failing = Spell()

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        while self.in_flight is not None and self.in_flight.partitions:
            free = [each for each in self.assignment() if each.partition not in self.in_flight.partitions]
            found = await self._getmany(*free, timeout_ms=0, max_records=max_records) if free else {}
            if found:
                return found
            await self.in_flight.change(timeout_ms / 1000)
        return await self._getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)

    async def _getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int | None
    ) -> "dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]":
        before = self._positions()
        try:
            found: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = await super().getmany(
                *partitions, timeout_ms=timeout_ms, max_records=max_records
            )
        except Exception as error:
            if isinstance(error, FencedError):
                self._fail(error)
            self.failing.happened(asyncio.get_running_loop().time(), type(error).__name__)
            ours = self.assignment()
            for partition, position in before.items():
                if partition in ours:
                    self.seek(partition, position)
            raise
        return found

    def _positions(self) -> dict[TopicPartition, int]:
        subscription = self._subscription.subscription
        assignment = subscription.assignment if subscription else None
        if assignment is None:
            return {}
        states = {partition: assignment.state_value(partition) for partition in assignment.tps}
        return {partition: state.position for partition, state in states.items() if state.has_valid_position}
