"""The periodic tasks of an ingest worker.

``renew_watermarks`` stores how far ingest has read each partition of ``webhooks.v1``. A provider's silence about a send
proves something to a sender only while no webhook waits here. So the row in ``progress`` of every assigned partition
says up to when everything is processed: what lay there at that moment is handled or dead-lettered. A record that is
retried waits all the while. That moment is when the brokers named the end that is reached, never the later one at which
the row is stored. A step longer than ``GAP`` begins a new stretch. The clocks of two hosts are never compared: how long
ago is measured by this process, and what is stored is the database's time.

``purge`` deletes what is kept for a while, a portion at a time:

| what | kept | because |
| --- | --- | --- |
| statuses whose send was never found | 8 days | Meta tries for 7 days, and a provider id is stored within minutes |
| such statuses that name no send at all | 1 hour | they can only have waited for an answer |
| hashes of ids whose holder was erased | 15 days | a replayed call is known by them; its topic keeps 14 days |
| notices of changed ids | 8 days | what was written before one comes within 7 days |
| expired links of the portal | 1 day | until then a customer may ask for a fresh one |
| sessions of the portal that have ended | 1 day | |
| parts of concatenated SMS | 15 days | a repeated or replayed part is known by its row; its topic keeps 14 days |
| marks of addresses that are over | 1 day | |
| parked records | as long as their dead letters | |
| segments of a day, SMS answers of a conversation | 8 days, 2 days | people can see why an SMS was silent |
| delivered free-form messages of a number's month | 400 days | people can see why one cost nothing |
| numbers and accounts that organisations have left | 30 days | customers answer, and say STOP, at the old number |
| refusals of the edge, edges that are gone, resends | 8 days | people can see why a message went twice or late |
| pauses of numbers that no organisation has | 1 hour after their end | nothing is sent there that could end them |
| calls that were not answered | 1 day | so long they count as a run |
| pauses that no call has tried since their end | 7 days more | their account at the provider is used no more |
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from libs.common.clock import Clock
from libs.common.db import planner_statistics
from libs.common.db.pool import Pool
from libs.common.directory import erased_identities
from libs.common.directory.address_marks import purge_marks
from libs.common.directory.identity_queries import purge_notices
from libs.common.directory.organisations import FORMER_KEPT, forget_former_numbers
from libs.common.events.topics import OUTBOUND_INTENTS, WEBHOOKS
from libs.common.forgetting import Forget, forget_all
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.parked import forget_parked
from libs.common.periodic import Task
from libs.common.retryable import is_statement_timeout
from libs.common.sending import merge_slices, pause_queries, sms_caps, unanswered_calls, whatsapp_charges
from libs.common.sending.coverage_queries import forget_edges, forget_refusals, store_caught_up
from libs.common.sending.resending import forget_resends
from libs.common.sending.statuses import forget_early, forget_nameless
from services.ingest import consent, number_gate, sms, sms_parts
from services.ingest.queries import purge_links, purge_sessions
from services.ingest.sms_queries import purge_joins
from services.ingest.worker_deps import Deps

GAP = timedelta(seconds=5)
WATERMARK_PERIOD = timedelta(seconds=1)

PURGE_PERIOD = timedelta(minutes=10)
KEPT = timedelta(days=8)
NAMELESS_KEPT = timedelta(hours=1)
PARTS_KEPT = WEBHOOKS.retention + timedelta(days=1)
LINKS_KEPT = timedelta(days=1)
ANSWERS_KEPT = timedelta(days=2)
MARKS_KEPT = timedelta(days=1)
MONTHS_KEPT = timedelta(days=400)
PAUSES_KEPT = timedelta(hours=1)
_FORGOTTEN: tuple[tuple[Forget, timedelta], ...] = (
    (forget_early, KEPT),
    (forget_nameless, NAMELESS_KEPT),
    (erased_identities.purge, PARTS_KEPT),
    (purge_notices, KEPT),
    (purge_links, LINKS_KEPT),
    (purge_sessions, LINKS_KEPT),
    (purge_joins, PARTS_KEPT),
    (purge_marks, MARKS_KEPT),
    (sms_caps.forget_days, KEPT),
    (sms_caps.forget_answers, ANSWERS_KEPT),
    (whatsapp_charges.forget_months, MONTHS_KEPT),
    (forget_former_numbers, FORMER_KEPT),
    (forget_parked, OUTBOUND_INTENTS.dlq.retention),
    (forget_edges, KEPT),
    (forget_refusals, KEPT),
    (forget_resends, KEPT),
    (pause_queries.forget, PAUSES_KEPT),
    (unanswered_calls.forget, unanswered_calls.KEPT),
)
"""What deletes them, and how long they are kept."""


def tasks_of(deps: Deps, consumer: BatchConsumer) -> Mapping[str, Task]:
    """The periodic tasks, by the name that the log shows."""
    pool = deps.pool
    return {
        "progress": (WATERMARK_PERIOD, lambda: renew_watermarks(pool, consumer, pool.now)),
        "unknown_numbers": (number_gate.LOG_EVERY, deps.gate.log),
        "troubled_numbers": (number_gate.LOG_EVERY, deps.troubles.log),
        "unknown_sms_numbers": (number_gate.LOG_EVERY, deps.sms_gate.log),
        "sms_parts": (sms_parts.CHECK_EVERY, lambda: sms.publish_overdue(deps)),
        "consents": (consent.PUBLISH_EVERY, lambda: consent.publish(pool, deps.producer)),
        "charges": (whatsapp_charges.PERIOD, lambda: whatsapp_charges.charge_due(pool, pool.now)),
        "merges": (merge_slices.PERIOD, merge_slices.SliceMover(pool).move),
        "statistics": (planner_statistics.PERIOD, lambda: planner_statistics.forget_emptiness(pool)),
        "forget": (PURGE_PERIOD, lambda: purge(pool, pool.now)),
    }


class Watermarks(Protocol):
    """The facts that a consumer has about a topic."""

    async def behind(self, topic: str) -> dict[int, float]:
        """Per assigned partition: seconds since the brokers named the end up to which everything is processed."""


def caught_up(behind: Mapping[int, float], now: datetime) -> Mapping[int, datetime]:
    """Per assigned partition of which it is known, up to when everything is processed."""
    return {partition: now - timedelta(seconds=age) for partition, age in sorted(behind.items()) if not math.isinf(age)}


async def renew_watermarks(pool: Pool, watermarks: Watermarks, clock: Clock) -> None:
    """Store up to when everything is processed. The time is read first, so that it claims no more than is known."""
    now = clock()
    if partitions := caught_up(await watermarks.behind(WEBHOOKS.name), now):
        async with pool.acquire() as db:
            await store_caught_up(db, WEBHOOKS.name, partitions, GAP)


async def purge(pool: Pool, now: Clock) -> None:
    """Delete all rows whose time has passed. A table on which that is too slow keeps none of the others waiting."""
    slow: Exception | None = None
    for some, kept in _FORGOTTEN:
        try:
            await forget_all(pool, some, now() - kept)
        except Exception as error:
            if not is_statement_timeout(error):
                raise
            slow = error
    if slow is not None:
        raise slow
