"""Accounts that people must mend: they rest, loudly, and one call at a time tries them out."""

from datetime import timedelta

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.kafka.producer import Producer
from libs.common.providers import WHATSAPP_BY_META
from libs.common.sending import pause_queries
from services.whatsapp_sender.worker import new_send
from tests.support.logs import LogLines
from tests.support.sandbox import NUMBER_ID
from tests.support.sending import TIMINGS, Garage, Line, a_sender, accept, kim

MINUTE = timedelta(minutes=1)


async def test_a_pause_of_all_accounts_stops_all_and_one_call_tries_it_out(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(6)]
    async with garage.pool.acquire() as db:
        await pause_queries.pause_account(db, WHATSAPP_BY_META, "*", "20003", garage.now(), proof="answer")
    await accept(line, *commands)
    assert await line.claim_once() == 0
    garage.now.forward(timedelta(seconds=16))
    async with a_sender(garage, producer, sandbox.url) as replica:
        assert [await line.claim_once(), await replica.claim_once()] == [1, 5]  # it went through, and ended the pause
    assert await garage.fetch("select * from pauses") == []


async def test_an_account_that_people_must_mend_is_tried_out_by_one_call_at_a_time_ever_more_rarely(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(8)]
    async with garage.pool.acquire() as db:
        await pause_queries.pause_account(db, WHATSAPP_BY_META, NUMBER_ID, "131042", garage.now(), proof="status")
        for _ in range(300):  # all that were under way fail late
            await pause_queries.pause_account(db, WHATSAPP_BY_META, NUMBER_ID, "131042", garage.now(), proof="status")
    await accept(line, *commands)
    gaps = []
    for _ in range(4):
        [pause] = await garage.fetch("select * from pauses")
        gaps.append(pause["until_at"] - garage.now())
        garage.now.forward(pause["until_at"] - garage.now())
        async with a_sender(garage, producer, sandbox.url) as replica:
            assert [await line.claim_once(), await replica.claim_once()] == [1, 0]
        async with garage.pool.acquire() as db:  # accepted, and failed late again
            await pause_queries.pause_account(db, WHATSAPP_BY_META, NUMBER_ID, "131042", garage.now(), proof="status")
    assert [round(gap.total_seconds(), 3) for gap in gaps] == [10, 10.5, 11.025, 11.576]
    assert sorted(await garage.states(*commands)) == ["accepted"] * 4 + ["pending"] * 4
    assert {row["tries"] for row in await garage.fetch("select tries from sends where state = 'pending'")} == {0}

    await line.sweep_once()
    await line.sweep_once()
    [said] = log_lines.of("account.resting")
    assert (said["level"], said["phone_number_id"], said["provider_code"]) == ("error", NUMBER_ID, "131042")
    garage.now.forward(MINUTE)
    await line.sweep_once()
    assert len(log_lines.of("account.resting")) == 2


async def test_an_account_that_is_well_again_is_found_so_within_seconds_however_long_a_lease_is(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await sandbox.fault("meta", "fail", code=190)
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(5)]
    await accept(line, *commands)
    for _ in range(6):
        await line.claim_once()
        [pause] = await garage.fetch("select until_at from pauses")
        rest = pause["until_at"] - garage.now()
        assert rest <= timedelta(seconds=15) < TIMINGS.lease
        garage.now.forward(rest)
    await sandbox.clear_faults()
    await line.claim_once()
    while await line.claim_once():
        pass
    assert set(await garage.states(*commands)) == {"accepted"}


@pytest.mark.parametrize("called", ["before", "since"])
async def test_what_a_late_status_said_only_a_status_of_a_later_call_takes_back(
    line: Line, garage: Garage, sandbox: SandboxClient, called: str
) -> None:
    earlier, later, waiting = [await garage.command(await kim(garage, sandbox)) for _ in range(3)]
    await accept(line, earlier)
    await line.claim_once()
    garage.now.forward(timedelta(seconds=1))
    async with garage.pool.acquire() as db:
        await pause_queries.pause_account(db, WHATSAPP_BY_META, NUMBER_ID, "131042", garage.now(), proof="status")
    garage.now.forward(timedelta(seconds=15))
    await accept(line, later)
    garage.now.forward(timedelta(milliseconds=1))
    await accept(line, waiting)
    await line.claim_once()
    assert await garage.states(earlier, later, waiting) == ["accepted", "accepted", "pending"]
    assert await line.claim_once() == 0  # that it was accepted proves nothing

    proof = earlier if called == "before" else later
    async with garage.pool.acquire() as db:
        await pause_queries.prove(db, "meta", [new_send(proof).key])
    assert await line.claim_once() == int(called == "since")
    garage.now.forward(TIMINGS.proof)  # no status came: the next one tries
    await line.claim_once()
    assert await garage.states(waiting) == ["accepted"]


async def test_a_command_that_is_not_to_go_before_a_time_waits_and_its_conversation_with_it(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    first = await garage.command(conversation)
    first = first.model_copy(update={"not_before": garage.now() + timedelta(seconds=15)})
    behind, other = await garage.command(conversation), await garage.command(await kim(garage, sandbox))
    await accept(line, first, behind, other)
    await line.claim_once()
    assert await garage.states(first, behind, other) == ["pending", "pending", "accepted"]
    garage.now.forward(timedelta(seconds=15))
    await line.claim_once()
    await line.claim_once()
    assert await garage.states(first, behind) == ["accepted", "accepted"]
