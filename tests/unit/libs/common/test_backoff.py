"""The wait before a retry: it grows, within its bounds, and an answer's own wish counts up to an hour."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.backoff import LONGEST_ASKED, backoff, retry_after

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BASE, CAP = timedelta(seconds=2), timedelta(minutes=5)
TRIES = st.integers(-1, 10_000)


@given(TRIES, st.floats(0, 1, exclude_max=True), st.floats(1, 4))
def test_a_wait_is_at_least_half_of_the_base_and_never_more_than_the_cap(
    tries: int, chance: float, factor: float
) -> None:
    assert BASE / 2 <= backoff(tries, base=BASE, cap=CAP, jitter=lambda: chance, factor=factor) <= CAP


def test_the_step_doubles_from_the_base_to_the_cap_and_chance_takes_up_to_half_of_it() -> None:
    longest = [backoff(tries, base=BASE, cap=CAP, jitter=lambda: 1.0).total_seconds() for tries in range(1, 10)]
    assert longest == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    shortest = [backoff(tries, base=BASE, cap=CAP, jitter=lambda: 0.0).total_seconds() for tries in range(1, 10)]
    assert shortest == [seconds / 2 for seconds in longest]
    tripled = [backoff(tries, base=BASE, cap=CAP, jitter=lambda: 1.0, factor=3) for tries in (1, 2, 3)]
    assert tripled == [BASE, 3 * BASE, 9 * BASE]


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("30", timedelta(seconds=30)),
        (" 30 ", timedelta(seconds=30)),
        ("3600", LONGEST_ASKED),
        ("86400", LONGEST_ASKED),
        ("9" * 40, LONGEST_ASKED),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), timedelta(seconds=90)),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), LONGEST_ASKED),
        (format_datetime(NOW, usegmt=True), None),
        ("Sun, 22 Nov 2026 12:01:00", None),  # of no zone
        ("Sun, 22 Nov 99999999999999 12:01:00 GMT", None),  # a number that no date has
        ("Sun, 22 Nov 2026 12:01:00 +99999999999999999999", None),
        ("0", None),
        ("-5", None),
        ("soon", None),
        ("٣٠", None),  # digits, and not those of HTTP
        ("", None),
    ],
)
def test_an_answer_asks_for_seconds_or_a_date(value: str, wait: timedelta | None) -> None:
    assert retry_after({"Retry-After": value}, NOW) == wait


def test_an_answer_without_the_header_asks_for_nothing() -> None:
    assert retry_after({}, NOW) is None
