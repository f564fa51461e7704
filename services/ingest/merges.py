"""Threads that became part of others are moved there, a slice at a time, while traffic flows.

Every ingest worker does so; a merge is with one of them at a time. A slice takes as many rows as a fraction of a
statement's limit allows on this machine, and after each the task rests for as long as it took: what waits for the
database is served in between. A merge of which no slice passes, not the smallest either, holds up none of the others.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from libs.common.db.pool import Pool
from libs.common.directory.merge_slices import move_some, put_off
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable, is_statement_timeout

log = get_logger()

PERIOD = timedelta(seconds=1)
MOST = 500
"""Rows of a slice, at most."""
PUT_OFF = timedelta(minutes=1)
_LONG, _SHORT = 0.2, 0.1
"""Seconds: a slice that took longer is followed by smaller ones, one that took less by larger ones."""


@dataclass(slots=True)
class Mover:
    """``size``: how many rows the next slice takes."""

    pool: Pool
    size: int = MOST

    async def move(self) -> None:
        """Move all that is due. Raises Transient trouble after it has made the next slice smaller, and what ends the smallest one."""
        clock = asyncio.get_running_loop()
        while True:
            began = clock.time()
            try:
                async with self.pool.acquire() as db, db.transaction():
                    done = await move_some(db, self.size)
            except Exception as error:
                await self._after(error)
                raise
            if done is None:
                return
            if done.complete:
                log.info(
                    "conversation.merged",
                    org_id=done.org_id,
                    conversation_id=str(done.conversation_id),
                    records=done.moved,
                )
            took = clock.time() - began
            if took > _LONG:
                self._smaller()
            elif took < _SHORT:
                self.size = min(MOST, 2 * self.size)
            await asyncio.sleep(took)

    async def _after(self, error: Exception) -> None:
        if not is_retryable(error) or (self.size == 1 and is_statement_timeout(error)):
            async with self.pool.acquire() as db:
                await put_off(db, PUT_OFF)
        else:  # a statement that was too slow, if it was not the server that is away
            self._smaller()

    def _smaller(self) -> None:
        self.size = max(1, self.size // 2)
