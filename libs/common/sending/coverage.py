"""When silence proves that a call was not accepted: the stretch in which every status could come, and was read. Pure.

Law 1: at no moment of the stretch was a POST refused, was no edge serving, or was a partition of the webhooks behind or
       unknown.
Law 2: the stretch ends at the last moment up to which every edge has stored what it refused. A POST that was begun
       before that moment and taken may reach Kafka later: at most ``HELD`` after it began, and not after the edges last
       had a POST in hand. The partitions must have been read up to there, too.
Law 3: after an outage the stretch begins ``settling`` later, because the provider retries with growing pauses. A call
       that turns out to be accepted after silence had proved the contrary counts as an outage: the pauses are longer.
Law 4: the absence of POSTs is neutral.

An edge that was killed did not report its last refusals. It counts as refusing from its last report until a load
balancer has noticed; so does an edge that cannot reach the database, until it reports again. Refused requests without a
proven signature may come from anybody. They count, but delay the proof about a send by ``doubt`` after its call at
most: a stranger must not keep lost messages lost.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

RefusalKind = Literal["refused", "doubtful"]
"""``refused`` by our fault; ``doubtful`` because of the request, which anybody may have sent."""
HELD = timedelta(seconds=6)
"""A POST that was in hand for longer counts as refused, taken or not. Longer than its publishing may take."""
_NOTICED = timedelta(seconds=3)
_DOUBT = 12
AHEAD = timedelta(minutes=2)
"""What is dated so much later than now was stored before the clock was set back."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One start of an edge: it served from ``since``, and its refusals are known up to ``until``.

    ``left``: it was shut down in order then. ``posted_at``: when the last POST that it had taken by its last report was
    in Kafka at the latest; None without any.
    """

    since: datetime
    until: datetime
    left: bool = False
    posted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """One partition: everything in it up to ``at`` has been processed, without a gap since ``since``."""

    at: datetime
    since: datetime


@dataclass(frozen=True, slots=True)
class Cover:
    """What is stored: recent edges, the last refusal of each kind, the last late acceptance.

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
        """Facts older than this change no answer."""
        return 2 * (self.grace + self.settling + self.noticed)


@dataclass(frozen=True, slots=True)
class Quiet:
    """The stretch that reaches until now. The edges have reported up to ``until``; all is read up to ``read_until``."""

    since: datetime
    until: datetime
    read_until: datetime
    waits: Waits
    posted_at: datetime | None = None
    doubted_until: datetime | None = None
    first_served: datetime | None = None
    """No edge ever served before. No outage for a call that was made later: Meta had nothing to retry."""

    def proven_at(self, claimed_at: datetime) -> datetime:
        """When silence will prove something about a call that was claimed then, without a new interruption."""
        begin = max(self.since, claimed_at)
        if self.first_served is not None and claimed_at < self.first_served:
            begin = max(begin, self.first_served + self.waits.settling)
        if self.doubted_until is not None:
            begin = max(begin, min(self.doubted_until, claimed_at + self.waits.doubt))
        return begin + self.waits.grace

    def interrupted(self, claimed_at: datetime) -> bool:
        """Whether statuses of such a call could for a time not come, or were not read."""
        return claimed_at < self.since

    def proves(self, claimed_at: datetime) -> bool:
        """Whether silence proves that a call claimed then was not accepted."""
        at = self.proven_at(claimed_at)
        reads = at if self.posted_at is None else max(at, min(self.posted_at, at + HELD))
        return self.until >= at and self.read_until >= reads


def quiet(cover: Cover, progress: Mapping[int, CaughtUp], partitions: int, waits: Waits, now: datetime) -> Quiet | None:
    """The stretch until now; None where part of it is unknown, or dated later than now.

    ``partitions``: how many the topic has.
    """
    if partitions < 1 or any(partition not in progress for partition in range(partitions)):
        return None
    behind = [progress[partition] for partition in range(partitions)]
    gone = {edge for edge in cover.edges if not edge.left and now - edge.until > waits.noticed}
    serving = [edge for edge in cover.edges if not edge.left and edge not in gone]
    reported = [*(edge.until for edge in serving), *(partition.at for partition in behind)]
    if not serving or max(reported) > now + AHEAD:
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
    """Since when some edge served without a gap, up to ``until``."""
    since = until
    for edge in sorted(edges, key=lambda edge: edge.until, reverse=True):
        if edge.until >= since:
            since = min(since, edge.since)
    return since
