"""What changes in conversations without an event of theirs: their heads are computed anew, and streams are told.

A change of a customer may be read by the inbox before it is stored, so the words of a name or number that a listed
customer brings to a conversation are written here, too.
"""

from datetime import timedelta

from libs.common.db.pool import Pool
from libs.common.directory import touched
from services.inbox import feed_queries
from services.inbox.feed import Change
from services.inbox.heads import refresh
from services.inbox.windows import WindowRule
from services.inbox.word_queries import write_customers

PERIOD = timedelta(seconds=1)
_ORGANISATIONS, _SHARE = 5, 50


async def tell_touched(pool: Pool, rule: WindowRule) -> None:
    """Tell of the conversations of all touched customers, by organisation, in turn. Replicas share the work."""
    after = ""
    while True:
        async with pool.acquire() as db, db.transaction():
            found = await touched.take(db, after, _ORGANISATIONS, _SHARE)
            if keys := [(org_id, id_) for org_id, id_ in found if id_ is not None]:
                await refresh(db, keys, rule)
                await write_customers(db, keys)
                await feed_queries.add(db, [Change(*key, None, "conversation") for key in keys])
        if not found and not after:
            return
        after = found[-1][0] if found else ""
