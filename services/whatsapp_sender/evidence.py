"""The evidence about a send whose answer was lost. Pure.

Meta cannot be asked about a message. Its statuses name the send, and they come through ingest. So the absence of a
status proves that a call was not accepted only under two conditions: it lasted for the whole grace since the call was
claimed, and every status could have come in that time (``libs.common.sending.coverage``).
"""

from dataclasses import dataclass
from datetime import datetime

from libs.common.sending.coverage import Quiet
from libs.common.sending.outcomes import (
    Accepted,
    Confirmed,
    Evidence,
    Inconclusive,
    NotSent,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """The ids that Meta gave a send, as far as they are known, and when the first of them became known."""

    ids: tuple[Accepted, ...]
    at: datetime


def resolve(seen: Seen | None, quiet: Quiet | None, claimed_at: datetime) -> Evidence:
    """The evidence about a call that was claimed then: accepted, certainly not accepted, or too early to know."""
    if seen is not None:
        return Confirmed(seen.ids)
    return NotSent() if quiet is not None and quiet.proves(claimed_at) else Inconclusive()


def came_late(seen: Seen, quiet: Quiet | None, claimed_at: datetime) -> bool:
    """Whether the acceptance became known after silence had proved that the call was not accepted."""
    return quiet is not None and seen.at >= quiet.proven_at(claimed_at)
