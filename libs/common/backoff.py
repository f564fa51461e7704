"""The wait before a retry: what the response asks for, or an exponential, bounded, jittered step. Pure."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST_ASKED = timedelta(hours=1)
"""The longest wait that an answer is granted. Where it asks for more, the next call asks again."""


def backoff(
    attempt: int, *, base: timedelta, cap: timedelta, jitter: Callable[[], float], factor: float = 2.0
) -> timedelta:
    """The wait after failed try number ``attempt`` (1 is the first).

    ``jitter`` returns a number in [0, 1); the wait lies between half of the exponential step and the whole of it,
    never above ``cap``, never below half of ``base``.
    """
    step = min(base.total_seconds() * factor ** min(max(attempt - 1, 0), 62), cap.total_seconds())
    return timedelta(seconds=step * (0.5 + jitter() / 2))


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """The wait that ``Retry-After`` asks for, in seconds or until a date.

    At most ``LONGEST_ASKED``. None without a valid header, or for a past time.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:  # almost always, and an exception would cost as much as the rest of reading an answer
        return None
    if text.isascii() and text.isdigit():
        wait = timedelta(seconds=int(text[:9]))
    else:
        try:
            then = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        if then.tzinfo is None:
            return None
        wait = then - now
    return min(wait, LONGEST_ASKED) if wait > timedelta(0) else None
