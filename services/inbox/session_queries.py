"""SQL of the inbox's sessions, of its members, and of its key."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from libs.common.db.pool import Connection, changed


class SessionRow(NamedTuple):
    """A row of ``inbox_sessions`` as a request needs it."""

    org_id: str
    user_id: str
    name: str | None
    capabilities: list[str]
    seen_at: datetime
    ends_at: datetime


_SESSION = """
select org_id, user_id, name, capabilities, seen_at, ends_at
  from inbox_sessions
 where session_hash = $1 and ends_at > $2 and seen_at > $3
"""
_LIVING = """
select session_hash from inbox_sessions
 where session_hash = any($1::bytea[]) and ends_at > $2 and seen_at > $3
"""
_BEGIN = """
insert into inbox_sessions (session_hash, org_id, user_id, name, capabilities, created_at, seen_at, ends_at)
values ($1, $2, $3, $4, $5, $6, $6, $7)
"""
_SEEN = "update inbox_sessions set seen_at = $2 where session_hash = $1 and seen_at < $2"
_END = "delete from inbox_sessions where session_hash = any($1::bytea[])"
_PURGE = """
delete from inbox_sessions
 where ctid = any (array(select ctid from inbox_sessions where ends_at < $1 order by ends_at limit $2))
"""
# The name stays where a token has none. An organisation that is not in the directory has no members. For a member who
# comes for the first time what is a week old counts as read: the index is walked from the newest message on.
_MEMBER_SEEN = """
insert into members as m (org_id, user_id, name, first_seen_at, seen_at, read_below)
select o.org_id, $2, $3, $4, $4,
       case when exists (select from members k where k.org_id = o.org_id and k.user_id = $2) then 0
            else coalesce((select h.inbound_sequence from conversation_heads h
                            where h.org_id = o.org_id and h.inbound_at < $4::timestamptz - interval '7 days'
                            order by h.inbound_sequence desc limit 1), 0) end
  from orgs o where o.org_id = $1
on conflict (org_id, user_id) do update
   set name = coalesce(excluded.name, m.name), seen_at = greatest(m.seen_at, excluded.seen_at)
returning true
"""
_ORGANISATIONS = """
select coalesce(array_agg(org_id order by org_id), '{}') as org_ids,
       exists (select from orgs where sign_in_issuer = $1) as is_named
  from orgs
 where sign_in_issuer = $1 and sign_in_tenant = any($2::text[])
"""
_MAKE_KEY = "insert into inbox_key (key) values ($1) on conflict do nothing"
_KEY = "select key from inbox_key"


async def session(db: Connection, session_hash: bytes, now: datetime, idle_since: datetime) -> SessionRow | None:
    """The session, unless it has ended or was used last before ``idle_since``."""
    row = await db.fetchrow(_SESSION, session_hash, now, idle_since)
    return None if row is None else SessionRow(**row)


async def living(
    db: Connection, session_hashes: Sequence[bytes], now: datetime, idle_since: datetime
) -> frozenset[bytes]:
    """Those of the sessions that have not ended and were used since ``idle_since``."""
    rows = await db.fetch(_LIVING, session_hashes, now, idle_since)
    return frozenset(row["session_hash"] for row in rows)


async def begin_session(db: Connection, session_hash: bytes, row: SessionRow) -> None:
    """Store a fresh session; it begins when it was ``seen_at``."""
    await db.execute(
        _BEGIN, session_hash, row.org_id, row.user_id, row.name, row.capabilities, row.seen_at, row.ends_at
    )


async def session_seen(db: Connection, session_hash: bytes, now: datetime) -> None:
    """The session is used now."""
    await db.execute(_SEEN, session_hash, now)


async def end_sessions(db: Connection, session_hashes: Sequence[bytes]) -> None:
    """These sessions are over."""
    await db.execute(_END, session_hashes)


async def purge_sessions(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` sessions that ended before then; returns how many."""
    return await changed(db, _PURGE, before, limit)


async def member_seen(db: Connection, org_id: str, user_id: str, name: str | None, now: datetime) -> bool:
    """A member asks. False: the directory has no such organisation."""
    return bool(await db.fetchval(_MEMBER_SEEN, org_id, user_id, name, now))


async def organisations_of(db: Connection, issuer: str, tenants: Sequence[str]) -> tuple[list[str], bool]:
    """The organisations that have one of these tenants of the issuer, and whether any organisation names the issuer."""
    row = await db.fetchrow(_ORGANISATIONS, issuer, tenants)
    assert row is not None  # noqa: S101 -- an aggregate is one row
    return row["org_ids"], row["is_named"]


async def key(db: Connection, fresh: bytes) -> bytes:
    """The key of all replicas: ``fresh`` where there was none."""
    await db.execute(_MAKE_KEY, fresh)
    found: bytes = await db.fetchval(_KEY)
    return found
