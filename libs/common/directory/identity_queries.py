"""The register's rows: what of it is read, locked, and written back when it changed. Every statement takes a whole batch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from libs.common.directory.identity_facts import Id, Notice
from libs.common.directory.identity_history import Holding, Person
from libs.common.directory.identity_register import Register
from libs.common.errors import Transient
from libs.common.phone import canonical, spellings

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
"""Since when an identity is held that was known before times were."""

_NOTICES = """
select distinct n.org_id, n.old_line, n.old_bsuid, n.new_line, n.new_bsuid, n.at, n.new_number
  from unnest($1::text[], $2::text[], $3::text[]) as u (org_id, kind, value)
  cross join lateral (
       select * from identity_notices n where u.kind = 'phone' and n.org_id = u.org_id and n.old_line = u.value and n.old_line <> ''
       union all
       select * from identity_notices n where u.kind = 'phone' and n.org_id = u.org_id and n.new_line = u.value and n.new_line <> ''
       union all
       select * from identity_notices n where u.kind = 'bsuid' and n.org_id = u.org_id and n.old_bsuid = u.value and n.old_bsuid <> ''
       union all
       select * from identity_notices n where u.kind = 'bsuid' and n.org_id = u.org_id and n.new_bsuid = u.value and n.new_bsuid <> ''
       offset 0
       ) n
"""

_KEEP_NOTICES = """
insert into identity_notices (org_id, old_line, old_bsuid, new_line, new_bsuid, at, new_number, received_at)
select u.*, $8 from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[]) as u
on conflict do nothing
"""

_PURGE = """
delete from identity_notices
 where ctid = any (array(select n.ctid from identity_notices n where n.received_at < $1 order by n.received_at limit $2 for update skip locked))
returning 1
"""

# "offset 0": each identity is looked up by its key, present and past; a hash of a whole table may look cheap while the table is small, and it grows.
_OWNERS = """
with owners as (
    select i.customer_id
      from unnest($1::text[], $2::text[], $3::text[]) as u (org_id, kind, value)
      cross join lateral (
           select i.customer_id from customer_identities i where i.org_id = u.org_id and i.kind = u.kind and i.value = u.value
           union all
           select f.customer_id from former_identities f where f.org_id = u.org_id and f.kind = u.kind and f.value = u.value
           offset 0
           ) i
    union all
    select coalesce(a.customer_id, m.customer_id)
      from unnest($4::uuid[]) as m (customer_id)
      left join customer_aliases a on a.alias = m.customer_id
)
select c.org_id, c.customer_id, c.origin, c.name, c.phone, c.directory_phone, c.upserted_at, c.phone_at
  from customers c
 where c.customer_id = any (array(select customer_id from owners))
 order by c.customer_id
   for update of c
"""

# Those of the directory whose phone it is, whoever has the line.
_SHARING = """
select c.customer_id
  from unnest($1::text[], $2::text[]) as u (org_id, phone)
  cross join lateral (
       select c.customer_id from customers c where c.org_id = u.org_id and c.phone = u.phone and c.origin = 'directory' limit 10 offset 0
       ) c
"""

_ALIASES = "select alias, customer_id from customer_aliases where alias = any($1::uuid[])"

_ROWS = """
with theirs as (
    select i.org_id, i.kind, i.value from customer_identities i where i.customer_id = any($4::uuid[]) and i.kind <> 'wa_id'
    union
    select f.org_id, f.kind, f.value from former_identities f where f.customer_id = any($4::uuid[]) and f.kind <> 'wa_id'
    union
    select * from unnest($1::text[], $2::text[], $3::text[])
)
select r.*
  from theirs t
  cross join lateral (
       select i.org_id, i.kind, i.value, i.customer_id, i.since, null::timestamptz as until, i.source, i.line, i.bsuid, i.seen,
              null::text as ended_by, null::bigint as former_id
         from customer_identities i where i.org_id = t.org_id and i.kind = t.kind and i.value = t.value
       union all
       select f.org_id, f.kind, f.value, f.customer_id, f.since, f.until, f.source, f.line, f.bsuid, f.seen, f.ended_by, f.former_id
         from former_identities f where f.org_id = t.org_id and f.kind = t.kind and f.value = t.value
       offset 0
       ) r
union all
select i.org_id, i.kind, i.value, i.customer_id, i.since, null, i.source, i.line, i.bsuid, i.seen, null, null
  from customer_identities i where i.customer_id = any($4::uuid[]) and i.kind = 'wa_id'
"""

_CREATE = """
with made as materialized (
    select coalesce(u.customer_id, uuidv7()) as id, u.*
      from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[]) with ordinality
        as u (customer_id, org_id, name, phone, directory_phone, origin, upserted_at, phone_at, place)
), stored as (
    insert into customers (customer_id, org_id, name, phone, directory_phone, origin, upserted_at, phone_at)
    select id, org_id, name, phone, directory_phone, origin, upserted_at, phone_at from made order by id
)
select id from made order by place
"""

_CHANGE = """
update customers c
   set name = u.name, phone = u.phone, directory_phone = u.directory_phone, origin = u.origin, upserted_at = u.upserted_at, phone_at = u.phone_at
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[])
    as u (customer_id, org_id, name, phone, directory_phone, origin, upserted_at, phone_at)
 where c.customer_id = u.customer_id and c.org_id = u.org_id
"""

_END_LINKS = """
delete from portal_links l
 using unnest($1::text[], $2::uuid[]) as u (org_id, customer_id)
  join conversations c on c.customer_id = u.customer_id and c.org_id = u.org_id
 where l.conversation_id = c.conversation_id and l.org_id = u.org_id
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
select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::timestamptz[])
 order by 1, 2, 3
on conflict (org_id, kind, value) do nothing
returning 1
"""

_ADD_FORMER = """
insert into former_identities (org_id, kind, value, customer_id, since, source, line, bsuid, seen, until, ended_by)
select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::timestamptz[],
                     $10::timestamptz[], $11::text[])
"""


async def notices_of(db: "Connection", ids: Iterable[Id]) -> set[Notice]:
    """The notices that name any of these ids."""
    rows = await db.fetch(_NOTICES, *_columns(sorted(ids), 3))
    return {Notice(r[0], r[1] or None, r[2] or None, r[3] or None, r[4] or None, r[5], r[6] or None) for r in rows}


async def keep_notices(db: "Connection", notices: Iterable[Notice], now: datetime) -> None:
    """Keep these for whoever turns out to be meant; again the same changes nothing."""
    rows = sorted(
        {
            (
                n.org_id,
                n.old_line or "",
                n.old_bsuid or "",
                n.new_line or "",
                n.new_bsuid or "",
                n.at,
                n.new_number or "",
            )
            for n in notices
        }
    )
    if rows:
        await db.execute(_KEEP_NOTICES, *_columns(rows, 7), now)


async def purge_notices(db: "Connection", received_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the notices that were received then; returns how many there were."""
    return len(await db.fetch(_PURGE, received_before, limit))


async def load(db: "Connection", register: Register, ids: Iterable[Id], customers: Iterable[UUID] = ()) -> None:
    """Bring into the register who has and had these identities, and all that these people and ``customers`` have; their rows are locked."""
    named = sorted({spelled for identity in ids for spelled in _spelled(identity)})
    meant = sorted(set(customers))
    found = await db.fetch(_OWNERS, *_columns(named, 3), meant)
    _take_people(register, found)
    if meant:
        for row in await db.fetch(_ALIASES, meant):
            if row[1] in register.people:
                register.people[row[0]] = register.people[row[1]]
    rows = await db.fetch(_ROWS, *_columns(named, 3), [row[1] for row in found])
    if strangers := sorted({row[3] for row in rows} - register.people.keys()):
        _take_people(register, await db.fetch(_OWNERS, [], [], [], strangers))
    for row in sorted(rows, key=lambda r: (r[4], r[5] is None, r[2])):
        if row[3] in register.people:
            _take_row(register, row)
    _complete(register)


async def load_sharing(db: "Connection", register: Register, lines: Iterable[tuple[str, str]]) -> None:
    """The same for the directory's customers who have one of these lines (organisation, number) as their phone, whoever has the line itself."""
    asked = sorted({(org_id, number) for org_id, line in lines for number in spellings(line)})
    found = {row[0] for row in await db.fetch(_SHARING, *_columns(asked, 2))}
    if unknown := sorted(found - register.people.keys()):
        _take_people(register, await db.fetch(_OWNERS, [], [], [], unknown))


def _take_people(register: Register, rows: Iterable[Any]) -> None:
    for row in rows:
        org_id, customer_id, origin, name, phone, directory_phone, upserted_at, phone_at = row
        person = Person(org_id, origin, customer_id, name, phone, directory_phone, upserted_at, phone_at)
        person.stored = person.row
        register.people.setdefault(customer_id, person)


def _take_row(register: Register, row: Any) -> None:
    org_id, kind, value, customer_id, since, until, source, line, bsuid, seen, ended_by, former_id = row
    holding = Holding(
        org_id, kind, value, register.people[customer_id], since, source, line, bsuid, seen, until, ended_by, former_id
    )
    holding.stored = holding.row
    if kind == "wa_id":
        if until is None:
            register.spelled[org_id, value] = holding
        return
    register.history((org_id, kind, canonical(value) if kind == "phone" else value)).holdings.append(holding)
    if bsuid is not None:
        register.know(holding, bsuid)


def _complete(register: Register) -> None:
    """What was known before times were: a number in WhatsApp's spelling was seen there, by the BSUID of whoever has it."""
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
                told = [h for h in register.held_by(current.owner) if h.kind == "bsuid" and h.since == BEGINNING]
                register.know(current, told[0].value if len(told) == 1 else None)


async def write_customers(db: "Connection", people: Iterable[Person]) -> None:
    """Make the new ones, change the others."""
    everybody = {id(person): person for person in people}.values()
    if fresh := [p for p in everybody if p.stored is None and p.became is None]:
        made = await db.fetch(_CREATE, *_columns([_customer(p) for p in fresh], 8))
        for person, row in zip(fresh, made, strict=True):
            person.customer_id = row[0]
    changed = {str(p.customer_id): p for p in everybody if p.stored is not None and p.stored != p.row}
    if changed:
        await db.execute(_CHANGE, *_columns([_customer(changed[key]) for key in sorted(changed)], 8))


async def end_links(db: "Connection", people: Iterable[Person]) -> None:
    """No link that was sent to these people leads anywhere any more."""
    await end_links_of(db, [(p.org_id, p.customer_id) for p in people if p.customer_id is not None])


async def end_links_of(db: "Connection", customers: Sequence[tuple[str, UUID]]) -> None:
    """The same for customers of an organisation by their ids."""
    if customers:
        await db.execute(_END_LINKS, *_columns(sorted(set(customers), key=str), 2))


async def write_identities(db: "Connection", register: Register) -> None:
    """Write whose the identities are and were. Call when all customers are written and merged. Raises Transient where somebody was faster."""
    drop_current: list[Id] = []
    drop_former: list[int] = []
    current: list[Holding] = []
    former: list[Holding] = []
    for holding, stays in _of_lines(register):
        if holding.stored is not None and holding.stored == holding.row and stays:
            continue
        if holding.stored is not None and holding.former_id is None:
            drop_current.append((holding.org_id, holding.kind, holding.value))
        elif holding.former_id is not None:
            drop_former.append(holding.former_id)
        if stays:
            (current if holding.until is None else former).append(holding)
    if drop_current:
        await db.execute(_DROP_CURRENT, *_columns(sorted(drop_current), 3))
    if drop_former:
        await db.execute(_DROP_FORMER, sorted(drop_former))
    if current and len(await db.fetch(_ADD_CURRENT, *_columns([_identity(h) for h in current], 9))) != len(current):
        raise Transient("an identity was taken meanwhile")
    if former:
        await db.execute(_ADD_FORMER, *_columns([(*_identity(h), h.until, h.ended_by or h.source) for h in former], 11))


def _of_lines(register: Register) -> Iterator[tuple[Holding, bool]]:
    """Every holding, and whether it stays. WhatsApp's spelling of a line goes with the line."""
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


def _customer(person: Person) -> tuple[Any, ...]:
    return (
        person.customer_id,
        person.org_id,
        person.name,
        person.phone,
        person.directory_phone,
        person.origin,
        person.upserted_at,
        person.phone_at,
    )  # fmt: skip -- one row


def _identity(holding: Holding) -> tuple[Any, ...]:
    return (
        holding.org_id,
        holding.kind,
        holding.value,
        holding.owner.customer_id,
        holding.since,
        holding.source,
        holding.line,
        holding.bsuid,
        holding.seen,
    )  # fmt: skip -- one row


def _spelled(identity: Id) -> Iterator[Id]:
    """An identity under every key that may lead to it."""
    org_id, kind, value = identity
    if kind != "phone":
        yield identity
        return
    for number in spellings(value):
        yield org_id, "phone", number
        yield org_id, "wa_id", number.removeprefix("+")


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[place] for row in rows] for place in range(width)]
