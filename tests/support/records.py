"""Builders of Kafka records, valid by default."""

from libs.common.kafka.records import Headers, RawRecord


def a_record(
    value: bytes | None = b"{}",
    *,
    key: bytes | None = b"k",
    topic: str = "webhooks.v1",
    partition: int = 0,
    offset: int = 0,
    timestamp_ms: int = 0,
    headers: Headers = (),
) -> RawRecord:
    return RawRecord(topic, partition, offset, timestamp_ms, key, value, headers)
