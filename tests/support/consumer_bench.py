"""A bench for the batch consumer's tests: topics of one test, records in, what was handled, dead letters out."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from libs.common.clock import utc_now
from libs.common.errors import Unreadable
from libs.common.events.topics import WEBHOOKS, Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Handle, RawRecord, Received, Reject
from libs.common.kafka.topology import Subscription

GROUP = "bench"
PATIENCE_SECONDS = 60.0


def text(record: RawRecord) -> str:
    """The value as text. Raises Unreadable when it is not."""
    try:
        return (record.value or b"").decode()
    except UnicodeDecodeError:
        raise Unreadable("not_utf8", "the value is not UTF-8") from None


@dataclass
class Handled:
    """A handler that remembers, and before that does what ``fault`` does to the batch's values."""

    fault: Callable[[list[str]], Any] = lambda _: None
    records: list[RawRecord] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    async def __call__(self, batch: Sequence[Received[str]]) -> Sequence[Reject] | None:
        self.batches.append(len(batch))
        answer = self.fault([received.value for received in batch])
        if asyncio.iscoroutine(answer):
            answer = await answer
        self.records += [received.record for received in batch]
        return answer if isinstance(answer, list) else None

    def values(self, partition: int | None = None) -> list[str]:
        return [text(record) for record in self.records if partition in (None, record.partition)]


@dataclass
class Bench:
    """Everything stands on the test's own prefix."""

    connection: KafkaConnection
    producer: Producer
    raw: AIOKafkaProducer
    topic: Topic = WEBHOOKS

    async def put(
        self,
        *values: bytes | str,
        partition: int = 0,
        key: bytes | None = b"k",
        headers: Sequence[tuple[str, bytes]] = (),
        clock_ahead: float = 0.0,
    ) -> None:
        """Put records, by a producer whose clock is so many seconds ahead."""
        name = self.connection.name(self.topic.name)
        sent = [
            await self.raw.send(
                name,
                value=value.encode() if isinstance(value, str) else value,
                key=key,
                partition=partition,
                headers=list(headers),
                timestamp_ms=round((utc_now().timestamp() + clock_ahead) * 1000),
            )
            for value in values
        ]
        await asyncio.gather(*sent)

    def consumer(self, handle: Handle[str], **options: Any) -> BatchConsumer:
        constants = {"SESSION_SECONDS": 20.0, "FETCH_SECONDS": 0.1} | {
            name: options.pop(name) for name in list(options) if name.isupper()
        }
        kind: type[BatchConsumer] = type("QuickConsumer", (BatchConsumer,), constants)
        return kind(
            self.connection,
            group=GROUP,
            service="test",
            subscriptions=[
                Subscription(
                    self.topic,
                    options.pop("decode", text),
                    handle,
                    options.pop("max_records", 500),
                    options.pop("side_by_side", 1),
                    options.pop("hurried", True),
                )
            ],
            producer=self.producer,
            now=utc_now,
            **options,
        )

    async def committed(self, *partitions: int) -> list[int]:
        """Each partition's committed offset; 0 when there is none."""
        name = self.connection.name(self.topic.name)
        async with AIOKafkaConsumer(
            **self.connection.client_options(),
            group_id=self.connection.name(f"{GROUP}.{self.topic.name}"),
            enable_auto_commit=False,
        ) as consumer:
            asked = [TopicPartition(name, partition) for partition in partitions]
            consumer.assign(asked)
            return [await consumer.committed(each) or 0 for each in asked]

    async def dead(self, count: int) -> list[Any]:
        """The first ``count`` dead letters, in the order of their source, and no more than lie there."""
        letters: list[Any] = []
        async with AIOKafkaConsumer(
            self.connection.name(self.topic.dlq.name), **self.connection.client_options(), auto_offset_reset="earliest"
        ) as consumer:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while len(letters) < count:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        letters += records
            for records in (await consumer.getmany(timeout_ms=300)).values():
                letters += records
        return sorted(
            letters, key=lambda letter: (header_of(letter, "source_partition"), int(header_of(letter, "source_offset")))
        )


def header_of(letter: Any, header: str) -> str:
    """A header of a dead letter."""
    return str(dict(letter.headers)[header].decode())


def numbered(count: int, name: str = "v") -> list[str]:
    """So many values, each with its number."""
    return [f"{name}{number}" for number in range(count)]
