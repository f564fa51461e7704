"""When a partition counts as caught up."""

from datetime import UTC, datetime

from services.ingest.progress import PATIENCE, Progress
from tests.support.records import a_record

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


def ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def test_a_partition_read_and_handled_to_its_end_is_caught_up() -> None:
    assert Progress(lambda: NOW).caught_up({0: True, 1: False, 2: True}) == [0, 2]


def test_under_load_what_was_handled_last_counts() -> None:
    progress = Progress(lambda: NOW)
    young, old = (
        a_record(partition=number, timestamp_ms=ms(NOW - age))
        for number, age in enumerate((PATIENCE / 2, PATIENCE * 2))
    )
    progress.done([young, old])
    assert progress.caught_up({0: False, 1: False}) == [0]


def test_a_partition_that_went_elsewhere_is_not_spoken_of() -> None:
    progress = Progress(lambda: NOW)
    progress.done([a_record(partition=1, timestamp_ms=ms(NOW))])
    assert progress.caught_up({0: True}) == [0]
