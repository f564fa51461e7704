"""Identity → customer → conversation, where something of it is new.

Rule 1: two workers that meet the same new customer end with one customer and one conversation: whoever settles an identity is alone with it.
Rule 2: a phone number and the wa_id of the same digits are one identity; a directory customer with that phone is that customer.
Rule 3: ids that Meta names together are one customer. Where they belonged to two, the directory's customer stays, else the older; two customers
        of the directory are never made one: the wa_id decides then whose message it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from libs.common.db.merge import Merge, merge_customers
from libs.common.db.pool import Connection
from libs.common.errors import Transient
from libs.common.ids import identity_lock
from libs.common.locks import IDENTITIES, lock
from services.ingest import queries
from services.ingest.queries import Address, Found, Owner
from services.ingest.understand import Sender

Identity = tuple[str, str, str]
"""Organisation, kind, value."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A sender of a business number of ``org_id``, last seen at ``at``. ``now``: who the sender is since then."""

    org_id: str
    phone_number_id: str
    sender: Sender
    at: datetime
    now: Sender | None = None


def is_settled(found: Found, who: tuple[str, str | None, str | None]) -> bool:
    """Whether every id of the sender (business number, wa_id, BSUID) leads to one conversation that is reached by these ids."""
    _, wa_id, bsuid = who
    return (
        found.conversation_id is not None
        and (wa_id is None or (found.by_wa_id is not None and found.wa_id == wa_id))
        and (bsuid is None or (found.by_bsuid is not None and found.bsuid == bsuid))
        and (wa_id is None or bsuid is None or found.by_wa_id == found.by_bsuid)
    )


async def settle(db: Connection, wanted: Sequence[Wanted]) -> None:
    """Make every wanted sender known: identities, customer, conversation. Call inside a transaction of its own.

    Raises Transient when a customer was merged away meanwhile.
    """
    people = _people(wanted)
    await lock(db, IDENTITIES, {identity_lock(*identity) for person in people for identity in person.identities})
    owners = await queries.owners(db, sorted({identity for person in people for identity in person.identities}))
    by_identity = {(owner.org_id, owner.kind, owner.value): owner for owner in owners}
    merges: list[Merge] = []
    for person in people:
        merges += person.choose([by_identity[i] for i in person.by_rank() if i in by_identity])
    strangers = [person for person in people if person.customer_id is None]
    made = await queries.create_customers(db, [(p.org_id, p.name, p.phone) for p in strangers])
    for person, customer_id in zip(strangers, made, strict=True):
        person.customer_id = customer_id
    missing = [(*i, person.known_id) for person in people for i in sorted(person.identities) if i not in by_identity]
    if await queries.add_identities(db, missing) != len(missing):
        raise Transient("an identity was taken meanwhile")
    await merge_customers(db, merges)
    await queries.complete_customers(db, sorted({(p.org_id, p.known_id, p.name, p.phone) for p in people}, key=str))
    await queries.ensure_conversations(db, _addresses(people))
    await _move(db, people)


def identities_of_phone(org_id: str, phone: str) -> tuple[Identity, Identity]:
    """The number as WhatsApp and as everybody else writes it."""
    return (org_id, "wa_id", phone.removeprefix("+")), (org_id, "phone", phone)


@dataclass(slots=True)
class _Person:
    """Everything that Meta has said in this batch about one customer."""

    org_id: str
    wanted: list[Wanted] = field(default_factory=list)
    identities: set[Identity] = field(default_factory=set)
    customer_id: UUID | None = None

    @property
    def known_id(self) -> UUID:
        if self.customer_id is None:
            raise RuntimeError("asked for a customer before one was chosen")
        return self.customer_id

    @property
    def latest(self) -> Wanted:
        return max(self.wanted, key=lambda one: one.at)

    @property
    def phone(self) -> str | None:
        told = [w.now or w.sender for w in sorted(self.wanted, key=lambda one: one.at, reverse=True)]
        return next((f"+{sender.wa_id}" for sender in told if sender.wa_id), None)

    @property
    def name(self) -> str | None:
        return next((w.sender.name for w in self.wanted if w.sender.name), None)

    def by_rank(self) -> list[Identity]:
        """wa_id before phone before BSUID: a number is told by Meta and the directory alike."""
        return sorted(self.identities, key=lambda i: (("wa_id", "phone", "bsuid").index(i[1]), i))

    def choose(self, owners: Sequence[Owner]) -> list[Merge]:
        """Take one of the customers found, best first; what must be merged for that."""
        if not owners:
            return []
        found = {owner.customer_id: owner for owner in reversed(owners)}
        listed = [owner for owner in owners if owner.origin == "directory"]
        if len({owner.customer_id for owner in listed}) > 1:
            self.customer_id = owners[0].customer_id
            return []
        self.customer_id = listed[0].customer_id if listed else min(found)
        return [Merge(self.org_id, loser, self.customer_id) for loser in found if loser != self.customer_id]


def _people(wanted: Sequence[Wanted]) -> list[_Person]:
    """Senders that share an id are one person."""
    people: dict[Identity, _Person] = {}
    for one in wanted:
        identities = set(_identities(one))
        known = {id(person): person for i in identities if (person := people.get(i)) is not None}
        person = _Person(one.org_id)
        for other in known.values():
            person.wanted += other.wanted
            person.identities |= other.identities
        person.wanted.append(one)
        person.identities |= identities
        people.update(dict.fromkeys(person.identities, person))
    return list({id(person): person for person in people.values()}.values())


def _identities(one: Wanted) -> Iterable[Identity]:
    for sender in (one.sender, one.now):
        if sender is not None and sender.wa_id is not None:
            yield from identities_of_phone(one.org_id, f"+{sender.wa_id}")
        if sender is not None and sender.bsuid is not None:
            yield one.org_id, "bsuid", sender.bsuid


def _addresses(people: Iterable[_Person]) -> list[Address]:
    """Per customer and business number the newest word on how to reach them."""
    newest: dict[tuple[UUID, str], Address] = {}
    for person in people:
        for one in sorted(person.wanted, key=lambda w: w.at):
            key = person.known_id, one.phone_number_id
            before = newest.get(key)
            wa_id = one.sender.wa_id or (before.wa_id if before else None)
            bsuid = one.sender.bsuid or (before.bsuid if before else None)
            newest[key] = Address(one.org_id, person.known_id, one.phone_number_id, wa_id, bsuid, one.at)
    return [newest[key] for key in sorted(newest, key=str)]


async def _move(db: Connection, people: Iterable[_Person]) -> None:
    for person in people:
        for one in person.wanted:
            if one.now is not None:
                address = Address(
                    one.org_id, person.known_id, one.phone_number_id, one.now.wa_id, one.now.bsuid, one.at
                )
                await queries.move_address(db, address, one.sender.wa_id)
