"""An answer in hand frees the place of its call. Until it is recorded its claim is open, bounded and kept alive."""

import asyncio
import os
import sys

from deploy.local.sandbox.client import SandboxClient
from libs.common.ids import callback_data
from libs.common.kafka.producer import Producer
from tests.support import world
from tests.support.command import running
from tests.support.sandbox import NUMBER_ID, HookInbox
from tests.support.sending import ORG, TIMINGS, WABA, Garage, Line, a_sender, accept, kim, statuses_in
from tests.support.waiting import eventually

PATIENCE = 60.0
ANOTHER_NUMBER = "106400000000002"
ROOM = 16
SHARE = 8
"""How many calls one account may have at once."""


async def test_places_are_taken_again_before_answers_are_recorded_and_claims_stop_at_twice_as_many_calls(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(3 * SHARE)]
    async with a_sender(garage, producer, sandbox.url, concurrency=ROOM) as line:
        await accept(line, *commands)
        assert [await line.call_once() for _ in range(3)] == [SHARE, SHARE, 0]
        assert sorted(await garage.states(*commands)) == ["claimed"] * 2 * SHARE + ["pending"] * SHARE

        await line.record()
        assert await line.claim_once() == SHARE
    assert set(await garage.states(*commands)) == {"accepted"}
    assert len(await sandbox.messages()) == len(commands)


async def test_a_neighbour_whose_calls_hang_leaves_places_for_others(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    await sandbox.fault("meta", "stall", number=NUMBER_ID, seconds=60)
    hanging = [await garage.command(await kim(garage, sandbox)) for _ in range(2 * SHARE)]
    async with garage.pool.acquire() as db:
        await world.a_number(db, ORG, ANOTHER_NUMBER, waba=WABA, display_number="+447700900124")
    garage.number = ANOTHER_NUMBER
    passing = [await garage.command(await kim(garage, sandbox)) for _ in range(SHARE)]
    async with a_sender(garage, producer, sandbox.url, concurrency=ROOM) as line:
        await accept(line, *hanging)
        assert [await line.begin_calls() for _ in range(2)] == [SHARE, SHARE]
        await accept(line, *passing)
        assert await line.begin_calls() == 2 * SHARE
        await eventually(lambda: line.calls_running == SHARE)
        await line.record()
        assert set(await garage.states(*passing)) == {"accepted"}
        await line.abandon_calls()


async def test_the_lease_of_an_answer_that_waits_is_extended_and_no_other_process_takes_it_for_lost(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    async with (
        a_sender(garage, producer, sandbox.url) as line,
        a_sender(garage, producer, sandbox.url) as another,
    ):
        await accept(line, command)
        assert await line.call_once() == 1
        for _ in range(3):
            garage.now.forward(TIMINGS.lease * 0.9)
            await line.keep_leases()
            await another.sweep_once()
            assert await garage.states(command) == ["claimed"]
        await line.record()
    assert await garage.states(command) == ["accepted"]


async def test_two_sweepers_end_what_is_left_of_a_claim_once_and_its_row_goes(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    hanging = [await garage.command(await kim(garage, sandbox)) for _ in range(SHARE)]
    for command in hanging:
        await sandbox.fault("meta", "stall", to=command.to, seconds=60)
    passing = [await garage.command(await kim(garage, sandbox)) for _ in range(SHARE)]
    async with a_sender(garage, producer, sandbox.url) as killed, a_sender(garage, producer, sandbox.url) as another:
        await accept(killed, *hanging, *passing)
        assert await killed.begin_calls() == 2 * SHARE
        await eventually(lambda: killed.calls_running == SHARE)
        await killed.record()
        await killed.abandon_calls()
        (claim,) = await garage.fetch("select lease_until from send_claims")
        garage.now.forward(claim["lease_until"] - garage.now())
        await asyncio.gather(line.sweep_once(), another.sweep_once())
    assert await garage.states(*hanging, *passing) == ["unknown"] * SHARE + ["accepted"] * SHARE
    garage.now.forward(TIMINGS.lease)
    await line.sweep_once()
    assert await garage.fetch("select from send_claims") == []


async def test_a_sender_killed_with_answers_in_hand_loses_none_and_sends_none_twice(
    garage: Garage,
    producer: Producer,
    sandbox: SandboxClient,
    hook_inbox: HookInbox,
    *,
    database: str,
    kafka_bootstrap: str,
    topic_prefix: str,
) -> None:
    garage.now.go_on()
    await sandbox.configure(webhook_url=hook_inbox.url)
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(5)]
    async with a_sender(garage, producer, sandbox.url) as line:
        await accept(line, *commands)
        victim = ("-m", "tests.support.whatsapp_sender_victim", database, kafka_bootstrap, topic_prefix, sandbox.url)
        async with running(sys.executable, *victim, "die_before_record", env=dict(os.environ)) as process:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        assert set(await garage.states(*commands)) == {"claimed"}

        garage.now.forward(TIMINGS.lease)
        await eventually(lambda: hook_inbox.statuses().count("read") == len(commands))
        await garage.take_statuses(statuses_in(hook_inbox))
        await line.sweep_once()
        assert await line.claim_once() == 0
    assert set(await garage.states(*commands)) == {"accepted"}
    sent = [message["callback"] for message in await sandbox.messages()]
    assert sorted(sent) == sorted(callback_data(one.org_id, one.message_id, 1) for one in commands)
