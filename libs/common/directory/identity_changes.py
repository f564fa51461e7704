"""Notices of Meta's system: a person has another number or BSUID since a time. Pure, on a loaded register.

Law 1: the old ids end at the notice's own time, and the new ones begin then. The holder of the new number before is
        another person.
Law 2: what was seen under an id after it was given up is not the person's. It is cut off, and what was stored too early
        is parted.
Law 3: a repeated notice changes nothing, so it may be applied whenever one of its ids turns out to have a holder. The
        same change under a later time changes nothing either: the holder of the old number by then is another person.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from libs.common.directory import phone_claims
from libs.common.directory.identity_facts import INSTANT, Misattribution, Moved, Notice, Observation, notice_time
from libs.common.directory.identity_history import History, Holding, Person
from libs.common.directory.identity_register import Register
from libs.common.directory.reattribution import mover, reattribute
from libs.common.phone import canonical


def change(register: Register, notice: Notice) -> tuple[Person | None, list[Misattribution]]:
    """The person who changed, if the old ids have a holder, and what was ended after it had been seen. Idempotent."""
    register.notices.add(notice)
    org_id, old_line, old_bsuid, new_line, _, at, _ = notice
    if (again := _changed_already(register, notice)) is not None:
        return _new_bsuid(register, again, notice), []
    for line in (old_line, new_line) if old_line != new_line else ():
        phone_claims.part_from_before(register, notice, line)
    if old_line is not None and old_bsuid is not None and old_line != new_line and not _left(register, notice):
        register.see(Observation(org_id, old_line, None, old_bsuid, at - INSTANT, "message"))
    person = register.of_bsuid(org_id, old_bsuid)
    if person is None and old_line is not None:
        held = register.history((org_id, "phone", old_line)).before(at)
        person = None if held is None or register.another(held, old_bsuid) else held.owner
    if person is None:
        return None, []
    mistakes = _end(register, person, notice)
    if new_line is not None:
        person, mistake = _begin(register, person, notice, new_line)
        mistakes += mistake
    return _new_bsuid(register, person, notice), mistakes


def _new_bsuid(register: Register, person: Person, notice: Notice) -> Person:
    """The person has the new BSUID. A person who is known by it already is the same one."""
    owner = register.of_bsuid(notice.org_id, notice.new_bsuid)
    if owner is not None and owner is not person:
        person = register.join(person, owner) or person
    if notice.new_bsuid is not None and (owner is None or owner.now is person):
        register.bind_bsuid(person, notice.new_bsuid, notice.new_line, notice.at, "notice")
    return person


def _changed_already(register: Register, notice: Notice) -> Person | None:
    """The person who changed from this number to that one before, where neither changed hands since."""
    org_id, old_line, old_bsuid, new_line, _, at, _ = notice
    naming = [] if old_line is None else register.notices.naming((org_id, "phone", old_line))
    earlier = bisect_left(naming, at, key=notice_time)
    last = naming[earlier - 1] if earlier else None
    if last is None or (last.old_line, last.new_line) != (old_line, new_line):
        return None
    if old_bsuid is not None and last.old_bsuid not in (None, old_bsuid):
        return None
    there = None if new_line is None else register.history((org_id, "phone", new_line)).covering(at)
    return None if there is None else there.owner


def _left(register: Register, notice: Notice) -> bool:
    """Whether the person with the old BSUID had given the old number up by an earlier notice."""
    org_id, old_line, old_bsuid, _, _, at, _ = notice
    person = register.of_bsuid(org_id, old_bsuid)
    history = register.history((org_id, "phone", old_line or ""))
    there = history.covering(at)
    if person is None or (there is not None and there.owner is person):
        return False
    return any(
        h.owner is person and h.ended_by == "notice" and h.until is not None and h.until < at for h in history.holdings
    )


def part(register: Register, mistake: Misattribution, first: datetime) -> Person:
    """The person who wrote from a line since ``first``, after it was given up."""
    org_id = mistake.person.org_id
    history = register.history((org_id, "phone", mistake.line))
    if mistake.stranger is not None:
        return _known_stranger(register, history, mistake, mistake.stranger.now, first)
    holding = history.at(first, register.passed_on(org_id, mistake.line))
    stranger = None if holding is None or holding.owner is mistake.person.now else holding.owner
    for bsuid in mistake.bsuids:
        owner = register.of_bsuid(org_id, bsuid)
        stranger = stranger or (None if owner is mistake.person.now else owner)
    if stranger is None:
        stranger = Person(org_id, "inbound")
        register.fresh.append(stranger)
    _give(register, org_id, mistake.bsuids, stranger)
    took, _ = history.take(stranger, first, "message", register.passed_on(org_id, mistake.line))
    if took.bsuid is None and mistake.bsuids:
        register.know(took, mistake.bsuids[0])
    if took.until is None and stranger.phone is None:
        stranger.reach_at(mistake.line)
    register.touch(mistake.person)
    register.touch(stranger)
    return stranger


def _known_stranger(
    register: Register, history: History, mistake: Misattribution, stranger: Person, first: datetime
) -> Person:
    if mistake.until is None or first <= mistake.until:
        history.take(stranger, first, "message", register.passed_on(stranger.org_id, mistake.line))
    return stranger


def _end(register: Register, person: Person, notice: Notice) -> list[Misattribution]:
    """End what the person had until the notice."""
    org_id, old_line, old_bsuid, new_line, new_bsuid, at, new_number = notice
    mine = [h for h in register.held_by(person) if h.since <= at and (h.until is None or h.until >= at)]
    lines = [h for h in mine if h.kind == "phone" and canonical(h.value) != new_line]
    if old_bsuid is None and old_line is not None:
        known = (h.bsuid for h in lines if canonical(h.value) == old_line and h.bsuid is not None)
        old_bsuid = next((b for b in known if not _came_later(register, org_id, b, at)), None)
    theirs = tuple(b for b in (old_bsuid, new_bsuid) if b is not None)
    mistakes: list[Misattribution] = []
    changed = False
    for held in lines:
        line = canonical(held.value)
        named = line == old_line or (held.bsuid is not None and held.bsuid == old_bsuid)
        if named or (old_line is None and held.bsuid is None and held.seen is not None):
            held.since = min(held.since, at - INSTANT)  # written in the very second of the notice: theirs still
            until, moved_on = held.until, mover(register, held, notice)
            history = register.history((org_id, "phone", line))
            if register.ended(history, held, at, "notice"):
                changed = True
                mistake = _mistake(register, person, held, at, theirs)
                if moved_on and until is not None:
                    _move_on(register, history, mistake, until)
                mistakes.append(replace(mistake, until=until))
    for held in mine:
        if (
            held.kind == "bsuid"
            and held.value != new_bsuid
            and (
                held.value == old_bsuid
                or (
                    old_line is not None and held.line == old_line and not _came_later(register, org_id, held.value, at)
                )
            )
        ):
            held.since = min(held.since, at - INSTANT)
            changed |= register.history((org_id, "bsuid", held.value)).end(held, at, "notice")
    if changed:
        register.touch(person)
        wa_id = None if new_line is None else (new_number or new_line).removeprefix("+")
        register.moves.append(Moved(person, at, wa_id, new_bsuid))
    return mistakes


def _move_on(register: Register, history: History, mistake: Misattribution, until: datetime) -> None:
    """Make the person who left the line at ``until``, after it was given up, a stranger, and their later ids too."""
    stranger = Person(mistake.person.org_id, "inbound")
    register.fresh.append(stranger)
    theirs = history.insert(Holding(history.org_id, "phone", history.value, stranger, until - INSTANT, "message"))
    theirs.until, theirs.ended_by = until, "notice"
    reattribute(register, mistake.person, stranger, [theirs], mistake.bsuids)


def _mistake(
    register: Register, person: Person, held: Holding, at: datetime, theirs: tuple[str, ...]
) -> Misattribution:
    """What was seen on the line after it was given up is not the person's: also a BSUID that was learned there."""
    line = canonical(held.value)
    bsuids = tuple(
        h.value
        for h in register.held_by(person)
        if h.kind == "bsuid" and h.line == line and h.since > at and h.value not in theirs
    )
    if held.bsuid in bsuids:
        held.bsuid = None
    return Misattribution(person, line, at, bsuids)


def _came_later(register: Register, org_id: str, bsuid: str, at: datetime) -> bool:
    last = register.history((org_id, "bsuid", bsuid)).last
    return last is not None and last.since > at


def _begin(register: Register, person: Person, notice: Notice, line: str) -> tuple[Person, list[Misattribution]]:
    """The person has the line since the notice.

    The holder before is another person. A person who is first seen there afterwards is the same one.
    """
    org_id, new_bsuid, at = notice.org_id, notice.new_bsuid, notice.at
    history = register.history((org_id, "phone", line))
    passed_on = register.passed_on(org_id, line)
    there = history.covering(at)
    if there is not None and there.owner is not person:
        first_seen = there.seen is None or there.seen >= at
        if first_seen and not register.another(there, new_bsuid) and _may_be(register, there, person):
            person = register.join(person, there.owner) or person
    later = history.after(at) if there is None else None
    if later is not None and passed_on(at, later.since):
        later = None
    if later is not None and later.owner is not person and not register.another(later, new_bsuid):
        person = register.join(person, later.owner) or person
    mistakes: list[Misattribution] = []
    if later is not None and later.owner is person:
        later.since, later.source = at, "notice"
        holding = later
    else:
        holding, mistakes = _take_line(register, person, notice, history)
    holding.seen = at if holding.seen is None else min(holding.seen, at)
    if holding.bsuid is None and new_bsuid is not None:
        register.know(holding, new_bsuid)
    if holding.until is None:
        if person.phone is None:
            person.reach_at(notice.new_number or line)
        register.reach_by(person, (notice.new_number or line).removeprefix("+"), line, holding)
    return person, mistakes


def _take_line(
    register: Register, person: Person, notice: Notice, history: History
) -> tuple[Holding, list[Misattribution]]:
    """The person's holding since the notice. What the holder before seemed to do there afterwards, the person did."""
    there = history.covering(notice.at)
    moved_on = there is not None and mover(register, there, notice)
    holding, cut_short = history.take(
        person, notice.at, "notice", register.passed_on(notice.org_id, canonical(history.value))
    )
    if cut_short is None:
        return holding, []
    if moved_on:
        reattribute(register, cut_short.owner, person, [holding])
    register.lost(cut_short)
    mistake = _mistake(register, cut_short.owner, cut_short, notice.at, ())
    _give(register, notice.org_id, mistake.bsuids, person)
    return holding, [mistake]


def _give(register: Register, org_id: str, bsuids: Iterable[str], person: Person) -> None:
    for bsuid in bsuids:
        for holding in register.history((org_id, "bsuid", bsuid)).holdings:
            holding.person = person


def _may_be(register: Register, there: Holding, person: Person) -> bool:
    """Whether a customer whom only the directory knows at a line may be the one who comes there.

    One who writes from elsewhere is not.
    """
    if there.seen is not None:
        return True
    return there.owner.listed and not person.listed and not _writes(register, there.owner)


def _writes(register: Register, person: Person) -> bool:
    return any(h.seen is not None or h.kind == "bsuid" for h in register.held_by(person))
