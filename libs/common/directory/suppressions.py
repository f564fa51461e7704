"""What customers who were erased had denied: it holds for whoever comes with their number or BSUID.

Rule 1: an opt-out outlives the erasure of who said it, or they would be written to again. It is kept by a hash of each
        identity, and by no name or number.
Rule 2: a STOP by SMS holds for the number that said it, so it is kept by the hash of that one alone.
Rule 3: a customer who gets such an identity, when they are created or later, has denied the same, since the same time.
        What they allowed since, and what they have denied themselves, stays. The directory and the customer change it
        like any other consent.
"""

from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.consents import audit_line
from libs.common.directory.erased_identities import hash_of, line_of
from libs.common.directory.organisations import add_lines
from libs.common.directory.touched import touch
from libs.common.events.directory import ConsentCategory

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
    hashes = {hash_of(org_id, identity) for identity in identities}
    await db.execute(_FORGET, org_id, customer_id, sorted(hashes))
    denied = [
        (org_id, identity, category, at, address is not None, *more)
        for category, at, address, *more in await db.fetch(_CONSENTS, org_id, customer_id)
        for identity in (hashes if address is None else (hash_of(org_id, address),))
    ]
    if denied:
        await db.execute(_KEEP, *as_columns(sorted(denied, key=itemgetter(1, 2))))


async def deny(db: Connection, stops: Iterable[tuple[str, str, ConsentCategory, datetime, str, str]]) -> None:
    """Keep these (organisation, identity, category, at, source, cause) of customers who were erased since."""
    newest: dict[tuple[str, bytes, str], tuple[object, ...]] = {}
    for org_id, identity, category, at, source, cause in sorted(stops, key=itemgetter(3)):
        key = org_id, hash_of(org_id, identity), category
        newest[key] = (*key, at, False, source, cause, None)
    if newest:
        await db.execute(_KEEP, *as_columns([newest[key] for key in sorted(newest)]))


async def follow(db: Connection, acquired: Iterable[Acquired]) -> None:
    """Let these customers have denied what was denied before by whoever had these identities."""
    rows = sorted({(org_id, id_, hash_of(org_id, identity), line_of(identity)) for org_id, id_, identity in acquired})
    if rows:
        denied = await db.fetch(_FOLLOW, *as_columns(rows))
        await add_lines(db, [audit_line(one["org_id"], one["customer_id"], dict(one)) for one in denied])
        await touch(db, [(one["org_id"], one["customer_id"]) for one in denied])
