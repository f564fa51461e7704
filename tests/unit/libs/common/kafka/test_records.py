import pytest

from libs.common.errors import Undecodable
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.producer import Record
from libs.common.kafka.records import check_headers
from tests.support.records import a_record


def test_headers_of_utf8_pass_and_a_header_may_have_no_value() -> None:
    check_headers(a_record(headers=(("source", b"meta"), ("größe", "größe".encode()), ("none", None))))


@pytest.mark.parametrize("headers", [(("ok", b"ok"), ("bad", b"\xff")), (("ok", b"ok"), ("b\udcffd", b"ok"))])
def test_a_header_that_is_not_utf8_is_refused_by_its_number_and_without_its_bytes(
    headers: tuple[tuple[str, bytes], ...],
) -> None:
    with pytest.raises(Undecodable) as refusal:
        check_headers(a_record(headers=headers))
    assert refusal.value.reason == "bad_header"
    assert "header 2" in refusal.value.detail
    assert "bad" not in refusal.value.detail.replace("bad_header", "")


@pytest.mark.parametrize(("produced", "now", "lag"), [(1000, 1250, 250), (1000, 900, 0)])
def test_lag_is_never_negative(produced: int, now: int, lag: int) -> None:
    assert a_record(timestamp_ms=produced).lag_ms(now) == lag


def test_a_record_fits_up_to_its_topics_limit_and_its_dead_letter_topic_takes_it_with_the_reasons() -> None:
    largest = Record(WEBHOOKS, b"k", b"x" * (WEBHOOKS.max_record_bytes - 129))
    assert largest.fits()
    assert not Record(WEBHOOKS, b"kk", largest.value).fits()
    assert Record(WEBHOOKS.dlq, b"k", largest.value, (("detail", b"d" * 2000),) * 8).fits()
