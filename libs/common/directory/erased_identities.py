"""The numbers and BSUIDs of customers who were erased, by a hash, with the time of the erasure.

Rule 1: what happened before it and has no message by which it is known comes to nothing when it is delivered once more:
        a call, a change of identity, a switch of marketing. It creates nobody and leaves no number.
Rule 2: a message is known by its id. One that was not stored yet is a message like any other, lest it get lost.
Rule 3: what somebody else had after them is kept with the end of the erased customer's time, and as passed on. So
        nothing of the erased customer becomes the new holder's, and what the new holder does is theirs. A message of
        before that was not stored yet makes a customer of its own (``given_up``).
Rule 4: a row is kept for as long as a webhook may come again, and no longer: a hash of a number can be guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.phone import canonical

_KEEP = """
insert into erased_identities as e (org_id, identity, at, passed_on)
select $1, u.* from unnest($2::bytea[], $3::timestamptz[], $4::bool[]) as u (identity, at, passed_on) order by 2
on conflict (org_id, identity) do update set at = excluded.at, passed_on = excluded.passed_on where e.at < excluded.at
"""

# "offset 0": each is looked up by its key.
_FIND = """
select u.place, e.passed_on
  from unnest($1::text[], $2::bytea[], $3::timestamptz[]) with ordinality as u (org_id, identity, at, place)
 cross join lateral (
       select e.passed_on from erased_identities e
        where e.org_id = u.org_id and e.identity = u.identity and e.at >= u.at offset 0) e
"""

_GIVEN_UP = """
select u.org_id, u.line, e.at
  from unnest($1::text[], $2::text[], $3::bytea[]) as u (org_id, line, identity)
 cross join lateral (
       select e.at from erased_identities e
        where e.org_id = u.org_id and e.identity = u.identity and e.passed_on offset 0) e
"""

_PURGE = """
delete from erased_identities
 where ctid = any (array(select e.ctid from erased_identities e
                          where e.at < $1 order by e.at limit $2 for update skip locked))
"""


def line_of(identity: str) -> str:
    """``identity``: a number (E.164) in any spelling of its line, or a BSUID."""
    return canonical(identity) if identity.startswith("+") else identity


def hash_of(org_id: str, identity: str) -> bytes:
    """The hash of an organisation and ``identity`` (see ``line_of``)."""
    return sha256(f"{org_id} {line_of(identity)}".encode()).digest()


async def keep(db: Connection, org_id: str, identities: Mapping[str, datetime | None], at: datetime) -> None:
    """Whoever had these identities was erased at ``at``.

    A time: until then they had it, and then somebody else.
    """
    rows = [(hash_of(org_id, identity), until or at, until is not None) for identity, until in identities.items()]
    await db.execute(_KEEP, org_id, *(as_columns(rows) if rows else ([], [], [])))


async def over(db: Connection, asked: Sequence[tuple[str, str, datetime]]) -> dict[int, bool]:
    """The places of those (organisation, identity, time) whose holder of then was erased → whether it was passed on."""
    rows = [(org_id, hash_of(org_id, identity), at) for org_id, identity, at in asked]
    found = await db.fetch(_FIND, *as_columns(rows)) if rows else []
    return {row["place"] - 1: row["passed_on"] for row in found}


async def given_up(db: Connection, lines: Iterable[tuple[str, str]]) -> dict[tuple[str, str], datetime]:
    """Of these lines (organisation, number): until when an erased customer had one that somebody had after them."""
    rows = [(org_id, line, hash_of(org_id, line)) for org_id, line in sorted(lines)]
    found = await db.fetch(_GIVEN_UP, *as_columns(rows)) if rows else []
    return {(row["org_id"], row["line"]): row["at"] for row in found}


async def purge(db: Connection, erased_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the identities that were erased before then; returns how many there were."""
    return await changed(db, _PURGE, erased_before, limit)
