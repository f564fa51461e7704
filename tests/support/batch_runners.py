"""A batch runner without brokers, and batches as aiokafka hands them over."""

from typing import Any

import asyncpg
from aiokafka import ConsumerRecord

from libs.common.clock import utc_now
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.batch_runner import BatchRunner
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.partitions import Partitions
from libs.common.kafka.producer import Producer
from libs.common.kafka.topology import Subscription
from tests.support.consumer_bench import Handled, text


def a_lane(handled: Handled, consumer: Any = None, **options: Any) -> BatchRunner[str]:
    partitions = Partitions(WEBHOOKS.name, WEBHOOKS.name, utc_now, 100, lambda: consumer)
    producer = Producer(KafkaConnection("127.0.0.1:1"))
    return BatchRunner(Subscription(WEBHOOKS, text, handled, **options), partitions, producer, "test", utc_now)


def a_batch(
    partition: int = 0, *, offset: int = 7, key: bytes = b"k", value: bytes = b"v"
) -> "list[ConsumerRecord[bytes, bytes]]":
    return [ConsumerRecord(WEBHOOKS.name, partition, offset, 0, 0, key, value, None, 1, 1, ())]


def slow_where_one_is_slow(batch: list[str]) -> None:
    if "slow" in batch:
        raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
