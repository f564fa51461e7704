"""How many second calls are released, and when."""

from datetime import UTC, datetime, timedelta

from libs.common.sending.resend_rounds import FEW, MOST, ResendRound, at, stopped

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)
PACE, REST = timedelta(seconds=30), timedelta(seconds=330)


def used_up(round_: ResendRound) -> ResendRound:
    return round_.take(MOST)[0]


def test_a_round_lets_few_go_and_the_rest_waits_for_the_next() -> None:
    first = at(None, NOW, pace=PACE, rest=REST)
    left, taken = first.take(3)
    assert (taken, left.take(10)[1]) == (3, FEW - 3)
    assert used_up(first).take(1)[1] == 0
    assert at(used_up(first), NOW + PACE - timedelta(microseconds=1), pace=PACE, rest=REST) == used_up(first)


def test_each_round_that_was_used_up_is_followed_by_one_twice_as_large() -> None:
    sizes, round_ = [], at(None, NOW, pace=PACE, rest=REST)
    for n in range(1, 8):
        sizes.append(round_.size)
        round_ = at(used_up(round_), NOW + n * PACE, pace=PACE, rest=REST)
    assert sizes == [5, 10, 20, 40, 80, 100, 100]


def test_a_round_that_was_not_used_up_is_followed_by_its_like_and_after_a_rest_there_are_few() -> None:
    grown = ResendRound(NOW, 40, 1)
    assert at(grown, NOW + PACE, pace=PACE, rest=REST).take(MOST)[1] == 40
    assert at(grown, NOW + REST + PACE, pace=PACE, rest=REST).take(MOST)[1] == FEW


def test_an_acceptance_that_comes_late_ends_the_round_and_the_next_is_a_small_one() -> None:
    ended = stopped(NOW)
    assert ended.take(1)[1] == 0
    after = at(ended, NOW + PACE, pace=PACE, rest=REST)
    assert (after.size, after.left_over, after.late_at) == (FEW, FEW, NOW)


def test_after_an_outage_there_are_few_again_whatever_was_left() -> None:
    for before in (used_up(ResendRound(NOW, 40)), ResendRound(NOW, MOST, 60, NOW)):
        after = at(before, NOW + PACE, pace=PACE, rest=REST, since=NOW + timedelta(microseconds=1))
        assert (after.left_over, after.late_at) == (FEW, before.late_at)
        assert at(before, NOW + PACE, pace=PACE, rest=REST, since=NOW).size > FEW
