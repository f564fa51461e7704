"""When a partition counts as caught up."""

import math

from services.ingest.tasks import PATIENCE, caught_up

PATIENT = PATIENCE.total_seconds()


def test_a_partition_is_caught_up_while_all_that_was_there_shortly_ago_is_done() -> None:
    assert caught_up({2: 0.0, 0: PATIENT, 1: PATIENT + 0.1}) == [0, 2]


def test_a_partition_of_which_nothing_is_known_is_not() -> None:
    assert caught_up({0: math.inf}) == []
