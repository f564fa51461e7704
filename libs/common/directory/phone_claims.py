"""The directory's claims: which phone a customer has by the directory's word. Pure, on a loaded register.

Law 1: a person who is known at the phone by their messages alone is the directory's customer for it. Two customers of
        the directory stay two.
Law 2: a phone that two share stays with the first, until the directory gives the first another one, or the first gives
        it up. Then it is the other's.
Law 3: the word counts since its own time. A number that was given up after that is no address any more.
"""

from datetime import datetime

from libs.common.directory.identity_facts import Freed, Notice
from libs.common.directory.identity_history import History, Holding, Person
from libs.common.directory.identity_register import Register, never
from libs.common.directory.reattribution import reattribute
from libs.common.phone import canonical, same_line


def claim(register: Register, person: Person, number: str, at: datetime) -> None:
    """The directory says that the number is this customer's, since ``at``."""
    line = canonical(number)
    history = register.history((person.org_id, "phone", line))
    current = history.current
    if _given_up_since(register, history, at):
        _claim_past(register, history, person, at)
    elif current is not None and current.owner is not person and not current.owner.listed:
        register.join(current.owner, person)
        _begins(history, current, at)
    elif current is not None and current.owner is not person:
        listed = current.owner.directory_phone or current.owner.phone
        if listed is None or not same_line(listed, number):
            since = max(at, current.since)
            register.ended(history, current, since, "directory")
            history.take(person, since, "directory", never)
    elif current is None:
        last = history.last
        since = at if last is None or last.until is None else max(at, last.until)
        history.take(person, since, "directory", never)


def part_from_before(register: Register, notice: Notice, line: str | None) -> None:
    """Part a person who had the line before the notice from the customer whom the directory named for it later."""
    if line is None:
        return
    history = register.history((notice.org_id, "phone", line))
    had = history.before(notice.at)
    if had is None or had.seen is None or had.seen >= notice.at:
        return
    customer, named_at = had.owner, had.owner.phone_at
    if (
        not _is_listed_at(customer, line)
        or named_at is None
        or named_at < notice.at
        or (had.until is not None and had.until <= named_at)
    ):
        return
    since = named_at if line == notice.old_line else notice.at
    stranger = Person(customer.org_id, "inbound")
    register.fresh.append(stranger)
    learned = register.history((notice.org_id, "bsuid", had.bsuid or "")).last
    theirs = history.split(had, since, customer)
    had.person = stranger
    if learned is not None and learned.since >= since:  # by whom the line was not known before
        had.bsuid = None
        register.know(theirs, learned.value)
    # what came between the notice and the directory's word is the customer's, as far as is known
    reattribute(register, customer, stranger, [had], until=notice.at if line == notice.old_line else None)


def give_up(register: Register, person: Person, number: str, at: datetime) -> None:
    """The directory says that the customer has another number now.

    A number that Meta never confirmed is theirs no more.
    """
    history = register.history((person.org_id, "phone", canonical(number)))
    current = history.current
    if current is not None and current.owner is person:
        register.freed.append(Freed(person, canonical(number), at))
        if current.seen is None:
            register.ended(history, current, max(at, current.since), "directory")
    register.touch(person)


def inherit(register: Register) -> None:
    """Give lines that became free to the customers who share them, who are loaded."""
    freed, register.freed = register.freed, []
    for one in freed:
        _inherit(register, one)


def _inherit(register: Register, freed: Freed) -> None:
    """Give the line to the customer who shares it by the directory's word; of several to the first."""
    history = register.history((freed.person.org_id, "phone", freed.line))
    current, leaver = history.current, freed.person.now
    if current is not None and current.owner is not leaver:
        return
    others = [p for p in register.people.values() if p.now is p and p is not leaver and _shares(p, freed)]
    if not others:
        return
    heir = min(others, key=lambda person: (person.phone_at or freed.at, str(person.customer_id)))
    since = max(freed.at, heir.phone_at or freed.at)
    if current is not None:
        since = max(since, current.since)
        register.ended(history, current, since, "directory")
    elif history.last is not None and history.last.until is not None:
        since = max(since, history.last.until)
    history.take(heir, since, "directory", never)


def _shares(person: Person, freed: Freed) -> bool:
    """Whether the line is this person's phone by the directory's word."""
    return person.org_id == freed.person.org_id and _is_listed_at(person, freed.line)


def _is_listed_at(person: Person, line: str) -> bool:
    return person.listed and person.phone is not None and canonical(person.phone) == line


def _given_up_since(register: Register, history: History, at: datetime) -> bool:
    """Whether, by a notice or before an erasure, the line was given up after ``at``."""
    last = history.last
    if last is None:
        return False
    if last.until is not None:
        return last.until > at and last.ended_by == "notice"
    return last.since > at and (
        last.source == "notice" or register.passed_on(history.org_id, history.value)(at, last.since)
    )


def _begins(history: History, current: Holding, at: datetime) -> None:
    """The holding begins with the directory's word.

    The person seen there later is believed to be them, until shown otherwise.
    """
    before = history.holdings[-2].until if len(history.holdings) > 1 else None
    since = at if before is None else max(at, before)
    if since < current.since:
        current.since, current.source = since, "directory"


def _claim_past(register: Register, history: History, person: Person, at: datetime) -> None:
    """Record that the number was the customer's at ``at`` and has passed on since. It is no address of theirs."""
    last, passed_on = history.last, register.passed_on(history.org_id, history.value)
    if last is not None and last.owner is person and last.since > at and last.source != "notice":
        register.retract(last, last.since)  # taken for the customer because nothing was known of the time between
    had = history.at(at, passed_on)
    if had is None:
        had, _ = history.take(person, at, "directory", passed_on)
    elif had.owner is not person and not had.owner.listed:
        register.join(had.owner, person)
    if had.owner is person.now:
        register.lost(had)
