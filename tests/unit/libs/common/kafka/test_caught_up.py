from hypothesis import given
from hypothesis import strategies as st

from libs.common.kafka.caught_up import KEPT, CaughtUp


def test_what_was_asked_for_is_handled_once_it_is_reached() -> None:
    one = CaughtUp(100.0)
    one.asked(110.0, 5)
    one.handled(4)
    assert one.until == 100.0
    one.asked(120.0, 9)
    one.handled(5)
    assert one.until == 110.0
    one.handled(9)
    assert one.until == 120.0


def test_a_constant_flow_is_caught_up_though_the_newest_end_is_never_reached() -> None:
    one = CaughtUp(0.0)
    for second in range(1, 1000):
        one.asked(second, second * 100)
        one.handled(second * 100 - 50)
    assert one.until == 998.0


def test_after_a_start_the_first_record_says_since_when_it_waits_until_an_end_is_reached() -> None:
    one = CaughtUp(1000.0)
    one.first_record(400.0)
    assert one.until == 400.0
    one.asked(1010.0, 7)
    one.handled(7)
    assert one.until == 1010.0
    one.first_record(0.0)  # the clock of its producer is wrong
    assert one.until == 1010.0


def test_hours_without_progress_cost_no_memory_and_end_with_the_backlog() -> None:
    one = CaughtUp(0.0)
    for second in range(0, 36_000, 5):
        one.asked(second, second)
        assert len(one._ends) <= KEPT
    one.handled(18_000)
    assert 17_000 <= one.until <= 18_000
    one.handled(36_000)
    one.asked(36_001, 36_000)
    one.handled(36_000)
    assert one.until == 36_001


def test_while_few_wait_every_end_counts_again() -> None:
    one = CaughtUp(0.0)
    for second in range(10 * KEPT):
        one.asked(second, second + 1)
    one.handled(10 * KEPT)
    for second in (1000, 1001, 1002):
        one.asked(second, second)
        one.handled(second)
        assert one.until == second


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=200))
def test_it_never_claims_more_than_is_handled(steps: list[tuple[int, int]]) -> None:
    """Of each step so many records come, and so many are handled. Every record has the time at which it came."""
    one, came, done = CaughtUp(0.0), list[float](), 0
    for at, (more, handled) in enumerate(steps, 1):
        one.asked(at, len(came))
        came += [at + 0.5] * more
        done = min(len(came), done + handled)
        one.handled(done)
        assert one.until <= min(came[done:], default=at)
