"""What messages and notices say of identities, and what follows for their holders. Pure data."""

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from libs.common.directory.identity_history import Origin, Person, Source
from libs.common.phone import canonical

INSTANT = timedelta(microseconds=1)
Id = tuple[str, str, str]
"""Organisation, kind, value; of a phone its canonical number."""


class Observation(NamedTuple):
    """These ids are one person at ``at``.

    ``number``: E.164 as it was named; ``wa_id``: as Meta spells it. ``meant``: the customer we wrote to. ``origin``: of
    the customer that is created where none is found; None creates none.
    """

    org_id: str
    number: str | None
    wa_id: str | None
    bsuid: str | None
    at: datetime
    source: Source
    name: str | None = None
    meant: UUID | None = None
    origin: Origin | None = None
    also: str | None = None
    """Another number under which Meta has the same person (digits): as a rule a spelling of the same line."""
    sent_to: str | None = None
    """The line to which the message was sent of which this is said."""
    sender: str | None = None
    """Who an SMS came from where that is no number: a short code or a name. Then there is no other id."""

    @property
    def line(self) -> str | None:
        return None if self.number is None else canonical(self.number)

    @property
    def ids(self) -> list[Id]:
        found = _ids(self.org_id, self.line, self.bsuid)
        if self.sender is not None:
            found.append((self.org_id, "sender", self.sender))
        others = {self.sent_to, self.also_line} - {self.line}
        return found + [(self.org_id, "phone", line) for line in others if line is not None]

    @property
    def also_line(self) -> str | None:
        return None if self.also is None else canonical(f"+{self.also}")


class Notice(NamedTuple):
    """The holder of the old ids has the new ones since ``at``.

    Lines are canonical numbers; an id that is not named is None.
    """

    org_id: str
    old_line: str | None
    old_bsuid: str | None
    new_line: str | None
    new_bsuid: str | None
    at: datetime
    new_number: str | None = None
    """The new line as Meta spelled it."""

    @property
    def ids(self) -> list[Id]:
        return [
            *_ids(self.org_id, self.old_line, self.old_bsuid),
            *_ids(self.org_id, self.new_line, self.new_bsuid),
        ]


class Notices:
    """Notices, each once. Whoever asks for those of an identity looks at no others."""

    def __init__(self) -> None:
        self._known: set[Notice] = set()
        self._naming: dict[Id, list[Notice]] = {}

    def __iter__(self) -> Iterator[Notice]:
        return iter(self._known)

    def add(self, *notices: Notice) -> None:
        for notice in notices:
            if notice not in self._known:
                self._known.add(notice)
                for identity in set(notice.ids):
                    insort(self._naming.setdefault(identity, []), notice, key=notice_time)

    def naming(self, identity: Id) -> list[Notice]:
        """Those that name this identity as an old or new one, in the order of their times."""
        return self._naming.get(identity, [])


def notice_time(notice: Notice) -> datetime:
    return notice.at


@dataclass(frozen=True, slots=True)
class Moved:
    """A person has other ids since ``at``.

    Their conversations have only the new address, and their windows count as closed.
    """

    person: Person
    at: datetime
    wa_id: str | None
    bsuid: str | None


@dataclass(frozen=True, slots=True)
class Misattribution:
    """``person`` gave ``line`` up at ``at``, and messages from it came later.

    These messages and BSUIDs are a stranger's.

    ``stranger``: the person, where that is known already. ``until``: when the stranger gave the line up.
    """

    person: Person
    line: str
    at: datetime
    bsuids: tuple[str, ...]
    stranger: Person | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Freed:
    """``person`` no longer has ``line`` since ``at``, or has another one instead by the directory's word."""

    person: Person
    line: str
    at: datetime


def _ids(org_id: str, line: str | None, bsuid: str | None) -> list[Id]:
    named = (("phone", line), ("bsuid", bsuid))
    return [(org_id, kind, value) for kind, value in named if value is not None]
