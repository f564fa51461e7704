"""The identity register: which ids belong to which customer, by Meta, the directory and our own messages. Pure.

Rows come in, changed rows go out.

Law 1: a BSUID is a person. It stays the same while they have their number, and Meta makes a new one when they take
        another. A line that shows another BSUID than before has another holder, with a notice or without.
Law 2: ids that are named together are one person, unless Law 1 says otherwise. Of two customers the directory's stays,
        else the older.
Law 3: two customers of the directory are never made one. The BSUID decides whose message it is, then the holder of the
        line.
Law 4: a notice ends the old ids at its own time and begins the new ones. What happened before and comes later still
        finds the holder of that time.
Law 5: the order of arrival does not matter. Notices are kept, and applied again when one of their ids turns out to have
        had a holder.
Law 6: what is older than Meta's seven days finds its person and binds nothing.
Law 7: an SMS finds the holder of its line, or creates one. It changes nothing else: its sender can be forged.
"""

from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from uuid import UUID

from libs.common.directory.identity_facts import (
    Freed,
    Id,
    Misattribution,
    Moved,
    Notices,
    Observation,
    notice_time,
)
from libs.common.directory.identity_history import History, Holding, Person, Source
from libs.common.directory.reattribution import reattribute
from libs.common.phone import canonical, same_line


class Register:
    """The people and identities that a batch concerns. They are loaded first; what changed is written afterwards."""

    def __init__(self) -> None:
        self.people: dict[UUID, Person] = {}
        self.fresh: list[Person] = []
        self.histories: dict[Id, History] = {}
        self.spelled: dict[tuple[str, str], Holding] = {}
        self.notices = Notices()
        self.given_up: dict[tuple[str, str], datetime] = {}
        """Until when a customer who was erased since had a line (organisation, number), and then somebody else."""
        self.known_by: dict[tuple[str, str], list[Holding]] = {}
        self.joins: list[tuple[Person, Person]] = []
        self.touched: dict[int, Person] = {}
        self.moves: list[Moved] = []
        self.freed: list[Freed] = []
        self.mistakes: list[Misattribution] = []

    # ── what is known
    # ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def history(self, identity: Id) -> History:
        """The history of an identity; empty where nothing is known of it."""
        found = self.histories.get(identity)
        if found is None:
            org_id, kind, value = identity
            found = self.histories[identity] = History(org_id, kind, value)  # type: ignore[arg-type]  # an Id's kind
        return found

    def of_bsuid(self, org_id: str, bsuid: str | None) -> Person | None:
        """Whose BSUID it is, or was."""
        last = None if bsuid is None else self.history((org_id, "bsuid", bsuid)).last
        return None if last is None else last.owner

    def of_line(self, org_id: str, line: str | None, at: datetime) -> Holding | None:
        """Who had the line at ``at``."""
        return None if line is None else self.history((org_id, "phone", line)).at(at, self.passed_on(org_id, line))

    def is_erased(self, customer_id: UUID | None) -> bool:
        """Whether this customer was erased."""
        person = None if customer_id is None else self.people.get(customer_id)
        return person is not None and person.now.erased

    def held_by(self, person: Person) -> list[Holding]:
        """Every loaded holding of this person, present and past."""
        return [
            h
            for history in self.histories.values()
            for h in history.holdings
            if (h.person if h.person.became is None else h.owner) is person  # this is asked very often
        ]

    def passed_on(self, org_id: str, line: str) -> Callable[[datetime, datetime], bool]:
        """Whether a notice names the line after the one time, and at the other one at the latest.

        Or an erased customer gave it up then: their holding is gone, and its end is known.
        """
        gone = self.given_up.get((org_id, line))
        naming = self.notices.naming((org_id, "phone", line))

        def before(at: datetime) -> int:
            return bisect_right(naming, at, key=notice_time)

        return lambda after, until: before(after) < before(until) or (gone is not None and after < gone <= until)

    def know(self, holding: Holding, bsuid: str | None) -> None:
        """WhatsApp knows the holder of this line by this BSUID."""
        holding.bsuid = bsuid
        if bsuid is not None:
            self.known_by.setdefault((holding.org_id, bsuid), []).append(holding)

    # ── what is said
    # ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def see(self, seen: Observation) -> Person | None:
        """Bind these ids together. Returns whose they are."""
        org_id, line, bsuid = seen.org_id, seen.line, seen.bsuid
        known = self.of_bsuid(org_id, bsuid)
        holding = self.of_line(org_id, line, seen.at)
        first = None if seen.source == "stale" else self._guessed(holding, bsuid, seen.at)
        if holding is not None and first is not None:
            self.retract(holding, first)
        at_line = None if holding is None or self.another(holding, bsuid) else holding.owner
        if seen.source == "stale":
            return known or at_line or self._first_seen(seen, holding)
        if seen.sender is not None:
            return self._see_sender(seen, seen.sender)
        if seen.source in ("intent", "sms") and at_line is not None:
            return at_line
        if known is not None and at_line is not None:
            who: Person | None = self.join(known, at_line) or known
        else:
            who = known or at_line or self._meant(seen, holding) or self._new(seen, holding)
        if who is None:
            return None
        if bsuid is not None:
            self.bind_bsuid(who, bsuid, line, seen.at, seen.source)
        if line is not None:
            self._bind_line(who, line, bsuid, seen)
        who = self._same_account(who, seen)
        if who.name is None:
            who.name = seen.name
        return who

    def _see_sender(self, seen: Observation, sender: str) -> Person | None:
        """The sender of this short code or name."""
        history = self.history((seen.org_id, "sender", sender))
        if history.last is not None:
            return history.last.owner
        person = self._new(seen, None)
        if person is not None:
            history.take(person, seen.at, seen.source, never)
        return person

    def join(self, one: Person, other: Person) -> Person | None:
        """Make the two one customer. None where both are the directory's: these stay two."""
        one, other = one.now, other.now
        if one is other:
            return one
        if one.listed and other.listed:
            return None
        winner, loser = sorted((one, other), key=lambda p: (not p.listed, p.customer_id is None, str(p.customer_id)))
        if winner.phone and loser.phone and not same_line(winner.phone, loser.phone):
            self.touch(winner)
            self.touch(loser)
        winner.name = winner.name or loser.name
        if winner.phone is None:
            winner.reach_at(loser.phone, loser.phone_at)
        loser.reach_at(None)
        loser.became = winner
        self.joins.append((loser, winner))
        return winner

    # ── how it is done
    # ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def another(self, holding: Holding, bsuid: str | None) -> bool:
        """Whether this BSUID shows that another person has the line (Law 1)."""
        if bsuid is None or holding.bsuid is None or holding.bsuid == bsuid:
            return False
        return self.of_bsuid(holding.org_id, bsuid) is not holding.owner

    def _guessed(self, holding: Holding | None, bsuid: str | None, at: datetime) -> datetime | None:
        """Since when the line's holder was seen, where this BSUID shows another person before, at ``at``."""
        if holding is None or holding.bsuid is None or not self.another(holding, bsuid):
            return None
        known = self.history((holding.org_id, "bsuid", holding.bsuid)).last
        first = max(known.since if known is not None else holding.since, holding.seen or holding.since)
        return first if holding.since <= at < first else None

    def retract(self, holding: Holding, first: datetime) -> None:
        """Part the person who was seen on the line since ``first`` from the one who had it before."""
        line, person = canonical(holding.value), holding.owner
        stranger = Person(person.org_id, "inbound")
        self.fresh.append(stranger)
        tail = self.history((holding.org_id, "phone", line)).divide(holding, first, stranger)
        self.know(tail, tail.bsuid)
        reattribute(self, person, stranger, [tail])
        self.lost(holding)

    def _meant(self, seen: Observation, holding: Holding | None) -> Person | None:
        """The customer we wrote to, unless the ids are known to be another person's."""
        person = None if seen.meant is None else self.people.get(seen.meant)
        if person is None or holding is not None:
            return None
        if seen.line is None and seen.bsuid is not None:
            others = [h for h in self.held_by(person.now) if h.kind == "bsuid" and h.until is None]
            return None if others else person.now
        return person.now

    def _new(self, seen: Observation, holding: Holding | None) -> Person | None:
        """A new person, where one may be created.

        An intent creates one. An answer or a status creates none, unless the line certainly changed hands.
        """
        if seen.origin is None or (seen.origin == "outbound" and seen.source != "intent" and holding is None):
            return None
        person = Person(seen.org_id, seen.origin, name=seen.name)
        self.fresh.append(person)
        return person

    def _first_seen(self, seen: Observation, holding: Holding | None) -> Person | None:
        """A person whom only an old webhook names. They get the ids that have no holder, and no holder loses one."""
        who = self._new(seen, holding)
        if who is not None and seen.bsuid is not None:
            self.bind_bsuid(who, seen.bsuid, seen.line, seen.at, "stale")
        if who is not None and seen.line is not None and holding is None:
            history = self.history((seen.org_id, "phone", seen.line))
            if not history.holdings:
                self._bind_line(who, seen.line, seen.bsuid, seen)
        return who

    def _same_account(self, who: Person, seen: Observation) -> Person:
        """Meta names another number for an account than we wrote to, or than its card does: both are one person's."""
        org_id, line = seen.org_id, seen.line
        sent_to = None if seen.sent_to == line else self.of_line(org_id, seen.sent_to, seen.at)
        if sent_to is not None and not self.another(sent_to, seen.bsuid):
            who = self.join(sent_to.owner, who) or who
        also = seen.also_line
        if (
            also is not None
            and line is not None
            and also != line
            and not self.history((org_id, "phone", also)).holdings
        ):
            self._bind_line(who, also, None, seen._replace(number=f"+{seen.also}", wa_id=seen.also, also=None))
        return who

    def bind_bsuid(self, who: Person, bsuid: str, line: str | None, at: datetime, source: Source) -> None:
        history = self.history((who.org_id, "bsuid", bsuid))
        last = history.last
        if last is None:
            history.take(who, at, source, never)
            last = history.last
        elif at < last.since:
            last.since = at
        elif last.until is not None and at >= last.until and source != "notice":
            last.until = last.ended_by = None
        if last is not None and last.line is None:
            last.line = line

    def _bind_line(self, who: Person, line: str, bsuid: str | None, seen: Observation) -> None:
        history = self.history((who.org_id, "phone", line))
        there = history.covering(seen.at)
        moved_on = None if there is None or there.ended_by != "notice" else there.until
        holding, cut_short = history.take(who, seen.at, seen.source, self.passed_on(who.org_id, line))
        if cut_short is not None:
            self.lost(cut_short)
            if moved_on is not None and holding.until == moved_on:
                reattribute(self, cut_short.owner, who, [holding])
        if seen.source not in ("directory", "intent", "sms"):
            holding.seen = seen.at if holding.seen is None else min(holding.seen, seen.at)
        if bsuid is not None and holding.bsuid is None:
            self.know(holding, bsuid)
            self._one_at_a_time(who, bsuid)
        if holding.until is None and holding in history.holdings:
            if who.phone is None:
                who.reach_at(seen.number)
            for wa_id in (seen.wa_id, seen.also):
                if wa_id is not None and canonical(f"+{wa_id}") == line:
                    self.reach_by(who, wa_id, line, holding)

    def _one_at_a_time(self, who: Person, bsuid: str) -> None:
        """A BSUID is on one line at a time. Where it was seen on a later line, the one before is given up."""
        lines = sorted(
            (h for h in self.known_by[who.org_id, bsuid] if h.owner is who and h.bsuid == bsuid), key=lambda h: h.since
        )
        for earlier, later in pairwise(lines):
            if earlier.value != later.value and earlier.since < later.since:
                self.ended(
                    self.history((who.org_id, "phone", canonical(earlier.value))), earlier, later.since, "message"
                )

    def reach_by(self, who: Person, wa_id: str, line: str, holding: Holding) -> None:
        """WhatsApp knows the holder of the line by ``wa_id``."""
        known = self.spelled.get((who.org_id, wa_id))
        if known is None:
            self.spelled[who.org_id, wa_id] = Holding(
                who.org_id, "wa_id", wa_id, who, holding.since, holding.source, line=line
            )

    def ended(self, history: History, holding: Holding, at: datetime, source: Source) -> bool:
        if not history.end(holding, at, source):
            return False
        self.freed.append(Freed(holding.owner, canonical(holding.value), at))
        self.lost(holding)
        return True

    def lost(self, holding: Holding) -> None:
        """Its holder is not reached at the number any more, and the links that went there end."""
        person = holding.owner
        if person.phone is not None and canonical(person.phone) == canonical(holding.value):
            current = self.history((holding.org_id, "phone", canonical(holding.value))).current
            if current is None or current.owner is not person:
                person.reach_at(None)
        self.touch(person)

    def touch(self, person: Person) -> None:
        self.touched[id(person)] = person


def never(_after: datetime, _until: datetime) -> bool:
    return False
