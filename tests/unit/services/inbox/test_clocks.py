"""Times as a page shows them: of day, with the day where it is another one, and as long ago."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.inbox.clocks import Clock
from services.inbox.html import LANGUAGES
from services.inbox.views import Duration

NOW = datetime(2026, 11, 25, 23, 30, tzinfo=UTC)
"""Half past midnight of the 26th, a Thursday, in Berlin."""
BERLIN = Clock(NOW, ZoneInfo("Europe/Berlin"), LANGUAGES.of("en-GB"))
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_the_day_is_that_of_the_zone() -> None:
    assert BERLIN.today == date(2026, 11, 26)
    assert (BERLIN.time(NOW), Clock(NOW, UTC, BERLIN.language).time(NOW)) == ("00:30", "23:30 UTC")
    assert [BERLIN.day(BERLIN.today - one * DAY) for one in range(3)] == ["Today", "Yesterday", "Tuesday, 24 November"]


@pytest.mark.parametrize(
    ("after", "shown"),
    [
        (-30 * MINUTE, "00:00"),
        (-31 * MINUTE, "Wed 23:59"),
        (-6 * DAY, "Fri 00:30"),
        (-7 * DAY, "19 Nov"),
        (6 * DAY, "Wed 00:30"),
        (7 * DAY, "3 Dec"),
        (-365 * DAY, "26 Nov 2025"),
    ],
)
def test_a_moment_names_its_day_where_that_is_not_today(after: timedelta, shown: str) -> None:
    assert BERLIN.moment(NOW + after) == shown


def test_a_sentence_names_the_whole_day_where_that_is_not_today() -> None:
    assert BERLIN.with_day(NOW + 23 * HOUR) == "23:30"
    assert BERLIN.with_day(NOW + DAY) == "Friday, 27 November, 00:30"


@pytest.mark.parametrize(
    ("ago", "shown"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=59), "just now"),
        (MINUTE, "1 min ago"),
        (HOUR - timedelta(seconds=1), "59 min ago"),
        (HOUR, "Wed 23:30"),
        (-MINUTE, "00:31"),
    ],
)
def test_what_was_within_the_hour_is_so_long_ago(ago: timedelta, shown: str) -> None:
    assert BERLIN.ago(NOW - ago) == shown


def test_what_was_within_the_minute_was_just_now_in_german_too() -> None:
    assert Clock(NOW, ZoneInfo("Europe/Berlin"), LANGUAGES.of("de")).ago(NOW) == "gerade eben"


def test_a_stamp_is_for_people_and_for_the_script() -> None:
    at = NOW - HOUR
    assert BERLIN.stamp(at) == '<time datetime="2026-11-25T22:30:00Z" data-time>23:30</time>'
    assert BERLIN.stamp(at, long=True) == '<time datetime="2026-11-25T22:30:00Z" data-moment>Wed 23:30</time>'


@pytest.mark.parametrize(
    ("left", "short", "shown"),
    [
        (11 * HOUR + 5 * MINUTE, False, Duration(11, 5)),
        (11 * HOUR + 5 * MINUTE, True, Duration(11, None)),
        (10 * HOUR, True, Duration(10, None)),
        (10 * HOUR - MINUTE, True, Duration(9, 59)),
        (2 * HOUR, False, Duration(2, 0)),
        (MINUTE, False, Duration(None, 1)),
        (MINUTE - timedelta(seconds=1), False, Duration(None, None)),
        (-MINUTE, False, Duration(None, None)),
    ],
)
def test_what_is_left_is_hours_and_minutes(left: timedelta, short: bool, shown: Duration) -> None:  # noqa: FBT001 -- a case
    assert BERLIN.left(NOW + left, short=short) == shown
    assert short or BERLIN.left(NOW + left) == shown
