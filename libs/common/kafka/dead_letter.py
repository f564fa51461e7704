"""Dead letters: their shape on the wire, and their lines in the log.

A letter has the record's key, value and headers, and headers of ours that say where it came from and why it failed.

A topic's limit counts the bytes on the wire, so the letter of a compressed record may exceed it. A refused letter would
block everything behind it, so it shrinks until it fits:

1. the value is packed;
2. the value is left out, and a header has its digest;
3. key and headers are left out too.
"""

import asyncio
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from libs.common.errors import Permanent, Unreadable
from libs.common.events.base import named_type, read_json_object
from libs.common.events.topics import Topic
from libs.common.kafka.batch_processor import STATEMENT_TOO_SLOW, DeadLetter
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.records import Headers, Skipped
from libs.common.log_aggregator import LogAggregator
from libs.common.logging import get_logger

log = get_logger()

REPLAYED = "replayed_"
"""How the headers begin that a replay adds."""
DETAIL_LIMIT = 500  # characters; a detail names fields, and a record may lack many
DETAIL_IN_LOG = 200
_OTHER_RELEASE = frozenset({"unknown_type", "unknown_value", "unknown_version"})
"""Another release wrote the record: roll out the release that knows it, then replay the letter."""
_ERRORS = _OTHER_RELEASE | {"handler_failed", STATEMENT_TOO_SLOW, "batch_too_large", "batch_unreadable"}
"""Reasons that are logged as errors; all others are warnings."""


def shapes_of(
    letter: DeadLetter, *, topic: Topic, source_topic: str, failed_at: datetime, service: str
) -> Iterator[Record]:
    r"""The shapes of a letter for ``topic.dlq``: the whole one first, each one smaller, the last one below 3 KB.

    ``source_topic`` is the name on the broker. Original headers come first, ours last. Bytes of a header key that are
    not UTF-8 are written as ``\xNN``.
    """
    source = letter.record
    kept = tuple((_writable(key), value) for key, value in source.headers)
    ours = {
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
        yield Record(topic.dlq, None, b"", (*kept, *_encoded(ours | {"left_out": "value, key, headers"})))
        return
    yield Record(topic.dlq, source.key, source.value, (*kept, *_encoded(ours)))
    value = source.value or b""
    ours |= {"value_bytes": str(len(value)), "value_sha256": sha256(value).hexdigest()}
    packed = _encoded(ours | {"value_encoding": "gzip"})
    yield Record(topic.dlq, source.key, gzip.compress(value, mtime=0), (*kept, *packed))
    yield Record(topic.dlq, source.key, b"", (*kept, *_encoded(ours | {"left_out": "value"})))
    yield Record(topic.dlq, None, b"", _encoded(ours | {"left_out": "value, key, headers"}))


@dataclass(frozen=True, slots=True)
class Original:
    """The record in a letter, as it came, and why it failed."""

    reason: str
    key: bytes | None
    value: bytes | None
    headers: Headers


def original_of(key: bytes | None, value: bytes | None, headers: Headers) -> Original | None:
    """The record that ``shapes_of`` made a letter of, without the headers of an earlier replay.

    None when its value was left out, or when it is no letter of ours.
    """
    names = [name for name, _ in headers]
    if "reason" not in names:
        return None
    begin = len(names) - 1 - names[::-1].index("reason")
    ours = dict(headers[begin:])
    if "left_out" in ours:
        return None
    if ours.get("value_encoding") == b"gzip":
        value = gzip.decompress(value or b"")
    kept = tuple((name, text) for name, text in headers[:begin] if not name.startswith(REPLAYED))
    return Original((ours["reason"] or b"").decode(errors="replace"), key, value, kept)


async def publish_letters(producer: Producer, letters: Sequence[Iterator[Record]]) -> None:
    """Publish each letter in its first shape that fits. Raises Transient; Permanent if even the smallest is refused."""
    records = [await _fitting(shapes) for shapes in letters]
    try:
        await producer.publish(records)
    except Permanent:  # the brokers take less than is declared; letters that are stored already are then stored twice
        for record, smaller in zip(records, letters, strict=True):
            await _publish_shrinking(producer, record, smaller)


async def _fitting(shapes: Iterator[Record]) -> Record:
    record = next(shapes)
    while not record.fits():
        record = await asyncio.to_thread(next, shapes)  # packing megabytes takes time
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


def _encoded(ours: dict[str, str]) -> Headers:
    return tuple((key, value.encode(errors="backslashreplace")) for key, value in ours.items())


def _writable(key: str) -> str:
    return key.encode(errors="surrogateescape").decode(errors="backslashreplace")


class DeadLetterLog:
    """Logs dead letters: the first of a kind at once, those that follow once a minute with their number.

    A kind is the reason, with what was raised (a bug) or the event's type (a record of another release).
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._letters = LogAggregator[tuple[str, str], DeadLetter]()

    def add(self, letter: DeadLetter, now: float) -> None:
        kind = letter.detail if letter.error is not None else _type_of_other_release(letter)
        if (report := self._letters.add((letter.reason, kind), letter, now)) is not None:
            self._log(report.sample, report.count)

    def log_due(self, now: float) -> None:
        """Log the kinds that have been counted for a minute."""
        for report in self._letters.due(now):
            self._log(report.sample, report.count)

    def end(self, now: float) -> None:
        for report in self._letters.remaining(now):
            self._log(report.sample, report.count)

    def _log(self, letter: DeadLetter, count: int) -> None:
        write = log.error if letter.reason in _ERRORS else log.warning
        write(
            "record.dead_lettered",
            topic=self._topic,
            partition=letter.record.partition,
            offset=letter.record.offset,
            reason=letter.reason,
            detail=letter.detail[:DETAIL_IN_LOG],
            attempt=letter.attempts,
            records=count,
            exc_info=letter.error,
            **({"kind": kind} if (kind := _type_of_other_release(letter)) else {}),
        )


def _type_of_other_release(letter: DeadLetter) -> str:
    if letter.reason not in _OTHER_RELEASE:
        return ""
    try:
        return named_type(read_json_object(letter.record.value)) or ""
    except Unreadable:
        return ""
