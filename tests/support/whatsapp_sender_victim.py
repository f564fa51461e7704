"""A WhatsApp sender in its own process, to be killed: ``victim.py DSN KAFKA PREFIX GRAPH_URL [die_before_…]``."""

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial

from libs.common.clock import utc_now
from libs.common.db.pool import Connection, open_pool
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.sending.engine import SendEngine
from libs.common.sending.outcomes import SendOutcome
from libs.common.sending.rows import Claim
from services.whatsapp_sender.adapter import WhatsappAdapter
from services.whatsapp_sender.gate import Ready
from services.whatsapp_sender.graph import open_graph
from tests.support.sandbox import GRAPH_TOKEN
from tests.support.sending import DAY, DOUBT, TIMINGS, WAITS


class DiesBeforeCall(WhatsappAdapter):
    """Dies with its claims in hand, before any call is made."""

    async def call(self, claim: Claim[Ready]) -> SendOutcome:
        os._exit(9)


class DiesBeforeRecord(WhatsappAdapter):
    """Dies with the answers to all its calls in hand, when the first are to be recorded."""

    calling = 0

    async def call(self, claim: Claim[Ready]) -> SendOutcome:
        self.calling += 1
        try:
            return await super().call(claim)
        finally:
            self.calling -= 1

    async def learn_recipients(
        self, db: Connection, answers: Sequence[tuple[Claim[Ready], SendOutcome]], now: datetime
    ) -> None:
        while self.calling:  # noqa: ASYNC110 -- of a process that is about to end
            await asyncio.sleep(0.01)
        os._exit(9)


HOW = {"die_before_call": DiesBeforeCall, "die_before_record": DiesBeforeRecord}


async def main(dsn: str, bootstrap: str, prefix: str, url: str, how: str = "") -> None:
    async with (
        open_pool(dsn, application_name="victim", command_seconds=10) as pool,
        Producer(KafkaConnection(bootstrap, prefix)) as producer,
        open_graph(
            base_url=url, version="v26.0", token=GRAPH_TOKEN, timeout_seconds=30, connections=8, now=utc_now
        ) as graph,
    ):
        adapter = HOW.get(how, WhatsappAdapter)(
            graph,
            pool,
            window_length=DAY,
            window_doubt=DOUBT,
            waits=WAITS,
            partitions=partial(producer.partitions, WEBHOOKS),
        )
        async with SendEngine(adapter, pool, producer, TIMINGS, now=utc_now, concurrency=64):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
