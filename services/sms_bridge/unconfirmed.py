"""SMS whose outcome is not confirmed: the provider took them, and nobody told their end. The provider is asked for it.

A callback can get lost, without PUBLIC_URL none is asked for, and some messages never have one. A message that is still
pending or sent when it is due is looked up, ever more rarely. A status on record is applied as a callback would be.
After a day a pending message ends as ``unknown_outcome``, and a sent one stays sent. The events are kept in the row of
``sends``, and the sweeper publishes them.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial

from libs.common.bisection import run_bisected
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.errors import Transient
from libs.common.logging import get_logger
from libs.common.periodic import Task, log_retried, log_set_aside, side_by_side
from libs.common.providers import Provider
from libs.common.sending.queries import keep_pending_events
from libs.common.sending.spent import Spent
from libs.common.sending.status_effects import StatusEvents, receive_statuses
from libs.common.sending.status_lines import log_statuses
from libs.common.thread.message_status import UNKNOWN_OUTCOME, ProviderStatus
from libs.common.thread.messages import LocalFailure, fail_locally
from services.sms_bridge import evidence_queries
from services.sms_bridge.providers import RecordedStatus, SmsLookup, SmsProvider

log = get_logger()

PERIOD = timedelta(seconds=30)
GIVEN_UP_AFTER = timedelta(hours=24)
ACCOUNTS_AT_ONCE = 4
_AT_ONCE = 100
_LOOKS_AT_ONCE = 8

_Answer = tuple[evidence_queries.Unconfirmed, RecordedStatus | None]
"""An SMS and its status on record. None: its end is known, so the provider is not asked."""


def task(pool: Pool, providers: Collection[SmsProvider]) -> Task:
    """``follow`` for each provider, as a periodic task."""
    return PERIOD, lambda: side_by_side(providers, lambda one: follow(pool, one, pool.now), at_once=ACCOUNTS_AT_ONCE)


async def follow(pool: Pool, provider: SmsProvider, now: Clock) -> None:
    """Ask the provider for every SMS of its own that is due. While it answers nothing, they wait for the next round."""
    while True:
        async with pool.acquire() as db:
            due = await evidence_queries.take_unconfirmed(db, provider.key.account, now(), _AT_ONCE)
        ended = [one for one in due if one.status is None]
        under_way = [one for one in due if one.status is not None]
        statuses = await _statuses(provider.lookup, under_way)
        answers: list[_Answer] = [(one, None) for one in ended]
        answers += [(one, status) for one, status in zip(under_way, statuses, strict=True) if status]
        apply = partial(_apply, pool, provider.key.provider, now=now())
        await run_bisected(answers, apply, key=lambda one: one[0].provider_id, failed=_set_aside)
        if len(due) < _AT_ONCE or (under_way and not any(statuses)):
            return


async def _statuses(
    lookup: SmsLookup | None, under_way: Sequence[evidence_queries.Unconfirmed]
) -> list[RecordedStatus | None]:
    """The status on record of each; None where the provider cannot be asked now."""
    if lookup is None:  # nothing can be asked: the callbacks have a day
        return [RecordedStatus(None)] * len(under_way)
    few = asyncio.Semaphore(_LOOKS_AT_ONCE)
    failures: list[Transient] = []

    async def look(one: evidence_queries.Unconfirmed) -> RecordedStatus | None:
        async with few:
            try:
                return await lookup.recorded_status(one.provider_id)
            except Transient as error:
                failures.append(error)
                return None

    statuses = await asyncio.gather(*map(look, under_way))
    log_retried("sms_unconfirmed", failures)
    return statuses


def _set_aside(answer: _Answer, error: Exception) -> None:
    one, _recorded = answer
    log_set_aside("sms_unconfirmed", (one.org_id, one.message_id, one.attempt), error)


async def _apply(pool: Pool, provider: Provider, answers: Sequence[_Answer], now: datetime) -> None:
    statuses, lost, told, over = [], [], [], []
    for one, recorded in answers:
        given_up = now - one.accepted_at >= GIVEN_UP_AFTER
        if recorded is not None and recorded.status not in (None, one.status):
            statuses.append(
                ProviderStatus("sms", provider, one.account, one.provider_id, recorded.status, now, recorded.code)
            )
            told.append(one)
        elif recorded is not None and given_up and one.status == "pending":
            lost.append(LocalFailure(one.org_id, one.message_id, one.attempt, UNKNOWN_OUTCOME, None, now))
            told.append(one)
        if recorded is None or given_up or recorded.status not in (None, "sent"):
            over.append(one)
    if not (told or over):
        return
    by_key = {(one.org_id, one.send_id, one.attempt): one for one in told}
    async with pool.acquire() as db, db.transaction():
        # lock order: rows of sends before messages
        await keep_pending_events(
            db, [(key, {"refusals": [], "message_ids": [str(one.message_id)]}) for key, one in by_key.items()]
        )
        effects = await receive_statuses(db, statuses, now) if statuses else StatusEvents()
        await fail_locally(db, lost)
        for refusal in effects.refusals:
            if (asked := by_key.get(refusal.attempt_key)) is not None:
                news = {"refusals": [refusal.model_dump(mode="json")], "message_ids": [str(asked.message_id)]}
                await keep_pending_events(db, [(refusal.attempt_key, news)])
        await evidence_queries.remove_unconfirmed(db, [(one.account, one.provider_id) for one in over])
    log_statuses(effects.told)
    Spent.of(effects.spent.values()).log()
    for failure in lost:
        log.warning(
            "send.failed",
            org_id=failure.org_id,
            message_id=str(failure.message_id),
            attempt=failure.attempt,
            channel="sms",
            reason=failure.reason,
        )
