"""Ingest's edge on a real broker, called in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette

from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.log_throttle import LogThrottle
from libs.common.providers.accounts import SmsAccounts, account_of
from libs.common.web import ExactPathRouter
from services.ingest import edge
from services.ingest.coalescing_producer import CoalescingProducer
from services.ingest.edge_coverage import EdgeCoverage
from tests.support.ingest import PUBLIC_URL, SECRETS, TWILIO_TOKEN, VERIFY_TOKEN
from tests.support.published import Published
from tests.support.waiting import eventually

ACCOUNTS = SmsAccounts("twilio", {"twilio": account_of("twilio", "AC1", ["old", TWILIO_TOKEN.decode()])}, {})


@asynccontextmanager
async def an_edge(
    connection: KafkaConnection,
    coverage: EdgeCoverage | None = None,
    accounts: SmsAccounts = ACCOUNTS,
    *,
    patience: float = 15.0,
) -> AsyncIterator[httpx.AsyncClient]:
    """``patience``: for so many seconds it waits for the broker; an edge that runs waits shorter."""
    async with Producer(connection, delivery_timeout=patience) as producer:
        coalescing = CoalescingProducer(producer)
        config = edge.EdgeConfig(tuple(SECRETS), VERIFY_TOKEN.encode(), accounts, PUBLIC_URL)
        apps: dict[str, Any] = edge.edge_apps(config, coalescing, coverage or EdgeCoverage())
        transport = httpx.ASGITransport(ExactPathRouter(apps, Starlette()))
        async with httpx.AsyncClient(transport=transport, base_url="http://edge", timeout=20) as http:
            yield http
        await eventually(lambda: not any(_unlogged(app._refusals) for app in apps.values()), "every refusal is logged")


def _unlogged(refusals: LogThrottle) -> set[str]:
    """What would be logged only after this test, into the log of the next one."""
    return {key for key, (count, _write) in refusals._waiting.items() if count}


async def in_kafka(webhooks: Published) -> list[bytes]:
    """Every value in the topic."""
    return [record.value or b"" for record in await webhooks.records(WEBHOOKS)]
