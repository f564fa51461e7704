"""What Meta says of a business number outside of any status: it is told, and what the number cannot send waits."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.db.pool import open_pool
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received
from libs.common.providers.accounts import SmsAccounts
from services.ingest import meta, worker
from services.ingest.number_gate import NumberGate
from services.ingest.parse import parse
from services.ingest.sms_gate import SmsGate
from services.ingest.worker_deps import Deps
from tests.support import world
from tests.support.ingest import DAY, DOUBT, ORG
from tests.support.logs import LogLines
from tests.support.records import a_record
from tests.support.topics import OwnTopics
from tests.support.webhooks import NUMBER, WABA, a_value, a_webhook


@pytest_asyncio.fixture
async def deps(database: str, kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Deps]:
    await topics.create([WEBHOOKS])
    async with (
        open_pool(database, application_name="test", size=4, command_seconds=10) as pool,
        Producer(KafkaConnection(kafka_bootstrap, topics.prefix)) as producer,
    ):
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield Deps(pool, producer, DAY, DOUBT, utc_now, NumberGate(pool), SmsGate(pool, SmsAccounts("twilio", {}, {})))


async def told(deps: Deps, *values: dict[str, Any], at: datetime | None = None) -> list[str]:
    """Ingest takes a webhook with these values; the reasons of its dead letters."""
    records = [value for _, value in meta.split(a_webhook(*values), at or utc_now())]
    batch = [
        Received(parse(value, reaction_opens=False), a_record(value, offset=offset))
        for offset, value in enumerate(records)
    ]
    return [one.reason for one in await worker.on_webhooks(batch, deps)]


async def pauses(deps: Deps) -> list[tuple[Any, ...]]:
    async with deps.pool.acquire() as db:
        query = "select account, scope, kind, reason, proof from pauses order by account, scope"
        return [tuple(row) for row in await db.fetch(query)]


def errors(*codes: object, number: str | None = NUMBER) -> dict[str, Any]:
    return a_value(number=number, errors=[{"code": code, "title": "my secret"} for code in codes])


@pytest.mark.parametrize(
    ("code", "level", "paused"),
    [
        (131042, "error", [(NUMBER, "all", "fault", "131042", "status")]),
        ("368", "error", [(NUMBER, "all", "fault", "368", "status")]),
        (131048, "error", [(NUMBER, "templates", "fault", "131048", "status")]),
        (130429, "warning", [(NUMBER, "all", "throttle", "130429", "answer")]),
        (131056, "warning", []),  # of one customer, and nobody says of which
        (131000, "warning", []),
        (131035, "error", []),  # a webhook that is lost
        (990_001, "error", []),
    ],
)
async def test_an_error_of_a_number_is_told_and_the_number_rests_where_it_cannot_send(
    deps: Deps, log_lines: LogLines, code: object, level: str, paused: list[tuple[Any, ...]]
) -> None:
    assert await told(deps, *[errors(code)] * 3) == []
    [line] = log_lines.of("number.troubled")
    assert (line["level"], line["phone_number_id"], line["waba_id"]) == (level, NUMBER, WABA)
    assert (line["provider_code"], line["records"]) == (str(code), 3)
    assert "my secret" not in log_lines.raw
    assert await pauses(deps) == paused


async def test_each_code_of_one_webhook_is_told(deps: Deps, log_lines: LogLines) -> None:
    assert await told(deps, errors(131016, 190, 131016), errors(None), a_value(errors=[None, {}])) == []
    assert [line["provider_code"] for line in log_lines.of("number.troubled")] == ["131016", "190"]
    assert [reason for _, _, _, reason, _ in await pauses(deps)] == ["190"]


async def test_an_error_of_no_number_is_told_and_one_of_anothers_is_a_dead_letter(
    deps: Deps, log_lines: LogLines
) -> None:
    assert await told(deps, errors(190, number=None), errors(131042, number="999")) == ["unknown_number"]
    [line] = log_lines.of("number.troubled")
    assert (line["phone_number_id"], line["waba_id"], line["provider_code"]) == (None, WABA, "190")
    assert await pauses(deps) == []


async def test_an_error_that_is_told_again_late_holds_nothing_up(deps: Deps) -> None:
    yesterday = utc_now() - timedelta(days=1)
    await told(deps, errors(131042), at=yesterday)
    await told(deps, errors(130429, number=NUMBER), at=yesterday)
    async with deps.pool.acquire() as db:
        assert await db.fetchval("select count(*) from pauses where until_at > now()") == 0
