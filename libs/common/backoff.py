"""The wait before a retry: what the response asks for, or an exponential, bounded, jittered step. Pure."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

_DAY_SECONDS = 86_400


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

    None without a valid header, or for a past time.
    """
    text = headers.get("Retry-After", "").strip()
    if not text:  # almost always, and an exception would cost as much as the rest of reading an answer
        return None
    if text.isascii() and text.isdigit():
        wait = timedelta(seconds=min(int(text[:9]), _DAY_SECONDS))
    else:
        try:
            then = parsedate_to_datetime(text)
        except ValueError:
            return None
        if then.tzinfo is None:
            return None
        wait = then - now
    return wait if wait > timedelta(0) else None
