"""Up to when all of a partition is done."""

import math
from datetime import UTC, datetime, timedelta

from services.ingest.tasks import caught_up

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)


def test_all_is_done_up_to_the_moment_at_which_the_brokers_named_the_end_that_is_reached() -> None:
    assert caught_up({2: 0.0, 0: 1.5, 1: 7.0}, NOW) == {
        0: NOW - timedelta(seconds=1.5),
        1: NOW - timedelta(seconds=7),
        2: NOW,
    }


def test_nothing_is_said_of_a_partition_of_which_nothing_is_known() -> None:
    assert caught_up({0: math.inf, 1: 1.0}, NOW) == {1: NOW - timedelta(seconds=1)}
