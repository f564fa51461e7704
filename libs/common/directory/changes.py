"""``directory.changes.v1``: organisations, numbers, customers, consent and credit as the platform sends them.

Rule 1: an older ``at`` never overwrites a newer one of the same type, entity and category; the same again changes
        nothing.
Rule 2: a tenant's change reaches only what is the tenant's. Numbers and customers of another organisation are refused.
Rule 3: a directory customer whose phone is known from a conversation becomes that customer (``customers``). Identity
        and conversations go over, and the id given before stays an alias. Two customers of the directory are never made
        one.
Rule 4: a change for an organisation or customer that is unknown is refused, not waited for. The records of one
        organisation come in order, so waiting would block a partition for something that may never come.

``apply`` takes any number of changes, in any order of types: organisations come first, then numbers, credit, customers,
consents. Within a type the outcome is that of one change after the other, however they are cut into batches. A batch
takes a fixed number of round trips.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from libs.common.db.locks import CLAIMS, lock
from libs.common.db.pool import Connection
from libs.common.directory import consents
from libs.common.directory.consents import DirectoryConsent
from libs.common.directory.customers import find_customers, store_customers
from libs.common.directory.numbers import store_numbers
from libs.common.directory.organisations import (
    RefusedChange,
    add_lines,
    known_orgs,
    sign_in_of,
    store_credit,
    store_orgs,
)
from libs.common.events.directory import (
    ConsentChanged,
    CustomerUpserted,
    DirectoryChange,
    NumberRemoved,
    NumberUpserted,
    OrgCredit,
    OrgUpserted,
)
from libs.common.phone import canonical

ChangeT = TypeVar("ChangeT", bound=DirectoryChange)
Numbered = tuple[int, ChangeT]
"""A change with its index in the batch."""


async def apply(
    db: Connection, changes: Sequence[DirectoryChange], *, platform_host: str | None = None
) -> list[RefusedChange]:
    """Apply the changes inside the caller's transaction. Returns what was refused, by its index in ``changes``.

    ``platform_host`` is that of PORTAL_URL, which organisations share.

    A stale change is no refusal: it has no effect. The caller rolls back if it wants all or nothing.
    """
    await _lock_claims(db, changes)
    numbered = list(enumerate(changes))
    refused = await store_orgs(db, [(i, c) for i, c in numbered if isinstance(c, OrgUpserted)], platform_host)
    known = await known_orgs(db, sorted({change.org_id for change in changes}))
    over = {one.index for one in refused}
    refused += [
        RefusedChange(i, "unknown_org", "the organisation was not told yet")
        for i, change in numbered
        if change.org_id not in known and i not in over
    ]
    ours = [(i, c) for i, c in numbered if c.org_id in known]
    refused += await store_numbers(db, [(i, c) for i, c in ours if isinstance(c, NumberUpserted | NumberRemoved)])
    await store_credit(db, [c for _, c in ours if isinstance(c, OrgCredit)])
    refused += await store_customers(db, [(i, c) for i, c in ours if isinstance(c, CustomerUpserted)])
    refused += await _store_consents(db, [(i, c) for i, c in ours if isinstance(c, ConsentChanged)])
    return refused


async def _lock_claims(db: Connection, changes: Iterable[DirectoryChange]) -> None:
    """Hold until the transaction ends what these changes claim that one organisation has alone."""
    names: list[str] = []
    for change in changes:
        match change:
            case OrgUpserted():
                names += [] if change.sms_number is None else [f"sms:{canonical(change.sms_number)}"]
                names += [] if change.portal_host is None else [f"host:{change.portal_host}"]
                names += [] if (tenant := sign_in_of(change)) is None else [f"tenant:{' '.join(tenant)}"]
            case NumberUpserted() | NumberRemoved():
                names.append(f"number:{change.phone_number_id}")
            case _:
                continue
    await lock(db, CLAIMS, names)


async def _store_consents(db: Connection, changes: Sequence[Numbered[ConsentChanged]]) -> list[RefusedChange]:
    if not changes:
        return []
    found = await find_customers(db, [change.customer_id for _, change in changes])
    refused: list[RefusedChange] = []
    ours: list[ConsentChanged] = []
    for index, change in changes:
        if change.customer_id not in found:
            refused.append(RefusedChange(index, "unknown_customer", "the customer was not told yet"))
        elif found[change.customer_id].org_id != change.org_id:
            detail = "customer_id belongs to another organisation"
            refused.append(RefusedChange(index, "customer_of_another_org", detail))
        else:
            ours.append(change)
    newest = _newest(ours, lambda c: (found[c.customer_id].customer_id, c.category))
    rows = [
        DirectoryConsent(c.org_id, found[c.customer_id].customer_id, c.category, c.allowed, c.at, c.source, c.cause)
        for c in newest
    ]
    await consents.set_consents(db, rows)
    await add_lines(db, [consents.audit_line(c.org_id, found[c.customer_id].customer_id, c.model_dump()) for c in ours])
    return refused


def _newest(changes: Iterable[ChangeT], entity: Callable[[ChangeT], object]) -> list[ChangeT]:
    """Per entity the change with the newest ``at``, of equal ones the last. Entities keep their order."""
    newest: dict[object, ChangeT] = {}
    for change in changes:
        before = newest.get(entity(change))
        if before is None or before.at <= change.at:
            newest[entity(change)] = change
    return list(newest.values())
