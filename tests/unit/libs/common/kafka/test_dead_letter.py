from datetime import UTC, datetime

from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.dead_letter import DETAIL_LIMIT, dead_letter_record
from libs.common.kafka.isolate import DeadLetter
from libs.common.kafka.producer import Record
from libs.common.kafka.records import RawRecord
from tests.support.records import a_record

AT = datetime(2026, 11, 5, 10, 0, tzinfo=UTC)


def buried(record: RawRecord, reason: str = "not_json", detail: str = "line 1, column 2") -> Record:
    letter = DeadLetter(record, reason, detail, attempts=3)
    return dead_letter_record(letter, topic=WEBHOOKS, source_topic="eu.webhooks.v1", failed_at=AT, service="ingest")


def test_a_dead_letter_keeps_key_value_and_headers_and_says_where_it_came_from_and_why() -> None:
    letter = buried(
        a_record(b"\xff{", key=b"\xfe", partition=7, offset=42, headers=(("source", b"meta"), ("raw", b"\xff")))
    )
    assert (letter.topic.name, letter.key, letter.value) == ("webhooks.v1.dlq", b"\xfe", b"\xff{")
    assert letter.headers == (
        ("source", b"meta"),
        ("raw", b"\xff"),
        ("reason", b"not_json"),
        ("detail", b"line 1, column 2"),
        ("source_topic", b"eu.webhooks.v1"),
        ("source_partition", b"7"),
        ("source_offset", b"42"),
        ("attempts", b"3"),
        ("failed_at", b"2026-11-05T10:00:00+00:00"),
        ("service", b"ingest"),
    )


def test_a_tombstone_stays_one() -> None:
    assert buried(a_record(None)).value is None


def test_a_long_detail_is_cut() -> None:
    detail = dict(buried(a_record(), detail="x" * 5000).headers)["detail"]
    assert detail == b"x" * DETAIL_LIMIT


def test_a_header_key_that_is_not_utf8_is_written_so_that_its_bytes_can_be_read() -> None:
    assert buried(a_record(headers=(("b\udcffd", b"v"),))).headers[0] == ("b\\xffd", b"v")
