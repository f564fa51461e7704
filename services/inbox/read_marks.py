"""How far members have read, kept in few rows.

Rule 1: a member who has read everything up to a message needs no row for each conversation below it. ``read_below``
        moves up to the first message that they have not read, and the rows below it go.
Rule 2: it never passes a message that is being stored: only up to where the sequence stood a round ago.
Rule 3: what is a week old when a member comes for the first time is read for them (``session_queries``).
Rule 4: no statement passes or deletes all that a member has: an integration may read what comes for years.
"""

from datetime import timedelta

from libs.common.bisection import AdaptiveBatchSize
from libs.common.db.pool import Pool
from libs.common.periodic import Task, side_by_side
from services.inbox import read_queries as queries
from services.inbox.read_queries import MemberRows

_ROWS = 200
"""Rows of a member from which on they are folded."""
_MEMBERS = 500
"""Members that are looked at together. A round looks at all, so that none waits for those who have the most rows."""
_AT_ONCE = 10_000
"""Conversations that a slice passes, and rows that it deletes, at most."""
_PERIOD = timedelta(minutes=10)


class ReadMarks:
    """Folds the rows of members."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._settled: int | None = None

    @property
    def tasks(self) -> dict[str, Task]:
        return {"fold_reads": (_PERIOD, self.fold)}

    async def fold(self) -> None:
        """One round. A member whose rows cannot be folded now keeps none of the others waiting."""
        async with self._pool.acquire() as db:
            settled, self._settled = self._settled, await queries.newest_sequence(db)
        if settled is not None:
            await side_by_side(await self._crowded(), lambda one: self._fold(one, settled), at_once=1)

    async def _crowded(self) -> list[MemberRows]:
        """The members with many rows."""
        found: list[MemberRows] = []
        after = ("", "")
        while True:
            async with self._pool.acquire() as db:
                members = await queries.members_after(db, after, _MEMBERS, _ROWS)
            found += [one for one in members if one.crowded]
            if len(members) < _MEMBERS:
                return found
            after = members[-1].org_id, members[-1].user_id

    async def _fold(self, member: MemberRows, settled: int) -> None:
        """In slices. Rows that a kill leaves go after the next move."""
        moved = False

        async def move(size: int) -> int:
            nonlocal moved
            async with self._pool.acquire() as db:
                further = await queries.move(db, member.org_id, member.user_id, settled, size)
            moved = moved or further
            return size if further else 0

        async def drop(size: int) -> int:
            async with self._pool.acquire() as db:
                return await queries.drop(db, member.org_id, member.user_id, size)

        await AdaptiveBatchSize(_AT_ONCE).until_done(move)
        if moved:
            await AdaptiveBatchSize(_AT_ONCE).until_done(drop)
