"""How long WhatsApp is left alone, and for whom. Pure.

Sources: Meta's pair limit asks for 4^n seconds; its throughput limit (130429) clears within seconds; call limits (80007
and the Graph's own) name their end in ``X-Business-Use-Case-Usage``. How long the rest takes Meta does not say.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson

from libs.common.backoff import retry_after
from libs.common.sending.outcomes import BackoffPolicy

PAIR = BackoffPolicy(timedelta(seconds=2), 4, timedelta(minutes=5))
THROUGHPUT = BackoffPolicy(timedelta(seconds=1), 2, timedelta(minutes=1))
CALL_LIMIT = BackoffPolicy(timedelta(seconds=10), 2, timedelta(minutes=10))
MAINTENANCE = BackoffPolicy(timedelta(seconds=30), 2, timedelta(minutes=5))
SPAM = BackoffPolicy(timedelta(minutes=3), 1.2, timedelta(hours=1))
MEDIA = BackoffPolicy(timedelta(seconds=5), 3, timedelta(minutes=1))
MEDIA_TRIES = 3
STRAY = BackoffPolicy(timedelta(seconds=5), 3, timedelta(minutes=5))
"""After an error page of something on the way to Meta: it may be for this message alone."""
UNREACHABLE = BackoffPolicy(timedelta(milliseconds=500), 2, timedelta(seconds=30))

_LONGEST = timedelta(hours=1)
"""An answer that asks for more is not believed: the row is tried again after this, and asks anew."""


def asked_wait(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """The wait that an answer asks for: ``Retry-After`` (seconds or a date), or the call limit's own word.

    None when it asks for none.

    "At once" counts as none: then our own curve spares the provider.
    """
    found = retry_after(headers, now) or _usage(headers.get("X-Business-Use-Case-Usage", ""))
    return None if found is None else min(found, _LONGEST)


def _usage(value: str) -> timedelta | None:
    """The longest ``estimated_time_to_regain_access``, in minutes, of any account it speaks of."""
    try:
        usage: Any = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    entries = (
        [entry for group in usage.values() if isinstance(group, list) for entry in group]
        if isinstance(usage, dict)
        else []
    )
    waits = [entry.get("estimated_time_to_regain_access") for entry in entries if isinstance(entry, dict)]
    minutes = [w for w in waits if isinstance(w, int | float) and not isinstance(w, bool) and w > 0]
    return timedelta(minutes=min(float(max(minutes)), 1440)) if minutes else None
