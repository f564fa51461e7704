"""The customers of the directory: who they are, and which phone they have.

Rule 1: the directory's word is news where it changes. A phone that it merely repeats is none: the customer may have
        given it up meanwhile.
Rule 2: a person who is known at a phone by their messages alone becomes the customer whom the directory names for it.
        Two customers of the directory are never made one. A phone that they share stays with the first, until the
        directory gives the first another one.
Rule 3: a corrected phone is the customer's from then on. What Meta never confirmed of the old one is theirs no more;
        where they write from it themselves, they go on doing so. The links that went to the old one end.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.identities import finish, open_register
from libs.common.directory.identity_changes import change as change_of
from libs.common.directory.identity_facts import notice_time
from libs.common.directory.identity_history import Person
from libs.common.directory.identity_queries import load_sharing
from libs.common.directory.identity_register import Register
from libs.common.directory.organisations import RefusedChange
from libs.common.directory.phone_claims import claim, give_up, inherit
from libs.common.directory.touched import touch
from libs.common.events.directory import CustomerUpserted
from libs.common.phone import canonical, same_line


class CustomerId(NamedTuple):
    """A customer, found under an id that may be an alias."""

    org_id: str
    customer_id: UUID


_FIND = """
select u.asked, c.org_id, c.customer_id
  from unnest($1::uuid[]) as u (asked)
  left join customer_aliases a on a.alias = u.asked
  join customers c on c.customer_id = coalesce(a.customer_id, u.asked)
 order by c.customer_id
   for key share of c
"""


async def find_customers(db: Connection, customer_ids: Sequence[UUID]) -> Mapping[UUID, CustomerId]:
    """Who these ids are. None is merged away until the transaction ends.

    This goes over all tenants, so that a change of another organisation's customer can be refused.
    """
    found: dict[UUID, CustomerId] = {}
    for _ in range(2):  # one who became somebody else while this waited is found there the second time
        if missing := [asked for asked in customer_ids if asked not in found]:
            rows = await db.fetch(_FIND, missing)
            found |= {row["asked"]: CustomerId(row["org_id"], row["customer_id"]) for row in rows}
    return found


async def store_customers(db: Connection, changes: Sequence[tuple[int, CustomerUpserted]]) -> list[RefusedChange]:
    """Store the customers, one after the other; another organisation's stay as they are. Call inside a transaction."""
    if not changes:
        return []
    phones = {(c.org_id, "phone", canonical(c.phone)) for _, c in changes if c.phone}
    register = await open_register(db, phones, {c.customer_id for _, c in changes})
    await load_sharing(
        db, register, {(org_id, line) for org_id, kind, line in [*phones, *register.histories] if kind == "phone"}
    )
    refused: list[RefusedChange] = []
    for index, change in changes:
        person = register.people.get(change.customer_id)
        if person is None:
            person = register.people[change.customer_id] = Person(change.org_id, "directory", change.customer_id)
        if person.org_id != change.org_id:
            detail = "customer_id belongs to another organisation"
            refused.append(RefusedChange(index, "customer_of_another_org", detail))
        elif person.now.upserted_at is None or person.now.upserted_at <= change.at:
            _apply(register, person.now, change)
            inherit(register)
    mistakes = [
        mistake for notice in sorted(register.notices, key=notice_time) for mistake in change_of(register, notice)[1]
    ]
    shown_anew = {person.now for person in register.people.values() if _looks_different(person)}
    await finish(db, register, mistakes)
    await touch(db, [(one.org_id, one.customer_id) for one in shown_anew if one.customer_id is not None])
    return refused


def _looks_different(person: Person) -> bool:
    """Whether a customer who was there before has another name or phone now, or was joined to another one."""
    return person.became is not None or (person.stored is not None and person.stored[:2] != person.row[:2])


def _apply(register: Register, person: Person, change: CustomerUpserted) -> None:
    named = change.model_fields_set
    person.origin, person.upserted_at, person.erased = "directory", change.at, False
    if "name" in named:
        person.name = change.name
    if "phone" not in named:
        return
    before, person.directory_phone = person.directory_phone, change.phone
    if _is_news(before, change.phone):
        _correct(register, person, change.phone, change.at)
    elif change.phone is not None and person.phone is not None and same_line(person.phone, change.phone):
        person.reach_at(change.phone, person.phone_at or change.at)  # as the directory spells it
    if change.phone is not None and person.phone == change.phone:
        claim(register, person, change.phone, change.at)


def _is_news(before: str | None, phone: str | None) -> bool:
    if before is None or phone is None:
        return before != phone
    return not same_line(before, phone)


def _correct(register: Register, person: Person, phone: str | None, at: datetime) -> None:
    had = person.phone
    if had is not None and (phone is None or not same_line(had, phone)):
        give_up(register, person, had, at)
    person.reach_at(phone, None if phone is None else at)
