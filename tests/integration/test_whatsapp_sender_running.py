"""The sender as it runs: several processes, killed ones, ending ones, and the way from Kafka to Meta and back."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.topics import OUTBOUND_WHATSAPP
from libs.common.ids import callback_data
from libs.common.kafka.producer import Producer, Record
from tests.support.command import running
from tests.support.published import Published
from tests.support.sandbox import GRAPH_TOKEN, HookInbox
from tests.support.sending import TIMINGS, Garage, a_sender, accept, begins_to_stop, kim, quicker, statuses_in
from tests.support.waiting import eventually

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def time_passes(garage: Garage) -> None:
    garage.now.go_on()


def a_process(
    *arguments: str, env: Mapping[str, str] | None = None
) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return running(sys.executable, *arguments, env=os.environ | (env or {}), stdout=asyncio.subprocess.DEVNULL)


async def settled(garage: Garage, sandbox: SandboxClient) -> None:
    unsettled = "select from sends where state in ('pending', 'claimed', 'unknown')"

    async def none_left() -> bool:
        return not await garage.fetch(unsettled)

    await sandbox.until(none_left, PATIENCE)


async def test_two_senders_share_the_work_without_doubles_and_in_order(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    conversations = [await kim(garage, sandbox) for _ in range(15)]
    commands = [await garage.command(conversations[n % 15]) for n in range(90)]
    async with (
        a_sender(garage, producer, sandbox.url, concurrency=8) as one,
        a_sender(garage, producer, sandbox.url, concurrency=8) as two,
        one,
        two,
    ):
        for n in range(0, 90, 9):
            await accept((one, two)[n % 2], *commands[n : n + 9])
        await settled(garage, sandbox)
    assert set(await garage.states(*commands)) == {"accepted"}
    sent = [message["callback"] for message in await sandbox.messages()]
    assert sorted(sent) == sorted(callback_data(command.org_id, command.message_id, 1) for command in commands)
    order = {
        callback_data(command.org_id, command.message_id, 1): (command.conversation_id, command.sequence)
        for command in commands
    }
    for conversation in conversations:
        mine = [order[callback][1] for callback in sent if order[callback][0] == conversation.conversation_id]
        assert mine == sorted(mine)


@pytest.mark.parametrize("told_meta", [True, False])
async def test_a_sender_killed_between_claim_and_result_leaves_nothing_lost_and_nothing_double(
    garage: Garage,
    producer: Producer,
    sandbox: SandboxClient,
    hook_inbox: HookInbox,
    published: Published,
    *,
    database: str,
    kafka_bootstrap: str,
    topic_prefix: str,
    told_meta: bool,
) -> None:
    await sandbox.configure(webhook_url=hook_inbox.url)
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "slow", seconds=60, calls=1)
    async with a_sender(garage, producer, sandbox.url) as line:
        await accept(line, command)
        victim = "tests.support.whatsapp_sender_victim"
        how = [] if told_meta else ["die_before_call"]
        async with a_process("-m", victim, database, kafka_bootstrap, topic_prefix, sandbox.url, *how) as process:
            if told_meta:
                await sandbox.until(sandbox.messages, PATIENCE)
                process.kill()
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        assert await garage.states(command) == ["claimed"]
        await sandbox.clear_faults()

        garage.now.forward(TIMINGS.lease)
        if told_meta:
            await eventually(lambda: "read" in hook_inbox.statuses())
            await garage.take_statuses(statuses_in(hook_inbox))
        else:
            garage.now.forward(TIMINGS.grace)
            await garage.caught_up()
        await line.sweep_once()
        assert await line.claim_once() == (0 if told_meta else 1)
    assert await garage.states(command) == ["accepted"]
    assert len(await sandbox.messages()) == 1


async def test_a_sender_that_ends_waits_for_its_calls_and_begins_none(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    first, second = await garage.command(conversation), await garage.command(conversation)
    await sandbox.fault("meta", "slow", seconds=60, calls=1)
    async with a_sender(garage, producer, sandbox.url) as line:
        await line.__aenter__()
        await accept(line, first, second)
        await sandbox.until(sandbox.messages, PATIENCE)
        stopping = await begins_to_stop(line)
        await sandbox.clear_faults()
        await stopping
        assert await garage.states(first, second) == ["accepted", "pending"]


async def test_a_row_that_cannot_be_judged_holds_up_nobody(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    odd = await garage.command(await kim(garage, sandbox))
    fine = [await garage.command(await kim(garage, sandbox)) for _ in range(3)]
    async with a_sender(garage, producer, sandbox.url) as line:
        await accept(line, odd)
        await garage.execute(
            "update sends set command = $1, due_at = due_at - interval '1 hour'", {"content": "no object"}
        )
        async with line:
            await accept(line, *fine)

            async def sent() -> bool:
                return set(await garage.states(*fine)) == {"accepted"}

            await sandbox.until(sent, PATIENCE)
    assert await garage.states(odd) == ["pending"]


class OddProvider:
    """Answers as no API should."""

    def __init__(self) -> None:
        self.calls = 0
        self.how = "page"
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        await request.read()
        if self.how == "page":
            return web.Response(text="<html>welcome to the guest network</html>", content_type="text/html")
        if self.how == "broken_off":
            response = web.StreamResponse(headers={"Content-Length": "500"})
            await response.prepare(request)
            await response.write(b'{"messages": [{"id": "wamid.')
            assert request.transport is not None
            request.transport.abort()
            return response
        if self.how == "endless":
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b" " * 65536)
        await asyncio.sleep(PATIENCE)
        return web.Response()


@asynccontextmanager
async def an_odd_provider() -> AsyncIterator[OddProvider]:
    provider = OddProvider()
    app = web.Application()
    app.router.add_post("/{tail:.*}", provider.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("how", ["page", "broken_off", "endless", "silence"])
async def test_an_answer_that_says_nothing_leaves_the_outcome_unknown(
    garage: Garage, producer: Producer, how: str
) -> None:
    command = await garage.command(await garage.conversation())
    timings = quicker(timeout=timedelta(seconds=2))
    async with an_odd_provider() as provider:
        provider.how = how
        async with a_sender(garage, producer, provider.url, timings=timings) as line:
            await accept(line, command)
            await line.claim_once()
            await line.sweep_once()
            assert await line.claim_once() == 0
        assert await garage.states(command) == ["unknown"]
        assert provider.calls == 1


async def test_commands_from_kafka_reach_meta_and_odd_ones_the_dead_letters(
    garage: Garage,
    producer: Producer,
    sandbox: SandboxClient,
    published: Published,
    *,
    database: str,
    kafka_bootstrap: str,
    topic_prefix: str,
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(5)]
    env: dict[str, Any] = {
        "TRANSOM_POSTGRES_DSN": database,
        "TRANSOM_KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TRANSOM_TOPIC_PREFIX": topic_prefix,
        "TRANSOM_GRAPH_BASE_URL": sandbox.url,
        "TRANSOM_WHATSAPP_TOKEN": GRAPH_TOKEN,
        "TRANSOM_HTTP_HOST": "127.0.0.1",
        "TRANSOM_HTTP_PORT": "0",
    }
    async with a_process("-m", "deploy.cli", "run", "whatsapp-sender", env=env) as process:
        records = [Record(OUTBOUND_WHATSAPP, str(c.conversation_id).encode(), c.encode()) for c in commands]
        unheard_of = commands[0].model_copy(update={"content": {"kind": "hologram"}})
        odd = [Record(OUTBOUND_WHATSAPP, b"k", b"not json"), Record(OUTBOUND_WHATSAPP, b"k", unheard_of.encode())]
        await producer.publish([*records[:2], *odd, *records[2:], *records])

        async def all_sent() -> bool:
            return len(await sandbox.messages()) == len(commands)

        async def both_dead() -> bool:
            return len(await published.records(OUTBOUND_WHATSAPP.dlq)) == len(odd)

        await sandbox.until(all_sent, PATIENCE)
        await sandbox.until(
            both_dead, PATIENCE
        )  # sends go as soon as their rows are stored, dead letters after the batch
        await settled(garage, sandbox)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    assert set(await garage.states(*commands)) == {"accepted"}
    assert len(await sandbox.messages()) == len(commands)
    dead = await published.records(OUTBOUND_WHATSAPP.dlq)
    assert [dict(record.headers)["reason"] for record in dead] == [b"not_json", b"unknown_value"]


async def test_a_lone_command_is_sent_without_waiting_for_the_poll(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    patient = quicker(poll=timedelta(hours=1))
    async with a_sender(garage, producer, sandbox.url, timings=patient) as line, line:
        conversation = await kim(garage, sandbox)
        first, second = await garage.command(conversation), await garage.command(conversation)
        await accept(line, first, second)  # the second goes as soon as the first is settled
        await settled(garage, sandbox)
        assert await garage.states(first, second) == ["accepted", "accepted"]

        await sandbox.fault("meta", "throttle", code=131056, calls=1)
        throttled = await garage.command(conversation)
        await accept(line, throttled)
        await settled(garage, sandbox)  # the end of its wait is known, too
    assert await garage.states(throttled) == ["accepted"]
