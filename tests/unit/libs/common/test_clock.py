"""The database's clock as a process knows it: within its bound of the server's, and not backwards by seconds."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.clock import DRIFT, MEASURE_EVERY, STANDS, DatabaseClock

SERVER = datetime(2026, 5, 4, 12, tzinfo=UTC)
TICK = timedelta(microseconds=3)


class Host:
    """A host's steady clock, which began anywhere, and a server whose clock may be set."""

    def __init__(self, ticks: float = 5000.0) -> None:
        self.ticks = ticks
        self._began = ticks
        self.set_by = timedelta(0)
        self.clock = DatabaseClock(lambda: self.ticks)

    @property
    def server(self) -> datetime:
        return SERVER + timedelta(seconds=self.ticks - self._began) + self.set_by

    def measure(self, there: float = 0.0, back: float = 0.0) -> None:
        """One round trip, so many seconds each way."""
        answered = self.clock.ask()
        self.ticks += there
        answer = self.server
        self.ticks += back
        answered(answer)


PAUSES = st.floats(0, 3600, allow_nan=False)
TRIPS = st.floats(0, 2, allow_nan=False)


def test_before_the_first_measurement_nobody_is_told_a_time() -> None:
    with pytest.raises(RuntimeError, match="not measured"):
        DatabaseClock()()


@given(ticks=st.floats(0, 1e7), trips=st.lists(st.tuples(PAUSES, TRIPS, TRIPS), min_size=1))
def test_the_clock_is_within_its_bound_of_the_servers(ticks: float, trips: list[tuple[float, float, float]]) -> None:
    host, latest = Host(ticks), SERVER - timedelta(days=9)
    for pause, there, back in trips:
        host.ticks += pause
        host.measure(there, back)
        told = host.clock()
        assert abs(told - host.server) <= host.clock.bound + timedelta(milliseconds=1) or told <= latest + TICK
        assert host.clock.bound <= timedelta(seconds=(there + back) / 2 + 1e-6)
        latest = told


@given(steps=st.lists(st.tuples(PAUSES, TRIPS, TRIPS, st.floats(-7200, 7200), st.booleans()), min_size=1), first=TRIPS)
def test_it_goes_backwards_by_nothing_less_than_what_it_does_not_wait_for(
    steps: list[tuple[float, float, float, float, bool]], first: float
) -> None:
    host = Host()
    host.measure(first)
    latest = host.clock()
    for pause, there, back, set_by, measures in steps:
        host.ticks += pause
        host.set_by += timedelta(seconds=set_by)
        if measures:
            host.measure(there, back)
        told = host.clock()
        assert told > latest or latest - told >= timedelta(seconds=STANDS)  # two readings are two instants
        latest = told


def test_a_slow_answer_does_not_spoil_what_a_quick_one_said() -> None:
    host = Host()
    host.measure(0.001, 0.001)
    host.ticks += 1
    host.measure(0.0, 2.0)
    assert abs(host.clock() - host.server) <= timedelta(milliseconds=5)


def test_another_server_is_believed_at_once() -> None:
    host = Host()
    host.measure(0.001, 0.001)
    host.set_by = timedelta(minutes=1)
    host.measure(0.001, 0.001)
    assert abs(host.clock() - host.server) <= timedelta(milliseconds=5)


def test_behind_a_server_that_is_a_minute_behind_the_last_one_the_clock_all_but_stands_until_it_is_reached() -> None:
    host = Host()
    host.measure()
    stood = host.clock()
    host.set_by = -timedelta(minutes=1)
    host.measure()
    host.ticks += 59
    assert stood < host.clock() <= stood + TICK
    host.ticks += 2
    assert host.clock() == host.server


def test_a_server_that_was_an_hour_ahead_and_was_set_right_is_followed_at_once() -> None:
    host = Host()
    host.set_by = timedelta(hours=1)
    host.measure()
    assert host.clock() == host.server
    host.set_by = timedelta(0)
    host.measure()
    assert host.clock() == host.server


def test_the_bound_grows_while_the_server_is_away() -> None:
    host = Host()
    host.measure()
    host.ticks += 3600
    assert host.clock.bound == timedelta(seconds=3600 * DRIFT)
    assert host.clock() == host.server


def test_one_asks_in_a_while() -> None:
    host = Host()
    assert host.clock.is_due()
    assert not host.clock.is_due()
    host.ticks += MEASURE_EVERY
    host.measure()
    assert not host.clock.is_due()
    host.ticks += MEASURE_EVERY
    assert host.clock.is_due()


@given(ticks=st.floats(0, 1e7), trips=st.lists(st.tuples(PAUSES, TRIPS, TRIPS), min_size=1))
def test_what_the_servers_clock_has_reached_at_the_least_is_never_ahead_of_it(
    ticks: float, trips: list[tuple[float, float, float]]
) -> None:
    host = Host(ticks)
    for pause, there, back in trips:
        host.ticks += pause
        host.measure(there, back)
        host.ticks += pause
        assert -TICK <= host.server - host.clock.earliest <= 2 * host.clock.bound + TICK
