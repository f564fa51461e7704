"""Second calls of SMS are released in rounds, over all replicas, and stop at the first record that the list shows late.

A list may be later than the grace without having failed. Then some of the sends that wait for a round are found in it,
although it had proved that they were not accepted. That counts as an outage of the list: settling, grace, and the
rounds begin anew.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from libs.common.db.pool import Connection, Pool
from libs.common.ids import SendKey
from libs.common.logging import get_logger
from libs.common.providers import Provider
from libs.common.sending import coverage_queries as coverage
from libs.common.sending import resend_rounds
from libs.common.sending.outcomes import Confirmed, Evidence, Inconclusive, NotSent
from libs.common.sending.rows import SendRow

log = get_logger()


class ResendRounds:
    """The rounds of SMS. They and the sends that were given up are stored, for all replicas."""

    def __init__(self, pool: Pool, provider: Provider, *, grace: timedelta, settling: timedelta) -> None:
        self._pool = pool
        self._provider: Provider = provider
        self._pace = settling
        self._rest = settling + grace

    async def hold_back(
        self, rows: Sequence[SendRow], evidence: Mapping[SendKey, Evidence], now: datetime
    ) -> dict[SendKey, Evidence]:
        """The same evidence, with those rows unclear that must wait for a round before they are sent once more."""
        once = [row for row in rows if row.resends == 0]
        found = [row.key for row in once if isinstance(evidence.get(row.key), Confirmed)]
        again = [row.key for row in once if now < row.expires_at and isinstance(evidence.get(row.key), NotSent)]
        if not again and not found:
            return dict(evidence)
        async with self._pool.acquire() as db, db.transaction():
            late = await coverage.given_up(db, self._provider, found)
            released = await self._release(db, again, late, now) if again or late else []
        if late:
            log.warning("resends.stopped", dependency=self._provider, times=len(late), reason="accepted_late")
        return {**evidence, **{key: Inconclusive() for key in again if key not in released}}

    async def _release(
        self, db: Connection, again: Sequence[SendKey], late: Collection[SendKey], now: datetime
    ) -> Sequence[SendKey]:
        """The sends of ``again`` that this round has room for. All of them are stored as given up."""
        before = await coverage.standing_round(db, self._provider)
        round_, taken = resend_rounds.at(before, now, pace=self._pace, rest=self._rest).take(len(again))
        if late:
            await coverage.turned_out_late(db, late)
            round_, taken = resend_rounds.stopped(now), 0
        await coverage.keep_round(db, self._provider, round_)
        await coverage.released(db, self._provider, again, now)
        return again[:taken]
