"""One call to a provider, after a question where the claim says so."""

import asyncio

from libs.common import metrics
from libs.common.sending.adapter import ProviderAdapter
from libs.common.sending.breaker import NO_READ
from libs.common.sending.outcomes import PreparedT, SendOutcome
from libs.common.sending.rows import Claim


async def call(adapter: ProviderAdapter[PreparedT], claim: Claim[PreparedT], latest: float) -> SendOutcome:
    """Make the call, where the provider answers the question before it.

    ``latest``: until when the call must begin, in seconds of the event loop.
    """
    loop = asyncio.get_running_loop()
    if claim.asks:
        try:
            async with asyncio.timeout_at(latest):
                answered = await adapter.answers(claim)
        except TimeoutError:
            answered = False
        if not answered:
            return NO_READ
    began = loop.time()
    try:
        return await adapter.call(claim)
    finally:
        labels = {"channel": adapter.transport.channel, "provider": claim.row.provider or "none"}
        metrics.SEND_SECONDS.labels(**labels).observe(loop.time() - began)
