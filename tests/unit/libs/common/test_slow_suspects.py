"""Who is too slow alone, told apart from who met a slow database."""

from libs.common.slow_suspects import CALM, TRIES, SlowSuspects


def fails_confirmed(suspects: SlowSuspects[str], key: str, now: float) -> bool:
    """It fails right after others passed; whether it is guilty now."""
    suspects.others_passed(10, now)
    return suspects.is_poison(key, now, now + 0.1, locked=False, hurried=True)


def failures_asked(suspects: SlowSuspects[str], key: str, now: float) -> int:
    """How often it has to fail beside others that pass."""
    suspects.begin(now)
    return next(number for number in range(1, 100) if fails_confirmed(suspects, key, now + number))


def a_cleared_one(suspects: SlowSuspects[str], now: float) -> None:
    """One that fails twice and passes then."""
    suspects.begin(now)
    assert not fails_confirmed(suspects, "innocent", now)
    assert not fails_confirmed(suspects, "innocent", now + 1)
    suspects.passes("innocent", now + 2)


def test_who_fails_often_enough_beside_others_that_pass_is_poison() -> None:
    assert failures_asked(SlowSuspects(), "poison", 0) == TRIES


def test_after_a_cleared_one_one_more_is_asked_also_where_nobody_was_suspected_in_between() -> None:
    suspects = SlowSuspects[str]()
    a_cleared_one(suspects, 0)
    assert failures_asked(suspects, "poison", CALM / 2) == TRIES + 2


def test_once_it_was_calm_for_a_while_no_more_is_asked() -> None:
    suspects = SlowSuspects[str]()
    a_cleared_one(suspects, 0)
    assert failures_asked(suspects, "poison", 2 + CALM + 1) == TRIES


def test_a_lone_suspect_may_wait_for_a_lock_for_hours_and_be_cleared_then() -> None:
    suspects, now = SlowSuspects[str](), 0.0
    for _ in range(2_000):
        assert not suspects.is_poison("row", now, now + 1.2, locked=True, hurried=True)
        now += 1.2 + suspects.wait(now + 1.2)
    assert now > 5 * 3600
    suspects.passes("row", now)
    assert not suspects
