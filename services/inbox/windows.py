"""The window of a conversation, as people are shown it. Pure.

Rule 1: whether it is open is the answer of ``libs.common.window``, the rule that the router asks.
Rule 2: where the router keeps a margin, a window closes for people when it closes for the router: that much earlier.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.window import NO_MARGIN, Window, WindowWord


@dataclass(frozen=True, slots=True)
class WindowRule:
    """WINDOW_SECONDS, WINDOW_DOUBT_SECONDS, CLOSING_SOON_SECONDS and WINDOW_MARGIN_SECONDS."""

    length: timedelta
    doubt: timedelta
    closing_soon: timedelta
    margin: timedelta = NO_MARGIN

    @property
    def usable(self) -> timedelta:
        """How long the router sends free-form messages after the customer's last one."""
        return self.length - self.margin


@dataclass(frozen=True, slots=True)
class WindowFacts:
    """What a conversation's row says of its window."""

    last_customer_at: datetime | None
    identity_changed_at: datetime | None
    first_refused_at: datetime | None
    last_refused_at: datetime | None

    def under(self, rule: WindowRule) -> Window:
        """The rule object on these facts."""
        return Window(
            self.last_customer_at,
            rule.usable,
            rule.doubt,
            self.identity_changed_at,
            self.first_refused_at,
            self.last_refused_at,
        )


@dataclass(frozen=True, slots=True)
class ShownWindow:
    """``closes_at``: when it closes, or when it did, also before its time. Both times are None where nobody wrote."""

    state: WindowWord
    opened_at: datetime | None
    closes_at: datetime | None
    open: bool


def shown(facts: WindowFacts, rule: WindowRule, now: datetime) -> ShownWindow:
    """What people are shown at ``now``."""
    window = facts.under(rule)
    return ShownWindow(
        window.word(now, rule.closing_soon), window.last_customer_at, window.ends_at, window.is_open(now)
    )
