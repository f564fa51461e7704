"""The 24-hour customer service window.

Rule 1: every rule about when a window is open lives in this file.
Rule 2: no I/O, no clock; callers pass ``now``.

Source: Meta, "customer service window": a timer of 24 hours starts whenever the customer messages or calls the business number, and every
further message or call starts it anew. Error 131047 counts from the last message "to the sender number", so a window belongs to one
(business number, customer), never to a customer alone.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite

CLOCK_SKEW = timedelta(seconds=60)
NO_MARGIN = timedelta(0)


@dataclass(frozen=True, slots=True)
class Window:
    """What we know of one customer's window with one business number."""

    last_customer_at: datetime | None
    """The newest message or call of the customer, by the provider's clock."""
    length: timedelta
    """WINDOW_SECONDS; no default, or one gate would forget the setting."""
    refused_at: datetime | None = None
    """When Meta last refused a free-form message because the window was closed (131047)."""

    @property
    def closes_at(self) -> datetime | None:
        """The first instant at which the window is closed, by the customer's last message alone."""
        return None if self.last_customer_at is None else self.last_customer_at + self.length

    def is_open(self, now: datetime, margin: timedelta = NO_MARGIN) -> bool:
        """Whether a free-form message may go at ``now`` and still arrive ``margin`` later.

        At exactly 24 hours the window is closed. Meta's refusal closes it until the customer's next message: Meta has the last word.
        """
        closes_at = self.closes_at
        if self.last_customer_at is None or closes_at is None:
            return False
        if self.refused_at is not None and self.refused_at >= self.last_customer_at:
            return False
        return now + margin < closes_at


def customer_instant(provider_seconds: float, received_at: datetime) -> datetime:
    """The instant at which a customer's message counts, from the provider's Unix timestamp in seconds.

    Old stays old, so that a week-old webhook delivered today opens nothing. A timestamp in the future counts as the time of
    receipt plus 60 s at most, so that a wrong clock cannot hold a window open. Milliseconds (seen in the wild) are brought to seconds.
    Raises ValueError for a number that is not finite.
    """
    if not isfinite(provider_seconds):
        raise ValueError("a provider timestamp must be a finite number of seconds")
    latest = received_at + CLOCK_SKEW
    seconds = provider_seconds
    while seconds > latest.timestamp() * 100:
        seconds /= 1000
    return min(datetime.fromtimestamp(max(seconds, 0), tz=received_at.tzinfo), latest)
