"""A dead letter's shape on the wire: key and value untouched, the original headers, and where it came from and why.

A limit on records counts what is sent, and a record may have been sent compressed: then its letter is larger than what came, and perhaps
larger than its topic takes. A letter that is refused would hold up everything behind it, so it gets smaller until it fits: first the value is
packed, then it is left out and told by its digest, at last key and headers go too.
"""

import asyncio
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from libs.common.errors import Permanent
from libs.common.events.topics import Topic
from libs.common.kafka.batch_processor import DeadLetter
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.records import Headers, Skipped

REPLAYED = "replayed_"
"""How the headers begin that a replay adds."""
DETAIL_LIMIT = 500  # characters; a detail names fields, and a record may lack many


def shapes_of(
    letter: DeadLetter, *, topic: Topic, source_topic: str, failed_at: datetime, service: str
) -> Iterator[Record]:
    r"""What may go to ``topic.dlq``, the whole first, each smaller than the one before; the last is below 3 KB whatever came.

    ``source_topic`` is the name on the broker. Original headers come first, ours last. A header key that is not UTF-8 cannot be written
    again: its stray bytes appear as ``\xNN``.
    """
    source = letter.record
    kept = tuple((_writable(key), value) for key, value in source.headers)
    told = {
        "reason": letter.reason,
        "detail": letter.detail[:DETAIL_LIMIT],
        "source_topic": source_topic,
        "source_partition": str(source.partition),
        "source_offset": str(source.offset),
        "attempts": str(letter.attempts),
        "failed_at": failed_at.isoformat(),
        "service": service,
    }
    if isinstance(source.value, Skipped):
        yield Record(topic.dlq, None, b"", (*kept, *_encoded(told | {"left_out": "value, key, headers"})))
        return
    yield Record(topic.dlq, source.key, source.value, (*kept, *_encoded(told)))
    value = source.value or b""
    told |= {"value_bytes": str(len(value)), "value_sha256": sha256(value).hexdigest()}
    packed = _encoded(told | {"value_encoding": "gzip"})
    yield Record(topic.dlq, source.key, gzip.compress(value, mtime=0), (*kept, *packed))
    yield Record(topic.dlq, source.key, b"", (*kept, *_encoded(told | {"left_out": "value"})))
    yield Record(topic.dlq, None, b"", _encoded(told | {"left_out": "value, key, headers"}))


@dataclass(frozen=True, slots=True)
class Original:
    """The record that a letter holds, and why it died. ``key``, ``value`` and ``headers`` are as they came."""

    reason: str
    key: bytes | None
    value: bytes | None
    headers: Headers


def original_of(key: bytes | None, value: bytes | None, headers: Headers) -> Original | None:
    """What ``shapes_of`` made a letter of; None where its value was left out, or for what is no letter of ours.

    Of a replayed record that died again the headers of its replay are left out.
    """
    names = [name for name, _ in headers]
    if "reason" not in names:
        return None
    begin = len(names) - 1 - names[::-1].index("reason")
    told = dict(headers[begin:])
    if "left_out" in told:
        return None
    if told.get("value_encoding") == b"gzip":
        value = gzip.decompress(value or b"")
    kept = tuple((name, text) for name, text in headers[:begin] if not name.startswith(REPLAYED))
    return Original((told["reason"] or b"").decode(errors="replace"), key, value, kept)


async def publish_letters(producer: Producer, letters: Sequence[Iterator[Record]]) -> None:
    """Publish each letter in the first of its shapes that fits. Raises Transient; Permanent if the brokers refuse even the smallest."""
    records = [await _fitting(shapes) for shapes in letters]
    try:
        await producer.publish(records)
    except Permanent:  # the brokers take less than is declared; some may lie there already, and lie there twice then
        for record, smaller in zip(records, letters, strict=True):
            await _publish_shrinking(producer, record, smaller)


async def _fitting(shapes: Iterator[Record]) -> Record:
    record = next(shapes)
    while not record.fits():
        record = await asyncio.to_thread(next, shapes)  # packing megabytes takes its time
    return record


async def _publish_shrinking(producer: Producer, record: Record, smaller: Iterator[Record]) -> None:
    while True:
        try:
            await producer.publish([record])
        except Permanent:
            following = await asyncio.to_thread(next, smaller, None)
            if following is None:
                raise
            record = following
        else:
            return


def _encoded(told: dict[str, str]) -> Headers:
    return tuple((key, value.encode(errors="backslashreplace")) for key, value in told.items())


def _writable(key: str) -> str:
    return key.encode(errors="surrogateescape").decode(errors="backslashreplace")
