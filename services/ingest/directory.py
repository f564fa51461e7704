"""``directory.changes.v1``: organisations, numbers, customers, consent and credit as the platform tells them.

Rule 1: an older ``at`` never overwrites a newer one of the same type, entity and category; the same again changes nothing.
Rule 2: a tenant's change reaches only what is the tenant's: numbers (``claims``) and customers of another organisation are refused.
Rule 3: a directory customer whose phone is known from a conversation becomes that customer (``customers``): identity and conversations go over,
        and the id given before stays an alias. Two customers of the directory are never made one.
Rule 4: a change for an organisation or customer that nobody has told yet is refused, not waited for: records of one organisation come in
        order, so waiting would block a partition for something that may never come.

``apply`` may be called with any number of changes, in any order of types: organisations come first, then numbers, credit, customers,
consents. Within a type the outcome is that of one change after the other, however they are cut into batches. A batch takes a fixed number of
round trips. Call it inside a transaction; all or nothing is the
caller's choice (roll back when something was refused).
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from libs.common.db.pool import Connection
from libs.common.directory import consents
from libs.common.directory.consents import Told
from libs.common.events.directory import (
    ConsentChanged,
    CustomerUpserted,
    DirectoryChange,
    NumberRemoved,
    NumberUpserted,
    OrgCredit,
    OrgUpserted,
)
from libs.common.sanitize import sanitize
from services.ingest import claims
from services.ingest import directory_queries as sql
from services.ingest.claims import Refused
from services.ingest.customers import tell_customers

ChangeT = TypeVar("ChangeT", bound=DirectoryChange)


Numbered = tuple[int, ChangeT]


async def apply(db: Connection, changes: Sequence[DirectoryChange]) -> list[Refused]:
    """Apply the changes; what was refused, by its place in ``changes``. Stale changes are no refusals: they are simply over."""
    refused: list[Refused] = []
    orgs = [(i, c) for i, c in enumerate(changes) if isinstance(c, OrgUpserted)]
    numbers = [(i, c) for i, c in enumerate(changes) if isinstance(c, NumberUpserted | NumberRemoved)]
    credit = [(i, c) for i, c in enumerate(changes) if isinstance(c, OrgCredit)]
    customers = [(i, c) for i, c in enumerate(changes) if isinstance(c, CustomerUpserted)]
    told_consents = [(i, c) for i, c in enumerate(changes) if isinstance(c, ConsentChanged)]
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
    refused += await tell_customers(db, _of(customers, known))
    await _consents(db, _of(told_consents, known), refused)
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


async def _consents(db: Connection, changes: Sequence[Numbered[ConsentChanged]], refused: list[Refused]) -> None:
    if not changes:
        return
    found = await sql.find_customers(db, [c.customer_id for _, c in changes])
    ours: list[Numbered[ConsentChanged]] = []
    for i, c in changes:
        if c.customer_id not in found:
            refused.append(Refused(i, "unknown_customer", "the customer was not told yet"))
        elif found[c.customer_id].org_id != c.org_id:
            refused.append(Refused(i, "customer_of_another_org", "customer_id belongs to another organisation"))
        else:
            ours.append((i, c))

    def told(change: ConsentChanged) -> Told:
        whose = found[change.customer_id].customer_id
        return Told(change.org_id, whose, change.category, change.allowed, change.at, change.source, change.cause)

    newest = _newest(ours, lambda c: (found[c.customer_id].customer_id, c.category))
    await consents.set_consents(db, [told(change) for _, change in newest])
    await consents.audit(db, [consents.trail(c.org_id, told(c).customer_id, c.model_dump()) for _, c in ours])


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


def _stamp(at: datetime) -> str:
    return at.isoformat()


def _clean(text: str | None) -> str | None:
    return None if text is None else sanitize(text)
