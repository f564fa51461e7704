"""Second calls are released a few at a time, over all replicas, and stop at the first acceptance that comes late.

A proof by silence or by a list is wrong where the provider takes longer than the grace. Then a send that was given up
turns out to be accepted. That counts as an outage: the rounds begin anew (``resend_rounds``).

The rounds and the sends that were given up are rows. They belong to a provider and name no tenant.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, Pool, changed
from libs.common.ids import SendKey
from libs.common.logging import get_logger
from libs.common.sending import resend_rounds
from libs.common.sending.resend_rounds import ResendRound

log = get_logger()

_ROUND = """
insert into resend_rounds as r (provider, opened_at, size, left_over, late_at) values ($1, '-infinity', 0, 0, null)
on conflict (provider) do update set provider = r.provider
returning opened_at, size, left_over, late_at, opened_at = '-infinity' as fresh
"""
_KEEP_ROUND = "update resend_rounds set opened_at = $2, size = $3, left_over = $4, late_at = $5 where provider = $1"

_GIVE_UP = """
insert into resends (provider, org_id, message_id, attempt, released_at)
select $1, u.*, $5 from unnest($2::text[], $3::uuid[], $4::int[]) as u
on conflict (org_id, message_id, attempt) do update set released_at = excluded.released_at, late = false
"""
_LATELY = """
select r.org_id, r.message_id, r.attempt, s.account, s.claimed_at >= r.released_at as called_again
  from (select * from resends where provider = $1 and released_at >= $2 and not late
         order by released_at desc limit $3) r
  join sends s using (org_id, message_id, attempt)
"""
_GIVEN_UP = """
select u.org_id, u.message_id, u.attempt
  from unnest($2::text[], $3::uuid[], $4::int[]) as u (org_id, message_id, attempt)
  join resends r using (org_id, message_id, attempt)
 where r.provider = $1 and not r.late
"""
_LATE = """
update resends r set late = true
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
 where r.org_id = u.org_id and r.message_id = u.message_id and r.attempt = u.attempt
"""
_FORGET_RESENDS = """
delete from resends
 where ctid = any (array(select r.ctid from resends r where r.released_at < $1 order by r.released_at limit $2))
"""


@dataclass(frozen=True, slots=True)
class ResendRounds:
    """The rounds of one provider, or of one account at it. After a ``rest`` without any a round is a small one again.

    ``all_given_up``: a send that waits for a round counts as given up too, not only one that is released.
    """

    pool: Pool
    provider: str
    rest: timedelta
    all_given_up: bool = False

    async def release(
        self,
        again: Sequence[SendKey],
        now: datetime,
        *,
        pace: timedelta,
        found_late: Callable[[Connection, int], Awaitable[Collection[SendKey]]],
        since: datetime | None = None,
    ) -> Sequence[SendKey]:
        """Which of ``again`` may be sent once more now. A round follows the one before after ``pace``.

        ``found_late(db, taken)``: the sends that were given up and turned out to be accepted; ``taken`` is how many the
        round has room for. ``since``: silence counts from then, so that a round from before is over.
        """
        async with self.pool.acquire() as db, db.transaction():
            before = await _standing_round(db, self.provider)
            round_, taken = resend_rounds.at(before, now, pace=pace, rest=self.rest, since=since).take(len(again))
            late = await found_late(db, taken)
            if not again and not late:
                return ()
            if late:
                await db.execute(_LATE, *as_columns(sorted(late)))
                round_, taken = resend_rounds.stopped(now), 0
            await db.execute(_KEEP_ROUND, self.provider, *round_)
            if rows := sorted(again if self.all_given_up else again[:taken]):
                await db.execute(_GIVE_UP, self.provider, *as_columns(rows), now)
        if late:
            log.warning("resends.stopped", dependency=self.provider, times=len(late), reason="accepted_late")
        return again[:taken]


async def _standing_round(db: Connection, provider: str) -> ResendRound | None:
    """The latest round, locked until the commit; None where there was none yet."""
    columns = dict(await db.fetchrow(_ROUND, provider) or {"fresh": True})
    return None if columns.pop("fresh") else ResendRound(**columns)


class Released(NamedTuple):
    """A send that was released. ``called_again``: its second call was begun."""

    key: SendKey
    account: str
    called_again: bool


async def lately_released(db: Connection, provider: str, since: datetime, limit: int) -> list[Released]:
    """The last that were released since then and have not turned out to be accepted before."""
    found = await db.fetch(_LATELY, provider, since, limit)
    return [
        Released((r["org_id"], r["message_id"], r["attempt"]), r["account"], bool(r["called_again"])) for r in found
    ]


async def given_up(db: Connection, provider: str, keys: Iterable[SendKey]) -> set[SendKey]:
    """Which of these were given up, and did not turn out to be accepted before."""
    rows = sorted(keys)
    found = await db.fetch(_GIVEN_UP, provider, *as_columns(rows)) if rows else []
    return {(r["org_id"], r["message_id"], r["attempt"]) for r in found}


async def forget_resends(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` sends that were given up before then; returns how many."""
    return await changed(db, _FORGET_RESENDS, before, limit)
