"""Records that no client library would write: a header key that is not UTF-8."""

import gzip
import struct

from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

_PLACEHOLDER, STRAY_KEY = "stray-key", b"stray\xffkey"
_CRC = struct.Struct(">I")
# A record batch of format 2: its length (counted from behind itself), its checksum and from where on that is taken,
# codec, records.
_LENGTH_AT, _CRC_AT, _CHECKED_FROM, _CODEC_AT, _RECORDS_AT = 8, 17, 21, 22, 61
_GZIP = 1


async def send_stray_header(
    producer: AIOKafkaProducer,
    topic: str,
    partition: int,
    *,
    key: bytes,
    values: list[bytes],
    stray: int,
    compressed: bool,
) -> None:
    """One batch of ``values``, of which number ``stray`` has a header whose key is ``STRAY_KEY``.

    The producer must not be idempotent.
    """
    batch = producer.create_batch()
    for number, value in enumerate(values):
        headers = [(_PLACEHOLDER, b"v")] if number == stray else []
        batch.append(key=key, value=value, timestamp=None, headers=headers)
    batch.close()
    written = bytearray(batch._build())
    at = written.index(_PLACEHOLDER.encode())
    written[at : at + len(STRAY_KEY)] = STRAY_KEY
    if compressed:
        written[_RECORDS_AT:] = gzip.compress(written[_RECORDS_AT:])
        written[_CODEC_AT] |= _GZIP
        struct.pack_into(">i", written, _LENGTH_AT, len(written) - _LENGTH_AT - 4)
    _CRC.pack_into(written, _CRC_AT, calc_crc32c(bytes(written[_CHECKED_FROM:])))
    batch._buffer = bytes(written)
    await (await producer.send_batch(batch, topic, partition=partition))
