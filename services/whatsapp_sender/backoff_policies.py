"""The waits before a send to WhatsApp is tried again, by cause. Pure.

Sources: Meta's pair limit asks for 4^n seconds; its throughput limit (130429) clears within seconds; call limits (80007
and the Graph's own) name their end in ``X-Business-Use-Case-Usage`` or ``X-App-Usage``. Meta documents no time for the
others.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from libs.common.backoff import LONGEST_ASKED, retry_after
from libs.common.sending.outcomes import BackoffPolicy

PAIR = BackoffPolicy(timedelta(seconds=2), 4, timedelta(minutes=5))
THROUGHPUT = BackoffPolicy(timedelta(seconds=1), 2, timedelta(minutes=1))
CALL_LIMIT = BackoffPolicy(timedelta(seconds=10), 2, timedelta(minutes=10))
MAINTENANCE = BackoffPolicy(timedelta(seconds=30), 2, timedelta(minutes=5))
SPAM = BackoffPolicy(timedelta(minutes=3), 1.2, timedelta(hours=1))
MEDIA = BackoffPolicy(timedelta(seconds=5), 3, timedelta(minutes=1))
MEDIA_TRIES = 3
STRAY = BackoffPolicy(timedelta(seconds=5), 3, timedelta(minutes=5))
"""After an error page of a proxy on the way to Meta, which may concern this message alone."""
UNREACHABLE = BackoffPolicy(timedelta(milliseconds=500), 2, timedelta(seconds=30))


_USAGES = ("X-Business-Use-Case-Usage", "X-App-Usage")


def asked_wait(headers: Mapping[str, str], now: Callable[[], datetime]) -> timedelta | None:
    """The wait that an answer asks for: ``Retry-After`` (seconds or a date), or the time that a call limit names.

    None when it asks for none, or for none at all ("0"): then the row waits by its own policy.
    """
    found = retry_after(headers, now()) if "Retry-After" in headers else None
    for name in _USAGES:
        found = found or (_usage(headers[name]) if name in headers else None)
    return None if found is None else min(found, LONGEST_ASKED)


def _usage(value: str) -> timedelta | None:
    """The longest ``estimated_time_to_regain_access``, in minutes, of any account it speaks of, or of the app."""
    try:
        usage: Any = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    entries = (
        [usage, *(entry for group in usage.values() if isinstance(group, list) for entry in group)]
        if isinstance(usage, dict)
        else []
    )
    waits = [entry.get("estimated_time_to_regain_access") for entry in entries if isinstance(entry, dict)]
    minutes = [w for w in waits if isinstance(w, int | float) and not isinstance(w, bool) and w > 0]
    return timedelta(minutes=min(float(max(minutes)), 1440)) if minutes else None
