"""Second calls are released a few at a time, over all replicas, and stop at the first acceptance that comes late.

What silence proved is wrong where Meta tries longer than we waited. The first few that are made once more show it: then
a status comes that names the first call of one of them, or of one that was about to follow. From that moment it is as
after an outage: settling, grace, and a few again.

A round is followed by the next once its late acceptances may have come. Statuses that could come at once do so within
the grace. After an outage Meta tries again after minutes: then the next round waits for as long as silence does, the
settling.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from libs.common.db.pool import Connection, Pool
from libs.common.ids import SendKey
from libs.common.logging import get_logger
from libs.common.sending import coverage_queries as coverage
from libs.common.sending import resend_rounds
from libs.common.sending.coverage import Quiet, Waits
from services.whatsapp_sender import queries

log = get_logger()

_LOOKED_AT = 1000


class Releases:
    """The rounds of WhatsApp's resends; they stand in the database."""

    def __init__(self, pool: Pool, waits: Waits) -> None:
        self._pool = pool
        self._waits = waits

    async def some(
        self, again: Mapping[SendKey, datetime], late: Collection[SendKey], quiet: Quiet | None, now: datetime
    ) -> Collection[SendKey]:
        """Which of those that may be made ``again`` (when they were claimed; because it was ``quiet``) go now.

        ``late``: found to have been accepted when silence had proved the contrary.
        """
        if not again and not late:
            return ()
        async with self._pool.acquire() as db, db.transaction():
            before = await coverage.standing_round(db, "meta")
            since = None if quiet is None else quiet.since
            open_now = resend_rounds.at(before, now, pace=self._pace(again, quiet), rest=self._waits.view, since=since)
            round_, taken = open_now.take(len(again))
            released = list(again)[:taken]
            found = {*late, *(await self._turned_out(db, now) if taken else ())}
            if found:
                await coverage.turned_out_late(db, found)
                round_, released = resend_rounds.stopped(now), []
            await coverage.keep_round(db, "meta", round_)
            await coverage.released(db, "meta", released, now)
        if found:
            log.warning("resends.stopped", dependency="meta", times=len(found), reason="accepted_late")
        return released

    def _pace(self, again: Mapping[SendKey, datetime], quiet: Quiet | None) -> timedelta:
        outlived = quiet is not None and any(quiet.interrupted(claimed_at) for claimed_at in again.values())
        return max(self._waits.grace, self._waits.settling) if outlived else self._waits.grace

    async def _turned_out(self, db: Connection, now: datetime) -> set[SendKey]:
        """Of those released lately the ones whose first call is now known to have been accepted."""
        lately = await coverage.lately_released(db, "meta", now - 2 * self._waits.view, _LOOKED_AT)
        seen = await queries.evidence(db, [(one.key, one.account) for one in lately])
        ids = {one.key: len(seen[one.key].ids) if one.key in seen else 0 for one in lately}
        return {one.key for one in lately if ids[one.key] > one.called_again}
