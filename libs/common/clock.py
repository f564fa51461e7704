"""The only reader of the wall clock.

Everything that judges time takes ``now`` as an argument; whoever needs it calls a ``Clock`` that was handed to it.
"""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present instant, timezone-aware, in UTC."""
    return datetime.now(UTC)
