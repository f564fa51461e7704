"""What silence proves. Pure.

Meta cannot be asked about a message; its statuses tell, and they come through ingest. So silence about a send proves something only when it lasted
for the whole grace since the send was claimed, and every status could have come in that time (``libs.common.sending.coverage``).

A send has one call more at most. While Meta answers nobody, that call would be lost like the first: it is kept until Meta answers again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.sending.coverage import Quiet
from libs.common.sending.outcomes import (
    Accepted,
    Confirmed,
    Evidence,
    Inconclusive,
    NotSent,
    RetryLater,
    SendOutcome,
    Unknown,
)

UNRESPONSIVE_AFTER = 5
"""So many calls in a row without an answer, of any number, and Meta counts as silent."""
PROBE_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Seen:
    """The ids that Meta is known to have given a send, and when the first of them came to be known."""

    ids: tuple[Accepted, ...]
    at: datetime


def resolve(seen: Seen | None, quiet: Quiet | None, claimed_at: datetime) -> Evidence:
    """What is known of a call that was claimed then: accepted, certainly not, or too early to tell."""
    if seen is not None:
        return Confirmed(seen.ids)
    return NotSent() if quiet is not None and quiet.proves(claimed_at) else Inconclusive()


def came_late(seen: Seen, quiet: Quiet | None, claimed_at: datetime) -> bool:
    """Whether silence had proved already that the call was not accepted, when it turned out to be."""
    return quiet is not None and seen.at >= quiet.proven_at(claimed_at)


@dataclass(slots=True)
class Silence:
    """Whether Meta answers this process; at its start that is not known, and one call shows it."""

    unanswered: int = UNRESPONSIVE_AFTER
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

    def lets(self, wanted: int, now: datetime) -> int:
        """How many of the sends that may be made again may go now: while Meta is silent only one a minute."""
        if self.unanswered < UNRESPONSIVE_AFTER or wanted == 0:
            return wanted
        return 1 if self.probed_at is None or now - self.probed_at >= PROBE_EVERY else 0

    def let(self, number: int, now: datetime) -> None:
        """So many go."""
        if number:
            self.probed_at = now
