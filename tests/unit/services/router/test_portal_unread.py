from datetime import timedelta

import pytest

from services.router.portal_unread import unread_after


@pytest.mark.parametrize(("minutes", "seconds"), [("30", 1800), ("1", 60), ("0.5", 30), ("10080", 604_800)])
def test_an_organisation_says_how_long_an_answer_may_be_unread(minutes: str, seconds: int) -> None:
    assert unread_after(minutes) == timedelta(seconds=seconds)


@pytest.mark.parametrize("minutes", [None, "0", "-5", "10081", "1e300", "1" + "0" * 400, "0.000001"])
def test_what_is_out_of_bounds_counts_as_thirty_minutes(minutes: str | None) -> None:
    assert unread_after(minutes) == timedelta(minutes=30)
