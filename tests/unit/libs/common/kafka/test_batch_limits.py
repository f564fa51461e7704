"""A refusal halves the batches of its topic, which double again in time."""

import pytest

from libs.common.kafka.batch_limits import DOUBLES_AFTER, BatchLimits

MOST = 1024


def test_a_refusal_concerns_its_topic_alone() -> None:
    limits = BatchLimits(MOST)
    limits.refuse("small", 600, 0)
    assert (limits.of("small", 0), limits.of("other", 0)) == (300, None)


@pytest.mark.parametrize("size", [300, 1024])
def test_each_refusal_halves_whatever_size_was_refused(size: int) -> None:
    """A batch is larger than its limit where its last record is."""
    limits = BatchLimits(MOST)
    limits.refuse("small", 300, 0)
    for left in (75, 37, 18, 9, 4, 2, 1, 1):
        limits.refuse("small", size, 0)
        assert limits.of("small", 0) == left


def test_batches_double_until_nothing_limits_them() -> None:
    limits = BatchLimits(MOST)
    limits.refuse("small", 600, 0)
    assert [limits.of("small", n * DOUBLES_AFTER / 2) for n in range(5)] == [300, 300, 600, 600, None]
    assert limits.of("small", 0) is None


def test_a_limit_that_still_stands_costs_one_refusal_each_time() -> None:
    limits = BatchLimits(MOST)
    limits.refuse("small", 600, 0)
    for n in range(1, 20):
        limits.refuse("small", 600, n * DOUBLES_AFTER)
        assert limits.of("small", n * DOUBLES_AFTER) == 300
