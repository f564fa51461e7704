"""The sandbox's own wall clock: a provider does not use the clock of its customer."""

import time
from datetime import UTC, datetime


def unix_now() -> float:
    return time.time()


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def ours(seconds: float, pace: float) -> float:
    """How long a provider's ``seconds`` take here, where ``pace`` of them pass in one of ours."""
    return seconds / pace
