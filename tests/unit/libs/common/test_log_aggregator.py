"""What may come thousands of times a minute is reported once a minute, and no count is lost."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from libs.common.log_aggregator import PERIOD, LogAggregator, Report


def test_the_first_is_told_at_once_and_what_follows_once_a_minute_with_its_number() -> None:
    aggregator: LogAggregator[str, int] = LogAggregator()
    assert aggregator.add("a", 1, at=0) == Report("a", 1, 1)
    assert [aggregator.add("a", n, at=PERIOD / 2) for n in range(2, 5)] == [None] * 3
    assert aggregator.due(at=PERIOD - 1) == []
    assert aggregator.due(at=PERIOD) == [Report("a", 3, 4)]
    assert aggregator.due(at=2 * PERIOD) == []


def test_what_was_quiet_for_a_minute_is_told_at_once_again() -> None:
    aggregator: LogAggregator[str, int] = LogAggregator()
    aggregator.add("a", 1, at=0)
    assert aggregator.due(at=PERIOD) == []
    assert aggregator.add("a", 2, at=PERIOD + 1) == Report("a", 1, 2)


def test_beyond_the_limit_kinds_are_told_as_one() -> None:
    aggregator: LogAggregator[str, int] = LogAggregator(limit=2)
    reported = [aggregator.add(key, n, at=0) for n, key in enumerate("abcdea")]
    assert reported == [Report("a", 1, 0), Report("b", 1, 1), Report(None, 1, 2), None, None, None]
    assert aggregator.due(at=PERIOD) == [Report("a", 1, 5), Report(None, 2, 4)]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 9), st.floats(0, 20), st.booleans()), max_size=60)
)
def test_every_one_is_counted_once_and_no_kind_is_told_twice_in_a_minute(
    happenings: list[tuple[str, int, float, bool]],
) -> None:
    aggregator: LogAggregator[str, None] = LogAggregator(limit=5)
    at, reported = 0.0, list[tuple[str | None, int, float]]()
    for key, count, pause, looks in happenings:
        at += pause
        if (one := aggregator.add(key, None, at, count)) is not None:
            reported.append((one.key, one.count, at))
        if looks:
            reported += [(one.key, one.count, at) for one in aggregator.due(at)]
    assert sum(count for _, count, _ in reported) + sum(one.count for one in aggregator.remaining(at)) == sum(
        count for _, count, _, _ in happenings
    )
    for kind in {key for key, _, _ in reported}:
        times = [at for key, _, at in reported if key == kind]
        assert all(later - earlier >= PERIOD for earlier, later in pairwise(times))
    assert len({key for key, _, _ in reported}) <= 9
