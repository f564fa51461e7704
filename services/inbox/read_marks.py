"""How far members have read, kept in few rows.

Rule 1: a member who has read everything up to a message needs no row for each conversation below it. ``read_below``
        moves up to the first message that they have not read, and the rows below it go.
Rule 2: it never passes a message that is being stored: only up to where the sequence stood a round ago.
Rule 3: what is a week old when a member comes for the first time is read for them (``session_queries``).
"""

from datetime import timedelta

from libs.common.db.pool import Pool
from libs.common.periodic import Task
from services.inbox import read_queries as queries

_ROWS = 200
"""Rows of a member from which on they are folded."""
_MEMBERS = 500
"""Members that are looked at together. A round looks at all, so that none waits for those who have the most rows."""
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
        """One round."""
        async with self._pool.acquire() as db:
            settled, self._settled = self._settled, await queries.newest_sequence(db)
        if settled is None:
            return
        after = ("", "")
        while True:
            async with self._pool.acquire() as db:
                members = await queries.members_after(db, after, _MEMBERS, _ROWS)
                for one in members:
                    if one.crowded:
                        await queries.fold(db, one.org_id, one.user_id, settled)
            if len(members) < _MEMBERS:
                return
            after = members[-1].org_id, members[-1].user_id
