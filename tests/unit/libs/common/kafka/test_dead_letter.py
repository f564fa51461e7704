import gzip
from datetime import UTC, datetime
from hashlib import sha256

from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.batch_processor import DeadLetter
from libs.common.kafka.dead_letter import DETAIL_LIMIT, shapes_of
from libs.common.kafka.producer import Record
from libs.common.kafka.records import RawRecord
from tests.support.records import a_record

AT = datetime(2026, 11, 5, 10, 0, tzinfo=UTC)


def shapes(record: RawRecord, detail: str = "line 1, column 2") -> list[Record]:
    letter = DeadLetter(record, "not_json", detail, attempts=3)
    return list(shapes_of(letter, topic=WEBHOOKS, source_topic="eu.webhooks.v1", failed_at=AT, service="ingest"))


def buried(record: RawRecord, detail: str = "line 1, column 2") -> Record:
    return shapes(record, detail=detail)[0]


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


def test_a_letter_that_does_not_fit_gets_smaller_and_says_what_is_missing() -> None:
    value = b"\xff" * 6_000_000
    record = a_record(value, key=b"k", headers=(("source", b"meta"),))
    whole, packed, digest, bare = shapes(record)
    told = {"value_bytes": b"6000000", "value_sha256": sha256(value).hexdigest().encode()}
    assert not whole.fits()
    assert (packed.key, gzip.decompress(packed.value or b"")) == (b"k", value)
    assert dict(packed.headers) == dict(whole.headers) | told | {"value_encoding": b"gzip"}
    assert (digest.key, digest.value) == (b"k", b"")
    assert dict(digest.headers) == dict(whole.headers) | told | {"left_out": b"value"}
    assert (bare.key, bare.value) == (None, b"")
    assert dict(bare.headers).keys() == dict(digest.headers).keys() - {"source"}


def test_the_smallest_letter_fits_whatever_came() -> None:
    huge = b"h" * 6_000_000
    record = a_record(huge, key=huge, headers=(("h" * 6_000_000, huge),))
    assert [shape.fits() for shape in shapes(record, detail="€" * 5000)] == [False, False, False, True]
