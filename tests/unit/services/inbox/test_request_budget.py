"""A person's requests have a budget of their own, which fills again."""

from hypothesis import given
from hypothesis import strategies as st

from services.inbox.request_budget import BURST, RATE, RequestBudget


def test_a_loop_is_slowed_and_nobody_else() -> None:
    budget = RequestBudget()
    answers = [budget.seconds_to_wait("acme", "olga", 100.0) for _ in range(BURST + 5)]
    assert answers[:BURST] == [None] * BURST
    assert all(wait is not None and 0 < wait <= 1 / RATE for wait in answers[BURST:])
    assert budget.seconds_to_wait("acme", "marek", 100.0) is None
    assert budget.seconds_to_wait("other", "olga", 100.0) is None


def test_who_waits_as_long_as_was_said_is_answered() -> None:
    budget = RequestBudget()
    while (wait := budget.seconds_to_wait("acme", "olga", 100.0)) is None:
        pass
    assert budget.seconds_to_wait("acme", "olga", 100.0 + wait + 0.0001) is None


@given(steps=st.lists(st.floats(0, 0.1), max_size=300))
def test_never_more_than_the_burst_and_the_rate_are_answered(steps: list[float]) -> None:
    budget, now, answered = RequestBudget(), 0.0, 0
    for step in steps:
        now += step
        answered += sum(budget.seconds_to_wait("acme", "olga", now) is None for _ in range(20))
    assert answered <= BURST + now * RATE + 1
