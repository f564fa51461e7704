"""The numbers and BSUIDs of customers who were erased, by a hash, with the time of the erasure.

Rule 1: what happened before it and has no message by which it is known comes to nothing when it is delivered once more:
        a call, a change of identity, a switch of marketing. It creates nobody and leaves no number.
Rule 2: a message is known by its id. One that was not stored yet is a message like any other, lest it get lost.
Rule 3: a row is kept for as long as a webhook may come again, and no longer: a hash of a number can be guessed.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.phone import canonical

_KEEP = """
insert into erased_identities as e (org_id, identity, at)
select $1, u.identity, $3 from unnest($2::bytea[]) as u (identity) order by u.identity
on conflict (org_id, identity) do update set at = greatest(e.at, excluded.at)
"""

# "offset 0": each is looked up by its key.
_FIND = """
select u.place
  from unnest($1::text[], $2::bytea[], $3::timestamptz[]) with ordinality as u (org_id, identity, at, place)
 where exists (select from erased_identities e
                where e.org_id = u.org_id and e.identity = u.identity and e.at > u.at offset 0)
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


async def keep(db: Connection, org_id: str, identities: Iterable[str], at: datetime) -> None:
    """Whoever had these identities was erased at ``at``."""
    await db.execute(_KEEP, org_id, [hash_of(org_id, identity) for identity in identities], at)


async def over(db: Connection, asked: Sequence[tuple[str, str, datetime]]) -> set[int]:
    """The places of those (organisation, identity, time) whose holder was erased since then."""
    rows = [(org_id, hash_of(org_id, identity), at) for org_id, identity, at in asked]
    return {row["place"] - 1 for row in await db.fetch(_FIND, *as_columns(rows))} if rows else set()


async def purge(db: Connection, erased_before: datetime, limit: int) -> int:
    """Delete up to ``limit`` of the identities that were erased before then; returns how many there were."""
    return await changed(db, _PURGE, erased_before, limit)
