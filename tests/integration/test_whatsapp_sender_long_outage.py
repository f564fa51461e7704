"""Meta answers nothing for hours, neither calls nor reads: a number with a message now and then loses none of them."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from deploy.local.sandbox.faults import Mode
from libs.common.events.outbound import WhatsappCommand
from libs.common.ids import callback_data
from libs.common.kafka.producer import Producer
from libs.common.sending.breaker import UNRESPONSIVE_AFTER
from tests.support import world
from tests.support.logs import LogLines
from tests.support.sandbox import NUMBER_ID
from tests.support.sending import (
    ORG,
    TIMINGS,
    WABA,
    Garage,
    Line,
    a_sender,
    accept,
    kim,
    quicker,
)
from tests.support.waiting import eventually, eventually_true

STEP = timedelta(seconds=30)
EVERY = timedelta(minutes=10)
ANOTHER_NUMBER = "106400000000002"
MANY = 10_000


async def time_passes(line: Line, garage: Garage, length: timedelta) -> None:
    for _ in range(length // STEP):
        garage.now.forward(STEP)
        await garage.caught_up()
        while await line.claim_once():
            pass
        await line.sweep_once()


async def arrives(line: Line, garage: Garage, sandbox: SandboxClient) -> WhatsappCommand:
    """A message of another customer, which is claimed where it waits for nothing."""
    command = await garage.command(await kim(garage, sandbox))
    await accept(line, command)
    await line.claim_once()
    return command


async def a_message_now_and_then(
    line: Line, garage: Garage, sandbox: SandboxClient, length: timedelta
) -> list[WhatsappCommand]:
    commands = []
    for _ in range(length // EVERY):
        commands.append(await arrives(line, garage, sandbox))
        await time_passes(line, garage, EVERY)
    return commands


async def meta_is_away(sandbox: SandboxClient, mode: Mode = "page", **fault: Any) -> None:
    """Neither calls nor reads are answered. Up to ``MANY`` reads are counted."""
    await sandbox.fault("meta", mode, **fault)
    await sandbox.fault("meta", mode, endpoint="fetch", calls=MANY, **fault)


async def reads(sandbox: SandboxClient) -> int:
    [left] = [one["left"] for one in await sandbox.faults() if one["fault"]["endpoint"] == "fetch"]
    return MANY - int(left)


async def sent(sandbox: SandboxClient) -> list[str]:
    return sorted(message["callback"] for message in await sandbox.messages())


def once(commands: list[WhatsappCommand]) -> list[str]:
    return sorted(callback_data(command.org_id, command.message_id, 1) for command in commands)


async def at_rest(line: Line, garage: Garage, sandbox: SandboxClient) -> WhatsappCommand:
    """The number rests, as after calls without an answer, and a message waits for it."""
    async with garage.pool.acquire() as db:
        await db.execute(
            "insert into pauses (channel, provider, account, scope, until_at, tries, reason, kind, proof, since)"
            " values ('whatsapp', 'meta', $1, 'all', $2, 1, 'unanswered', 'silence', 'answer', $2)",
            garage.number,
            garage.now(),
        )
    command = await garage.command(await kim(garage, sandbox))
    await accept(line, command)
    return command


@pytest.mark.parametrize(
    ("mode", "fault", "hours"),
    [
        ("page", {}, 3),
        ("fail", {"code": 131016, "http_status": 400}, 1),
        ("reset", {}, 1),
        ("stall", {"seconds": 60}, 1),
    ],
)
async def test_an_outage_of_hours_costs_a_quiet_number_no_message(
    garage: Garage, producer: Producer, sandbox: SandboxClient, *, mode: Mode, fault: dict[str, Any], hours: int
) -> None:
    timings = quicker(timeout=timedelta(milliseconds=400)) if mode == "stall" else TIMINGS
    async with a_sender(garage, producer, sandbox.url, timings=timings) as line:
        await meta_is_away(sandbox, mode, **fault)
        commands = await a_message_now_and_then(line, garage, sandbox, timedelta(hours=hours))
        assert set(await garage.states(*commands)) == {"pending"}
        called = [call["callback"] for call in await sandbox.calls()]
        assert len(called) == len(set(called)) <= 2 + 3 * hours
    await sandbox.clear_faults()
    async with a_sender(garage, producer, sandbox.url) as line:
        await time_passes(line, garage, timedelta(minutes=15))
    assert set(await garage.states(*commands)) == {"accepted"}
    assert await sent(sandbox) == once(commands)
    assert await garage.fetch("select from pauses") == []


async def test_a_number_whose_reads_are_never_answered_recovers_by_a_message(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await sandbox.fault("meta", "page", endpoint="fetch")
    away = await sandbox.fault("meta", "page")
    commands = await a_message_now_and_then(line, garage, sandbox, timedelta(hours=1))
    await sandbox.clear_faults(away)
    await time_passes(line, garage, timedelta(minutes=45))
    assert set(await garage.states(*commands)) == {"accepted"}
    assert await garage.fetch("select from pauses") == []


@pytest.mark.parametrize("status", [502, 200])
async def test_one_read_at_a_time_whoever_makes_it(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient, status: int
) -> None:
    await meta_is_away(sandbox, http_status=status)
    await at_rest(line, garage, sandbox)
    async with a_sender(garage, producer, sandbox.url) as replica:
        tries = []
        for _ in range(3):
            [pause] = await garage.fetch("select * from pauses")
            tries.append((pause["tries"], pause["reason"], await reads(sandbox)))
            garage.now.ahead += max(pause["until_at"] - garage.now(), timedelta(0)) + timedelta(milliseconds=1)
            assert sum(await asyncio.gather(line.claim_once(), replica.claim_once())) == 1
            garage.now.forward(timedelta(seconds=2))
            assert await line.claim_once() + await replica.claim_once() == 0
    assert tries == [(n + 1, "unanswered_read" if n else "unanswered", n) for n in range(3)]
    assert await sandbox.calls() == []


async def test_a_read_that_hangs_holds_up_no_other_number(line: Line, garage: Garage, sandbox: SandboxClient) -> None:
    await sandbox.fault("meta", "stall", endpoint="fetch", number=NUMBER_ID, seconds=60)
    waiting = await at_rest(line, garage, sandbox)
    async with garage.pool.acquire() as db:
        await world.a_number(db, ORG, ANOTHER_NUMBER, waba=WABA, display_number="+447700900124")
    assert await line.begin_calls() == 1
    garage.number = ANOTHER_NUMBER
    passing = await garage.command(await kim(garage, sandbox))
    await accept(line, passing)
    await line.begin_calls()

    async def goes() -> bool:
        await line.record()
        return await garage.states(waiting, passing) == ["claimed", "accepted"]

    await eventually_true(goes)
    await line.abandon_calls()


async def test_a_process_that_is_killed_in_a_read_doubles_nothing(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    stall = await sandbox.fault("meta", "stall", endpoint="fetch", seconds=60)
    waiting = await at_rest(line, garage, sandbox)
    assert await line.begin_calls() == 1
    await line.abandon_calls()
    await sandbox.clear_faults(stall)
    async with a_sender(garage, producer, sandbox.url) as replica:
        await time_passes(replica, garage, timedelta(minutes=5))
    assert await garage.states(waiting) == ["accepted"]
    assert await sent(sandbox) == once([waiting])


async def test_a_process_that_is_killed_in_the_read_before_a_last_call_has_not_used_it_up(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    await sandbox.fault("meta", "page", calls=1)
    waiting = await arrives(line, garage, sandbox)
    assert await garage.states(waiting) == ["unknown"]
    stall = await sandbox.fault("meta", "stall", endpoint="fetch", seconds=60, calls=MANY)
    while not await line.begin_calls():
        garage.now.forward(STEP)
        await garage.caught_up()
        await line.sweep_once()
    await eventually_true(lambda: reads(sandbox), "the read is under way")
    await line.abandon_calls()
    await sandbox.clear_faults(stall)
    async with a_sender(garage, producer, sandbox.url) as replica:
        await time_passes(replica, garage, timedelta(minutes=15))
    assert await garage.states(waiting) == ["accepted"]
    assert await sent(sandbox) == once([waiting])


async def test_a_claim_that_is_lost_during_a_read_makes_no_call(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    """Another process has ended it, and makes the call."""
    stall = await sandbox.fault("meta", "stall", endpoint="fetch", seconds=3, calls=MANY)
    waiting = await at_rest(line, garage, sandbox)
    assert await line.begin_calls() == 1
    await eventually_true(lambda: reads(sandbox), "the read is under way")
    async with a_sender(garage, producer, sandbox.url) as replica:
        garage.now.forward(TIMINGS.lease)
        await replica.sweep_once()
        assert await garage.states(waiting) == ["pending"]
        await eventually(lambda: not line.calls_running, "the read is answered")
        assert await sandbox.calls() == []
        await sandbox.clear_faults(stall)
        await line.record()
        await time_passes(replica, garage, timedelta(minutes=1))
    assert await garage.states(waiting) == ["accepted"]
    assert await sent(sandbox) == once([waiting])


async def test_nothing_is_read_while_a_number_is_well(line: Line, garage: Garage, sandbox: SandboxClient) -> None:
    await sandbox.fault("meta", "page", endpoint="fetch", calls=MANY)
    await sandbox.fault("meta", "page", calls=1)
    lost, *others = [await arrives(line, garage, sandbox) for _ in range(2 * UNRESPONSIVE_AFTER)]
    await time_passes(line, garage, timedelta(minutes=5))
    assert set(await garage.states(lost, *others)) == {"accepted"}
    assert await reads(sandbox) == 0


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429])
async def test_any_answer_to_a_read_lets_a_message_try(
    line: Line, garage: Garage, sandbox: SandboxClient, log_lines: LogLines, status: int
) -> None:
    if status != 200:
        await sandbox.fault("meta", "fail", endpoint="fetch", code=190, http_status=status)
    waiting = await at_rest(line, garage, sandbox)
    assert await line.claim_once() == 1
    assert await garage.states(waiting) == ["accepted"]
    assert await garage.fetch("select from pauses") == []


async def test_an_account_that_people_must_mend_loses_no_message_to_an_outage(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await sandbox.fault("meta", "fail", code=131042, calls=1)
    first = await arrives(line, garage, sandbox)
    await meta_is_away(sandbox)
    commands = [first, *await a_message_now_and_then(line, garage, sandbox, timedelta(hours=1))]
    assert "failed" not in await garage.states(*commands)
    assert len(await sandbox.calls()) <= UNRESPONSIVE_AFTER
