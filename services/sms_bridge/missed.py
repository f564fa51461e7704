"""Customers' SMS that no edge took. Twilio calls the webhook of an SMS once, and keeps the SMS in its list.

Rule 1: the list of each number is read every quarter of an hour, from a little before the end of the last look. What is
        not stored becomes the record of ``webhooks.v1`` that the edge would have made, with Twilio's time. Ingest does
        the rest: an SMS that comes both ways is stored once, by its id.
Rule 2: the position of a number moves after its records are acknowledged. A look that ends before begins anew.
Rule 3: the newest two minutes are left to the callbacks.
Rule 4: of one number the records go out in the order of their times, and all of a look or none.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common import metrics
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.errors import Transient
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.producer import Producer, Record
from libs.common.logging import get_logger
from libs.common.periodic import Task, log_retried, side_by_side
from libs.common.providers.accounts import SmsAccounts
from services.sms_bridge import missed_queries
from services.sms_bridge.missed_queries import Look
from services.sms_bridge.providers import ReceivedSms, SmsLookup, SmsProvider

log = get_logger()

PERIOD = timedelta(minutes=1)
ACCOUNTS_AT_ONCE = 4
EACH = timedelta(minutes=15)
"""How often the list of a number is read."""
LEASE = timedelta(minutes=5)
"""A look that did not end by then is begun anew, here or in another replica."""
FIRST_BACK = timedelta(hours=24)
FURTHEST_BACK = timedelta(days=7)
"""What is older is no longer news to anybody."""
OVERLAP = timedelta(minutes=5)
SETTLED = timedelta(minutes=2)
_AT_ONCE = 100
_LOOKS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Deps:
    """What the looks work with."""

    pool: Pool
    producer: Producer
    accounts: SmsAccounts


@dataclass(frozen=True, slots=True)
class _Found:
    """A missed SMS of an organisation, and its record. None: nobody knows who wrote it."""

    org_id: str
    sms: ReceivedSms
    record: Record | None


def task(deps: Deps, providers: Collection[SmsProvider]) -> Task:
    """``look`` for each provider, as a periodic task."""
    return PERIOD, lambda: side_by_side(providers, lambda one: look(deps, one, deps.pool.now), at_once=ACCOUNTS_AT_ONCE)


async def look(deps: Deps, provider: SmsProvider, now: Clock) -> None:
    """Publish what is missing of every number that is due. A provider without a list repeats its callbacks itself."""
    lookup = provider.lookup
    if lookup is None:
        return
    routes = [(name, account) for name, account, one in deps.accounts.routes() if one.key == provider.key]
    while True:
        at = now()
        async with deps.pool.acquire() as db:
            due = await missed_queries.take_due(
                db, provider.key.account, routes, at, back=FIRST_BACK, lease=LEASE, limit=_AT_ONCE
            )
        found = await _missed(deps.pool, provider, lookup, due, at)
        missed = [one for of_number in found.values() for one in of_number]
        await deps.producer.publish([one.record for one in missed if one.record is not None])
        async with deps.pool.acquire() as db:
            await missed_queries.move(db, provider.key.account, found, at - SETTLED, at + EACH)
        _tell(provider, missed, at)
        if len(due) < _AT_ONCE or not found:
            return


async def _missed(
    pool: Pool, provider: SmsProvider, lookup: SmsLookup, due: Collection[Look], at: datetime
) -> dict[str, list[_Found]]:
    """What is missing of each number, oldest first. A number whose list cannot be read now is left out."""
    few = asyncio.Semaphore(_LOOKS_AT_ONCE)
    failures: list[Transient] = []

    async def of(one: Look) -> list[_Found] | None:
        since = max(one.read_until - OVERLAP, at - FURTHEST_BACK)
        if one.read_until > at - SETTLED:
            return []
        async with few:
            try:
                listed = await lookup.list_received(to=one.number, since=since)
                settled = {sms.provider_id: sms for sms in listed if sms.at <= at - SETTLED}
                if not settled:
                    return []
                async with pool.acquire() as db:
                    stored = await missed_queries.stored_ids(db, provider.key, one.number, settled)
                missing = [sms for sms in reversed(settled.values()) if sms.provider_id not in stored]
                missing.sort(key=lambda sms: sms.at)
                return [_Found(one.org_id, sms, await _record(lookup, sms, at)) for sms in missing]
            except Transient as error:
                failures.append(error)
                return None

    answers = zip(due, await asyncio.gather(*map(of, due)), strict=True)
    log_retried("sms_missed", failures)
    return {one.number: found for one, found in answers if found is not None}


async def _record(lookup: SmsLookup, sms: ReceivedSms, at: datetime) -> Record | None:
    return None if sms.masked else Record(WEBHOOKS, *await lookup.callback_of(sms, at))


def _tell(provider: SmsProvider, missed: Collection[_Found], at: datetime) -> None:
    for one in missed:
        outcome = "masked" if one.record is None else "published"
        metrics.SMS_MISSED.labels(provider.key.provider, outcome).inc()
        log.warning(
            "sms.missed",
            org_id=one.org_id,
            provider=provider.key.provider,
            channel="sms",
            outcome=outcome,
            lag_ms=round((at - one.sms.at) / timedelta(milliseconds=1)),
        )
