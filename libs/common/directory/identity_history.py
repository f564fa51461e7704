"""The history of an identity: who had a telephone line or a BSUID, and when. Pure.

Law 1: the holdings of an identity do not overlap. At any time it has one holder or none.
Law 2: a holding that a notice began begins at the notice's time. Any other begins with what was seen first. So
        something older may still belong to it, unless a notice says that the line changed hands in between.
Law 3: a BSUID is never given to another person. Its last holder has it for ever.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal
from uuid import UUID

Source = Literal["message", "status", "answer", "notice", "directory", "shared", "intent", "stale", "sms"]
"""Where an id comes from. ``intent``: we wrote there first. ``stale``: a webhook older than Meta's seven days, or a
stop of marketing, which takes no id from its holder. ``sms``: an SMS came from there, which proves nothing: its sender
can be forged."""

Origin = Literal["directory", "inbound", "outbound"]
Kind = Literal["phone", "bsuid", "wa_id", "sender"]


@dataclass(eq=False, slots=True)
class Person:
    """A customer while identities are resolved.

    ``customer_id`` is None until the customer is stored. ``became``: the person whom this one was joined to. ``phone``:
    where SMS go, by the directory since ``phone_at``. ``directory_phone``: the directory's last word.
    ``erased``: nobody is behind this customer any more, until the directory names them anew.
    """

    org_id: str
    origin: Origin
    customer_id: UUID | None = None
    name: str | None = None
    phone: str | None = None
    directory_phone: str | None = None
    upserted_at: datetime | None = None
    phone_at: datetime | None = None
    erased: bool = False
    became: "Person | None" = None
    stored: "tuple[object, ...] | None" = None

    @property
    def now(self) -> "Person":
        """The person whom this one is after all joins."""
        found = self
        while found.became is not None:
            found = found.became
        return found

    @property
    def listed(self) -> bool:
        """Whether the directory knows this customer."""
        return self.origin == "directory"

    @property
    def row(self) -> "tuple[object, ...]":
        """The columns of their row that may change."""
        return self.name, self.phone, self.directory_phone, self.origin, self.upserted_at, self.phone_at, self.erased

    def reach_at(self, phone: str | None, since: datetime | None = None) -> None:
        """They have this phone; ``since``: since when the directory says so."""
        self.phone, self.phone_at = phone, since


@dataclass(eq=False, slots=True)
class Holding:
    """``person`` has ``value`` from ``since`` on; ``until`` is None while they have it.

    ``line``: of a BSUID or wa_id, the canonical number that was named with it. ``bsuid``: of a phone, the BSUID of its
    holder. ``seen``: since when Meta itself says so; None while only the directory or an intent does.
    """

    org_id: str
    kind: Kind
    value: str
    person: Person
    since: datetime
    source: Source
    line: str | None = None
    bsuid: str | None = None
    seen: datetime | None = None
    until: datetime | None = None
    ended_by: Source | None = None
    former_id: int | None = None
    stored: "tuple[object, ...] | None" = None

    @property
    def owner(self) -> Person:
        return self.person.now

    @property
    def customer_id(self) -> UUID | None:
        """The owner's id; None until they are stored."""
        return self.owner.customer_id

    @property
    def row(self) -> "tuple[object, ...]":
        """The columns of its row that may change, except by a merge."""
        return self.person, self.since, self.until, self.source, self.line, self.bsuid, self.seen


@dataclass(slots=True)
class History:
    """The holdings of one identity, in the order of time."""

    org_id: str
    kind: Kind
    value: str
    holdings: list[Holding] = field(default_factory=list)
    dropped: list[Holding] = field(default_factory=list)

    @property
    def current(self) -> Holding | None:
        """The present holding."""
        last = self.holdings[-1] if self.holdings else None
        return last if last is not None and last.until is None else None

    @property
    def last(self) -> Holding | None:
        """The present holding, or the last one."""
        return self.holdings[-1] if self.holdings else None

    def covering(self, at: datetime) -> Holding | None:
        """The holding in which ``at`` lies."""
        return next((h for h in self.holdings if h.since <= at and (h.until is None or at < h.until)), None)

    def before(self, at: datetime) -> Holding | None:
        """The holding that lasted until ``at`` or longer; else one that was first seen at ``at`` itself."""
        found = next((h for h in self.holdings if h.since < at and (h.until is None or at <= h.until)), None)
        return found or next((h for h in self.holdings if h.since == at and h.source != "notice"), None)

    def after(self, at: datetime) -> Holding | None:
        """The first holding that begins after ``at``."""
        return next((h for h in self.holdings if h.since > at), None)

    def at(self, at: datetime, passed_on: Callable[[datetime, datetime], bool]) -> Holding | None:
        """The holding at ``at``, as far as known.

        ``passed_on``: whether, by a notice or an erasure, the line changed hands between two times.
        """
        found = self.covering(at)
        if found is not None:
            return found
        later = self.after(at)
        if later is None or later.source == "notice" or passed_on(at, later.since):
            return None
        return later

    def take(
        self, person: Person, at: datetime, source: Source, passed_on: Callable[[datetime, datetime], bool]
    ) -> tuple[Holding, Holding | None]:
        """``person`` had it at ``at``.

        Returns their holding, and the holding of another person that this cuts short.
        """
        covering = self.covering(at)
        if covering is not None and covering.owner is person:
            return covering, None
        later = self.after(at)
        end = later.since if later is not None else None
        if covering is not None:
            end = covering.until
            self.end(covering, at, source)
        if (
            later is not None
            and later.owner is person
            and later.since == end
            and later.source != "notice"
            and not passed_on(at, later.since)
        ):
            later.since = at
            return later, covering
        made = Holding(self.org_id, self.kind, self.value, person, at, source, until=end)
        if end is not None:
            made.ended_by = later.source if later is not None and later.since == end else source
        return self.insert(made), covering

    def insert(self, holding: Holding) -> Holding:
        insort(self.holdings, holding, key=lambda h: h.since)
        return holding

    def end(self, holding: Holding, at: datetime, source: Source) -> bool:
        """The holding ends at ``at``. Returns whether that is new."""
        if holding not in self.holdings or (holding.until is not None and holding.until <= at):
            return False
        holding.until, holding.ended_by = at, source
        if holding.since >= at:
            self.holdings.remove(holding)
            self.dropped.append(holding)
        return True

    def divide(self, holding: Holding, at: datetime, person: Person) -> Holding:
        """From ``at`` on, when it was first seen, it was this person's. What Meta said of it concerns them."""
        if at <= holding.since:
            holding.person = person
            return holding
        tail = replace(holding, person=person, since=at, source="message", seen=at, stored=None, former_id=None)
        holding.until, holding.ended_by, holding.bsuid = at, "message", None
        if holding.seen is not None and holding.seen >= at:
            holding.seen = None
        self.holdings.insert(self.holdings.index(holding) + 1, tail)
        return tail

    def split(self, holding: Holding, at: datetime, person: Person) -> Holding:
        """From ``at`` on it is this person's by the directory's word.

        What Meta said of it concerns the holder before.
        """
        tail = replace(holding, person=person, since=at, source="directory", bsuid=None, seen=None, stored=None)
        tail.former_id = None
        holding.until, holding.ended_by = at, "directory"
        return self.insert(tail)
