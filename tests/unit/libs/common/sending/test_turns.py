"""Whose turn it is: the laws, over any accounts and any calls that are open."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.rows import RUN
from libs.common.sending.turns import Turns

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROOM = 320
ACCOUNTS = st.lists(st.sampled_from("abcdefghij"), unique=True)
OPEN = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 60), max_size=5)


def some_turns(*accounts: str, calls: dict[str, int] | None = None) -> Turns:
    found = Turns(ROOM)
    found.opened(calls or {}, calls or {})
    found.wake(accounts)
    return found


def in_runs(data: st.DataObject, rows: dict[str, int]) -> dict[str, int]:
    """How many runs these rows may be, each of up to eight."""
    return {account: data.draw(st.integers(-(-number // RUN), number)) for account, number in rows.items()}


@given(ACCOUNTS, OPEN, st.integers(1, 600))
def test_no_more_is_claimed_than_there_is_room_and_everybody_has_a_share(
    accounts: list[str], calls: dict[str, int], most: int
) -> None:
    taken = some_turns(*accounts, calls=calls).take(most)
    assert sum(taken.values()) <= min(most, ROOM - sum(calls.values()))
    assert all(budget >= 1 for budget in taken.values())
    if len(accounts) <= min(most, ROOM - sum(calls.values())):
        assert {account for account in accounts if account not in calls} <= taken.keys()


def test_one_account_alone_has_half_of_the_room_and_whoever_comes_next_half_of_the_rest() -> None:
    turns = some_turns("busy")
    assert turns.take(500) == {"busy": 160}
    turns.opened({"busy": 160}, {"busy": 160})
    turns.wake(["busy", "another", "a third"])
    taken = turns.take(500)
    assert taken == {"another": 80, "a third": 80}


@given(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=60, unique=True), st.data())
def test_accounts_whose_calls_hang_leave_room_for_the_next_until_there_is_none(
    accounts: list[str], data: st.DataObject
) -> None:
    turns, running, claimed = Turns(ROOM), Counter[str](), Counter[str]()
    for account in accounts:
        for _ in range(3):  # more comes of it while its calls hang
            turns.wake([account])
            taken = turns.take(500)
            assert taken or claimed[account] or running.total() >= ROOM or claimed.total() >= 2 * ROOM
            runs = in_runs(data, taken)
            turns.opened(runs, taken)
            running.update(runs)
            claimed.update(taken)
    assert running.total() <= ROOM
    assert claimed.total() <= 2 * ROOM


def test_who_has_more_to_do_stands_behind_the_others() -> None:
    turns = some_turns("a", "b", "c")
    assert list(turns.take(2)) == ["a", "b"]
    turns.wake(["a", "b"])
    assert list(turns.take(2)) == ["c", "a"]


def test_an_account_that_nearly_fills_its_room_waits_for_a_good_many_places() -> None:
    turns = some_turns("busy", calls={"busy": 150})
    assert turns.take(500) == {}
    assert [turns.answered("busy") for _ in range(10)] == [False] * 9 + [True]
    assert turns.take(500) == {"busy": 20}


@given(st.lists(OPEN, max_size=5), st.data())
def test_answers_that_wait_to_be_recorded_take_no_place_and_are_no_more_than_places(
    steps: list[dict[str, int]], data: st.DataObject
) -> None:
    turns, running, claimed = Turns(ROOM), Counter[str](), Counter[str]()
    for step in steps:
        turns.wake(step)
        taken = turns.take(data.draw(st.integers(1, 600)))
        assert running.total() + sum(taken.values()) <= ROOM
        assert claimed.total() + sum(taken.values()) <= 2 * ROOM
        runs = in_runs(data, taken)
        turns.opened(runs, taken)
        running.update(runs)
        claimed.update(taken)
        for account, calls in list(running.items()):
            for _ in range(data.draw(st.integers(0, calls))):
                turns.answered(account)
                running[account] -= 1
        recorded = {a: data.draw(st.integers(0, n - running[a])) for a, n in claimed.items()}
        turns.recorded(recorded, 0.0)
        claimed.subtract(recorded)
    assert turns.free == min(ROOM - running.total(), 2 * ROOM - claimed.total())


def test_while_nothing_is_recorded_claiming_stops_at_twice_the_room_and_leaves_a_stranger_some() -> None:
    turns, claimed = Turns(ROOM), Counter[str]()
    for _ in range(20):
        turns.wake(["busy"])
        taken = turns.take(500)
        turns.opened(taken, taken)
        claimed.update(taken)
        for _ in range(sum(taken.values())):
            turns.answered("busy")
    assert claimed == {"busy": ROOM}
    turns.wake(["busy", "stranger"])
    assert turns.take(500) == {"stranger": ROOM // 2}


def test_whoever_waits_for_a_place_is_woken_by_the_first_one() -> None:
    turns = some_turns(calls=dict.fromkeys("abcdefgh", ROOM // 8))
    turns.wake(["stranger"])
    assert turns.take(500) == {}
    assert turns.answered("a")
    assert turns.take(500) == {"stranger": 1}
    turns.opened({"stranger": 1}, {"stranger": 1})
    assert not turns.answered("b")  # nobody waits


def test_nobody_is_woken_while_as_many_answers_wait_to_be_recorded_as_may() -> None:
    turns = Turns(ROOM)
    turns.opened({"a": 1}, {"a": 2 * ROOM})
    turns.wake(["stranger"])
    assert not turns.answered("a")


@given(st.lists(OPEN, max_size=5), st.data())
def test_the_room_that_is_left_is_what_no_call_takes(steps: list[dict[str, int]], data: st.DataObject) -> None:
    turns, opened = Turns(ROOM), Counter[str]()
    for step in steps:
        turns.opened(step, step)
        opened.update(step)
        ended = {a: data.draw(st.integers(0, n)) for a, n in opened.items()}
        for account, calls in ended.items():
            for _ in range(calls):
                turns.answered(account)
        turns.recorded(ended, 0.0)
        opened.subtract(ended)
    left = ROOM - opened.total()
    assert turns.is_crowded == (left < ROOM // 8)
    turns.wake(["somebody new"])
    assert sum(turns.take(1000).values()) == max(0, min(left, max(8, left // 2)))


def test_what_is_due_later_is_looked_at_then_and_once() -> None:
    turns = Turns(ROOM)
    for seconds in (3, 1, 2):
        turns.wake_at(NOW + timedelta(seconds=seconds), "a")
    turns.wake_at(NOW + timedelta(seconds=9), "b")
    assert turns.next_wait() == NOW + timedelta(seconds=1)
    assert turns.ended_waits(NOW + timedelta(seconds=5)) == {"a"}
    assert turns.ended_waits(NOW + timedelta(seconds=5)) == set()
    assert turns.next_wait() == NOW + timedelta(seconds=9)


def test_a_row_that_is_being_stored_has_a_place_unless_its_account_waits_or_little_is_left() -> None:
    turns = some_turns("busy")
    assert turns.take_at_once({"busy": 3, "calm": 3}) == {"calm": 3}
    with turns.reserved({"other": ROOM - ROOM // 8 - 2}):
        assert turns.take_at_once({"calm": 3}) == {"calm": 2}
    assert turns.with_claims(["other"]) == set()
    assert turns.take_at_once({"calm": ROOM}) == {"calm": ROOM // 2}
    assert turns.free == ROOM


def test_the_end_of_a_row_wakes_an_account_that_may_have_others_and_no_other() -> None:
    turns = some_turns("held", "empty")
    turns.take(500)
    turns.emptied(["empty"])
    turns.moved(["held", "empty", "stranger"])
    assert turns.take(500).keys() == {"held"}
    turns.wake(["empty"])  # while a claim found nothing, a row came
    turns.emptied(["empty"])
    turns.moved(["empty"])
    assert turns.take(500).keys() == {"empty"}


def test_an_account_has_open_claims_until_the_last_of_them_is_recorded() -> None:
    turns = some_turns(calls={"a": 2})
    turns.answered("a")
    turns.recorded({"a": 1}, 0.0)
    assert turns.with_claims(["a", "b"]) == {"a"}
    turns.recorded({"a": 1}, 0.0)
    assert turns.with_claims(["a", "b"]) == set()


def test_a_full_batch_has_room_soon_where_claims_of_its_own_accounts_are_recorded_as_fast_as_it_lacks_some() -> None:
    turns = some_turns(calls={"busy": 100, "other": 50})  # of 320 places 170 are free, of which 40 stay so
    batch = {"busy": 100, "other": 100}
    turns.recorded({"gone": 500}, 8.0)
    assert not turns.room_comes(batch, 8.0)  # nothing of theirs was recorded
    turns.opened({}, {"busy": 70})
    turns.recorded({"busy": 70}, 8.5)
    assert turns.room_comes(batch, 9.9)
    assert not turns.room_comes({"busy": 101, "other": 100}, 9.9)  # 71 are missing
    assert not turns.room_comes({"busy": 65, "other": 65}, 9.9)  # there is room
    assert not turns.room_comes({"other": 100, "third": 100}, 9.9)
    assert not turns.room_comes(batch, 10.0)  # that was too long ago
    turns.recorded({"busy": 70}, 10.0)
    assert not turns.room_comes(batch, 10.0)  # so few claims of theirs are left


def test_a_batch_waits_for_no_account_that_has_more_than_half_of_it() -> None:
    turns = some_turns(calls={"flood": ROOM // 2})
    turns.opened({}, {"flood": 200})
    turns.recorded({"flood": 200}, 8.0)
    assert turns.room_comes({"flood": 100, "a": 50, "b": 50}, 8.0)
    assert not turns.room_comes({"flood": 101, "a": 50, "b": 50}, 8.0)


def test_an_account_with_open_claims_waits_while_little_is_left_and_is_woken_when_there_is_more() -> None:
    turns = some_turns(calls={"busy": ROOM - ROOM // 8})
    turns.opened({"other": 1}, {"waits": 1})
    turns.wake(["waits"])
    assert turns.take(500) == {}
    turns.wake(["stranger"])
    assert turns.take(500) == {"stranger": 19}  # half of the 39 that are left
    assert turns.answered("busy")  # now 40 are
    assert turns.take(500) == {"waits": 20}


def test_the_answer_of_an_account_that_waits_for_nothing_wakes_nobody() -> None:
    turns = some_turns("stranger", calls={"busy": 10})
    assert not turns.answered("busy")


def test_a_wait_ends_at_its_instant_and_where_none_is_known_there_is_none() -> None:
    turns = Turns(ROOM)
    assert turns.next_wait() is None
    turns.wake_at(NOW, "a")
    assert turns.ended_waits(NOW - timedelta(microseconds=1)) == set()
    assert turns.ended_waits(NOW) == {"a"}
    assert turns.next_wait() is None


def test_waits_beyond_a_bound_are_left_to_the_next_look() -> None:
    turns = Turns(ROOM)
    for number in range(10_001):
        turns.wake_at(NOW, str(number))
    assert len(turns.ended_waits(NOW)) == 10_000
