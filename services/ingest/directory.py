"""``directory.changes.v1``: organisations, numbers, customers, consent and credit as the platform tells them.

Rule 1: an older ``at`` never overwrites a newer one of the same type, entity and category; the same again changes nothing.
Rule 2: a tenant's change reaches only what is the tenant's: numbers (``claims``) and customers of another organisation are refused.
Rule 3: a directory customer whose phone is known from a conversation becomes that customer: identity and conversations go over, and the
        id given before stays an alias. Two customers of the directory are never made one; a shared phone stays with the first.
Rule 4: a change for an organisation or customer that nobody has told yet is refused, not waited for: records of one organisation come in
        order, so waiting would block a partition for something that may never come.

``apply`` may be called with any number of changes, in any order of types: organisations come first, then numbers, credit, customers,
consents. Within a type the outcome is that of one change after the other, however they are cut into batches. A batch takes a fixed number of
round trips, and some more for each time that it names a customer or a phone again. Call it inside a transaction; all or nothing is the
caller's choice (roll back when something was refused).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from libs.common.db.merge import Merge, merge_customers
from libs.common.db.pool import Connection
from libs.common.errors import Transient
from libs.common.events.directory import (
    ConsentChanged,
    CustomerUpserted,
    DirectoryChange,
    NumberRemoved,
    NumberUpserted,
    OrgCredit,
    OrgUpserted,
)
from libs.common.ids import identity_lock
from libs.common.locks import IDENTITIES, lock
from libs.common.storable import storable
from services.ingest import claims, queries
from services.ingest import directory_queries as sql
from services.ingest.claims import Refused
from services.ingest.identify import Identity, identities_of_phone

ChangeT = TypeVar("ChangeT", bound=DirectoryChange)


Numbered = tuple[int, ChangeT]


async def apply(db: Connection, changes: Sequence[DirectoryChange]) -> list[Refused]:
    """Apply the changes; what was refused, by its place in ``changes``. Stale changes are no refusals: they are simply over."""
    refused: list[Refused] = []
    orgs = [(i, c) for i, c in enumerate(changes) if isinstance(c, OrgUpserted)]
    numbers = [(i, c) for i, c in enumerate(changes) if isinstance(c, NumberUpserted | NumberRemoved)]
    credit = [(i, c) for i, c in enumerate(changes) if isinstance(c, OrgCredit)]
    customers = [(i, c) for i, c in enumerate(changes) if isinstance(c, CustomerUpserted)]
    consents = [(i, c) for i, c in enumerate(changes) if isinstance(c, ConsentChanged)]
    await claims.alone(db, changes)
    refused += await claims.tell_orgs(db, orgs)
    known = await sql.known_orgs(db, sorted({change.org_id for change in changes}))
    over = {one.index for one in refused}
    refused += [
        Refused(i, "unknown_org", "the organisation was not told yet")
        for i, change in enumerate(changes)
        if change.org_id not in known and i not in over
    ]
    refused += await claims.tell_numbers(db, _of(numbers, known))
    await _credit(db, _of(credit, known))
    await _customers(db, _of(customers, known), refused)
    await _consents(db, _of(consents, known), refused)
    return refused


async def _credit(db: Connection, credit: Sequence[Numbered[OrgCredit]]) -> None:
    await sql.set_credit(db, sorted((c.org_id, c.exhausted, c.at) for _, c in _newest(credit, lambda c: c.org_id)))
    await sql.audit(
        db,
        [
            (
                c.org_id,
                None,
                "credit",
                {"exhausted": c.exhausted},
                c.at,
                f"credit:{c.org_id}:{_stamp(c.at)}:{c.exhausted}",
            )
            for _, c in credit
        ],
    )


async def _customers(db: Connection, customers: Sequence[Numbered[CustomerUpserted]], refused: list[Refused]) -> None:
    """Upsert, then give each phone's identity to its customer, or take over whom that identity had meant so far.

    A name told without a phone leaves the phone, and who claims a phone first keeps it: what touches the same customer is done in turn.
    """
    if not customers:
        return
    phones = {i for _, c in customers if c.phone for i in identities_of_phone(c.org_id, c.phone)}
    names = [identity_lock(*i) for i in phones] + [f"customer:{c.customer_id}" for _, c in customers]
    await lock(db, IDENTITIES, names)
    found = await sql.find_customers(db, [c.customer_id for _, c in customers])
    owners = {(o.org_id, o.kind, o.value): o.customer_id for o in await queries.owners(db, sorted(phones))}
    for turn in _turns(customers, lambda change: _touched(change, found, owners)):
        await _upsert_customers(db, turn, refused)


def _touched(
    change: CustomerUpserted, found: Mapping[UUID, sql.Known], owners: Mapping[Identity, UUID]
) -> Iterable[Hashable]:
    """The customers whom the change may alter, and its phone."""
    yield change.customer_id
    if change.customer_id in found:
        yield found[change.customer_id].customer_id
    for identity in identities_of_phone(change.org_id, change.phone) if change.phone else ():
        yield identity
        if identity in owners:
            yield owners[identity]


async def _upsert_customers(
    db: Connection, customers: Sequence[Numbered[CustomerUpserted]], refused: list[Refused]
) -> None:
    """No two of these touch the same customer."""
    found = await sql.find_customers(db, [c.customer_id for _, c in customers])
    rows: list[sql.CustomerRow] = []
    for i, c in customers:
        known = found.get(c.customer_id, sql.Known(c.org_id, c.customer_id))
        if known.org_id != c.org_id:
            refused.append(Refused(i, "customer_of_another_org", "customer_id belongs to another organisation"))
            continue
        told = c.model_fields_set
        rows.append(
            sql.CustomerRow(
                c.org_id, known.customer_id, _clean(c.name), c.phone, c.at, names="name" in told, phones="phone" in told
            )
        )
    applied = await sql.upsert_customers(db, rows)
    claims = [row for row in rows if row.customer_id in applied and row.phone]
    if claims:
        await _claim_phones(db, claims)


async def _claim_phones(db: Connection, claims: Sequence[sql.CustomerRow]) -> None:
    wanted: dict[Identity, UUID] = {}
    for claim in claims:
        for identity in identities_of_phone(claim.org_id, claim.phone or ""):
            wanted.setdefault(identity, claim.customer_id)
    owners = {(o.org_id, o.kind, o.value): o for o in await queries.owners(db, sorted(wanted))}
    merges: dict[UUID, Merge] = {}
    moved: list[tuple[str, str, str, UUID]] = []
    for identity, owner in owners.items():
        customer_id = wanted[identity]
        if owner.customer_id == customer_id:
            continue
        if owner.origin != "directory":
            merges.setdefault(owner.customer_id, Merge(identity[0], owner.customer_id, customer_id))
        elif owner.phone != f"+{identity[2].removeprefix('+')}":
            moved.append(
                (*identity, customer_id)
            )  # the directory itself says that its first customer has another number now
    await merge_customers(db, list(merges.values()))
    await sql.move_identities(db, moved)
    # a wa_id is added when WhatsApp tells it; the phone is known from now on
    missing = [(*i, who) for i, who in wanted.items() if i not in owners and i[1] == "phone"]
    if await queries.add_identities(db, missing) != len(missing):
        raise Transient(
            "a phone number became somebody's meanwhile"
        )  # a first contact: the next try finds whose, and merges


async def _consents(db: Connection, consents: Sequence[Numbered[ConsentChanged]], refused: list[Refused]) -> None:
    if not consents:
        return
    found = await sql.find_customers(db, [c.customer_id for _, c in consents])
    ours: list[Numbered[ConsentChanged]] = []
    for i, c in consents:
        if c.customer_id not in found:
            refused.append(Refused(i, "unknown_customer", "the customer was not told yet"))
        elif found[c.customer_id].org_id != c.org_id:
            refused.append(Refused(i, "customer_of_another_org", "customer_id belongs to another organisation"))
        else:
            ours.append((i, c))
    await sql.set_consents(
        db,
        [
            (c.org_id, found[c.customer_id].customer_id, c.category, c.allowed, c.at)
            for _, c in _newest(ours, lambda c: (found[c.customer_id].customer_id, c.category))
        ],
    )
    await sql.audit(
        db,
        [
            (
                c.org_id,
                found[c.customer_id].customer_id,
                "consent",
                {"category": c.category, "allowed": c.allowed},
                c.at,
                f"consent:{c.org_id}:{c.customer_id}:{c.category}:{_stamp(c.at)}:{c.allowed}",
            )
            for _, c in ours
        ],
    )


def _of(changes: Iterable[Numbered[ChangeT]], known: set[str]) -> list[Numbered[ChangeT]]:
    return [(i, change) for i, change in changes if change.org_id in known]


def _newest(changes: Iterable[Numbered[ChangeT]], entity: Callable[[ChangeT], object]) -> list[Numbered[ChangeT]]:
    """Per entity the change with the newest ``at``, of equal ones the last; the entities in the order in which they were first named."""
    newest: dict[object, Numbered[ChangeT]] = {}
    for i, change in changes:
        before = newest.get(entity(change))
        if before is None or before[1].at <= change.at:
            newest[entity(change)] = (i, change)
    return list(newest.values())


def _turns(
    changes: Sequence[Numbered[ChangeT]], touched: Callable[[ChangeT], Iterable[Hashable]]
) -> list[list[Numbered[ChangeT]]]:
    """The changes in as few turns as keep the order of those that touch the same, be it through others; ``touched`` names something."""
    leader: dict[Hashable, Hashable] = {}

    def leader_of(key: Hashable) -> Hashable:
        while (above := leader.setdefault(key, key)) != key:
            leader[key] = leader[above]
            key = above
        return key

    groups = [list(touched(change)) for _, change in changes]
    for first, *rest in groups:
        for key in rest:
            leader[leader_of(key)] = leader_of(first)
    turns: list[list[Numbered[ChangeT]]] = []
    taken = Counter[Hashable]()
    for change, (first, *_) in zip(changes, groups, strict=True):
        group = leader_of(first)
        if taken[group] == len(turns):
            turns.append([])
        turns[taken[group]].append(change)
        taken[group] += 1
    return turns


def _stamp(at: datetime) -> str:
    return at.isoformat()


def _clean(text: str | None) -> str | None:
    return None if text is None else storable(text)
