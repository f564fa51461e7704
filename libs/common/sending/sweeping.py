"""Sweeping: what nobody finishes. Claims that ended without an answer, outcomes nobody knows, deadlines, news that was not told.

Every process of a sender sweeps; rows are shared by ``skip locked``, and a look for evidence puts off the next one, so that none is
looked at twice; ever longer, so that a provider that does not answer is not asked every second for as long as the send may live.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Generic

from libs.common.clock import Clock
from libs.common.db import sends
from libs.common.db.pool import Connection, Pool
from libs.common.metrics import gauge
from libs.common.sending.applying import Applied, apply
from libs.common.sending.carrier import Carrier
from libs.common.sending.outcomes import PreparedT, Timings, Unclear
from libs.common.sending.rows import SendRow, Step
from libs.common.sending.telling import Teller
from libs.common.sending.transitions import expire, unknown, weigh

_AT_ONCE = 200
_ROUNDS = 25
_COUNT_EVERY = 15


class Sweeper(Generic[PreparedT]):
    """``tidy`` and ``seek`` once a second or so, each in a loop of its own: a provider may take long to say what it knows."""

    def __init__(
        self,
        carrier: Carrier[PreparedT],
        pool: Pool,
        teller: Teller,
        timings: Timings,
        *,
        now: Clock,
        ended: Callable[[Applied], None],
        awake: Callable[[Iterable[str]], None],
    ) -> None:
        self._carrier = carrier
        self._pool = pool
        self._teller = teller
        self._timings = timings
        self._now = now
        self._ended = ended
        self._awake = awake
        self._sweeps = 0

    async def sweep(self) -> None:
        """One round of everything."""
        await self.tidy()
        await self.seek()

    async def seek(self) -> None:
        """One round of what may ask the provider."""
        await self._all(self._weigh)

    async def tidy(self) -> None:
        """One round of what the rows tell by themselves."""
        await self._all(self._end_claims)
        await self._all(self._expire)
        await self._all(self._free)
        await self._all(self._tell)
        self._sweeps += (
            1  # before the count, which may take too long where very much waits: it must not be tried every time
        )
        if self._sweeps % _COUNT_EVERY == 1:
            async with self._pool.acquire() as db:
                waiting = await sends.waiting(db, self._carrier.provider)
            gauge("transom_sends_waiting", waiting, channel=self._carrier.channel)

    async def _all(self, part: Callable[[], Awaitable[bool]]) -> None:
        """Repeat a part while it finds as much as it takes at once; the rest is for the next sweep."""
        for _round in range(_ROUNDS):
            if not await part():
                return

    async def _end_claims(self) -> bool:
        """A claim whose lease is over has an unknown outcome."""
        return await self._move(sends.ended_claims, lambda row, now: Step(row, unknown(row, "lease_ended", now, self._timings)))  # fmt: skip

    async def _expire(self) -> bool:
        """A row that waited until its deadline fails, whatever it waited for."""
        return await self._move(sends.overdue, expire)

    async def _free(self) -> bool:
        """A row that was held back for a time is looked at again when that is over."""
        async with self._pool.acquire() as db:
            freed = await sends.free_in_time(db, self._carrier.provider, self._now(), _AT_ONCE)
        self._awake(freed)
        return len(freed) == _AT_ONCE

    async def _move(
        self,
        find: Callable[..., Awaitable[list[SendRow]]],
        step: Callable[[SendRow, datetime], Step],
    ) -> bool:
        now = self._now()
        async with self._pool.acquire() as db, db.transaction():
            rows = await find(db, self._carrier.provider, now, _AT_ONCE)
            applied = await self._apply(db, [step(row, now) for row in rows], now)
        await self._after(applied)
        return len(rows) == _AT_ONCE

    async def _weigh(self) -> bool:
        """Evidence settles unknown outcomes. It is sought outside of any transaction: a provider may be asked."""
        now = self._now()
        async with self._pool.acquire() as db:
            rows = await sends.take_unknown(
                db, self._carrier.provider, now, _AT_ONCE, soonest=self._timings.poll, latest=self._timings.look
            )
        if not rows:
            return False
        evidence = await self._carrier.seek(rows, now)
        now = self._now()
        steps = [weigh(row, evidence.get(row.key, Unclear()), now, self._timings) for row in rows]
        async with self._pool.acquire() as db, db.transaction():
            applied = await self._apply(db, [step for step in steps if step is not None], now)
        await self._after(applied)
        return len(rows) == _AT_ONCE

    async def _tell(self) -> bool:
        return await self._teller.tell_untold(self._now() - self._timings.untold) >= _AT_ONCE

    async def _apply(self, db: Connection, steps: list[Step], now: datetime) -> Applied:
        return await apply(db, self._carrier, steps, now) if steps else Applied()

    async def _after(self, applied: Applied) -> None:
        self._ended(applied)
        if applied.settled:
            await self._carrier.committed(applied.settled)
