"""From when on silence proves something: the stretch of time in which every status could have come, and has been read.

Pure.

Law 1: no moment of the stretch is one at which a POST was refused, nobody served, or a partition of the webhooks was
       behind or is not known.
Law 2: it ends where knowledge ends: at the last moment up to which every edge has stored what it refused. A POST that
       was begun before and taken may have come to Kafka later, but no later than the edges last had one in hand, nor
       than ``HELD`` after it was begun: so far must have been read, too.
Law 3: after an outage it begins ``settling`` later, for the provider tries again with growing pauses. A call that was
       found accepted after silence had proved the contrary shows that these are longer than that: as good as an outage.
Law 4: that nobody posts is neutral. When a POST came is not even asked.

An edge that was killed has not said what it refused last. It counts as refusing from its last word until a load
balancer may have noticed; so does one that cannot reach the database, until it reports. What anybody may have sent (its
signature was not proved) counts too, but it can hold back what is proved about a send for ``doubt`` after its call at
the longest: a stranger must not keep lost messages lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

RefusalKind = Literal["refused", "doubtful"]
"""Refused by our fault, or for something about the request, which anybody may have sent."""
HELD = timedelta(seconds=6)
"""A POST that was in hand for longer than this counts as refused, taken or not; more than its publishing may take."""
_NOTICED = timedelta(seconds=3)
_DOUBT = 12


@dataclass(frozen=True, slots=True)
class Edge:
    """One start of an edge: it served from ``since``, and what it refused is known ``until``.

    ``left``: it ended in order then.

    ``posted_at``: no POST that it knew to be taken when it reported this came to Kafka later; None where there was
    none.
    """

    since: datetime
    until: datetime
    left: bool = False
    posted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """One partition: all that lay in it at ``at`` is done, and without a gap since ``since``."""

    at: datetime
    since: datetime


@dataclass(frozen=True, slots=True)
class Cover:
    """What is stored: edges that served lately, the last refusal of each kind, the last late acceptance.

    ``served_before``: there were edges before these.
    """

    edges: Sequence[Edge] = ()
    refused_at: datetime | None = None
    doubted_at: datetime | None = None
    late_at: datetime | None = None
    served_before: bool = False


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a silence must be (``grace``), and how long after an outage it begins (``settling``)."""

    grace: timedelta
    settling: timedelta

    @property
    def noticed(self) -> timedelta:
        """How long after its last report POSTs may still be sent to an edge that vanished: more than a few reports."""
        return max(_NOTICED, self.settling / 10)

    @property
    def doubt(self) -> timedelta:
        """An hour at the usual settling."""
        return self.settling * _DOUBT

    @property
    def view(self) -> timedelta:
        """What is older than this changes no answer."""
        return 2 * (self.grace + self.settling + self.noticed)


@dataclass(frozen=True, slots=True)
class Quiet:
    """The stretch that reaches until now, whatever the call.

    ``until``: so far the edges reported, ``read_until``: so far all is read.
    """

    since: datetime
    until: datetime
    read_until: datetime
    waits: Waits
    posted_at: datetime | None = None
    doubted_until: datetime | None = None
    first_served: datetime | None = None
    """Nobody ever served before then: no outage to a call that was made later, for Meta had nothing to try again."""

    def proven_at(self, claimed_at: datetime) -> datetime:
        """When silence about a call that was claimed then proves something, if all goes on as it is."""
        begin = max(self.since, claimed_at)
        if self.first_served is not None and claimed_at < self.first_served:
            begin = max(begin, self.first_served + self.waits.settling)
        if self.doubted_until is not None:
            begin = max(begin, min(self.doubted_until, claimed_at + self.waits.doubt))
        return begin + self.waits.grace

    def interrupted(self, claimed_at: datetime) -> bool:
        """Whether there was a time after such a call in which its statuses could not come, or were not read."""
        return claimed_at < self.since

    def proves(self, claimed_at: datetime) -> bool:
        """Whether a call that was claimed then was not accepted, as nothing was heard of it."""
        at = self.proven_at(claimed_at)
        reads = at if self.posted_at is None else max(at, min(self.posted_at, at + HELD))
        return self.until >= at and self.read_until >= reads


def quiet(cover: Cover, progress: Mapping[int, CaughtUp], partitions: int, waits: Waits, now: datetime) -> Quiet | None:
    """The stretch until now; None where something of it is not known.

    ``partitions``: how many the topic has, whatever ``progress`` knows of.
    """
    if partitions < 1 or any(partition not in progress for partition in range(partitions)):
        return None
    behind = [progress[partition] for partition in range(partitions)]
    gone = {edge for edge in cover.edges if not edge.left and now - edge.until > waits.noticed}
    serving = [edge for edge in cover.edges if not edge.left and edge not in gone]
    if not serving:
        return None
    known = min(edge.until for edge in serving)
    served = _served_since(cover.edges, known)
    first = not cover.served_before and all(edge.until >= served for edge in cover.edges)
    outages = [edge.until + waits.noticed for edge in gone] + ([] if first else [served])
    outages += [at for at in (cover.refused_at, cover.late_at) if at is not None]
    return Quiet(
        since=max(served, *(at + waits.settling for at in outages), *(partition.since for partition in behind)),
        until=known,
        read_until=min(partition.at for partition in behind),
        waits=waits,
        posted_at=max((edge.posted_at for edge in cover.edges if edge.posted_at is not None), default=None),
        doubted_until=None if cover.doubted_at is None else cover.doubted_at + waits.settling,
        first_served=served if first else None,
    )


def _served_since(edges: Iterable[Edge], until: datetime) -> datetime:
    """Since when somebody served without a gap, up to ``until``."""
    since = until
    for edge in sorted(edges, key=lambda edge: edge.until, reverse=True):
        if edge.until >= since:
            since = min(since, edge.since)
    return since
