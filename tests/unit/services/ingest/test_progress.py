"""When a partition counts as caught up."""

from datetime import UTC, datetime

from services.ingest.progress import PATIENCE, caught_up

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def test_a_partition_read_and_handled_to_its_end_is_caught_up() -> None:
    assert caught_up({0: True, 1: False, 2: True}, {}, NOW) == [0, 2]


def test_under_load_what_was_done_last_counts() -> None:
    done = {0: ms(NOW - PATIENCE / 2), 1: ms(NOW - PATIENCE * 2)}
    assert caught_up({0: False, 1: False}, done, NOW) == [0]


def test_a_partition_that_went_elsewhere_is_not_spoken_of() -> None:
    assert caught_up({0: True}, {1: ms(NOW)}, NOW) == [0]
