"""What customers who were erased had denied: it holds for whoever comes with their number or BSUID.

Rule 1: an opt-out outlives the erasure of who said it, or they would be written to again. It is kept by a hash of each
        identity, and by no name or number.
Rule 2: a STOP by SMS holds for the number that said it, so it is kept by the hash of that one alone.
Rule 3: a customer who gets such an identity, when they are created or later, has denied the same, since the same time.
        What they allowed since, and what they have denied themselves, stays. The directory and the customer change it
        like any other consent.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from operator import itemgetter
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.consents import audit_line
from libs.common.directory.organisations import add_lines
from libs.common.directory.touched import touch
from libs.common.events.directory import ConsentCategory
from libs.common.phone import canonical

Acquired = tuple[str, UUID, str]
"""Organisation, customer, and an identity that they just got: a number (E.164) or a BSUID."""

# What was allowed since is denied no more.
_FORGET = """
delete from suppressions s
 using consents c
 where c.customer_id = $2 and c.org_id = $1 and c.allowed
   and s.org_id = $1 and s.identity = any($3::bytea[]) and s.category = c.category and s.at < c.at
"""

_CONSENTS = """
select c.category, c.at, c.address, c.source, c.cause, c.lifts
  from consents c
 where c.customer_id = $2 and c.org_id = $1 and not c.allowed
"""

_KEEP = """
insert into suppressions as s (org_id, identity, category, at, of_address, source, cause, lifts)
select * from unnest($1::text[], $2::bytea[], $3::text[], $4::timestamptz[], $5::bool[], $6::text[], $7::text[],
                     $8::bool[])
on conflict (org_id, identity, category) do update
   set at = excluded.at, of_address = excluded.of_address, source = excluded.source, cause = excluded.cause,
       lifts = excluded.lifts
 where s.at < excluded.at
"""

# "offset 0": each is looked up by its key.
_FOLLOW = """
insert into consents as c (org_id, customer_id, category, allowed, at, address, source, cause, lifts)
select distinct on (u.customer_id, s.category)
       u.org_id, u.customer_id, s.category, false, s.at, case when s.of_address then u.address end, s.source, s.cause,
       s.lifts
  from unnest($1::text[], $2::uuid[], $3::bytea[], $4::text[]) as u (org_id, customer_id, identity, address)
 cross join lateral (
       select * from suppressions x where x.org_id = u.org_id and x.identity = u.identity offset 0) s
 order by u.customer_id, s.category, s.at desc
on conflict (customer_id, category) do update
   set allowed = false, at = excluded.at, address = excluded.address, source = excluded.source, cause = excluded.cause,
       lifts = excluded.lifts, published = true
 where c.org_id = excluded.org_id and c.allowed and c.at < excluded.at
returning c.org_id, c.customer_id, c.category, c.allowed, c.at, c.source, c.cause
"""


async def keep(db: Connection, org_id: str, customer_id: UUID, identities: Iterable[str]) -> None:
    """Keep what this customer has denied. Call while their consents are there, in the transaction that erases them."""
    hashes = {_hash(org_id, identity) for identity in identities}
    await db.execute(_FORGET, org_id, customer_id, sorted(hashes))
    denied = [
        (org_id, identity, category, at, address is not None, *more)
        for category, at, address, *more in await db.fetch(_CONSENTS, org_id, customer_id)
        for identity in (hashes if address is None else (_hash(org_id, address),))
    ]
    if denied:
        await db.execute(_KEEP, *as_columns(sorted(denied, key=itemgetter(1, 2))))


# "offset 0": each is looked up by its key.
_DENIED = """
select u.place
  from unnest($1::text[], $2::bytea[], $3::text[], $4::timestamptz[]) with ordinality
    as u (org_id, identity, category, at, place)
 where exists (select from suppressions s
                where s.org_id = u.org_id and s.identity = u.identity and s.category = u.category and s.at >= u.at
               offset 0)
"""


async def denied(db: Connection, asked: Sequence[tuple[str, str, ConsentCategory, datetime]]) -> set[int]:
    """The places of those (organisation, identity, category, since then) that were denied by who was erased."""
    rows = [(org_id, _hash(org_id, identity), category, at) for org_id, identity, category, at in asked]
    return {row["place"] - 1 for row in await db.fetch(_DENIED, *as_columns(rows))} if rows else set()


async def follow(db: Connection, acquired: Iterable[Acquired]) -> None:
    """Let these customers have denied what was denied before by whoever had these identities."""
    rows = sorted({(org_id, id_, _hash(org_id, identity), _line(identity)) for org_id, id_, identity in acquired})
    if rows:
        denied = await db.fetch(_FOLLOW, *as_columns(rows))
        await add_lines(db, [audit_line(one["org_id"], one["customer_id"], dict(one)) for one in denied])
        await touch(db, [(one["org_id"], one["customer_id"]) for one in denied])


def _hash(org_id: str, identity: str) -> bytes:
    """``identity``: a number in any spelling of its line, or a BSUID."""
    return sha256(f"{org_id} {_line(identity)}".encode()).digest()


def _line(identity: str) -> str:
    return canonical(identity) if identity.startswith("+") else identity
