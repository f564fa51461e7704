"""SMS of which nothing is heard: the provider took them, and no callback says what became of them. The provider itself is asked.

A callback can get lost, none is asked for without PUBLIC_URL, and of some messages none is ever sent. A message that is
pending still when it is due is looked up, ever more rarely; what the record says is applied as a callback would be.
What nobody knows a day later ends as ``unknown_outcome``. What is to be told stands in the row of ``sends``, and the
sweeper tells it.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from libs.common.bisection import run_bisected
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.errors import Transient
from libs.common.logging import get_logger
from libs.common.periodic import Task
from libs.common.sending.queries import keep_news
from libs.common.sending.status_effects import StatusEvents, receive_statuses
from libs.common.thread.message_status import UNKNOWN_OUTCOME
from libs.common.thread.messages import LocalFailure, fail_locally
from libs.common.thread.statuses import ProviderStatus
from services.sms_bridge import evidence_queries
from services.sms_bridge.providers import RecordedStatus, SmsProvider

log = get_logger()

PERIOD = timedelta(seconds=30)
GIVEN_UP_AFTER = timedelta(hours=24)
_AT_ONCE = 100
_LOOKS_AT_ONCE = 8

_Heard = tuple[evidence_queries.Unconfirmed, RecordedStatus | None]
"""What the provider says of it; None: it is pending no more, and nobody needs to ask."""


def task(pool: Pool, provider: SmsProvider) -> Task:
    """``follow`` as a periodic task."""
    return PERIOD, lambda: follow(pool, provider, pool.now)


async def follow(pool: Pool, provider: SmsProvider, now: Clock) -> None:
    """Ask after every SMS that is due to be asked after."""
    while True:
        async with pool.acquire() as db:
            due = await evidence_queries.take_unconfirmed(db, provider.account, now(), _AT_ONCE)
        moved = [one for one in due if not one.pending]
        pending = [one for one in due if one.pending]
        fates = await _fates(provider, pending)
        heard: list[_Heard] = [(one, None) for one in moved]
        heard += [(one, fate) for one, fate in zip(pending, fates, strict=True) if fate]
        apply = partial(_apply, pool, now=now())
        await run_bisected(heard, apply, key=lambda one: one[0].provider_id, failed=_set_aside)
        if len(due) < _AT_ONCE:
            return


async def _fates(provider: SmsProvider, pending: Sequence[evidence_queries.Unconfirmed]) -> list[RecordedStatus | None]:
    """What the provider says of each; None where it cannot be asked now."""
    few = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def look(one: evidence_queries.Unconfirmed) -> RecordedStatus | None:
        async with few:
            try:
                return await provider.recorded_status(one.provider_id)
            except Transient as error:
                log.warning("task.retried", task="sms_unconfirmed", exc_info=error)
                return None

    return await asyncio.gather(*map(look, pending))


def _set_aside(heard: _Heard, error: Exception) -> None:
    one, _fate = heard
    log.error(
        "row.set_aside",
        task="sms_unconfirmed",
        org_id=one.org_id,
        message_id=str(one.message_id),
        attempt=one.attempt,
        exc_info=error,
    )


async def _apply(pool: Pool, heard: Sequence[_Heard], now: datetime) -> None:
    statuses, lost, over = [], [], []
    for one, fate in heard:
        if fate is None:
            over.append(one)
        elif fate.status is not None:
            statuses.append(ProviderStatus("sms", one.account, one.provider_id, fate.status, now, fate.code))
            over.append(one)
        elif now - one.accepted_at >= GIVEN_UP_AFTER:
            lost.append(LocalFailure(one.org_id, one.message_id, one.attempt, UNKNOWN_OUTCOME, None, now))
            over.append(one)
    if not over:
        return
    told = {(one.org_id, one.send_id, one.attempt): one for one in over if one.pending}
    async with pool.acquire() as db, db.transaction():
        # the rows of sends are locked before the messages, as everywhere
        await keep_news(db, [(key, {"refusals": [], "rungs": [str(one.message_id)]}) for key, one in told.items()])
        effects = await receive_statuses(db, statuses, now) if statuses else StatusEvents()
        await fail_locally(db, lost)
        for refusal in effects.refusals:
            key = (refusal.org_id, refusal.intent_id, refusal.attempt)
            if (asked_of := told.get(key)) is not None:
                news = {"refusals": [refusal.model_dump(mode="json")], "rungs": [str(asked_of.message_id)]}
                await keep_news(db, [(key, news)])
        await evidence_queries.remove_unconfirmed(db, [(one.account, one.provider_id) for one in over])
