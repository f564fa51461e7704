"""Records that no client library would write: a header key that is not UTF-8."""

import struct

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

_PLACEHOLDER, STRAY_KEY = "stray-key", b"stray\xffkey"
_CRC = struct.Struct(">I")
_CRC_AT, _CHECKED_FROM = 17, 21  # in a record batch of format 2: the checksum, and from where on it is taken


async def send_stray_header(
    producer: AIOKafkaProducer, topic: str, partition: int, *, key: bytes, values: list[bytes], stray: int
) -> None:
    """One batch of ``values``, of which number ``stray`` has a header whose key is ``STRAY_KEY``. The producer must not be idempotent."""
    batch = producer.create_batch()
    for number, value in enumerate(values):
        headers = [(_PLACEHOLDER, b"v")] if number == stray else []
        batch.append(key=key, value=value, timestamp=None, headers=headers)
    batch.close()
    written = bytearray(batch._build())
    at = written.index(_PLACEHOLDER.encode())
    written[at : at + len(STRAY_KEY)] = STRAY_KEY
    _CRC.pack_into(written, _CRC_AT, calc_crc32c(bytes(written[_CHECKED_FROM:])))
    batch._buffer = bytes(written)
    await (await producer.send_batch(batch, topic, partition=partition))
