"""A dead letter's shape on the wire: key and value untouched, the original headers, and where it came from and why."""

from datetime import datetime

from libs.common.events.topics import Topic
from libs.common.kafka.isolate import DeadLetter
from libs.common.kafka.producer import Record

DETAIL_LIMIT = 500  # characters; a detail names fields, and a record may lack many


def dead_letter_record(
    letter: DeadLetter, *, topic: Topic, source_topic: str, failed_at: datetime, service: str
) -> Record:
    r"""What goes to ``topic.dlq``. ``source_topic`` is the name on the broker.

    Original headers come first, ours last. A header key that is not UTF-8 cannot be written again: its stray bytes appear as ``\xNN``.
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
    headers = (*kept, *((key, value.encode(errors="backslashreplace")) for key, value in told.items()))
    return Record(topic.dlq, source.key, source.value, headers)


def _writable(key: str) -> str:
    return key.encode(errors="surrogateescape").decode(errors="backslashreplace")
