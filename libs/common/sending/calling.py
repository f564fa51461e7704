"""One call to a provider, after a question where the claim says so."""

import asyncio
from functools import cache

from prometheus_client import Histogram

from libs.common import metrics
from libs.common.db.pool import Pool
from libs.common.events.outbound import Channel
from libs.common.periodic import log_trouble
from libs.common.sending import claim_queries
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.breaker import NO_READ
from libs.common.sending.outcomes import PreparedT, RetryLater, SendOutcome
from libs.common.sending.rows import Claim

_NOT_OURS = RetryLater("pair", NO_READ.policy, "claim_lost", called=False)
"""The claim is another's by now, or it could not be noted how far this call is. So it is not made."""


async def call(adapter: ProviderAdapter[PreparedT], pool: Pool, claim: Claim[PreparedT], latest: float) -> SendOutcome:
    """Make the call, where the provider answers the question before it.

    ``latest``: until when the call must begin, in seconds of the event loop. The row says for how long the question
    lasts: whose process is killed in it has made no call.
    """
    loop = asyncio.get_running_loop()
    if claim.asks:
        try:
            async with asyncio.timeout_at(latest):
                if not await _noted(pool, claim, asks=True):
                    return _NOT_OURS
                answered = await adapter.answers(claim)
                if answered and not await _noted(pool, claim, asks=False):
                    return _NOT_OURS
        except TimeoutError:
            answered = False
        if not answered:
            return NO_READ
    began = loop.time()
    try:
        return await adapter.call(claim)
    finally:
        _seconds(adapter.transport.channel, claim.row.provider or "none").observe(loop.time() - began)


@cache
def _seconds(channel: Channel, provider: str) -> Histogram:
    """The series of these labels, which it would take longer to find than to add to."""
    return metrics.SEND_SECONDS.labels(channel=channel, provider=provider)


async def _noted(pool: Pool, claim: Claim[PreparedT], *, asks: bool) -> bool:
    try:
        async with pool.acquire() as db:
            return await claim_queries.note_question(db, claim.row, asks=asks)
    except Exception as error:  # noqa: BLE001 -- nothing was called, whatever it is; it is logged
        log_trouble("send", error)
        return False
