"""Sessions of people in browsers, and who is a member.

Rule 1: a session's id is 256 random bits in a cookie. The database has its keyed hash.
Rule 2: whoever signs in gets a fresh id, and the one that the browser brought is over. So nobody signs in to an id that
        somebody else knows.
Rule 3: a session is over after ``IDLE`` in which its person asked for nothing, after ``LONGEST``, and when they sign
        out. What an open page asks for by itself does not count.
Rule 4: the person of a session is in one organisation, with the capabilities of the moment of the sign-in.
"""

from collections import OrderedDict
from collections.abc import Collection
from datetime import datetime, timedelta

from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.db.pool import Pool
from libs.common.db.shares import Shares
from libs.common.forgetting import forget_all
from libs.common.pages.forms import fresh_id
from services.inbox import session_queries as queries
from services.inbox.people import Person
from services.inbox.session_queries import SessionRow

IDLE = timedelta(minutes=30)
LONGEST = timedelta(hours=12)
_SEEN_EVERY = timedelta(minutes=1)
_MEMBER_EVERY = timedelta(minutes=5)
_MOST_MEMBERS = 10_000


class Sessions:
    """Begins, finds and ends sessions."""

    def __init__(self, pool: Pool, keys: PurposeKeys, share: int) -> None:
        """``share``: connections that one address takes at most to ask for sessions, which anybody may invent."""
        self._pool = pool
        self._keys = keys
        self._shares = Shares(pool, share)

    async def begin(self, person: Person, before: bytes | None) -> bytes:
        """The id of a fresh session, which ends with ``person.ends_at`` at the latest. ``before`` is over."""
        fresh, now = fresh_id(), self._pool.now()
        row = SessionRow(
            person.org_id,
            person.user_id,
            person.name,
            sorted(person.capabilities),
            now,
            min(now + LONGEST, person.ends_at),
        )
        async with self._pool.acquire() as db, db.transaction():
            if before is not None:
                await queries.end_sessions(db, self._keys.hashes(before))
            await queries.begin_session(db, self._keys.hash(fresh), row)
        return fresh

    async def of(self, session: bytes, address: str, *, is_used: bool = True) -> Person | None:
        """Whose session it is. None: there is none, or it is over. ``is_used``: it counts as used, to the minute.

        ``address``: the client's.
        """
        now, stored = self._pool.now(), self._keys.hash(session)
        async with self._shares.of(address) as db:
            row = await queries.session(db, stored, now, now - IDLE)
            if is_used and row is not None and row.seen_at < now - _SEEN_EVERY:
                await queries.session_seen(db, stored, now)
        if row is None:
            return None
        return Person(row.org_id, row.user_id, frozenset(row.capabilities), row.ends_at, row.name)

    def stored(self, session: bytes) -> bytes:
        """What the database has of the id."""
        return self._keys.hash(session)

    async def living(self, stored: Collection[bytes]) -> frozenset[bytes]:
        """Those of these sessions that are not over. They do not count as used."""
        now = self._pool.now()
        async with self._pool.acquire() as db:
            return await queries.living(db, list(stored), now, now - IDLE)

    async def end(self, session: bytes) -> None:
        """The session is over."""
        async with self._pool.acquire() as db:
            await queries.end_sessions(db, self._keys.hashes(session))

    async def purge(self) -> None:
        """Forget sessions that are over by their time."""
        await forget_all(self._pool, queries.purge_sessions, self._pool.now())


class Members:
    """Notes who asks. A person is stored when they come, and again every few minutes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._noted: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    async def seen(self, person: Person) -> bool:
        """Note the person. False: the directory has no such organisation."""
        key, now = (person.org_id, person.user_id), self._pool.now()
        if now - self._noted.get(key, datetime.min.replace(tzinfo=now.tzinfo)) < _MEMBER_EVERY:
            return True
        async with self._pool.acquire() as db:
            known = await queries.member_seen(db, person.org_id, person.user_id, person.name, now)
        if known:
            self._noted[key] = now
            self._noted.move_to_end(key)
            if len(self._noted) > _MOST_MEMBERS:
                self._noted.popitem(last=False)
        return known
