"""Identities that were taken for one person's and are a stranger's, with all that followed from them.

Pure, on a loaded register.

Law 1: what was learned on a line while the stranger had it is theirs, and so is the line to which they moved from
        there. Whatever is known by a BSUID of theirs is theirs too, before and after.
Law 2: what they wrote goes with them (``Misattribution``): by a BSUID all of it, by a number alone what came while
        they had it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Protocol

from libs.common.directory.identity_facts import INSTANT, Id, Misattribution, Notice, Notices
from libs.common.directory.identity_history import History, Holding, Person
from libs.common.phone import canonical


class LoadedRegister(Protocol):
    """What is asked of the register."""

    notices: Notices
    mistakes: list[Misattribution]

    def history(self, identity: Id) -> History: ...

    def held_by(self, person: Person) -> list[Holding]: ...

    def of_bsuid(self, org_id: str, bsuid: str | None) -> Person | None: ...

    def touch(self, person: Person) -> None: ...


def reattribute(
    register: LoadedRegister,
    person: Person,
    stranger: Person,
    lines: Iterable[Holding],
    bsuids: Iterable[str] = (),
    *,
    until: datetime | None = None,
) -> None:
    """Give these lines and BSUIDs to the stranger, who was taken for the person.

    Messages that came from these lines after ``until`` stay where they are.
    """
    lines = list(lines)
    parting = _Parting(register, person, stranger, {} if until is None else {id(line): until for line in lines})
    for line in lines:
        parting.line(line)
    for bsuid in bsuids:
        parting.bsuid(bsuid)
    parting.follow()


def mover(register: LoadedRegister, held: Holding, notice: Notice) -> bool:
    """Whether a person moved from the line after this notice, by another change than a repeat of the same one."""
    if held.until is None or held.until <= notice.at or held.ended_by != "notice":
        return False
    line = canonical(held.value)
    return any(
        n.at == held.until and n.old_line == line and n.new_line != notice.new_line
        for n in register.notices.naming((held.org_id, "phone", line))
    )


class _Parting:
    def __init__(
        self, register: LoadedRegister, person: Person, stranger: Person, until: Mapping[int, datetime]
    ) -> None:
        self._register, self._person, self._stranger, self._until = register, person, stranger, until
        self._lines: dict[int, Holding] = {}
        self._bsuids: dict[str, None] = {}
        self._open: list[Holding | str] = []

    def line(self, holding: Holding) -> None:
        if id(holding) not in self._lines:
            self._lines[id(holding)] = holding
            self._open.append(holding)

    def bsuid(self, value: str | None) -> None:
        if value is not None and value not in self._bsuids and self._is_persons(value):
            self._bsuids[value] = None
            self._open.append(value)

    def follow(self) -> None:
        """Give the stranger all that follows, and note what is to be found among messages."""
        register, stranger, person = self._register, self._stranger, self._person
        while self._open:
            one = self._open.pop()
            if isinstance(one, str):
                self._follow_bsuid(one)
            else:
                self._follow_line(one)
        bsuids = tuple(self._bsuids)
        for holding in self._lines.values():
            line = canonical(holding.value)
            if holding.until is None and stranger.phone is None:
                stranger.reach_at(person.phone if _is_at(person, line) else line)
            if _is_at(person, line) and register.history((person.org_id, "phone", line)).current is holding:
                person.reach_at(None)
            until = self._until.get(id(holding), holding.until)
            register.mistakes.append(Misattribution(person, line, holding.since - INSTANT, bsuids, stranger, until))
        if self._bsuids and self._lines:
            histories = [register.history((person.org_id, "bsuid", value)) for value in self._bsuids]
            first = min(h.since for history in histories for h in history.holdings) - INSTANT
            line = canonical(next(iter(self._lines.values())).value)
            register.mistakes.append(Misattribution(person, line, first, bsuids, stranger, first))
        register.touch(person)
        register.touch(stranger)

    def _follow_line(self, holding: Holding) -> None:
        holding.person = self._stranger
        line = canonical(holding.value)
        self.bsuid(holding.bsuid)
        for held in self._register.held_by(self._person):
            learned = held.kind == "bsuid" and held.line == line and held.since >= holding.since
            if learned and (holding.until is None or held.since < holding.until):
                self.bsuid(held.value)
        for notice in self._notices("phone", line):
            if notice.old_line == line and notice.at == holding.until:
                self._came(notice)
            if notice.new_line == line and notice.at == holding.since:
                self._left(notice)

    def _follow_bsuid(self, value: str) -> None:
        for held in self._register.held_by(self._person):
            if held.kind == "phone" and held.bsuid == value:
                self.line(held)
        for held in self._register.history((self._person.org_id, "bsuid", value)).holdings:
            held.person = self._stranger
        for notice in self._notices("bsuid", value):
            if notice.old_bsuid == value:
                self._came(notice)
            if notice.new_bsuid == value:
                self._left(notice)

    def _came(self, notice: Notice) -> None:
        """The ids to which the stranger came by the notice are theirs."""
        self.bsuid(notice.new_bsuid)
        for held in self._at_line(notice.new_line):
            if held.since == notice.at:
                self.line(held)

    def _left(self, notice: Notice) -> None:
        """The ids from which the stranger came by the notice are theirs."""
        self.bsuid(notice.old_bsuid)
        for held in self._at_line(notice.old_line):
            if held.until == notice.at:
                self.line(held)

    def _at_line(self, line: str | None) -> list[Holding]:
        history = None if line is None else self._register.history((self._person.org_id, "phone", line))
        return [] if history is None else [h for h in history.holdings if h.owner is self._person]

    def _notices(self, kind: str, value: str) -> list[Notice]:
        return self._register.notices.naming((self._person.org_id, kind, value))

    def _is_persons(self, bsuid: str) -> bool:
        return self._register.of_bsuid(self._person.org_id, bsuid) is self._person


def _is_at(person: Person, line: str) -> bool:
    return person.phone is not None and canonical(person.phone) == line
