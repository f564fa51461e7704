"""How long to wait before the next try: exponential, bounded, jittered. Pure; randomness is an argument."""

from collections.abc import Callable
from datetime import timedelta


def backoff(
    attempt: int, *, base: timedelta, cap: timedelta, jitter: Callable[[], float], factor: float = 2.0
) -> timedelta:
    """The wait after failed try number ``attempt`` (1 is the first).

    ``jitter`` returns a number in [0, 1); the wait lies between half of the exponential step and the whole of it,
    never above ``cap``, never below half of ``base``.
    """
    step = min(base.total_seconds() * factor ** min(max(attempt - 1, 0), 62), cap.total_seconds())
    return timedelta(seconds=step * (0.5 + jitter() / 2))
