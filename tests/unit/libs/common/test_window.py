from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.window import Window, customer_instant

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = timedelta(hours=24)
instants = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- the strategy adds the zone
spans = st.timedeltas(timedelta(0), timedelta(days=3))


def test_a_window_is_open_until_just_before_24_hours() -> None:
    window = Window(T0, DAY)
    assert window.is_open(T0 + DAY - timedelta(microseconds=1))
    assert not window.is_open(T0 + DAY)


def test_a_customer_who_never_wrote_has_no_open_window() -> None:
    assert not Window(None, DAY).is_open(T0)
    assert Window(None, DAY).closes_at is None


def test_metas_refusal_closes_the_window_until_the_next_message() -> None:
    assert not Window(T0, DAY, refused_at=T0 + timedelta(seconds=5)).is_open(T0 + timedelta(seconds=6))
    assert not Window(T0, DAY, refused_at=T0).is_open(T0 + timedelta(seconds=6))
    assert Window(T0 + timedelta(seconds=9), DAY, refused_at=T0 + timedelta(seconds=5)).is_open(
        T0 + timedelta(seconds=10)
    )


@given(instants, spans, instants)
def test_open_means_before_the_closing_instant_and_nothing_else(
    last: datetime, length: timedelta, now: datetime
) -> None:
    assert Window(last, length).is_open(now) == (now < last + length)


@given(instants, spans, instants, spans)
def test_a_margin_only_ever_closes(last: datetime, length: timedelta, now: datetime, margin: timedelta) -> None:
    window = Window(last, length)
    assert window.is_open(now) or not window.is_open(now, margin)
    assert window.is_open(now, margin) == window.is_open(now + margin)


@given(instants, instants)
def test_a_refusal_counts_against_older_messages_only(last: datetime, refused: datetime) -> None:
    assert Window(last, DAY, refused_at=refused).is_open(last) == (refused < last)


def test_an_old_timestamp_stays_old() -> None:
    week_ago = T0 - timedelta(days=7)
    assert customer_instant(week_ago.timestamp(), T0) == week_ago


def test_a_timestamp_in_the_future_counts_as_receipt_plus_a_minute() -> None:
    assert customer_instant((T0 + timedelta(days=1)).timestamp(), T0) == T0 + timedelta(seconds=60)


def test_milliseconds_are_brought_to_seconds() -> None:
    assert customer_instant(T0.timestamp() * 1000, T0) == T0


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), float("-inf")])
def test_a_timestamp_that_is_no_number_is_refused(odd: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        customer_instant(odd, T0)


@given(st.floats(allow_nan=False, allow_infinity=False), instants)
def test_no_timestamp_opens_a_window_beyond_receipt_plus_a_minute(seconds: float, received: datetime) -> None:
    assert customer_instant(seconds, received) <= received + timedelta(seconds=60)
