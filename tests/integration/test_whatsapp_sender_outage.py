"""Meta answers nothing for minutes: the number rests, what waits was never sent, and all of it goes once when Meta is
back.
"""

import asyncio
from datetime import timedelta

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
from tests.support.sending import ORG, TIMINGS, WABA, Conversation, Garage, Line, a_sender, accept, kim, quicker

ANOTHER_NUMBER = "106400000000002"
STEP = timedelta(seconds=15)


async def send_all(line: Line) -> None:
    while await line.claim_once():
        pass


async def time_passes(line: Line, garage: Garage, minutes: int) -> None:
    for _ in range(timedelta(minutes=minutes) // STEP):
        garage.now.forward(STEP)
        await garage.caught_up()
        await send_all(line)
        await line.sweep_once()


async def arrive(line: Line, garage: Garage, conversations: list[Conversation], number: int) -> list[WhatsappCommand]:
    """So many messages, one after the other, to one conversation after the other."""
    commands = []
    for n in range(number):
        commands.append(await garage.command(conversations[n % len(conversations)]))
        await accept(line, commands[-1])
        await line.claim_once()
    return commands


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("page", None),
        ("fail", 131016),
        ("fail", 2),
        ("fail", 131000),
        ("fail", 139999),
        ("stall", None),
        ("reset", None),
    ],
)
async def test_an_outage_costs_no_message_and_few_of_them_a_call(
    garage: Garage, producer: Producer, sandbox: SandboxClient, mode: Mode, code: int | None
) -> None:
    conversations = [await kim(garage, sandbox) for _ in range(10)]
    status = 503 if mode in {"page", "fail"} else None
    await sandbox.fault("meta", mode, code=code, http_status=status, seconds=60)
    timings = quicker(timeout=timedelta(milliseconds=400)) if mode == "stall" else TIMINGS
    async with a_sender(garage, producer, sandbox.url, timings=timings) as line:
        commands = await arrive(line, garage, conversations, 30)
        states = await garage.states(*commands)
        assert (states.count("unknown"), states.count("pending")) == (UNRESPONSIVE_AFTER, 30 - UNRESPONSIVE_AFTER)

        await time_passes(line, garage, 5)
        tried = {c.message_id for c in commands if (await garage.row(c))["tries"]}
        assert UNRESPONSIVE_AFTER < len(tried) <= UNRESPONSIVE_AFTER + 6
        assert len(await sandbox.calls()) <= UNRESPONSIVE_AFTER + 6

    await sandbox.clear_faults()
    async with a_sender(garage, producer, sandbox.url) as line:
        await time_passes(line, garage, 6)
    assert set(await garage.states(*commands)) == {"accepted"}
    sent = [message["callback"] for message in await sandbox.messages()]
    assert sorted(sent) == sorted(callback_data(command.org_id, command.message_id, 1) for command in commands)
    for conversation in conversations:
        waited = [
            c for c in commands if c.conversation_id == conversation.conversation_id and c.message_id not in tried
        ]
        at = [sent.index(callback_data(command.org_id, command.message_id, 1)) for command in waited]
        assert at == sorted(at)
    assert await garage.fetch("select from pauses") == []


async def test_another_number_goes_on(line: Line, garage: Garage, sandbox: SandboxClient, log_lines: LogLines) -> None:
    here = await kim(garage, sandbox)
    others = [await kim(garage, sandbox) for _ in range(UNRESPONSIVE_AFTER)]
    await sandbox.fault("meta", "page", http_status=503, number=NUMBER_ID)
    await arrive(line, garage, others, UNRESPONSIVE_AFTER)
    [waiting] = await arrive(line, garage, [here], 1)
    [opened] = log_lines.of("breaker.opened")
    assert (opened["dependency"], opened["phone_number_id"], opened["org_id"]) == ("meta", NUMBER_ID, ORG)

    async with garage.pool.acquire() as db:
        await world.a_number(db, ORG, ANOTHER_NUMBER, waba=WABA, display_number="+447700900124")
    garage.number = ANOTHER_NUMBER
    passing = await arrive(line, garage, [await kim(garage, sandbox) for _ in range(3)], 3)
    assert await garage.states(waiting, *passing) == ["pending", "accepted", "accepted", "accepted"]

    await sandbox.clear_faults()
    garage.now.forward(STEP * 2)
    await send_all(line)
    assert await garage.states(waiting) == ["accepted"]
    assert [one["phone_number_id"] for one in log_lines.of("breaker.closed")] == [NUMBER_ID]


@pytest.mark.parametrize("youngest", ["well", "bad"])
async def test_some_recipients_whose_messages_get_no_answer_hold_up_the_others_for_seconds(
    line: Line, garage: Garage, sandbox: SandboxClient, youngest: str
) -> None:
    bad = [await kim(garage, sandbox) for _ in range(UNRESPONSIVE_AFTER + 3)]
    for conversation in bad:
        await sandbox.fault("meta", "fail", code=131000, http_status=500, to=conversation.phone)
    *rest, last = bad
    await arrive(line, garage, rest, len(rest))
    well = await arrive(line, garage, [await kim(garage, sandbox) for _ in range(3)], 3)
    if youngest == "bad":
        await arrive(line, garage, [last], 1)

    for _ in range(5 if youngest == "well" else 35):
        garage.now.forward(timedelta(seconds=1))
        await send_all(line)
    assert await garage.states(*well) == ["accepted"] * 3


async def test_now_and_then_a_lost_answer_rests_nobody(line: Line, garage: Garage, sandbox: SandboxClient) -> None:
    conversations = [await kim(garage, sandbox) for _ in range(3 * UNRESPONSIVE_AFTER)]
    for n in range(3):
        await sandbox.fault("meta", "page", calls=UNRESPONSIVE_AFTER - 1)
        commands = await arrive(
            line, garage, conversations[n * UNRESPONSIVE_AFTER : (n + 1) * UNRESPONSIVE_AFTER], UNRESPONSIVE_AFTER
        )
        assert await garage.states(*commands) == ["unknown"] * (UNRESPONSIVE_AFTER - 1) + ["accepted"]
    assert await garage.fetch("select from pauses") == []


@pytest.mark.parametrize("starts_anew", [False, True])
async def test_an_outage_costs_a_number_with_few_messages_two_of_them(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient, *, starts_anew: bool
) -> None:
    await sandbox.fault("meta", "page", http_status=503)
    commands = []
    for _ in range(4):
        async with a_sender(garage, producer, sandbox.url) as another:
            sender = another if starts_anew else line
            commands += await arrive(sender, garage, [await kim(garage, sandbox)], 1)
            await time_passes(sender, garage, 2)
    await sandbox.clear_faults()
    await time_passes(line, garage, 10)
    assert await garage.states(*commands) == ["failed", "failed", "accepted", "accepted"]


async def test_an_acceptance_ends_a_run_that_another_process_began(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    for lost in (UNRESPONSIVE_AFTER - 1, UNRESPONSIVE_AFTER - 1):
        await sandbox.fault("meta", "page", http_status=503, calls=lost)
        async with a_sender(garage, producer, sandbox.url) as line:
            await arrive(line, garage, [await kim(garage, sandbox) for _ in range(lost)], lost)
        assert len(await garage.fetch("select from unanswered_calls")) == lost
        async with a_sender(garage, producer, sandbox.url) as line:
            await arrive(line, garage, [await kim(garage, sandbox)], 1)
        assert await garage.fetch("select from unanswered_calls") == []
    assert await garage.fetch("select from pauses") == []


async def test_a_template_that_meets_the_same_error_ends_no_rest(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await garage.template()
    await sandbox.template("car_ready", "en_GB", "Your {{1}} is ready.")
    await sandbox.fault("meta", "fail", code=131000, http_status=500)
    await arrive(line, garage, [await kim(garage, sandbox) for _ in range(UNRESPONSIVE_AFTER)], UNRESPONSIVE_AFTER)
    texts = await arrive(line, garage, [await kim(garage, sandbox) for _ in range(6)], 6)
    template = await garage.command(await garage.conversation(), template="car_ready")
    await accept(line, template)
    garage.now.forward(timedelta(seconds=16))
    await send_all(line)
    assert await garage.states(template) == ["unknown"]
    assert (await garage.states(*texts)).count("pending") == len(texts) - 1

    await sandbox.clear_faults()
    await time_passes(line, garage, 6)
    assert set(await garage.states(template, *texts)) == {"accepted"}


async def test_one_call_at_a_time_tries_it_out_whoever_makes_it(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    await sandbox.fault("meta", "page", http_status=503)
    await arrive(line, garage, [await kim(garage, sandbox) for _ in range(20)], 20)
    async with a_sender(garage, producer, sandbox.url) as replica:
        assert await replica.claim_once() == 0
        tries = []
        for _ in range(4):
            [pause] = await garage.fetch("select until_at, tries, reason from pauses")
            tries.append((pause["tries"], pause["reason"]))
            garage.now.ahead += max(pause["until_at"] - garage.now(), timedelta(0)) + timedelta(milliseconds=1)
            assert sum(await asyncio.gather(line.claim_once(), replica.claim_once())) == 1
            garage.now.forward(timedelta(seconds=2))
            assert await line.claim_once() + await replica.claim_once() == 0
    assert tries == [(1, "unanswered"), (2, "unanswered"), (3, "unanswered"), (4, "unanswered")]


async def test_a_message_that_the_gate_keeps_back_uses_up_no_try(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversations = [await kim(garage, sandbox) for _ in range(UNRESPONSIVE_AFTER + 4)]
    await sandbox.fault("meta", "page", http_status=503, calls=UNRESPONSIVE_AFTER)
    *_, first, second, third, fourth = await arrive(line, garage, conversations, UNRESPONSIVE_AFTER + 4)
    await garage.execute(
        "update conversations set last_customer_at = $1 where conversation_id = any($2::uuid[])",
        garage.now() - timedelta(hours=25),
        [first.conversation_id, second.conversation_id],
    )
    for _ in range(4):
        garage.now.forward(timedelta(seconds=16))
        await send_all(line)
    assert await garage.states(first, second, third, fourth) == ["rerouted", "rerouted", "accepted", "accepted"]


async def test_whoever_may_not_be_sent_any_more_uses_up_no_try(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    late = await garage.command(await kim(garage, sandbox), expires_in=TIMINGS.grace)
    waits = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "reset", calls=2)
    for command in (late, waits):
        await accept(line, command)
        await line.claim_once()
    assert await garage.states(late, waits) == ["unknown", "unknown"]

    garage.now.forward(TIMINGS.grace + timedelta(seconds=1))
    await garage.caught_up()
    await line.sweep_once()  # whether Meta answers is not known: one send may try it out

    assert await garage.states(late, waits) == ["failed", "pending"]
    assert await line.claim_once() == 1
    assert await garage.states(late, waits) == ["failed", "accepted"]
