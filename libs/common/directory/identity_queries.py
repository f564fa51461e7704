"""The rows of the identity register: read and locked, and written back where they changed.

Every statement takes a whole batch.

``write_customers`` is the only place that creates customers.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.directory.identity_facts import Id, Notice
from libs.common.directory.identity_history import Holding, Person
from libs.common.directory.identity_register import Register
from libs.common.errors import Transient
from libs.common.phone import canonical, spellings

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""Since when an identity is held that was stored before times were."""

_NOTICES = """
select distinct n.org_id, n.old_line, n.old_bsuid, n.new_line, n.new_bsuid, n.at, n.new_number
  from unnest($1::text[], $2::text[], $3::text[]) as u (org_id, kind, value)
  cross join lateral (
       select * from identity_notices n
        where u.kind = 'phone' and n.org_id = u.org_id and n.old_line = u.value and n.old_line <> ''
       union all
       select * from identity_notices n
        where u.kind = 'phone' and n.org_id = u.org_id and n.new_line = u.value and n.new_line <> ''
       union all
       select * from identity_notices n
        where u.kind = 'bsuid' and n.org_id = u.org_id and n.old_bsuid = u.value and n.old_bsuid <> ''
       union all
       select * from identity_notices n
        where u.kind = 'bsuid' and n.org_id = u.org_id and n.new_bsuid = u.value and n.new_bsuid <> ''
       offset 0
       ) n
"""

_KEEP_NOTICES = """
insert into identity_notices (org_id, old_line, old_bsuid, new_line, new_bsuid, at, new_number, received_at)
select u.*, $8
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[]) as u
on conflict do nothing
"""

_PURGE = """
delete from identity_notices
 where ctid = any (array(select n.ctid from identity_notices n
                          where n.received_at < $1 order by n.received_at limit $2 for update skip locked))
"""

# "offset 0": each identity is looked up by its key, present and past. A hash of a whole table may look cheap while the
# table is small, and it grows.
_OWNERS = """
with owners as (
    select i.customer_id
      from unnest($1::text[], $2::text[], $3::text[]) as u (org_id, kind, value)
      cross join lateral (
           select i.customer_id from customer_identities i
            where i.org_id = u.org_id and i.kind = u.kind and i.value = u.value
           union all
           select f.customer_id from former_identities f
            where f.org_id = u.org_id and f.kind = u.kind and f.value = u.value
           offset 0
           ) i
    union all
    select coalesce(a.customer_id, m.customer_id)
      from unnest($4::uuid[]) as m (customer_id)
      left join customer_aliases a on a.alias = m.customer_id
)
select c.org_id, c.customer_id, c.origin, c.name, c.phone, c.directory_phone, c.upserted_at, c.phone_at, c.erased
  from customers c
 where c.customer_id = any (array(select customer_id from owners))
 order by c.customer_id
   for update of c
"""

# The directory's customers whose phone it is, whether or not they have the line.
_SHARING = """
select c.customer_id
  from unnest($1::text[], $2::text[]) as u (org_id, phone)
  cross join lateral (
       select c.customer_id from customers c
        where c.org_id = u.org_id and c.phone = u.phone and c.origin = 'directory' limit 10 offset 0
       ) c
"""

_ALIASES = "select alias, customer_id from customer_aliases where alias = any($1::uuid[])"

# "offset 0": each customer's are found by their key, whatever the planner believes of tables that grow.
_ROWS = """
with theirs as (
    select r.org_id, r.kind, r.value
      from unnest($4::uuid[]) as u (customer_id)
     cross join lateral (
           select i.org_id, i.kind, i.value from customer_identities i where i.customer_id = u.customer_id
           union all
           select f.org_id, f.kind, f.value from former_identities f where f.customer_id = u.customer_id
           offset 0
           ) r
     where r.kind <> 'wa_id'
    union
    select * from unnest($1::text[], $2::text[], $3::text[])
)
select r.*
  from theirs t
  cross join lateral (
       select i.org_id, i.kind, i.value, i.customer_id, i.since, null::timestamptz as until, i.source, i.line, i.bsuid,
           i.seen,
              null::text as ended_by, null::bigint as former_id
         from customer_identities i where i.org_id = t.org_id and i.kind = t.kind and i.value = t.value
       union all
       select f.org_id, f.kind, f.value, f.customer_id, f.since, f.until, f.source, f.line, f.bsuid, f.seen,
              f.ended_by, f.former_id
         from former_identities f where f.org_id = t.org_id and f.kind = t.kind and f.value = t.value
       offset 0
       ) r
union all
select i.org_id, i.kind, i.value, i.customer_id, i.since, null, i.source, i.line, i.bsuid, i.seen, null, null
  from unnest($4::uuid[]) as u (customer_id)
 cross join lateral (select * from customer_identities x where x.customer_id = u.customer_id offset 0) i
 where i.kind = 'wa_id'
"""

_CREATE = """
with made as materialized (
    select coalesce(u.customer_id, uuidv7()) as id, u.*
      from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
                  $8::timestamptz[]) with ordinality
        as u (customer_id, org_id, name, phone, directory_phone, origin, upserted_at, phone_at, place)
), stored as (
    insert into customers (customer_id, org_id, name, phone, directory_phone, origin, upserted_at, phone_at)
    select id, org_id, name, phone, directory_phone, origin, upserted_at, phone_at from made order by id
)
select id from made order by place
"""

_CHANGE = """
update customers c
   set name = u.name, phone = u.phone, directory_phone = u.directory_phone, origin = u.origin,
       upserted_at = u.upserted_at, phone_at = u.phone_at, erased = u.erased
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
              $8::timestamptz[], $9::bool[])
    as u (customer_id, org_id, name, phone, directory_phone, origin, upserted_at, phone_at, erased)
 where c.customer_id = u.customer_id and c.org_id = u.org_id
"""

_DROP_CURRENT = """
delete from customer_identities i
 using unnest($1::text[], $2::text[], $3::text[]) as u (org_id, kind, value)
 where i.org_id = u.org_id and i.kind = u.kind and i.value = u.value
"""

_DROP_FORMER = (
    "delete from former_identities f using unnest($1::bigint[]) as u (former_id) where f.former_id = u.former_id"
)

_ADD_CURRENT = """
insert into customer_identities (org_id, kind, value, customer_id, since, source, line, bsuid, seen)
select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[], $6::text[], $7::text[],
    $8::text[],
                     $9::timestamptz[])
 order by 1, 2, 3
on conflict (org_id, kind, value) do nothing
returning 1
"""

_ADD_FORMER = """
insert into former_identities (org_id, kind, value, customer_id, since, source, line, bsuid, seen, until, ended_by)
select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[], $6::text[], $7::text[],
    $8::text[],
                     $9::timestamptz[], $10::timestamptz[], $11::text[])
"""


# The orders of the columns in the statements above.
_NOTICE = ("org_id", "old_line", "old_bsuid", "new_line", "new_bsuid", "at", "new_number")
_CUSTOMER = ("customer_id", "org_id", "name", "phone", "directory_phone", "origin", "upserted_at", "phone_at")
_IDENTITY = ("org_id", "kind", "value", "customer_id", "since", "source", "line", "bsuid", "seen")


async def notices_of(db: Connection, ids: Iterable[Id]) -> set[Notice]:
    """The notices that name any of these ids. An empty text is an id that is not named."""
    return {_notice(row) for row in await db.fetch(_NOTICES, *_id_columns(ids))}


def _notice(row: Any) -> Notice:
    fields: dict[str, Any] = {name: value or None for name, value in row.items()}
    return Notice(**fields)


async def keep_notices(db: Connection, notices: Iterable[Notice], now: datetime) -> None:
    """Keep these until the customer whom they mean is known; again the same changes nothing."""
    rows = sorted({tuple(getattr(notice, name) or "" for name in _NOTICE) for notice in notices})
    if rows:
        await db.execute(_KEEP_NOTICES, *as_columns(rows), now)


async def purge_notices(db: Connection, received_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the notices that were received before then; returns how many there were."""
    return await changed(db, _PURGE, received_before, limit)


async def load(db: Connection, register: Register, ids: Iterable[Id], customers: Iterable[UUID]) -> None:
    """Load who has and had these identities, and everything that these people and ``customers`` have.

    Their rows are locked.
    """
    columns = _id_columns({spelling for identity in ids for spelling in _spellings(identity)})
    asked = sorted(set(customers))
    owners = await db.fetch(_OWNERS, *columns, asked)
    _add_people(register, owners)
    if asked:
        for row in await db.fetch(_ALIASES, asked):
            if row["customer_id"] in register.people:
                register.people[row["alias"]] = register.people[row["customer_id"]]
    rows = await db.fetch(_ROWS, *columns, [row["customer_id"] for row in owners])
    if others := sorted({row["customer_id"] for row in rows} - register.people.keys()):
        _add_people(register, await db.fetch(_OWNERS, [], [], [], others))
    for row in sorted(rows, key=lambda r: (r["since"], r["until"] is None, r["value"])):
        if row["customer_id"] in register.people:
            _add_holding(register, row)
    _complete(register)


async def load_sharing(db: Connection, register: Register, lines: Iterable[tuple[str, str]]) -> None:
    """Load the directory's customers who have one of these lines (organisation, number) as their phone."""
    phones = sorted({(org_id, number) for org_id, line in lines for number in spellings(line)})
    columns = [org_id for org_id, _ in phones], [number for _, number in phones]
    found = {row["customer_id"] for row in await db.fetch(_SHARING, *columns)}
    if others := sorted(found - register.people.keys()):
        _add_people(register, await db.fetch(_OWNERS, [], [], [], others))


def _add_people(register: Register, rows: Iterable[Any]) -> None:
    for row in rows:
        person = Person(**row)
        person.stored = person.row
        register.people.setdefault(row["customer_id"], person)


def _add_holding(register: Register, row: Any) -> None:
    fields = dict(row)
    person = register.people[fields.pop("customer_id")]
    holding = Holding(**fields, person=person)
    holding.stored = holding.row
    if holding.kind == "wa_id":
        if holding.until is None:
            register.spelled[holding.org_id, holding.value] = holding
        return
    value = canonical(holding.value) if holding.kind == "phone" else holding.value
    register.history((holding.org_id, holding.kind, value)).holdings.append(holding)
    if holding.bsuid is not None:
        register.know(holding, holding.bsuid)


def _complete(register: Register) -> None:
    """Complete what was stored before times were: a number in WhatsApp's spelling was seen, by its holder's BSUID."""
    for (org_id, wa_id), spelled in register.spelled.items():
        spelled.line = spelled.line or canonical(f"+{wa_id}")
        if spelled.since != BEGINNING:
            continue
        history = register.history((org_id, "phone", spelled.line))
        if history.current is None:
            history.holdings.append(
                Holding(org_id, "phone", spelled.line, spelled.owner, BEGINNING, "message", seen=BEGINNING)
            )
        current = history.current
        if current is not None and current.owner is spelled.owner and current.since == BEGINNING:
            current.seen = BEGINNING
            if current.bsuid is None:
                bsuids = [h for h in register.held_by(current.owner) if h.kind == "bsuid" and h.since == BEGINNING]
                register.know(current, bsuids[0].value if len(bsuids) == 1 else None)


async def write_customers(db: Connection, people: Iterable[Person]) -> None:
    """Create the customers that are new, and change the others."""
    everyone = {id(person): person for person in people}.values()
    if fresh := [p for p in everyone if p.stored is None and p.became is None]:
        created = await db.fetch(_CREATE, *_columns(fresh, _CUSTOMER))
        for person, row in zip(fresh, created, strict=True):
            person.customer_id = row["id"]
    changed = {str(p.customer_id): p for p in everyone if p.stored is not None and p.stored != p.row}
    if changed:
        await db.execute(_CHANGE, *_columns([changed[key] for key in sorted(changed)], (*_CUSTOMER, "erased")))


async def write_identities(db: Connection, register: Register) -> None:
    """Write whose the identities are and were, after all customers are written and merged.

    Raises Transient where another transaction has taken one of them.
    """
    drop_current: list[Id] = []
    drop_former: list[int] = []
    current: list[Holding] = []
    former: list[Holding] = []
    for holding, stays in _holdings(register):
        if holding.stored is not None and holding.stored == holding.row and stays:
            continue
        if holding.stored is not None and holding.former_id is None:
            drop_current.append((holding.org_id, holding.kind, holding.value))
        elif holding.former_id is not None:
            drop_former.append(holding.former_id)
        if stays:
            (current if holding.until is None else former).append(holding)
    if drop_current:
        await db.execute(_DROP_CURRENT, *_id_columns(drop_current))
    if drop_former:
        await db.execute(_DROP_FORMER, sorted(drop_former))
    if current and len(await db.fetch(_ADD_CURRENT, *_columns(current, _IDENTITY))) != len(current):
        raise Transient("an identity was taken meanwhile")
    if former:
        ended_by = [holding.ended_by or holding.source for holding in former]
        await db.execute(_ADD_FORMER, *_columns(former, (*_IDENTITY, "until")), ended_by)


def _holdings(register: Register) -> Iterator[tuple[Holding, bool]]:
    """Every holding, and whether it is to be stored. WhatsApp's spelling of a line goes with the line."""
    for history in register.histories.values():
        yield from ((holding, False) for holding in history.dropped)
        yield from ((holding, True) for holding in history.holdings)
    for spelled in register.spelled.values():
        history_of = register.histories.get((spelled.org_id, "phone", spelled.line or ""))
        if history_of is None:
            continue
        there = history_of.current
        if there is not None and (spelled.stored is None or there.owner is spelled.owner):
            spelled.person, spelled.since = there.owner, there.since
            yield spelled, True
            continue
        if there is not None:
            yield replace(spelled, person=there.owner, since=there.since, source=there.source, stored=None), True
        last = there.since if there is not None else history_of.last.until if history_of.last is not None else None
        if spelled.stored is not None and last is not None:
            spelled.until, spelled.ended_by = last, there.source if there is not None else "notice"
            yield spelled, spelled.since < last


def _spellings(identity: Id) -> Iterator[Id]:
    """An identity under every key that may lead to it."""
    org_id, kind, value = identity
    if kind != "phone":
        yield identity
        return
    for number in spellings(value):
        yield org_id, "phone", number
        yield org_id, "wa_id", number.removeprefix("+")


def _id_columns(ids: Iterable[Id]) -> list[list[str]]:
    rows = sorted(ids)
    return [[row[place] for row in rows] for place in range(3)]


def _columns(rows: Sequence[Person | Holding], names: Sequence[str]) -> list[list[Any]]:
    """These attributes of the rows, in this order, as columns for ``unnest``."""
    return [[getattr(row, name) for row in rows] for name in names]
