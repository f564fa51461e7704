"""The prices that a provider does not tell by itself: it is asked for them, ever more rarely.

Twilio tells a price in the record of a message, minutes after it was sent. Charges keep their estimate until then.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta

from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.errors import Transient
from libs.common.periodic import Task, log_retried, side_by_side
from libs.common.sending import sms_charges
from libs.common.sending.sms_charges import Figure, Unpriced
from libs.common.sending.spent import Spent
from services.sms_bridge.providers import SmsLookup, SmsProvider

PERIOD = timedelta(seconds=30)
ACCOUNTS_AT_ONCE = 4
_AT_ONCE = 100
_LOOKS_AT_ONCE = 8


def task(pool: Pool, providers: Collection[SmsProvider]) -> Task:
    """``ask`` for each provider, as a periodic task."""
    return PERIOD, lambda: side_by_side(providers, lambda one: ask(pool, one, pool.now), at_once=ACCOUNTS_AT_ONCE)


async def ask(pool: Pool, provider: SmsProvider, now: Clock) -> None:
    """Ask the provider for every price that is due, and store those that it tells.

    While it answers nothing, what is due waits for the next round. One that cannot be asked tells its prices with its
    answers and callbacks.
    """
    lookup = provider.lookup
    if lookup is None:
        return
    while True:
        async with pool.acquire() as db, db.transaction():
            due = await sms_charges.take_unpriced(db, *provider.key, now(), _AT_ONCE)
        figures, answers = await _figures(lookup, due)
        spent = sms_charges.SpentByMessage(Spent)
        async with pool.acquire() as db, db.transaction():
            await sms_charges.keep_figures(db, figures, spent)
        Spent.of(spent.values()).log()
        if not answers or len({(one.org_id, one.message_id, one.attempt) for one in due}) < _AT_ONCE:
            return


async def _figures(lookup: SmsLookup, due: Sequence[Unpriced]) -> tuple[list[Figure], int]:
    """The prices that the provider tells, and how many times it answered."""
    few = asyncio.Semaphore(_LOOKS_AT_ONCE)
    answers = 0
    failures: list[Transient] = []

    async def look(one: Unpriced) -> Figure | None:
        nonlocal answers
        async with few:
            try:
                recorded = await lookup.recorded_status(one.provider_id)
            except Transient as error:
                failures.append(error)
                return None
        answers += 1
        if recorded.cost is None or recorded.cost.amount is None:
            return None
        return Figure(one.org_id, one.message_id, one.attempt, one.provider_id, recorded.cost)

    figures = [figure for figure in await asyncio.gather(*map(look, due)) if figure is not None]
    log_retried("sms_prices", failures)
    return figures, answers
