from libs.common.kafka.rewinding_consumer import QUIET_SECONDS, FailureStreak


def test_what_never_happened_lasts_no_time() -> None:
    assert FailureStreak().seconds(1000.0) == 0


def test_it_lasts_from_the_first_time_though_all_is_well_in_between() -> None:
    streak = FailureStreak()
    for at in range(100, 300, 15):
        streak.failed(at, "UnsupportedCodecError")
    assert (streak.seconds(300), streak.cause) == (200, "UnsupportedCodecError")


def test_it_is_over_after_some_quiet_and_begins_anew() -> None:
    streak = FailureStreak()
    streak.failed(100, "KafkaError")
    after = 101 + QUIET_SECONDS
    assert streak.seconds(after) == 0
    streak.failed(after, "KafkaError")
    assert streak.seconds(after + 5) == 5
