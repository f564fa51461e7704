"""Whose turn it is: the laws, over any accounts and any calls that are open."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.turns import Turns

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOM = 320
ACCOUNTS = st.lists(st.sampled_from("abcdefghij"), unique=True)
OPEN = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 60), max_size=5)


def some_turns(*accounts: str, calls: dict[str, int] | None = None) -> Turns:
    found = Turns(ROOM)
    found.opened(calls or {})
    found.wake(accounts)
    return found


@given(ACCOUNTS, OPEN, st.integers(1, 600))
def test_no_more_is_claimed_than_there_is_room_and_everybody_has_a_share(
    accounts: list[str], calls: dict[str, int], most: int
) -> None:
    taken = some_turns(*accounts, calls=calls).take(most)
    assert sum(taken.values()) <= min(most, ROOM - sum(calls.values()))
    assert all(budget >= 1 for budget in taken.values())
    if len(accounts) <= min(most, ROOM - sum(calls.values())):
        assert {account for account in accounts if account not in calls} <= taken.keys()


def test_one_account_alone_has_most_of_the_room_and_whoever_comes_next_most_of_the_rest() -> None:
    turns = some_turns("busy")
    assert turns.take(500) == {"busy": 256}
    turns.opened({"busy": 256})
    turns.wake(["busy", "another", "a third"])
    taken = turns.take(500)
    assert taken == {"another": 32, "a third": 32}


@given(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=60, unique=True))
def test_accounts_whose_calls_hang_leave_room_for_the_next_until_there_is_none(accounts: list[str]) -> None:
    turns, opened = Turns(ROOM), Counter[str]()
    for account in accounts:
        turns.wake([account])
        taken = turns.take(500)
        assert taken or opened.total() >= ROOM
        turns.opened(taken)
        opened.update(taken)
    assert opened.total() <= ROOM


def test_who_has_more_to_do_stands_behind_the_others() -> None:
    turns = some_turns("a", "b", "c")
    assert list(turns.take(2)) == ["a", "b"]
    turns.wake(["a", "b"])
    assert list(turns.take(2)) == ["c", "a"]


def test_an_account_that_nearly_fills_its_room_waits_for_a_good_many_places() -> None:
    turns = some_turns("busy", calls={"busy": 240})
    assert turns.take(500) == {}
    turns.closed({"busy": 20})
    assert turns.take(500) == {"busy": 36}


@given(st.lists(OPEN, max_size=5), st.data())
def test_the_room_that_is_left_is_what_no_call_takes(steps: list[dict[str, int]], data: st.DataObject) -> None:
    turns, opened = Turns(ROOM), Counter[str]()
    for step in steps:
        turns.opened(step)
        opened.update(step)
        ended = {a: data.draw(st.integers(0, n)) for a, n in opened.items()}
        turns.closed(ended)
        opened.subtract(ended)
    left = ROOM - opened.total()
    assert turns.is_crowded == (left < ROOM // 8)
    turns.wake(["somebody new"])
    assert sum(turns.take(1000).values()) == max(0, min(left, max(8, int(left * 0.8))))


def test_what_is_due_later_is_looked_at_then_and_once() -> None:
    turns = Turns(ROOM)
    for seconds in (3, 1, 2):
        turns.wake_at(NOW + timedelta(seconds=seconds), "a")
    turns.wake_at(NOW + timedelta(seconds=9), "b")
    assert turns.next_wait() == NOW + timedelta(seconds=1)
    assert turns.ended_waits(NOW + timedelta(seconds=5)) == {"a"}
    assert turns.ended_waits(NOW + timedelta(seconds=5)) == set()
    assert turns.next_wait() == NOW + timedelta(seconds=9)
