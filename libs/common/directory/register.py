"""Who is who: what Meta, the directory and we ourselves know of people, brought together. Pure: rows come in, changed rows go out.

Law 1: a BSUID is a person: it stays the same while they have their number, and is made anew when they take another. A line that shows another BSUID
       than before has another owner, whether a notice came or not.
Law 2: ids that are told together are one person, unless Law 1 says otherwise. Where they were two customers, the directory's stays, else the older.
Law 3: two customers of the directory are never made one. The BSUID decides whose message it is, then who has the line.
Law 4: a notice ends the old ids at its own time and begins the new ones. Whatever comes later but happened before still finds who had them then.
Law 5: the order of arrival does not matter: notices are kept, and said again to whoever turns out to have had one of their ids.
Law 6: what is older than Meta's seven days finds its person and binds nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from libs.common.directory.holdings import History, Holding, Origin, Person, Source
from libs.common.phone import canonical, same_line

INSTANT = timedelta(microseconds=1)
Id = tuple[str, str, str]
"""Organisation, kind, value; of a phone its canonical number."""


class Sighting(NamedTuple):
    """These ids are one person at ``at``. ``number``: E.164 as it was told, ``wa_id``: as Meta spells it. ``meant``: the customer we wrote to.

    ``origin``: what a customer is made as where nobody is found; None makes none.
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
    """Another spelling of the same line, as Meta has it."""

    @property
    def line(self) -> str | None:
        return None if self.number is None else canonical(self.number)

    @property
    def ids(self) -> list[Id]:
        return _ids(self.org_id, self.line, self.bsuid)


class Notice(NamedTuple):
    """Whoever had the old ids has the new ones since ``at``. Lines are canonical numbers; what is not told is None."""

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


@dataclass(frozen=True, slots=True)
class Moved:
    """A person has other ids since ``at``: their conversations have no address but the new one, and their windows count as closed."""

    person: Person
    at: datetime
    wa_id: str | None
    bsuid: str | None


@dataclass(frozen=True, slots=True)
class Cut:
    """``person`` gave ``line`` up at ``at``, later than some of it was seen: what came from it after that is a stranger's.

    ``theirs``: BSUIDs that are the person's all the same.
    """

    person: Person
    line: str
    at: datetime
    theirs: tuple[str, ...]
    strange: tuple[str, ...]


class Register:
    """The people and identities that a batch concerns. Load everything named first; afterwards write what changed."""

    def __init__(self) -> None:
        self.people: dict[UUID, Person] = {}
        self.fresh: list[Person] = []
        self.histories: dict[Id, History] = {}
        self.spelled: dict[tuple[str, str], Holding] = {}
        self.notices: set[Notice] = set()
        self.known_by: dict[tuple[str, str], list[Holding]] = {}
        self.joins: list[tuple[Person, Person]] = []
        self.touched: dict[int, Person] = {}
        self.moves: list[Moved] = []

    # ── what is known ─────────────────────────────────────────────────────────────────────────────────────────────────────────

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
        return None if line is None else self.history((org_id, "phone", line)).at(at, self._passed_on(org_id, line))

    def held_by(self, person: Person) -> list[Holding]:
        """Everything of these people that was loaded, present and past."""
        return [h for history in self.histories.values() for h in history.holdings if h.owner is person]

    def _passed_on(self, org_id: str, line: str) -> Callable[[datetime, datetime], bool]:
        times = [n.at for n in self.notices if n.org_id == org_id and line in (n.old_line, n.new_line)]
        return lambda after, until: any(after < at <= until for at in times)

    def know(self, holding: Holding, bsuid: str | None) -> None:
        """WhatsApp knows whoever has this line by this BSUID."""
        holding.bsuid = bsuid
        if bsuid is not None:
            self.known_by.setdefault((holding.org_id, bsuid), []).append(holding)

    # ── what is told ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def see(self, seen: Sighting) -> Person | None:
        """Whose ids these are; they are bound together."""
        org_id, line, bsuid = seen.org_id, seen.line, seen.bsuid
        known = self.of_bsuid(org_id, bsuid)
        holding = self.of_line(org_id, line, seen.at)
        at_line = None if holding is None or self._another(holding, bsuid) else holding.owner
        if seen.source == "stale":
            return known or at_line or self._first_seen(seen, holding)
        if known is not None and at_line is not None:
            who: Person | None = self.join(known, at_line) or known
        else:
            who = known or at_line or self._meant(seen, holding) or self._new(seen, holding)
        if who is None:
            return None
        if bsuid is not None:
            self._bind_bsuid(who, bsuid, line, seen.at, seen.source)
        if line is not None:
            self._bind_line(who, line, bsuid, seen)
        if who.name is None:
            who.name = seen.name
        return who

    def change(self, notice: Notice) -> tuple[Person | None, list[Cut]]:
        """Who changed, if anybody is known by the old ids, and what was ended later than it had been seen. Again the same changes nothing."""
        self.notices.add(notice)
        org_id, old_line, old_bsuid, new_line, new_bsuid, at, _ = notice
        if old_line is not None and old_bsuid is not None and old_line != new_line:
            self.see(Sighting(org_id, old_line, None, old_bsuid, at - INSTANT, "message"))
        person = self.of_bsuid(org_id, old_bsuid)
        if person is None and old_line is not None:
            held = self.history((org_id, "phone", old_line)).before(at)
            person = None if held is None or self._another(held, old_bsuid) else held.owner
        if person is None:
            return None, []
        cuts = self._end(person, notice)
        if new_line is not None:
            person, cut = self._begin(person, notice, new_line)
            cuts += cut
        owner = self.of_bsuid(org_id, new_bsuid)
        if owner is not None and owner is not person:
            person = self.join(person, owner) or person
        if new_bsuid is not None and (owner is None or owner.now is person):
            self._bind_bsuid(person, new_bsuid, new_line, at, "notice")
        return person, cuts

    def part(self, cut: Cut, first: datetime) -> Person:
        """Whoever wrote from a line after it was given up, since ``first``, is somebody else: who."""
        org_id = cut.person.org_id
        history = self.history((org_id, "phone", cut.line))
        holding = history.at(first, self._passed_on(org_id, cut.line))
        stranger = None if holding is None or holding.owner is cut.person.now else holding.owner
        for bsuid in cut.strange:
            owner = self.of_bsuid(org_id, bsuid)
            stranger = stranger or (None if owner is cut.person.now else owner)
        if stranger is None:
            stranger = Person(org_id, "inbound")
            self.fresh.append(stranger)
        self._give(org_id, cut.strange, stranger)
        took, _ = history.take(stranger, first, "message", self._passed_on(org_id, cut.line))
        if took.bsuid is None and cut.strange:
            self.know(took, cut.strange[0])
        if took.until is None and stranger.phone is None:
            stranger.reach_at(cut.line)
        self._touch(cut.person)
        return stranger

    def join(self, one: Person, other: Person) -> Person | None:
        """One and the same customer from now on; None where both are the directory's: these stay two."""
        one, other = one.now, other.now
        if one is other:
            return one
        if one.listed and other.listed:
            return None
        winner, loser = sorted((one, other), key=lambda p: (not p.listed, p.customer_id is None, str(p.customer_id)))
        if winner.phone and loser.phone and not same_line(winner.phone, loser.phone):
            self._touch(winner)
            self._touch(loser)
        winner.name = winner.name or loser.name
        if winner.phone is None:
            winner.reach_at(loser.phone, loser.phone_at)
        loser.reach_at(None)
        loser.became = winner
        self.joins.append((loser, winner))
        return winner

    def claim(self, person: Person, number: str, at: datetime) -> None:
        """The directory says that the number is this customer's, since ``at``."""
        line = canonical(number)
        history = self.history((person.org_id, "phone", line))
        current = history.current
        if self._given_up_since(history, at):
            self._claim_past(history, person, at)
        elif current is not None and current.owner is not person and not current.owner.listed:
            self.join(current.owner, person)
        elif current is not None and current.owner is not person:
            told = current.owner.told_phone or current.owner.phone
            if told is None or not same_line(told, number):
                since = max(at, current.since)
                self._ended(history, current, since, "directory")
                history.take(person, since, "directory", _never)
        elif current is None:
            last = history.last
            since = at if last is None or last.until is None else max(at, last.until)
            history.take(person, since, "directory", _never)

    def _given_up_since(self, history: History, at: datetime) -> bool:
        """Whether a notice tells that the line was given up after ``at``."""
        last = history.last
        if last is None:
            return False
        if last.until is not None:
            return last.until > at and last.ended_by == "notice"
        return self._passed_on(history.org_id, history.value)(at, last.since)

    def _claim_past(self, history: History, person: Person, at: datetime) -> None:
        """It was theirs then, and is not any more: whoever had it then is this customer, and it is no address."""
        passed_on = self._passed_on(history.org_id, history.value)
        had = history.at(at, passed_on)
        if had is None:
            had, _ = history.take(person, at, "directory", passed_on)
        elif had.owner is not person and not had.owner.listed:
            self.join(had.owner, person)
        if had.owner is person.now:
            self._lost(had)

    def give_up(self, person: Person, number: str, at: datetime) -> None:
        """The directory says that the customer has another number now: what Meta never confirmed is theirs no more."""
        history = self.history((person.org_id, "phone", canonical(number)))
        current = history.current
        if current is not None and current.owner is person and current.seen is None:
            self._ended(history, current, max(at, current.since), "directory")
        self._touch(person)

    # ── how it is done ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _another(self, holding: Holding, bsuid: str | None) -> bool:
        """Whether this BSUID shows that somebody else has the line (Law 1)."""
        if bsuid is None or holding.bsuid is None or holding.bsuid == bsuid:
            return False
        return self.of_bsuid(holding.org_id, bsuid) is not holding.owner

    def _meant(self, seen: Sighting, holding: Holding | None) -> Person | None:
        """The customer we wrote to, unless the ids are known to be somebody else's."""
        person = None if seen.meant is None else self.people.get(seen.meant)
        if person is None or holding is not None:
            return None
        if seen.line is None and seen.bsuid is not None:
            others = [h for h in self.held_by(person.now) if h.kind == "bsuid" and h.until is None]
            return None if others else person.now
        return person.now

    def _new(self, seen: Sighting, holding: Holding | None) -> Person | None:
        """Somebody new. Of somebody we wrote to nothing is made, unless the line is certainly not anymore of who had it."""
        if seen.origin is None or (seen.origin == "outbound" and holding is None):
            return None
        person = Person(seen.org_id, seen.origin, name=seen.name)
        self.fresh.append(person)
        return person

    def _first_seen(self, seen: Sighting, holding: Holding | None) -> Person | None:
        """Somebody whom only an old webhook tells of: ids that are nobody's are theirs, and nobody loses any."""
        who = self._new(seen, holding)
        if who is not None and seen.bsuid is not None:
            self._bind_bsuid(who, seen.bsuid, seen.line, seen.at, "stale")
        if who is not None and seen.line is not None and holding is None:
            history = self.history((seen.org_id, "phone", seen.line))
            if not history.holdings:
                self._bind_line(who, seen.line, seen.bsuid, seen)
        return who

    def _bind_bsuid(self, who: Person, bsuid: str, line: str | None, at: datetime, source: Source) -> None:
        history = self.history((who.org_id, "bsuid", bsuid))
        last = history.last
        if last is None:
            history.take(who, at, source, _never)
            last = history.last
        elif at < last.since:
            last.since = at
        elif last.until is not None and at >= last.until and source != "notice":
            last.until = last.ended_by = None
        if last is not None and last.line is None:
            last.line = line

    def _bind_line(self, who: Person, line: str, bsuid: str | None, seen: Sighting) -> None:
        history = self.history((who.org_id, "phone", line))
        holding, cut_short = history.take(who, seen.at, seen.source, self._passed_on(who.org_id, line))
        if cut_short is not None:
            self._lost(cut_short)
        if seen.source not in ("directory", "intent"):
            holding.seen = seen.at if holding.seen is None else min(holding.seen, seen.at)
        if bsuid is not None and holding.bsuid is None:
            self.know(holding, bsuid)
            self._one_at_a_time(who, bsuid)
        if holding.until is None and holding in history.holdings:
            if who.phone is None:
                who.reach_at(seen.number)
            for wa_id in (seen.wa_id, seen.also):
                if wa_id is not None and canonical(f"+{wa_id}") == line:
                    self.spell(who, wa_id, line, holding)

    def _one_at_a_time(self, who: Person, bsuid: str) -> None:
        """A BSUID is on one line at a time: where it was seen on a later one, the one before is given up."""
        lines = sorted(
            (h for h in self.known_by[who.org_id, bsuid] if h.owner is who and h.bsuid == bsuid), key=lambda h: h.since
        )
        for earlier, later in pairwise(lines):
            if earlier.value != later.value and earlier.since < later.since:
                self._ended(
                    self.history((who.org_id, "phone", canonical(earlier.value))), earlier, later.since, "message"
                )

    def spell(self, who: Person, wa_id: str, line: str, holding: Holding) -> None:
        """WhatsApp knows whoever has the line by ``wa_id``."""
        known = self.spelled.get((who.org_id, wa_id))
        if known is None:
            self.spelled[who.org_id, wa_id] = Holding(
                who.org_id, "wa_id", wa_id, who, holding.since, holding.source, line=line
            )

    def _end(self, person: Person, notice: Notice) -> list[Cut]:
        """End what the person had until the notice."""
        org_id, old_line, old_bsuid, new_line, new_bsuid, at, new_number = notice
        mine = [h for h in self.held_by(person) if h.since <= at and (h.until is None or h.until >= at)]
        lines = [h for h in mine if h.kind == "phone" and canonical(h.value) != new_line]
        if old_bsuid is None and old_line is not None:
            known = (h.bsuid for h in lines if canonical(h.value) == old_line and h.bsuid is not None)
            old_bsuid = next((b for b in known if not self._came_later(org_id, b, at)), None)
        theirs = tuple(b for b in (old_bsuid, new_bsuid) if b is not None)
        cuts: list[Cut] = []
        changed = False
        for held in lines:
            line = canonical(held.value)
            named = line == old_line or (held.bsuid is not None and held.bsuid == old_bsuid)
            if named or (old_line is None and held.bsuid is None and held.seen is not None):
                held.since = min(held.since, at - INSTANT)  # written in the very second of the notice: theirs still
                ended = self._ended(self.history((org_id, "phone", line)), held, at, "notice")
                changed |= ended
                cuts += [self._cut(person, held, at, theirs)] if ended else []
        for held in mine:
            if (
                held.kind == "bsuid"
                and held.value != new_bsuid
                and (
                    held.value == old_bsuid
                    or (old_line is not None and held.line == old_line and not self._came_later(org_id, held.value, at))
                )
            ):
                held.since = min(held.since, at - INSTANT)
                changed |= self.history((org_id, "bsuid", held.value)).end(held, at, "notice")
        if changed:
            self._touch(person)
            wa_id = None if new_line is None else (new_number or new_line).removeprefix("+")
            self.moves.append(Moved(person, at, wa_id, new_bsuid))
        return cuts

    def _cut(self, person: Person, held: Holding, at: datetime, theirs: tuple[str, ...]) -> Cut:
        """What was seen on the line after it was given up is not the person's: also a BSUID that was learned there."""
        line = canonical(held.value)
        strange = tuple(
            h.value
            for h in self.held_by(person)
            if h.kind == "bsuid" and h.line == line and h.since > at and h.value not in theirs
        )
        if held.bsuid in strange:
            held.bsuid = None
        return Cut(person, line, at, theirs, strange)

    def _came_later(self, org_id: str, bsuid: str, at: datetime) -> bool:
        last = self.history((org_id, "bsuid", bsuid)).last
        return last is not None and last.since > at

    def _begin(self, person: Person, notice: Notice, line: str) -> tuple[Person, list[Cut]]:
        """The person has the line since the notice. Whoever had it before is somebody else, whoever is first seen there after it is the person."""
        org_id, new_bsuid, at = notice.org_id, notice.new_bsuid, notice.at
        history = self.history((org_id, "phone", line))
        passed_on = self._passed_on(org_id, line)
        there = history.covering(at)
        if there is not None and there.owner is not person:
            first_seen = there.seen is None or there.seen >= at
            if first_seen and not self._another(there, new_bsuid) and self._may_be(there, person):
                person = self.join(person, there.owner) or person
        later = history.after(at) if there is None else None
        if later is not None and passed_on(at, later.since):
            later = None
        if later is not None and later.owner is not person and not self._another(later, new_bsuid):
            person = self.join(person, later.owner) or person
        cuts: list[Cut] = []
        if later is not None and later.owner is person:
            later.since, later.source = at, "notice"
            holding = later
        else:
            holding, cut_short = history.take(person, at, "notice", passed_on)
            if cut_short is not None:
                self._lost(cut_short)
                cut = self._cut(cut_short.owner, cut_short, at, ())
                self._give(org_id, cut.strange, person)
                cuts.append(cut)
        holding.seen = at if holding.seen is None else min(holding.seen, at)
        if holding.bsuid is None and new_bsuid is not None:
            self.know(holding, new_bsuid)
        if holding.until is None:
            if person.phone is None:
                person.reach_at(notice.new_number or line)
            self.spell(person, (notice.new_number or line).removeprefix("+"), line, holding)
        return person, cuts

    def _give(self, org_id: str, bsuids: Iterable[str], person: Person) -> None:
        for bsuid in bsuids:
            for holding in self.history((org_id, "bsuid", bsuid)).holdings:
                holding.person = person

    def _may_be(self, there: Holding, person: Person) -> bool:
        """Whether somebody whom only the directory knows at a line may be the one who comes there: who writes from elsewhere is not."""
        if there.seen is not None:
            return True
        return there.owner.listed and not person.listed and not self._writes(there.owner)

    def _writes(self, person: Person) -> bool:
        return any(h.seen is not None or h.kind == "bsuid" for h in self.held_by(person))

    def _ended(self, history: History, holding: Holding, at: datetime, source: Source) -> bool:
        if not history.end(holding, at, source):
            return False
        self._lost(holding)
        return True

    def _lost(self, holding: Holding) -> None:
        """Nothing goes to the number any more for the one who had it, and no link that went there leads anywhere."""
        person = holding.owner
        if person.phone is not None and canonical(person.phone) == canonical(holding.value):
            current = self.history((holding.org_id, "phone", canonical(holding.value))).current
            if current is None or current.owner is not person:
                person.reach_at(None)
        self._touch(person)

    def _touch(self, person: Person) -> None:
        self.touched[id(person)] = person


def _never(_after: datetime, _until: datetime) -> bool:
    return False


def _ids(org_id: str, line: str | None, bsuid: str | None) -> list[Id]:
    told = (("phone", line), ("bsuid", bsuid))
    return [(org_id, kind, value) for kind, value in told if value is not None]
