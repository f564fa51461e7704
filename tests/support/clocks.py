"""A clock in a test's hand."""

from datetime import datetime, timedelta

from libs.common.clock import utc_now


class HeldClock:
    """Stands still since it was made, so that what a step takes counts for nothing; the test puts it forward.

    Where loops run that must see time pass, ``go_on`` lets it run with the real one.
    """

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        self._stands_at: datetime | None = utc_now()

    def __call__(self) -> datetime:
        return (self._stands_at or utc_now()) + self.ahead

    def forward(self, by: timedelta) -> None:
        self.ahead += by

    def go_on(self) -> None:
        self._stands_at = None
