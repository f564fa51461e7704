"""The 24-hour customer service window.

Rule 1: whether a window is open at an instant is decided in this file and nowhere else.
Rule 2: only the customer's messages and calls open a window. A template, a bridge or a reply of ours opens none.
        ``services.ingest.content.opens_window`` says which messages do, ``services.ingest.parse`` which calls do. The
        statement that stores them (``services.ingest.queries``) moves ``last_customer_at``.
Rule 3: no I/O, no clock; callers pass ``now``.

Source: Meta, "customer service window". A timer of 24 hours starts whenever the customer messages or calls the business
number, and every further message or call starts it anew. Error 131047 counts from the last message "to the sender
number". So a window belongs to one (business number, customer), never to a customer alone.
"""

from datetime import datetime, timedelta
from math import isfinite
from typing import Literal, NamedTuple

CLOCK_SKEW = timedelta(seconds=60)
NO_MARGIN = timedelta(0)
DOUBT_WAIT = timedelta(seconds=15)
"""A doubtful refusal is answered by one more send after this time.

Sends made before that are part of the same doubt.
"""

WindowWord = Literal["open", "closing", "expired", "never"]
"""What people are shown of a window. ``closing``: open, and about to close. ``never``: the customer never wrote."""


class Window(NamedTuple):
    """The facts about one customer's window with one business number."""

    last_customer_at: datetime | None
    """The newest message or call of the customer, by the provider's clock."""
    length: timedelta
    """WINDOW_SECONDS; no default, or one gate would forget the setting."""
    doubt: timedelta
    """WINDOW_DOUBT_SECONDS: Meta's first refusal does not count when the send was made within this time of the
    customer's message. No default."""
    identity_changed_at: datetime | None = None
    """Since when the window is closed without doubt, until the customer writes: the customer has another number."""
    first_refused_at: datetime | None = None
    """When the first send since a customer's message was made that Meta refused because the window was closed
    (131047)."""
    last_refused_at: datetime | None = None
    """The same of the newest such send."""

    @property
    def closes_at(self) -> datetime | None:
        """The first instant at which the window is closed, by the customer's last message alone."""
        return None if self.last_customer_at is None else self.last_customer_at + self.length

    def is_open(self, now: datetime, margin: timedelta = NO_MARGIN) -> bool:
        """Whether a free-form message may go at ``now`` and still arrive ``margin`` later.

        At exactly 24 hours the window is closed. Meta's refusal of a send made since the customer's last message closes
        it until the next one, unless the refusal is in doubt.
        """
        closes_at = self.closes_at
        return closes_at is not None and self.closed_early_at is None and now + margin < closes_at

    @property
    def closed_early_at(self) -> datetime | None:
        """Since when the window is closed whatever the time is, until the customer writes; None where it is not.

        The customer has another number or, perhaps, another person has theirs; or Meta refused without doubt.
        """
        if self.last_customer_at is None:
            return None
        changed = self.identity_changed_at
        if changed is not None and changed < self.last_customer_at:
            changed = None
        refused = self._first_refusal
        if refused is not None and self.is_doubtful:
            refused = None
        return refused if changed is None else changed if refused is None else min(changed, refused)

    def word(self, now: datetime, closing_soon: timedelta) -> WindowWord:
        """What people are shown. ``closing_soon``: CLOSING_SOON_SECONDS."""
        if self.last_customer_at is None:
            return "never"
        if not self.is_open(now):
            return "expired"
        return "open" if self.is_open(now, closing_soon) else "closing"

    @property
    def ends_at(self) -> datetime | None:
        """When the window closes, or when it did: also before its time."""
        closes_at, early = self.closes_at, self.closed_early_at
        return closes_at if early is None or closes_at is None else min(closes_at, early)

    @property
    def is_doubtful(self) -> bool:
        """Whether Meta refused right after the customer wrote, and refused nothing sent ``DOUBT_WAIT`` later."""
        return self.doubtful_since is not None

    @property
    def doubtful_since(self) -> datetime | None:
        """When the first send was made whose refusal is in doubt; None where none is."""
        first = self._first_refusal
        if first is None or self.last_customer_at is None or self.last_refused_at is None or not self.doubt:
            return None
        in_time = first - self.last_customer_at <= self.doubt
        return first if in_time and self.last_refused_at < first + DOUBT_WAIT else None

    @property
    def _first_refusal(self) -> datetime | None:
        """Of the sends since the customer's last message that Meta refused, the first as far as it is known."""
        last, customer_at = self.last_refused_at, self.last_customer_at
        if last is None or customer_at is None or last < customer_at:
            return None
        first = self.first_refused_at
        return last if first is None or first < customer_at else min(first, last)


def customer_instant(provider_seconds: float, received_at: datetime) -> datetime:
    """The instant at which a customer's message counts, from the provider's Unix timestamp in seconds.

    Old stays old, so that a week-old webhook delivered today opens nothing. A timestamp in the future counts as the
    time of receipt plus 60 s at most, so that a wrong clock cannot hold a window open. Milliseconds (seen in the wild)
    are brought to seconds. Raises ValueError for a number that is not finite.
    """
    if not isfinite(provider_seconds):
        raise ValueError("a provider timestamp must be a finite number of seconds")
    latest = received_at + CLOCK_SKEW
    seconds = provider_seconds
    while seconds > max(latest.timestamp() * 100, 1):  # a receipt before 1970 must not make this endless
        seconds /= 1000
    return min(datetime.fromtimestamp(max(seconds, 0), tz=received_at.tzinfo), latest)
