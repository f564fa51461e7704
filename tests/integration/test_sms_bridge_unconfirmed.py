"""SMS without a callback: the provider is asked for their status, and none stays pending for ever. On real servers."""

from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.outbound import DeliveryUpdate, SmsCommand
from libs.common.ids import bridge_message_id
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from services.sms_bridge import prices
from services.sms_bridge.providers.twilio import Twilio
from services.sms_bridge.unconfirmed import follow
from tests.support.logs import LogLines
from tests.support.sandbox import TWILIO_SID
from tests.support.sms_world import ORG, SmsWorld

QUARTER = timedelta(minutes=15)


def ends(updates: list[DeliveryUpdate]) -> set[tuple[Any, str, str | None, str | None]]:
    return {(u.message_id, u.status, u.reason, u.provider_code) for u in updates}


async def ask(world: SmsWorld, after: timedelta = timedelta(0)) -> None:
    """Time passes, then the provider is asked for every SMS that is due, and the events are published."""
    world.clock.forward(after)
    await follow(world.pool, world.twilio, world.clock)
    await world.sweep(timedelta(0))


async def looks(sandbox: SandboxClient) -> int:
    return sum(call["endpoint"] == "fetch" for call in await sandbox.calls())


async def a_bridge(world: SmsWorld, sandbox: SandboxClient, code: int | None) -> SmsCommand:
    """A bridge SMS that the provider took, and that it delivers, or fails with this code, and tells nobody."""
    await sandbox.configure(sent_after=0)
    if code is not None:
        await sandbox.fault("twilio", "fail_async", code=code, calls=1)
    command = await world.decided()
    await world.send(command)
    return command


@pytest.mark.parametrize(
    ("code", "published"),
    [
        (None, ("delivered", None, None)),
        (30007, ("failed", "provider_refused", "30007")),
        (21610, ("failed", "provider_refused", "21610")),
    ],
)
async def test_what_became_of_an_sms_is_asked_when_nobody_tells(
    world: SmsWorld, sandbox: SandboxClient, code: int | None, published: tuple[str, str | None, str | None]
) -> None:
    command = await a_bridge(world, sandbox, code)
    await ask(world, QUARTER - timedelta(seconds=1))
    assert await looks(sandbox) == 0
    await ask(world, timedelta(seconds=1))
    updates, _ = await world.published()
    assert (bridge_message_id(command.message_id), *published) in ends(updates)
    assert (command.message_id, "failed", "window_expired_bridge_sent", None) in ends(updates)
    assert (await world.slot())[0] is not None
    assert await world.value("select count(*) from unconfirmed_sms") == 0


async def heard(world: SmsWorld, sandbox: SandboxClient, status: str) -> None:
    """A callback of the one SMS came through."""
    [sms] = await sandbox.sms()
    async with world.pool.acquire() as db, db.transaction():
        told = ProviderStatus("sms", "twilio", TWILIO_SID, sms["sid"], status, world.clock())
        await receive_statuses(db, [told], world.clock())


async def test_an_sms_whose_end_was_heard_is_not_asked_after(world: SmsWorld, sandbox: SandboxClient) -> None:
    await world.send(await world.decided())
    await heard(world, sandbox, "delivered")
    await ask(world, QUARTER)
    assert await looks(sandbox) == 0
    assert await world.value("select count(*) from unconfirmed_sms") == 0


@pytest.mark.parametrize(
    ("code", "published", "mark"),
    [(None, ("delivered", None, None), None), (30005, ("failed", "provider_refused", "30005"), "no_phone")],
)
async def test_an_sms_that_was_sent_is_asked_after_where_its_last_callback_got_lost(
    world: SmsWorld, sandbox: SandboxClient, code: int | None, published: tuple[str, str | None, str | None], mark: Any
) -> None:
    command = await a_bridge(world, sandbox, code)
    await heard(world, sandbox, "sent")
    await ask(world, QUARTER)
    updates, _ = await world.published()
    assert (bridge_message_id(command.message_id), *published) in ends(updates)
    assert await world.value("select min(reason) from address_marks where org_id = $1", ORG) == mark
    assert await world.value("select count(*) from unconfirmed_sms") == 0


async def test_an_sms_that_is_sent_on_record_is_asked_after_until_its_end(world: SmsWorld) -> None:
    record = {"status": "sent"}

    async def shown(_request: web.Request) -> web.Response:
        return web.json_response(record)

    command = await world.decided(route="session", text="Hello")
    await world.send(command)
    app = web.Application()
    app.router.add_get("/{rest:.*}", shown)
    found = []
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        twilio = Twilio(
            http,
            base_url=f"http://{server.host}:{server.port}",
            account_sid=TWILIO_SID,
            auth_token="secret",
            public_url=None,
            timeout_seconds=20.0,
            now=world.clock,
        )
        for after, status in ((QUARTER, "sent"), (timedelta(hours=1), "sent"), (timedelta(hours=5), "delivered")):
            record["status"] = status
            world.clock.forward(after)
            await follow(world.pool, twilio, world.clock)
            await world.sweep(timedelta(0))
            found.append((await world.message(command.message_id))["status"])
    updates, _ = await world.published()
    assert found == ["sent", "sent", "delivered"]
    told = {(update.seq, update.status) for update in updates if update.message_id == command.message_id}
    assert told == {(1, "sent"), (2, "delivered")}
    assert await world.value("select count(*) from unconfirmed_sms") == 0


async def test_an_sms_that_was_sent_stays_so_where_nobody_knows_more_a_day_later(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.configure(sent_after=10**6)  # queued for ever
    command = await world.decided()
    await world.send(command)
    await heard(world, sandbox, "sent")
    for _ in range(24 * 4 + 1):
        await follow(world.pool, world.twilio, world.clock)
        world.clock.forward(QUARTER)
    assert (await world.message(bridge_message_id(command.message_id)))["status"] == "sent"
    assert (await looks(sandbox), await world.value("select count(*) from unconfirmed_sms")) == (4, 0)


async def test_what_nobody_knows_a_day_later_ends_so_and_is_asked_ever_more_rarely(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    await sandbox.configure(sent_after=10**6)  # queued for ever
    command = await world.decided()
    await world.send(command)
    for _ in range(24 * 4):
        await follow(world.pool, world.twilio, world.clock)
        world.clock.forward(QUARTER)
    assert (await world.message(bridge_message_id(command.message_id)))["status"] == "pending"
    assert await looks(sandbox) == 3
    await ask(world)
    updates, _ = await world.published()
    assert (bridge_message_id(command.message_id), "failed", "unknown_outcome", None) in ends(updates)
    assert (await looks(sandbox), await world.value("select count(*) from unconfirmed_sms")) == (4, 0)


async def test_a_provider_that_cannot_be_asked_is_asked_again(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.configure(sent_after=0)
    await sandbox.fault("twilio", "server_error", endpoint="fetch", calls=1)
    command = await world.decided(route="session", text="Hello")
    await world.send(command)
    await ask(world, QUARTER)
    assert (await world.message(command.message_id))["status"] == "pending"
    await ask(world, timedelta(hours=1))
    assert (await world.message(command.message_id))["status"] == "delivered"
    assert await world.value("select count(*) from provider_ids where org_id = $1", ORG) == 1


async def test_while_the_provider_answers_nothing_a_round_asks_for_one_slice(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    """Otherwise an outage would put every look off, and hold the round up for as long as all calls take."""
    await world.execute(
        "with m as (insert into messages (org_id, conversation_id, direction, channel, kind, content, status, attempt,"
        " occurred_at, received_at) select $1, $2, 'out', 'sms', 'text', '{}', 'pending', 1, $4, $4"
        " from generate_series(1, 250) returning message_id), c as (insert into charges (org_id, message_id, attempt,"
        " conversation_id, channel, provider, category, account, provider_ids, segments, at, price_due_at)"
        " select $1, message_id, 1, $2, 'sms', 'twilio', 'sms', $3, array[message_id::text], 1, $4, $4 from m)"
        " insert into unconfirmed_sms (account, provider_id, org_id, message_id, send_id, attempt, accepted_at, due_at)"
        " select $3, message_id::text, $1, message_id, message_id, 1, $4, $4 from m",
        *(ORG, world.conversation_id, TWILIO_SID, world.clock()),
    )
    await sandbox.fault("twilio", "server_error", endpoint="fetch")
    for ask_all in (follow, prices.ask):
        before = await looks(sandbox)
        await ask_all(world.pool, world.twilio, world.clock)
        assert await looks(sandbox) == before + 100
    told = log_lines.of("task.retried")
    assert [(line["task"], line["times"]) for line in told] == [("sms_unconfirmed", 100), ("sms_prices", 100)]
    assert await world.value("select count(*) from unconfirmed_sms where due_at <= $1", world.clock()) == 150
    assert await world.value("select count(*) from charges where price_due_at <= $1", world.clock()) == 150
