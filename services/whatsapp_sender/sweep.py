"""What silence proves. Pure.

Meta cannot be asked about a message; its statuses tell, and they come through ingest. So silence about a send proves something only when
ingest has had nothing left to read for the whole grace, on every partition of the webhooks, since the send was claimed.

A send has one call more at most. While Meta answers nobody, that call would be lost like the first: it is kept until Meta answers again.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.sending.outcomes import Absent, Accepted, Evidence, Found, RetryLater, SendOutcome, Unclear, Unknown
from libs.common.sending.rows import Key

SILENT_AFTER = 5
"""So many calls in a row without an answer, of any number, and Meta counts as silent."""
PROBE_EVERY = timedelta(minutes=1)


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


@dataclass(slots=True)
class Silence:
    """Whether Meta answers this process; at its start that is not known, and one call shows it."""

    unanswered: int = SILENT_AFTER
    probed_at: datetime | None = None

    def heard(self, outcome: SendOutcome) -> None:
        """A call ended so. What never left says nothing."""
        match outcome:
            case Unknown(answered=False) | RetryLater(answered=False):
                self.unanswered += 1
            case RetryLater(code="never_left"):
                return
            case _:
                self.unanswered = 0

    def keep(self, evidence: Mapping[Key, Evidence], again: Collection[Key], now: datetime) -> dict[Key, Evidence]:
        """While Meta is silent only one a minute of the sends that may be made ``again`` is called absent; the others stay unclear."""
        found = dict(evidence)
        absent = [key for key in again if isinstance(found.get(key), Absent)]
        if self.unanswered < SILENT_AFTER or not absent:
            return found
        if self.probed_at is None or now - self.probed_at >= PROBE_EVERY:
            self.probed_at = now
            absent.pop(0)
        return found | dict.fromkeys(absent, Unclear())
