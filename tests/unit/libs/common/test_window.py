from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.window import Window, customer_instant

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAY = timedelta(hours=24)
DOUBT = timedelta(minutes=5)
instants = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- the strategy adds the zone
spans = st.timedeltas(timedelta(0), timedelta(days=3))


def test_a_window_is_open_until_just_before_24_hours() -> None:
    window = Window(T0, DAY, DOUBT)
    assert window.is_open(T0 + DAY - timedelta(microseconds=1))
    assert not window.is_open(T0 + DAY, DOUBT)


def test_a_customer_who_never_wrote_has_no_open_window() -> None:
    assert not Window(None, DAY, DOUBT).is_open(T0)
    assert Window(None, DAY, DOUBT).closes_at is None
    moved = Window(None, DAY, DOUBT, identity_changed_at=T0, first_refused_at=T0, last_refused_at=T0)
    assert (moved.closed_early_at, moved.ends_at, moved.doubtful_since) == (None, None, None)


def test_another_number_closes_the_window_until_the_next_message() -> None:
    assert not Window(T0, DAY, DOUBT, identity_changed_at=T0 + timedelta(seconds=5)).is_open(T0 + timedelta(seconds=6))
    assert not Window(T0, DAY, DOUBT, identity_changed_at=T0).is_open(T0 + timedelta(seconds=6))
    assert Window(T0 + timedelta(seconds=9), DAY, DOUBT, identity_changed_at=T0 + timedelta(seconds=5)).is_open(
        T0 + timedelta(seconds=10)
    )


@given(instants, spans, instants)
def test_open_means_before_the_closing_instant_and_nothing_else(
    last: datetime, length: timedelta, now: datetime
) -> None:
    assert Window(last, length, DOUBT).is_open(now) == (now < last + length)


@given(instants, spans, instants, spans)
def test_a_margin_only_ever_closes(last: datetime, length: timedelta, now: datetime, margin: timedelta) -> None:
    window = Window(last, length, DOUBT)
    assert window.is_open(now) or not window.is_open(now, margin)
    assert window.is_open(now, margin) == window.is_open(now + margin)


@given(instants, instants)
def test_a_closing_without_doubt_counts_against_older_messages_only(last: datetime, refused: datetime) -> None:
    assert Window(last, DAY, DOUBT, identity_changed_at=refused).is_open(last) == (refused < last)


def refused(*seconds: float, wrote: float = 0, doubt: timedelta = DOUBT) -> Window:
    """A window of which Meta refused sends made so many seconds after T0; of which it is known only the first and the
    last.
    """
    sends = [T0 + timedelta(seconds=s) for s in seconds]
    first = min(sends)
    return Window(T0 + timedelta(seconds=wrote), DAY, doubt, first_refused_at=first, last_refused_at=max(sends))


def test_metas_refusal_closes_the_window_until_the_next_message() -> None:
    assert not refused(301).is_open(T0 + timedelta(seconds=302))
    assert refused(301, wrote=302).is_open(T0 + timedelta(seconds=303))


def test_a_refusal_right_after_the_customer_wrote_is_doubtful_and_the_second_is_not() -> None:
    assert refused(60).is_open(T0 + timedelta(seconds=61))
    assert refused(60).is_doubtful
    assert refused(300).is_doubtful
    assert not refused(300.1).is_doubtful
    assert not refused(60, 75).is_open(T0 + timedelta(seconds=76))


def test_what_was_sent_before_the_one_more_send_is_part_of_the_same_doubt() -> None:
    assert refused(60, 61, 74.9).is_open(T0 + timedelta(seconds=75))
    assert not refused(60, 61, 75).is_doubtful


def test_a_refusal_from_before_the_customers_message_is_no_doubt_and_closes_nothing() -> None:
    assert refused(60, wrote=61).is_open(T0 + timedelta(seconds=62))
    assert not refused(60, wrote=61).is_doubtful
    # the first of two was before: the second is the first that counts
    assert refused(60, 80, wrote=70).is_open(T0 + timedelta(seconds=81))


def test_without_a_time_of_doubt_the_first_refusal_counts() -> None:
    assert not refused(0, doubt=timedelta(0)).is_open(T0 + timedelta(seconds=1))


@given(instants, st.lists(spans, min_size=1, max_size=4), spans)
def test_a_doubt_never_opens_what_is_closed_by_time(last: datetime, sends: Sequence[timedelta], now: timedelta) -> None:
    refusals = [last + send for send in sends]
    window = Window(last, DAY, DOUBT, first_refused_at=min(refusals), last_refused_at=max(refusals))
    assert not (window.is_open(last + now) and now >= DAY)


def test_an_old_timestamp_stays_old() -> None:
    week_ago = T0 - timedelta(days=7)
    assert customer_instant(week_ago.timestamp(), T0) == week_ago


def test_a_timestamp_in_the_future_counts_as_receipt_plus_a_minute() -> None:
    assert customer_instant((T0 + timedelta(days=1)).timestamp(), T0) == T0 + timedelta(seconds=60)


def test_milliseconds_are_brought_to_seconds() -> None:
    assert customer_instant(T0.timestamp() * 1000, T0) == T0


def test_a_receipt_before_1970_ends_too() -> None:
    long_ago = datetime(1960, 1, 1, tzinfo=UTC)
    assert customer_instant(T0.timestamp(), long_ago) == long_ago + timedelta(seconds=60)


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), float("-inf")])
def test_a_timestamp_that_is_no_number_is_refused(odd: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        customer_instant(odd, T0)


@given(st.floats(allow_nan=False, allow_infinity=False), instants)
def test_no_timestamp_opens_a_window_beyond_receipt_plus_a_minute(seconds: float, received: datetime) -> None:
    assert customer_instant(seconds, received) <= received + timedelta(seconds=60)


SOON = timedelta(hours=2)


def test_people_are_shown_four_states() -> None:
    window = Window(T0, DAY, DOUBT)
    assert Window(None, DAY, DOUBT).word(T0, SOON) == "never"
    assert window.word(T0 + DAY - SOON - timedelta(microseconds=1), SOON) == "open"
    assert window.word(T0 + DAY - SOON, SOON) == "closing"
    assert window.word(T0 + DAY - timedelta(microseconds=1), SOON) == "closing"
    assert window.word(T0 + DAY, SOON) == "expired"


def test_a_window_that_was_closed_before_its_time_says_when() -> None:
    assert refused(301).word(T0 + timedelta(seconds=302), SOON) == "expired"
    assert refused(301).ends_at == T0 + timedelta(seconds=301)
    assert refused(60).ends_at == T0 + DAY
    moved = Window(T0, DAY, DOUBT, identity_changed_at=T0 + SOON)
    assert moved.ends_at == T0 + SOON


@given(instants, spans, instants, spans, instants, instants, instants)
def test_the_state_shown_is_the_routers_own_answer(  # noqa: PLR0917 -- one argument a strategy
    last: datetime,
    length: timedelta,
    now: datetime,
    soon: timedelta,
    changed: datetime,
    first: datetime,
    newest: datetime,
) -> None:
    window = Window(last, length, DOUBT, changed, first, newest)
    assert (window.word(now, soon) in ("open", "closing")) == window.is_open(now)
    assert window.is_open(now) == (
        window.ends_at is not None and now < window.ends_at and window.word(now, soon) != "expired"
    )
