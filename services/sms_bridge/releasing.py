"""Second calls of SMS are released a few at a time, over all replicas, and stop at the first record that the list shows late.

A list may be late by more than was waited for, without having failed. Then some of those that wait for their turn are found in it after silence
had proved the contrary. From that moment it is as after an outage of the list: settling, grace, and a few again.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from libs.common import rounds
from libs.common.db import cover
from libs.common.db.pool import Pool
from libs.common.logging import get_logger
from libs.common.send_rows import Key, SendRow
from libs.common.sending.outcomes import Absent, Evidence, Found, Unclear

log = get_logger()


class Releases:
    """The rounds of SMS; they stand in the database. Who waits for a turn is a memory of this process."""

    def __init__(self, pool: Pool, *, grace: timedelta, settling: timedelta) -> None:
        self._pool = pool
        self._pace = settling
        self._rest = settling + grace
        self._waiting: set[Key] = set()

    async def keep(
        self, rows: Sequence[SendRow], evidence: Mapping[Key, Evidence], now: datetime
    ) -> dict[Key, Evidence]:
        """The evidence about these rows, with those unclear that must wait until they may be sent once more."""
        looked_at = {row.key for row in rows}
        late = [key for key in looked_at & self._waiting if isinstance(evidence.get(key), Found)]
        again = [
            row.key
            for row in rows
            if row.resends == 0 and now < row.expires_at and isinstance(evidence.get(row.key), Absent)
        ]
        self._waiting -= looked_at
        if not again and not late:
            return dict(evidence)
        async with self._pool.acquire() as db, db.transaction():
            before = await cover.standing_round(db, "sms")
            round_, taken = rounds.at(before, now, pace=self._pace, rest=self._rest).take(len(again))
            if late:
                round_, taken = rounds.stopped(now), 0
            await cover.keep_round(db, "sms", round_)
            await cover.released(db, "sms", again[:taken], now)
        if late:
            log.warning("resends.stopped", dependency="sms", times=len(late), reason="accepted_late")
        self._waiting.update(again[taken:])
        return {**evidence, **dict.fromkeys(again[taken:], Unclear())}
