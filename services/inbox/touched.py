"""What changes in conversations without an event of theirs: their heads are computed anew, and streams are told.

A call opens the window, and so may a consent that is given again: what waits for that goes by the organisation's
policy. It is stored before the row of the change goes, so a kill in between sends it with the next look.

A change of a customer may be read by the inbox before it is stored, so the words of a name or number that a listed
customer brings to a conversation are written here, too.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from uuid import UUID

from libs.common.bisection import AdaptiveBatchSize
from libs.common.db.pool import Pool
from libs.common.directory import touched
from services.inbox import feed_queries
from services.inbox.feed import Change
from services.inbox.heads import refresh
from services.inbox.windows import WindowRule
from services.inbox.word_queries import write_customers

PERIOD = timedelta(seconds=1)
_ORGANISATIONS, _SHARE = 5, 50


async def tell_touched(
    pool: Pool, rule: WindowRule, send_open: Callable[[Collection[tuple[str, UUID]]], Awaitable[None]]
) -> None:
    """Tell of the conversations of all touched customers, by organisation, in turn. Replicas share the work.

    A portion that is too slow for a statement is halved.

    ``send_open`` sends by policy what waits in these conversations (``ParkedTexts``). At rest this is one round trip.
    """
    async with pool.acquire() as db:
        if not await touched.any_touched(db):
            return
    after = ""

    async def some(share: int) -> int:
        nonlocal after
        async with pool.acquire() as db, db.transaction():
            found = await touched.take(db, after, _ORGANISATIONS, share)
            if keys := [(org_id, id_) for org_id, id_ in found if id_ is not None]:
                await send_open(keys)  # on a connection of its own, before heads are locked
                await refresh(db, keys, rule)
                await write_customers(db, keys)
                await feed_queries.add(db, [Change(*key, None, "conversation") for key in keys])
        over = not found and not after
        after = found[-1][0] if found else ""
        return 0 if over else share

    await AdaptiveBatchSize(_SHARE).until_done(some)
