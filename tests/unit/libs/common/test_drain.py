"""A stop takes no longer than its budget, whatever its steps do with their time."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from libs.common import drain
from libs.common.drain import Drain

SHARES = (
    drain.HTTP,
    drain.BATCHES,
    drain.LEAVING,
    drain.CALLS,
    drain.RECORDS,
    drain.PUBLISHING,
    drain.FLUSHING,
    drain.DISCONNECTING,
    drain.CLOSING,
    drain.BESIDE,
)
"""In the order of the steps."""
BUDGET, EXACTLY = 30.0, 1e-9
fractions = st.lists(st.floats(0, 1), min_size=len(SHARES), max_size=len(SHARES))


class Watch:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_step_ends_after_the_one_before_and_the_last_before_the_budget_does() -> None:
    assert list(SHARES) == sorted(set(SHARES))
    assert 0 < SHARES[0] < SHARES[-1] < 1


@given(fractions)
def test_each_step_may_run_to_its_share_and_time_that_it_does_not_use_passes_on(used: Sequence[float]) -> None:
    watch = Watch()
    stop = Drain(BUDGET, watch)
    stop.begin()
    began = watch.now
    for share, part in zip(SHARES, used, strict=True):
        assert abs(watch.now + stop.left(share) - began - BUDGET * share) <= EXACTLY
        watch.now += stop.left(share) * part


def test_before_a_stop_no_time_passes() -> None:
    watch = Watch()
    stop = Drain(BUDGET, watch)
    watch.now += 1_000
    assert (stop.begun, stop.left(drain.HTTP), stop.left()) == (False, 0.4 * BUDGET, 0.97 * BUDGET)


def test_a_second_call_to_stop_brings_no_more_time() -> None:
    watch = Watch()
    stop = Drain(BUDGET, watch)
    stop.begin()
    watch.now += 10
    stop.begin()
    assert (stop.begun, stop.left(1.0)) == (True, BUDGET - 10)


def test_a_step_that_took_too_long_leaves_the_others_nothing_and_no_debt() -> None:
    watch = Watch()
    stop = Drain(BUDGET, watch)
    stop.begin()
    watch.now += 2 * BUDGET
    assert [stop.left(share) for share in SHARES] == [0.0] * len(SHARES)
