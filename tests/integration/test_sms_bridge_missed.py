"""Customers' SMS that came while no edge took their callback: Twilio's list has them. On real servers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from deploy.local.sandbox.client import SandboxClient
from deploy.local.servers.ports import free_port
from libs.common.db.pool import Pool, open_pool
from libs.common.events.topics import INBOUND_MESSAGES, WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.providers.accounts import SmsAccounts, account_of
from services.ingest.topology import TOPOLOGY
from services.sms_bridge import missed
from services.sms_bridge.providers.twilio import Twilio
from tests.support import world
from tests.support.clocks import HeldClock
from tests.support.ingest import ORG, running, settings
from tests.support.logs import LogLines
from tests.support.published import Published, published_on
from tests.support.sandbox import TWILIO_SID, TWILIO_TOKEN
from tests.support.texts import CALLED, WRITER, a_twilio_sms, post_twilio
from tests.support.topics import OwnTopics, used_by
from tests.support.webhooks import NUMBER

OTHER, OTHER_CALLED, OTHER_SID = "beta", "+447700900002", "AC" + "1" * 32
ACCOUNTS = SmsAccounts(
    "twilio",
    {"twilio": account_of("twilio", TWILIO_SID, [TWILIO_TOKEN])},
    {"other": account_of("twilio", OTHER_SID, [TWILIO_TOKEN])},
)


@dataclass
class Line:
    """An organisation's SMS number at Twilio. Ingest is away but inside ``edge()``."""

    pool: Pool
    producer: Producer
    published: Published
    sandbox: SandboxClient
    http: aiohttp.ClientSession
    clock: HeldClock
    edge: Callable[[], AbstractAsyncContextManager[str]]

    @property
    def deps(self) -> missed.Deps:
        return missed.Deps(self.pool, self.producer, ACCOUNTS)

    @property
    def twilio(self) -> Twilio:
        return self.at_twilio()

    def at_twilio(self, **changes: Any) -> Twilio:
        given: dict[str, Any] = {"base_url": self.sandbox.url, "account_sid": TWILIO_SID, "auth_token": TWILIO_TOKEN}
        given |= {"public_url": None, "timeout_seconds": 20.0, "now": self.clock}
        return Twilio(self.http, **given | changes)

    async def text(self, text: str, **fields: Any) -> str:
        """The customer writes, and nobody takes the callback; Twilio's id."""
        return str((await self.sandbox.customer_texts(WRITER, CALLED, text, **fields))["sid"])

    async def look(self, after: timedelta = missed.EACH, twilio: Twilio | None = None) -> None:
        self.clock.forward(after)
        await missed.look(self.deps, twilio or self.twilio, self.clock)

    async def found(self, count: int = 0) -> list[dict[str, Any]]:
        """What stands on the topic of webhooks."""
        return await self.published.events(WEBHOOKS, count)

    async def events(self, count: int = 0) -> list[dict[str, Any]]:
        return await self.published.events(INBOUND_MESSAGES, count)

    async def listed(self) -> int:
        return sum(call["endpoint"] == "list" for call in await self.sandbox.calls())

    async def rows(self, query: str, *values: Any) -> list[asyncpg.Record]:
        async with self.pool.acquire() as db:
            return await db.fetch(query, *values)


@pytest_asyncio.fixture
async def line(
    database: str, kafka_bootstrap: str, topics: OwnTopics, redis_url: str, sandbox: SandboxClient
) -> AsyncIterator[Line]:
    await topics.create(used_by(TOPOLOGY))
    await sandbox.configure(sms_url=f"http://127.0.0.1:{free_port()}/webhooks/twilio/sms")
    more = {"twilio_account_sid": TWILIO_SID, "twilio_auth_tokens": SecretStr(TWILIO_TOKEN)}

    def edge() -> AbstractAsyncContextManager[str]:
        return running(settings(database, kafka_bootstrap, topics.prefix, redis_url, **more))

    async with (
        open_pool(database, application_name="test", size=4, command_seconds=10) as pool,
        Producer(KafkaConnection(kafka_bootstrap, topics.prefix)) as producer,
        published_on(kafka_bootstrap, topics.prefix, (WEBHOOKS, INBOUND_MESSAGES)) as published,
        aiohttp.ClientSession() as http,
    ):
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield Line(pool, producer, published, sandbox, http, HeldClock(), edge)


async def callback(line: Line, edge: str, text: str, sid: str | None = None) -> None:
    """Twilio's callback of an SMS, which the edge takes."""
    form = a_twilio_sms(text, AccountSid=TWILIO_SID, MessageSid=sid or f"SM{uuid4().hex}")
    assert await post_twilio(line.http, edge, form, TWILIO_TOKEN.encode()) == 200


async def test_what_came_while_the_edge_was_away_is_heard_once_in_order_with_its_own_time(
    line: Line, log_lines: LogLines
) -> None:
    sids = [await line.text(text) for text in ("Is my Golf ready?", "And the bill?")]
    await line.look(timedelta(hours=3))
    async with line.edge():
        events = await line.events(2)
        assert [one["provider_id"] for one in events] == sids
        assert [one["content"]["text"] for one in events] == ["Is my Golf ready?", "And the bill?"]
        ages = [line.clock() - datetime.fromisoformat(one["sent_at"]) for one in events]
        assert all(timedelta(hours=2) < age < timedelta(hours=4) for age in ages)
        assert {one["channel"] for one in events} == {"sms"}
        assert len(await line.rows("select distinct conversation_id from messages")) == 1
        for _ in range(2):
            await line.look()
    assert len(await line.found()) == 2
    lines = log_lines.of("sms.missed")
    assert [(one["org_id"], one["outcome"]) for one in lines] == [(ORG, "published")] * 2
    assert all(one["lag_ms"] > 2 * 3_600_000 for one in lines)


async def test_what_the_callback_brought_is_not_published_again(line: Line) -> None:
    sid = await line.text("Is my Golf ready?")
    async with line.edge() as edge:
        await callback(line, edge, "Is my Golf ready?", sid)
        await line.events(1)
    await line.look()
    assert len(await line.found()) == 1
    assert len(await line.rows("select 1 from missed_sms_looks where read_until > $1", line.clock() - missed.EACH)) == 1


async def test_the_newest_are_left_to_their_callbacks(line: Line) -> None:
    await line.text("Is my Golf ready?")
    await line.look(timedelta(0))
    assert await line.found() == []
    await line.look()
    assert len(await line.found()) == 1


async def test_a_crash_before_the_position_is_stored_loses_nothing_and_repeats_nothing(line: Line) -> None:
    await line.look(timedelta(0))
    await line.text("Is my Golf ready?")
    await line.rows("alter table missed_sms_looks add constraint never check (read_until <= now())")
    with pytest.raises(asyncpg.CheckViolationError):
        await line.look()
    await line.rows("alter table missed_sms_looks drop constraint never")
    await line.look(missed.LEASE)
    assert len(await line.found()) == 2
    async with line.edge() as edge:
        await callback(line, edge, "Hello?")
        events = await line.events(2)
        while "Hello?" not in [one["content"]["text"] for one in events]:  # a copy in a batch of its own is told again
            events = await line.events(len(events) + 1)
    assert len({one["message_id"] for one in events}) == len(await line.rows("select 1 from messages")) == 2


async def test_of_two_replicas_one_reads_the_list(line: Line) -> None:
    await line.text("Is my Golf ready?")
    line.clock.forward(missed.EACH)
    await asyncio.gather(*(missed.look(line.deps, line.twilio, line.clock) for _ in range(2)))
    assert (len(await line.found()), await line.listed()) == (1, 1)
    await line.look(missed.EACH - timedelta(seconds=1))
    assert await line.listed() == 1


async def test_a_page_that_fails_in_the_middle_is_read_again_and_all_come_in_order(
    line: Line, log_lines: LogLines
) -> None:
    sids = [await line.text(f"Question {n}") for n in range(200)]
    twilio = line.at_twilio(page_size=50)
    await line.sandbox.fault("twilio", "server_error", endpoint="list", spares=2, calls=1)
    await line.look(twilio=twilio)
    assert await line.found() == []
    [told] = log_lines.of("task.retried")
    assert (told["task"], told["times"]) == ("sms_missed", 1)
    await line.look(missed.LEASE, twilio)
    assert [one["form"]["MessageSid"] for one in await line.found(200)] == sids


async def test_an_account_that_does_not_answer_holds_up_no_other_and_keeps_its_place(line: Line) -> None:
    async with line.pool.acquire() as db:
        await world.an_org(
            db, OTHER, "106400000000002", sms_number=OTHER_CALLED, waba="206400000000002", sms_account="other"
        )
    away = line.at_twilio(account_sid=OTHER_SID, base_url=f"http://127.0.0.1:{free_port()}")
    await line.text("Is my Golf ready?")
    line.clock.forward(missed.EACH)
    await asyncio.gather(*(missed.look(line.deps, one, line.clock) for one in (away, line.twilio)))
    assert len(await line.found()) == 1
    places = {row["number"]: line.clock() - row["read_until"] for row in await line.rows("table missed_sms_looks")}
    assert places == {CALLED: missed.SETTLED, OTHER_CALLED: missed.FIRST_BACK}


async def test_a_stop_that_is_heard_late_opts_out_and_an_older_start_does_not_lift_it(line: Line) -> None:
    await line.text("START")
    stop = await line.text("STOP")
    async with line.edge() as edge:
        await callback(line, edge, "STOP", stop)
        await line.events(1)
        await line.look()
        await line.events(2)
    assert [row["reason"] for row in await line.rows("select reason from address_marks")] == ["sms_opted_out"]
    assert [row["allowed"] for row in await line.rows("select allowed from consents")] == [False]


async def test_a_stop_from_the_list_opts_out_and_a_later_start_lifts_it(line: Line) -> None:
    await line.text("STOP")
    await line.look()
    async with line.edge() as edge:
        await line.events(1)
        assert [row["allowed"] for row in await line.rows("select allowed from consents")] == [False]
        await callback(line, edge, "START")
        await line.events(2)
    assert await line.rows("select 1 from address_marks") == []


async def test_a_stop_that_is_heard_after_a_later_start_changes_nothing(line: Line) -> None:
    await line.text("STOP")
    async with line.edge() as edge:
        await callback(line, edge, "START")
        await line.events(1)
        await line.look()
        late = (await line.events(2))[1]
    assert late["keyword"] == "stop"
    assert await line.rows("select 1 from address_marks") == []
    assert await line.rows("select 1 from consents where not allowed") == []


async def test_the_files_of_an_mms_keep_their_links(line: Line) -> None:
    paths = [f"/2010-04-01/Accounts/{TWILIO_SID}/Messages/MM0/Media/ME{n}" for n in range(2)]
    await line.text("The dent", media=[f"https://api.twilio.com{path}" for path in paths])
    await line.sandbox.fault("twilio", "server_error", endpoint="fetch", calls=1)
    await line.look()
    assert await line.found() == []
    await line.look()
    async with line.edge():
        (one,) = await line.events(1)
    assert one["content"] == {
        "kind": "image",
        "link": f"{line.sandbox.url}{paths[0]}",
        "mime_type": "image/jpeg",
        "caption": "The dent",
    }
    assert [file["link"] for file in one["media"]] == [f"{line.sandbox.url}{path}" for path in paths]


async def test_who_wrote_is_not_guessed_where_the_list_masks_it(line: Line, log_lines: LogLines) -> None:
    await line.sandbox.configure(sms_redact_numbers=True)
    await line.text("Is my Golf ready?")
    await line.look()
    assert await line.found() == []
    assert [one["outcome"] for one in log_lines.of("sms.missed")] == ["masked"]


async def test_a_number_that_was_left_is_read_at_the_account_of_then(line: Line) -> None:
    await line.rows("insert into former_sms_numbers (org_id, sms_line) values ($1, $2)", ORG, OTHER_CALLED)
    await line.sandbox.customer_texts(WRITER, OTHER_CALLED, "STOP")
    await line.look()
    assert [one["form"]["To"] for one in await line.found(1)] == [OTHER_CALLED]


async def test_what_came_before_the_directory_told_of_the_number_is_left_alone(line: Line) -> None:
    await line.text("Is my Golf ready?")
    line.clock.forward(timedelta(minutes=30))
    await line.rows("update orgs set upserted_at = $1", line.clock())
    await line.look()
    assert await line.found() == []
