"""Second calls after lost answers are made in rounds, few at first. Pure.

A proof by silence may be wrong. The first few second calls then show it, before every customer of an outage gets a
message twice. After a round that was used up the next one is twice as large, a ``pace`` later, up to ``MOST``. A late
acceptance ends the round, and the next round is small again. The same holds after an outage.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

FEW = 5
MOST = 100


class ResendRound(NamedTuple):
    """``left_over`` of ``size`` may still be released.

    ``late_at``: when a call that was given up was last found to have been accepted.
    """

    opened_at: datetime
    size: int = FEW
    left_over: int = FEW
    late_at: datetime | None = None

    def take(self, wanted: int) -> tuple["ResendRound", int]:
        """Release as many as may be; what is left of the round, and how many these are."""
        taken = min(wanted, self.left_over)
        return self._replace(left_over=self.left_over - taken), taken


def at(
    before: ResendRound | None, now: datetime, *, pace: timedelta, rest: timedelta, since: datetime | None = None
) -> ResendRound:
    """The round that is open now.

    It is a small one again after a ``rest`` without any, and where silence counts anew ``since`` the last one.
    """
    if before is None:
        return ResendRound(now)
    if since is not None and before.opened_at < since:
        return ResendRound(now, late_at=before.late_at)
    age = now - before.opened_at
    if age < pace:
        return before
    size = FEW
    if age <= rest:
        size = before.size if before.left_over else max(FEW, min(2 * before.size, MOST))
    return ResendRound(now, size, size, before.late_at)


def stopped(now: datetime) -> ResendRound:
    """An acceptance came late: the rest of this round is not released."""
    return ResendRound(now, 0, 0, now)
