"""What silence proves. Pure.

Meta cannot be asked about a message; its statuses tell, and they come through ingest. So silence about a send proves something only when
ingest has had nothing left to read for the whole grace, on every partition of the webhooks, since the send was claimed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.sending.outcomes import Absent, Accepted, Evidence, Found, Unclear


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """One partition: nothing waited at ``at``, and without a gap since ``since``."""

    at: datetime
    since: datetime


def weigh(seen: tuple[Accepted, ...], progress: Iterable[CaughtUp], claimed_at: datetime, grace: timedelta) -> Evidence:
    """What is known of a call that was claimed then: accepted, certainly not, or too early to tell. No partitions: never certain."""
    if seen:
        return Found(seen)
    quiet = [partition.at - max(partition.since, claimed_at) for partition in progress]
    return Absent() if quiet and min(quiet) >= grace else Unclear()
