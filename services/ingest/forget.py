"""What is kept for a while is forgotten after it: statuses that came before the id of their send and never found one, marks that are over.

Meta tries for 7 days and an id is stored within minutes, so after 8 days such a status belongs to a send that is not ours.
"""

from datetime import timedelta

from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.db.statuses import forget_early
from libs.common.directory.marks import forget_marks

KEPT = timedelta(days=8)
PERIOD = timedelta(minutes=10)
_AT_ONCE = 2000


async def forget(pool: Pool, now: Clock) -> None:
    """Forget all that is old enough, a little at a time."""
    while True:
        async with pool.acquire() as db:
            early = await forget_early(db, now() - KEPT, _AT_ONCE)
            over = await forget_marks(db, now(), _AT_ONCE)
        if max(early, over) < _AT_ONCE:
            return
