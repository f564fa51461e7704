"""The SQL of the portal, under the role ``transom_portal`` and row-level security.

Every transaction begins with ``scope``: it names what the browser brought. Without it no row is visible. Every
statement names org_id or one of these keys all the same.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.db.pool import Connection, Pool
from libs.common.thread.portal_view import shown
from services.portal.rows import Link, Owner, StoredMessage, Thread

IDLE = timedelta(hours=24)
LONGEST = timedelta(days=7)
_MINUTE, _A_MINUTE = timedelta(minutes=1), 10
_DAY, _A_DAY = timedelta(days=1), 200

_SCOPE = """
select set_config('transom.portal_host', $1, true), set_config('transom.portal_codes', $2, true),
       set_config('transom.portal_sessions', $3, true)
"""

_OWNER = """
select o.name as org_name, w.display_number
  from orgs o
  left join lateral (select n.display_number from whatsapp_numbers n where n.org_id = o.org_id
                      order by n.phone_number_id limit 1) w on true
 where o.portal_host = $1
"""

_ON_FILE = """
exists (select from conversations c join customers k on k.org_id = c.org_id and k.customer_id = c.customer_id
         where c.org_id = l.org_id and c.conversation_id = l.conversation_id
           and (k.phone = l.phone
                or exists (select from customer_identities i
                            where i.org_id = l.org_id and i.kind = 'phone' and i.value = l.phone
                              and i.customer_id = c.customer_id)))
"""


def _is_no_other_ones(host: str, org_id: str) -> str:
    """An organisation's links and sessions end on a host that is another's by now."""
    return f"not exists (select from orgs x where x.portal_host = {host} and x.org_id <> {org_id})"


# Unknown, used, expired and revoked codes cost the same statement.
_LINK = f"""
select l.org_id, l.conversation_id, o.name as org_name,
       coalesce(o.policy -> 'portal_button' = 'true'::jsonb, false) as needs_button,
       l.used_at is null and l.expires_at > $3 and {_ON_FILE} as opens
  from portal_links l
  join orgs o on o.org_id = l.org_id
 where l.code_hash = any ($1::bytea[]) and l.host = $2 and {_is_no_other_ones("l.host", "l.org_id")}
"""  # noqa: S608 -- a constant

_REDEEM = f"""
with used as (
    update portal_links l set used_at = $3
     where l.code_hash = any ($1::bytea[]) and l.host = $2 and l.used_at is null and l.expires_at > $3 and {_ON_FILE}
       and {_is_no_other_ones("l.host", "l.org_id")}
 returning l.org_id, l.conversation_id, l.host, l.phone
)
insert into portal_sessions (session_hash, org_id, conversation_id, host, phone, created_at, seen_at, ends_at)
select $4, u.org_id, u.conversation_id, u.host, u.phone, $3, $3, $3 + $5::interval from used u
returning org_id, conversation_id
"""  # noqa: S608 -- a constant

_END = "delete from portal_sessions where session_hash = any ($1::bytea[])"

_THREAD = f"""
select t.session_hash, t.session_name, t.org_id, t.conversation_id, t.host, t.phone, t.seen_at, t.posted_at, t.org_name,
       t.display_number
  from portal_threads t
 where t.session_hash = any ($1::bytea[]) and t.host = $2 and t.on_file and t.ends_at > $3
   and t.seen_at > $3 - $4::interval and {_is_no_other_ones("t.host", "t.org_id")}
"""  # noqa: S608 -- a constant

_LIVE = f"""
select t.session_hash from portal_threads t
 where t.session_hash = any ($1::bytea[]) and t.on_file and t.ends_at > $2 and t.seen_at > $2 - $3::interval
   and {_is_no_other_ones("t.host", "t.org_id")}
"""  # noqa: S608 -- a constant

_SEEN = "update portal_sessions s set seen_at = $2 where s.session_hash = $1 and s.seen_at < $2"

_SIGNED_IN = """
update customers k set last_seen_at = $2
  from portal_sessions s
  join conversations c on c.org_id = s.org_id and c.conversation_id = s.conversation_id
 where s.session_hash = $1 and k.org_id = c.org_id and k.customer_id = c.customer_id
   and (k.last_seen_at is null or k.last_seen_at < $2)
"""

_COLUMNS = (
    """m.message_id, m.direction, m.channel, m.content, m.actor, m.sequence, m.status, m.read_at, m.occurred_at"""
)

# "|| ''": the messages of a conversation are found by it alone, and not by those of the whole organisation.
_MESSAGES = f"""
select {_COLUMNS}
  from portal_messages m
 where m.org_id || '' = $1 and m.conversation_id = $2
   and m.sequence < coalesce((select b.sequence from portal_messages b
                               where b.org_id = $1 and b.message_id = $3 and b.conversation_id = $2),
                             9223372036854775807)
   and {shown("m")}
 order by m.sequence desc
 limit $4
"""  # noqa: S608 -- constants

_NEWEST = f"""
select u.n, {_COLUMNS}
  from unnest($1::text[], $2::uuid[]) with ordinality as u (org_id, conversation_id, n)
 cross join lateral (
       select * from portal_messages m
        where m.org_id || '' = u.org_id and m.conversation_id = u.conversation_id and {shown("m")}
        order by m.sequence desc
        limit $3
       ) m
 order by u.n, m.sequence
"""  # noqa: S608 -- constants

# All that says which of the newest messages are shown, and how. The policies compare each row with every session that
# is named, so few are named at once.
_DIGESTS = """
select (select md5(string_agg(concat_ws(' ', m.message_id, m.status, m.reason, m.attempt, m.read_at), ',' order by
                                        m.sequence))
          from (select * from portal_messages x
                 where x.org_id || '' = u.org_id and x.conversation_id = u.conversation_id
                 order by x.sequence desc
                 limit $3) m) as digest
  from unnest($1::text[], $2::uuid[]) with ordinality as u (org_id, conversation_id, n)
 order by u.n
"""

_TAKE_TURN = """
update portal_sessions s
   set posted_at = $2::timestamptz,
       seen_at = greatest(s.seen_at, $2::timestamptz),
       minute_began = case when s.minute_began > $2::timestamptz - $3::interval then s.minute_began else $2 end,
       minute_count = case when s.minute_began > $2::timestamptz - $3::interval then s.minute_count + 1 else 1 end,
       day_began = case when s.day_began > $2::timestamptz - $5::interval then s.day_began else $2 end,
       day_count = case when s.day_began > $2::timestamptz - $5::interval then s.day_count + 1 else 1 end
 where s.session_hash = $1
   and (s.minute_began is null or s.minute_began <= $2::timestamptz - $3::interval or s.minute_count < $4)
   and (s.day_began is null or s.day_began <= $2::timestamptz - $5::interval or s.day_count < $6)
returning 1
"""

_NOT_POSTED = "update portal_sessions set posted_at = null where session_hash = $1"


@asynccontextmanager
async def scope(
    pool: Pool, host: str, *, codes: Collection[bytes] = (), sessions: Collection[bytes] = ()
) -> AsyncIterator[Connection]:
    """A transaction in which these are visible: the host's organisation, these links, these sessions' threads.

    Raises Transient when PostgreSQL is away.
    """
    async with pool.acquire() as db, visible(db, host, codes, sessions):
        yield db


@asynccontextmanager
async def visible(
    db: Connection, host: str, codes: Collection[bytes], sessions: Collection[bytes]
) -> AsyncIterator[None]:
    """The transaction of ``scope`` on a connection that the caller has."""
    async with db.transaction():
        await db.execute(_SCOPE, host, _array(codes), _array(sessions))
        yield


async def owner_of(db: Connection, host: str) -> Owner | None:
    """The organisation with this host. None: no organisation has it."""
    found = await db.fetchrow(_OWNER, host)
    return None if found is None else Owner(**found)


async def link_of(db: Connection, codes: Sequence[bytes], host: str, now: datetime) -> Link | None:
    """The link with one of these hashes. None: there is none on this host."""
    found = await db.fetchrow(_LINK, codes, host, now)
    return None if found is None else Link(**found)


async def redeem(
    db: Connection, codes: Sequence[bytes], host: str, session: bytes, now: datetime
) -> tuple[str, UUID] | None:
    """Use the link, and begin the session with this hash: its organisation and conversation. None: it does not open.

    One statement: of any number of requests with one code one gets a session.
    """
    found = await db.fetchrow(_REDEEM, codes, host, now, session, LONGEST)
    return None if found is None else (found["org_id"], found["conversation_id"])


async def end_sessions(db: Connection, sessions: Sequence[bytes]) -> None:
    await db.execute(_END, sessions)


async def thread_of(db: Connection, sessions: Sequence[bytes], host: str, now: datetime) -> Thread | None:
    """The session with one of these hashes, if it lives on this host and its phone is still on file."""
    found = await db.fetchrow(_THREAD, sessions, host, now, IDLE)
    return None if found is None else Thread(**found)


async def living(db: Connection, sessions: Sequence[bytes], now: datetime) -> set[bytes]:
    """Which of these sessions live."""
    return {row["session_hash"] for row in await db.fetch(_LIVE, sessions, now, IDLE)}


async def signed_in(db: Connection, session: bytes, now: datetime) -> None:
    """Keep that the session's customer was here."""
    await db.execute(_SIGNED_IN, session, now)


async def seen(db: Connection, session: bytes, now: datetime) -> None:
    """The customer was here: keeps the session from becoming idle."""
    await db.execute(_SEEN, session, now)
    await db.execute(_SIGNED_IN, session, now)


async def messages_of(db: Connection, thread: Thread, before: UUID | None, most: int) -> list[StoredMessage]:
    """The newest messages that are shown, oldest first; with ``before`` those before that message."""
    rows = await db.fetch(_MESSAGES, thread.org_id, thread.conversation_id, before, most)
    return [StoredMessage(**row) for row in reversed(rows)]


async def digests_of(db: Connection, threads: Sequence[Thread], most: int) -> list[str | None]:
    """For each thread what changes whenever one of its newest messages does. None: it has no message."""
    rows = await db.fetch(_DIGESTS, [t.org_id for t in threads], [t.conversation_id for t in threads], most)
    return [row["digest"] for row in rows]


async def newest_of(db: Connection, threads: Sequence[Thread], most: int) -> list[list[StoredMessage]]:
    """The newest messages of each thread that are shown, oldest first. One round trip for all threads."""
    found: list[list[StoredMessage]] = [[] for _ in threads]
    rows = await db.fetch(_NEWEST, [t.org_id for t in threads], [t.conversation_id for t in threads], most)
    for row in rows:
        fields = dict(row)
        found[fields.pop("n") - 1].append(StoredMessage(**fields))
    return found


async def take_turn(db: Connection, session: bytes, now: datetime) -> bool:
    """Count one message more, and that the customer was here.

    False: there were 10 within the minute, or 200 within the day.
    """
    return bool(await db.fetchval(_TAKE_TURN, session, now, _MINUTE, _A_MINUTE, _DAY, _A_DAY))


async def not_posted(db: Connection, session: bytes) -> None:
    """The message whose turn was taken last was not published."""
    await db.execute(_NOT_POSTED, session)


def _array(hashes: Collection[bytes]) -> str:
    """The hashes as a literal of ``bytea[]``."""
    return "{" + ",".join(f'"\\\\x{one.hex()}"' for one in hashes) + "}"
