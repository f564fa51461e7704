"""Calls whose answer was lost: settled by evidence, once, and never by a guess."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from deploy.local.sandbox.client import SandboxClient
from deploy.local.sandbox.faults import Mode
from libs.common.events.outbound import WhatsappCommand
from libs.common.ids import callback_data
from libs.common.kafka.producer import Producer
from libs.common.sending.rows import RUN
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from services.whatsapp_sender.worker import new_send
from tests.support.published import Published
from tests.support.sandbox import HookInbox
from tests.support.sending import TIMINGS, Garage, Line, a_sender, accept, kim, quicker, statuses_in
from tests.support.waiting import eventually


async def statuses(sandbox: SandboxClient, inbox: HookInbox) -> list[dict[str, object]]:
    await eventually(lambda: "read" in inbox.statuses())
    await sandbox.settled()
    return statuses_in(inbox)


@pytest.mark.parametrize("mode", ["drop_answer", "server_error", "page", "stall"])
async def test_a_lost_answer_is_settled_by_metas_own_statuses(
    line: Line,
    garage: Garage,
    producer: Producer,
    sandbox: SandboxClient,
    hook_inbox: HookInbox,
    *,
    published: Published,
    mode: str,
) -> None:
    await sandbox.configure(webhook_url=hook_inbox.url)
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", mode, sent=True, calls=1, seconds=60)  # type: ignore[arg-type]  # of the modes
    timings = quicker(timeout=timedelta(seconds=3)) if mode == "stall" else TIMINGS
    async with a_sender(garage, producer, sandbox.url, timings=timings) as calling:
        await accept(calling, command)
        await calling.claim_once()
    assert await garage.states(command) == ["unknown"]
    await line.sweep_once()
    assert await garage.states(command) == ["unknown"]

    await garage.take_statuses(await statuses(sandbox, hook_inbox))
    garage.now.forward(timedelta(seconds=1))
    await line.sweep_once()

    assert await garage.states(command) == ["accepted"]
    assert (await published.updates())[-1]["status"] == "read"
    assert len(await sandbox.messages()) == 1


async def test_the_lost_calls_of_one_conversation_are_made_once_more_in_its_order(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    commands = [await garage.command(conversation) for _ in range(RUN)]
    await sandbox.fault("meta", "stall", seconds=60)
    async with a_sender(garage, producer, sandbox.url) as killed:
        await accept(killed, *commands)
        assert await killed.begin_calls() == len(commands)
        await killed.abandon_calls()
    garage.now.forward(TIMINGS.lease)
    await line.sweep_once()
    assert await garage.states(*commands) == ["unknown"] * len(commands)
    await garage.execute("update sends set due_at = due_at - make_interval(secs => sequence)")  # the youngest first

    garage.now.forward(TIMINGS.grace)
    await garage.caught_up()
    await line.sweep_once()
    assert await garage.states(*commands) == ["pending"] + ["unknown"] * (len(commands) - 1)


async def test_silence_proves_nothing_while_webhooks_wait(line: Line, garage: Garage, sandbox: SandboxClient) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "reset", calls=1)
    await accept(line, command)
    await line.claim_once()

    for _ in range(10):  # no progress is known at all
        garage.now.forward(TIMINGS.grace)
        await line.sweep_once()
    assert await garage.states(command) == ["unknown"]

    await garage.caught_up(at=garage.now(), since=garage.now() - timedelta(seconds=1))  # just back from being away
    garage.now.forward(TIMINGS.grace)
    await line.sweep_once()
    assert await garage.states(command) == ["unknown"]

    garage.now.forward(TIMINGS.look)
    now = garage.now()
    await garage.caught_up(at=now, since=now - TIMINGS.grace)
    await line.sweep_once()
    assert await garage.states(command) == ["pending"]
    assert await line.claim_once() == 1
    assert await garage.states(command) == ["accepted"]


async def test_it_is_sent_once_more_and_then_given_up(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "reset")
    await accept(line, command)
    for _ in range(5):
        await line.claim_once()
        garage.now.forward(TIMINGS.grace + timedelta(seconds=1))
        await garage.caught_up()
        await line.sweep_once()
    assert len(await sandbox.calls()) == 2
    [update] = await published.updates()
    assert (update["status"], update["reason"], update["provider_code"]) == ("failed", "unknown_outcome", None)

    # both were accepted all the same, and Meta says so hours later
    later = garage.now() + timedelta(hours=3)
    own, strangers = callback_data(*new_send(command).key), callback_data("globex", command.message_id, 1)
    statuses = [
        ProviderStatus("whatsapp", "meta", garage.number, wamid, status, later, callback=callback)
        for wamid, status, callback in (("wamid.OTHER", "read", strangers), ("wamid.LATE", "delivered", own))
    ]
    async with garage.pool.acquire() as db, db.transaction():
        effects = await receive_statuses(db, statuses, later)
    assert [(u.message_id, u.status, u.seq) for u in effects.updates] == [(command.message_id, "delivered", 2)]
    async with garage.pool.acquire() as db, db.transaction():
        effects = await receive_statuses(db, [statuses[1]._replace(status="read")], later)
    assert [(u.status, u.seq) for u in effects.updates] == [("read", 3)]


async def test_the_resend_passes_the_gate_again(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "reset", calls=1)
    await accept(line, command)
    await line.claim_once()
    await garage.execute("update conversations set last_customer_at = $1", garage.now() - timedelta(hours=25))
    garage.now.forward(TIMINGS.grace + timedelta(seconds=1))
    await garage.caught_up()
    await line.sweep_once()
    assert await line.claim_once() == 0
    assert [refusal["reason"] for refusal in await published.refusals()] == ["window_closed"]


async def test_a_first_call_that_turns_up_before_the_resend_is_not_made_again(
    line: Line, garage: Garage, sandbox: SandboxClient, hook_inbox: HookInbox
) -> None:
    await sandbox.configure(webhook_url=hook_inbox.url)
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "drop_answer", calls=1)
    await accept(line, command)
    await line.claim_once()
    garage.now.forward(TIMINGS.grace + timedelta(seconds=1))
    await garage.caught_up()
    await line.sweep_once()  # Meta's webhook is late beyond all grace
    assert await garage.states(command) == ["pending"]
    await garage.take_statuses(await statuses(sandbox, hook_inbox))
    assert await line.claim_once() == 0
    assert await garage.states(command) == ["accepted"]
    assert len(await sandbox.messages()) == 1


async def test_a_send_whose_row_is_lost_and_whose_status_came_is_not_made_again(
    line: Line, garage: Garage, sandbox: SandboxClient, hook_inbox: HookInbox, *, published: Published
) -> None:
    """A restored database lacks the row, and ingest has read the webhooks once more. Others go as ever."""
    await sandbox.configure(webhook_url=hook_inbox.url)
    kims = await kim(garage, sandbox)
    command = await garage.command(kims)
    await accept(line, command)
    await line.claim_once()
    items = await statuses(sandbox, hook_inbox)
    async with garage.pool.acquire() as db:
        await db.execute("delete from sends")
        await db.execute("delete from provider_ids")
    await garage.take_statuses(items)
    another = await garage.command(kims)

    await accept(line, command, another)
    await line.claim_once()
    await line.claim_once()

    assert await garage.states(command, another) == ["accepted", "accepted"]
    assert len(await sandbox.messages()) == 2
    async with garage.pool.acquire() as db:
        assert await db.fetchval("select count(*) from sends where provider = 'meta'") == 2
    assert (str(command.message_id), "read") in [
        (one["message_id"], one["status"]) for one in await published.updates()
    ]


async def test_an_unknown_outcome_frees_those_behind_it_after_a_while(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    lost, behind = await garage.command(conversation), await garage.command(conversation)
    await sandbox.fault("meta", "drop_answer", calls=1)
    async with a_sender(garage, producer, sandbox.url, timings=quicker(blocks=timedelta(seconds=20))) as line:
        await accept(line, lost, behind)
        await line.claim_once()
        garage.now.forward(timedelta(seconds=15))
        assert await line.claim_once() == 0
        garage.now.forward(timedelta(seconds=6))
        assert await line.claim_once() == 1
    assert await garage.states(lost, behind) == ["unknown", "accepted"]


async def test_an_outcome_that_nobody_can_learn_is_given_up_long_after_its_deadline(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await kim(garage, sandbox), expires_in=timedelta(minutes=1))
    await sandbox.fault("meta", "drop_answer", calls=1)
    await accept(line, command)
    await line.claim_once()
    garage.now.forward(timedelta(minutes=2))
    await line.sweep_once()
    assert await garage.states(command) == ["unknown"]  # it was sent, perhaps: not expired
    garage.now.forward(TIMINGS.patience)
    await line.sweep_once()
    assert [update["reason"] for update in await published.updates()] == ["unknown_outcome"]


@asynccontextmanager
async def a_held_up_call(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> AsyncIterator[tuple[WhatsappCommand, "asyncio.Task[int]", Line]]:
    """Meta has the message and answers once faults are cleared. One process makes the call, the other looks on."""
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "slow", seconds=60, calls=1)
    async with a_sender(garage, producer, sandbox.url) as slow, a_sender(garage, producer, sandbox.url) as other:
        await accept(slow, command)
        calling = asyncio.create_task(slow.claim_once())
        await sandbox.until(sandbox.messages)
        yield command, calling, other


async def test_a_result_that_lost_its_claim_is_evidence_and_nothing_more(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    async with a_held_up_call(garage, producer, sandbox) as (command, calling, other):
        garage.now.forward(TIMINGS.lease)  # the first process stands still, for all that the second can see
        await other.sweep_once()
        assert await garage.states(command) == ["unknown"]

        await sandbox.clear_faults()
        await calling
        assert await garage.states(command) == ["unknown"]
        assert [
            row["applied"] for row in await garage.fetch("select applied from provider_ids where org_id = 'acme'")
        ] == [False]

        garage.now.forward(timedelta(seconds=1))
        await other.sweep_once()
    assert await garage.states(command) == ["accepted"]
    assert len(await sandbox.messages()) == 1


async def test_a_refusal_that_overtook_a_late_answer_is_remembered_until_it_is_told(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    async with a_held_up_call(garage, producer, sandbox) as (command, calling, other):
        [sent] = await sandbox.messages()
        refused = {
            "id": sent["wamid"],
            "status": "failed",
            "timestamp": str(int(garage.now().timestamp())),
            "errors": [{"code": 131047}],
            "biz_opaque_callback_data": sent["callback"],
        }
        await garage.take_statuses([refused])
        garage.now.forward(TIMINGS.lease)
        await other.sweep_once()
        await sandbox.clear_faults()
        await calling
        garage.now.forward(timedelta(seconds=1))
        await other.sweep_once()
    [kept] = (await garage.row(command))["outcome"]["refusals"]
    assert (kept["intent_id"], kept["reason"]) == (str(command.message_id), "window_closed")


@pytest.mark.parametrize("mode", ["page", "server_error"])
async def test_an_outage_of_minutes_costs_none_of_the_messages_whose_first_calls_it_met(
    line: Line, garage: Garage, sandbox: SandboxClient, mode: Mode
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(20)]
    await sandbox.fault("meta", mode, http_status=503)
    await accept(line, *commands)

    async def minutes_pass(number: int) -> None:
        for _ in range(number * 4):
            await garage.caught_up()
            await line.claim_once()
            await line.sweep_once()
            garage.now.forward(timedelta(seconds=15))

    await minutes_pass(3)
    await sandbox.clear_faults()
    await minutes_pass(6)
    assert set(await garage.states(*commands)) == {"accepted"}
