"""A running sender claims what waits for nothing while it stores it. Everything else goes as if it did not."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from deploy.local.sandbox.faults import Mode
from libs.common.db.pool import Connection, open_pool
from libs.common.ids import SendKey, callback_data
from libs.common.kafka.producer import Producer
from libs.common.sending import pause_queries
from libs.common.sending import queries as sends
from libs.common.sending.claiming import claim_new
from libs.common.sending.outcomes import Rerouted
from libs.common.sending.rows import RUN, Pause, SendRow
from services.whatsapp_sender.worker import new_send
from tests.support import world
from tests.support.logs import LogLines
from tests.support.sandbox import HookInbox
from tests.support.sending import ORG, TIMINGS, WABA, Garage, a_sender, accept, kim, quicker, statuses_in
from tests.support.waiting import eventually

PATIENCE = 30.0
DAY = timedelta(days=1)


async def ended(garage: Garage, sandbox: SandboxClient, number: int) -> None:
    async def all_ended() -> bool:
        return len(await garage.fetch("select from sends where settled_at is not null")) == number

    await sandbox.until(all_ended, PATIENCE)


async def locks_are_waited_for(garage: Garage) -> bool:
    waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return bool(await garage.fetch(waiting))


async def test_what_waits_for_nothing_or_for_each_other_is_stored_as_claimed_and_sent_in_order(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    garage.now.go_on()
    one, another = await kim(garage, sandbox), await kim(garage, sandbox)
    commands = [await garage.command(to) for to in (one, another, one, another, one)]
    await sandbox.fault("meta", "slow", seconds=60, calls=2)
    async with a_sender(garage, producer, sandbox.url) as line:
        async with line:
            await accept(line, *commands)
            assert await garage.states(*commands) == ["claimed"] * 5
            assert len(await garage.fetch("select from send_claims where cardinality(message_ids) = 5")) == 1
            assert line.calls_running == len(commands)
            await accept(line, *commands)  # they come again while their calls run
            await sandbox.clear_faults()
            await ended(garage, sandbox, len(commands))
        assert set(await garage.states(*commands)) == {"accepted"}
        assert {(await garage.row(command))["tries"] for command in commands} == {1}
    assert await garage.fetch("select from send_claims") == []
    sent = [message["callback"] for message in await sandbox.messages()]
    for mine in (commands[::2], commands[1::2]):
        expected = [callback_data(command.org_id, command.message_id, 1) for command in mine]
        assert [callback for callback in sent if callback in expected] == expected
    assert len(sent) == len(commands)


async def test_of_one_conversation_a_run_is_stored_as_claimed_and_the_rest_waits_for_it(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    garage.now.go_on()
    to = await kim(garage, sandbox)
    commands = [await garage.command(to) for _ in range(RUN + 3)]
    await sandbox.fault("meta", "slow", seconds=60, calls=1)
    async with a_sender(garage, producer, sandbox.url) as line, line:
        await accept(line, *reversed(commands), *commands)  # each comes twice
        assert await garage.states(*commands) == ["claimed"] * RUN + ["pending"] * 3
        await sandbox.clear_faults()
        await ended(garage, sandbox, len(commands))
    sent = [message["callback"] for message in await sandbox.messages()]
    assert sent == [callback_data(one.org_id, one.message_id, 1) for one in commands]


async def test_a_run_has_one_place_from_its_first_call_to_its_last_answer(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    garage.now.go_on()
    people = [await kim(garage, sandbox) for _ in range(3)]
    async with a_sender(garage, producer, sandbox.url, concurrency=16) as line, line:  # half of it for one account
        for round_ in (1, 2):
            await sandbox.fault("meta", "slow", seconds=60, calls=3)
            for to in people:
                run = [await garage.command(to) for _ in range(5)]
                await accept(line, *run)
                assert await garage.states(*run) == ["claimed"] * 5
            await sandbox.clear_faults()
            await ended(garage, sandbox, round_ * 15)
    assert len({message["callback"] for message in await sandbox.messages()}) == 30


async def test_a_run_of_two_numbers_gives_its_place_back(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    """As of one whose organisation has changed its number meanwhile."""
    garage.now.go_on()
    to, other = await kim(garage, sandbox), f"{garage.number}9"
    async with garage.pool.acquire() as db:
        await world.a_number(db, ORG, other, waba=WABA, display_number="+447700900124")
    await sandbox.customer_writes(other, to.phone)
    async with a_sender(garage, producer, sandbox.url, concurrency=16) as line, line:  # half of it for one account
        for round_ in range(1, 11):
            first = await garage.command(to)
            second = (await garage.command(to)).model_copy(update={"phone_number_id": other})
            await accept(line, first, second)
            await ended(garage, sandbox, 2 * round_)
    assert len(await sandbox.messages()) == 20


async def test_a_run_keeps_its_place_while_a_call_goes_on_that_the_rest_of_it_has_waited_too_long_for(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    garage.now.go_on()
    people = [await kim(garage, sandbox) for _ in range(9)]
    runs = [[await garage.command(to) for _ in range(2)] for to in people]
    next_run = runs.pop()
    calls = len(runs)
    await sandbox.fault("meta", "slow", seconds=60, calls=calls)
    timings = quicker(lease=TIMINGS.timeout + timedelta(seconds=3))  # after 3 s no call may begin
    async with a_sender(garage, producer, sandbox.url, timings=timings, concurrency=2 * calls) as line, line:
        for run in runs:
            await accept(line, *run)

        async def the_rest_is_given_back() -> bool:
            return [await garage.states(*run) for run in runs] == [["claimed", "pending"]] * calls

        await sandbox.until(the_rest_is_given_back, PATIENCE)
        await accept(line, *next_run)
        await line.begin_calls()
        assert await garage.states(*next_run) == ["pending"] * 2
        await sandbox.clear_faults()
        await ended(garage, sandbox, 2 * len(people))
    assert len(await sandbox.messages()) == 2 * len(people)


SECOND_OF_A_RUN: dict[str, tuple[Mode, int | None, list[str], Sequence[int]]] = {
    "the customer is throttled": ("throttle", 131056, ["accepted"] * RUN, range(RUN)),
    "the number is throttled": ("throttle", 130429, ["accepted"] * RUN, range(RUN)),
    "it is refused": ("fail", 131051, ["accepted", "failed", *["accepted"] * (RUN - 2)], (0, *range(2, RUN))),
    "the window is closed": ("fail", 131047, ["accepted", *["rerouted"] * (RUN - 1)], (0,)),
    "its outcome is unknown": ("drop_answer", None, ["accepted", "unknown", *["pending"] * (RUN - 2)], (0, 1)),
}
"""What becomes of the second call of a run: mode and code of the fault, the states then, and which were sent."""


@pytest.mark.parametrize("case", SECOND_OF_A_RUN)
async def test_of_a_run_whose_second_call_is_not_accepted_the_rest_is_judged_afresh_and_sent_in_order(
    garage: Garage, producer: Producer, sandbox: SandboxClient, case: str
) -> None:
    mode, code, states, sent = SECOND_OF_A_RUN[case]
    garage.now.go_on()
    to = await kim(garage, sandbox)
    commands = [await garage.command(to) for _ in range(RUN)]
    held_up = await sandbox.fault("meta", "slow", seconds=60, calls=2)
    await sandbox.fault("meta", mode, code=code, calls=1)

    async def as_expected() -> bool:
        return await garage.states(*commands) == states

    async with a_sender(garage, producer, sandbox.url) as line, line:
        await accept(line, *commands)
        assert await garage.states(*commands) == ["claimed"] * RUN
        await sandbox.until(sandbox.messages, PATIENCE)  # the first call
        await sandbox.clear_faults(held_up)
        await sandbox.until(as_expected, PATIENCE)
    callbacks = [callback_data(commands[n].org_id, commands[n].message_id, 1) for n in sent]
    assert [message["callback"] for message in await sandbox.messages()] == callbacks


async def test_what_is_behind_a_row_that_the_gate_will_end_is_stored_as_pending(
    garage: Garage, producer: Producer, sandbox: SandboxClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = await kim(garage, sandbox)
    commands = [await garage.command(to) for _ in range(3)]
    async with a_sender(garage, producer, sandbox.url) as line:
        judge = line._adapter.judge
        refused = commands[1].org_id, commands[1].message_id, 1

        async def judged(db: Connection, rows: Sequence[SendRow], now: datetime, *, stored: bool) -> dict[SendKey, Any]:
            return {**await judge(db, rows, now, stored=stored), refused: Rerouted("window_closed")}

        monkeypatch.setattr(line._adapter, "judge", judged)
        async with garage.pool.acquire() as db, db.transaction():
            rows, now = [new_send(one) for one in commands], garage.now()
            claims = await claim_new(db, line._adapter, rows, {garage.number: 8}, now, timings=TIMINGS)
        assert [claim.row.message_id for claim in claims] == [commands[0].message_id]
        assert await garage.states(*commands) == ["claimed", "pending", "pending"]


@pytest.mark.parametrize("state", ["not due yet", "expired"])
async def test_what_is_not_due_yet_or_over_is_stored_as_pending_and_those_behind_it_too(
    garage: Garage, producer: Producer, sandbox: SandboxClient, state: str
) -> None:
    to, now = await kim(garage, sandbox), garage.now()
    commands = [await garage.command(to) for _ in range(3)]
    changed = {"not_before": now + DAY} if state == "not due yet" else {"expires_at": now}
    commands[1] = commands[1].model_copy(update=changed)
    async with a_sender(garage, producer, sandbox.url) as line:
        async with garage.pool.acquire() as db, db.transaction():
            rows = [new_send(one) for one in commands]
            claims = await claim_new(db, line._adapter, rows, {garage.number: 8}, now, timings=TIMINGS)
        assert [claim.row.message_id for claim in claims] == [commands[0].message_id]
        assert await garage.states(*commands) == ["claimed", "pending", "pending"]


@pytest.mark.parametrize("called", [True, False])
async def test_a_sender_killed_after_it_stored_a_claim_leaves_nothing_lost_and_nothing_double(
    garage: Garage, producer: Producer, sandbox: SandboxClient, hook_inbox: HookInbox, *, called: bool
) -> None:
    await sandbox.configure(webhook_url=hook_inbox.url)
    await sandbox.fault("meta", "slow" if called else "stall", seconds=60, calls=1)
    conversation = await kim(garage, sandbox)
    command, behind = await garage.command(conversation), await garage.command(conversation)
    async with a_sender(garage, producer, sandbox.url) as killed, a_sender(garage, producer, sandbox.url) as line:
        async with killed:
            await accept(killed, command, behind)
            if called:
                await sandbox.until(sandbox.messages, PATIENCE)
            await killed.abandon_calls()
        assert await garage.states(command, behind) == ["claimed", "claimed"]
        await sandbox.clear_faults()

        await accept(line, command, behind)  # its offset was not committed
        assert await line.claim_once() == 0
        garage.now.forward(TIMINGS.lease)
        if called:
            await eventually(lambda: "read" in hook_inbox.statuses())
            await garage.take_statuses(statuses_in(hook_inbox))
        claimed = []
        for _ in range(2):  # second calls are made singly
            garage.now.forward(TIMINGS.grace)
            await garage.caught_up()
            await line.sweep_once()
            claimed.append(await line.claim_once())
        assert claimed == [1, 0 if called else 1]
    assert await garage.states(command, behind) == ["accepted"] * 2
    sent = [message["callback"] for message in await sandbox.messages()]
    assert sorted(sent) == sorted(callback_data(one.org_id, one.message_id, 1) for one in (command, behind))


async def test_a_command_that_another_replica_stores_meanwhile_is_called_once(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    garage.now.go_on()
    command, ours = [await garage.command(await kim(garage, sandbox)) for _ in range(2)]
    async with a_sender(garage, producer, sandbox.url) as line, line:
        async with garage.pool.acquire() as db, db.transaction():
            now = garage.now()
            await sends.store(db, "whatsapp", [new_send(command)], now, now + DAY)
            accepting = asyncio.create_task(accept(line, command, ours))
            await sandbox.until(lambda: locks_are_waited_for(garage), PATIENCE)
        await accepting
        await ended(garage, sandbox, 2)
    assert await garage.states(command, ours) == ["accepted"] * 2
    assert {(await garage.row(one))["tries"] for one in (command, ours)} == {1}
    assert len(await sandbox.messages()) == 2


async def test_the_gate_and_pauses_hold_for_rows_that_are_being_stored(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    closed = await garage.command(await garage.conversation(wrote_ago=DAY))
    now = garage.now()
    async with a_sender(garage, producer, sandbox.url) as line, line:
        await accept(line, closed)
        await ended(garage, sandbox, 1)
        assert await garage.states(closed) == ["rerouted"]
        paused = await garage.command(await kim(garage, sandbox))
        pause = Pause(garage.number, "all", now + DAY, 1, "130429", "throttle", "answer", now)
        async with garage.pool.acquire() as db, db.transaction():
            await pause_queries.pause(db, line._adapter.transport, [pause])
        await accept(line, paused)
        assert await garage.states(paused) == ["pending"]
    assert await sandbox.messages() == []


async def test_no_row_is_claimed_ahead_of_an_older_one_of_its_batch_that_waits(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    await garage.template()
    to, now = await kim(garage, sandbox), garage.now()
    rests, behind = await garage.command(to, template="car_ready"), await garage.command(to)
    full = (await garage.command(to)).model_copy(update={"phone_number_id": "206400000000099"})
    after_full = await garage.command(to)
    async with a_sender(garage, producer, sandbox.url) as line, line:
        pause = Pause(garage.number, "templates", now + DAY, 1, "131048", "throttle", "answer", now)
        async with garage.pool.acquire() as db, db.transaction():
            await pause_queries.pause(db, line._adapter.transport, [pause])
        await accept(line, rests, behind)
        assert await garage.states(rests, behind) == ["pending", "pending"]
        adapter, rows = line._adapter, [new_send(full), new_send(after_full)]
        await garage.execute("delete from sends")
        async with garage.pool.acquire() as db, db.transaction():  # the older one's account has no place
            assert await claim_new(db, adapter, rows, {garage.number: 8}, now, timings=TIMINGS) == []
    assert await sandbox.messages() == []


async def test_commands_are_stored_while_every_place_of_their_account_is_taken(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    people = [await kim(garage, sandbox) for _ in range(8)]
    first = [await garage.command(to) for to in people]
    flood = [[await garage.command(to) for to in people] for _ in range(24)]
    await sandbox.fault("meta", "slow", seconds=60, calls=len(first))
    async with a_sender(garage, producer, sandbox.url, concurrency=16) as line, line:
        await accept(line, *first)
        for batch in flood:
            await accept(line, *batch)
        assert set(await garage.states(*first)) == {"claimed"}  # the provider has not answered yet
        assert line.calls_running == len(first)
        await line.abandon_calls()


async def test_a_gate_that_is_too_slow_holds_up_one_batch_and_no_further_one(
    database: str, garage: Garage, producer: Producer, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    garage.now.go_on()
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(3)]
    async with open_pool(database, application_name="slow", command_seconds=1) as pool:
        slow = Garage(pool, garage.now)
        async with a_sender(slow, producer, sandbox.url) as line, line:
            async with garage.pool.acquire() as db, db.transaction():
                await db.execute("lock table templates in access exclusive mode")  # the gate reads it, storing does not
                for command in commands:
                    await accept(line, command)
            await ended(garage, sandbox, len(commands))
    assert len([one for one in log_lines.all() if one.get("task") == "accept"]) == 1
    assert await garage.states(*commands) == ["accepted"] * 3
    assert len(await sandbox.messages()) == 3


async def test_what_is_being_stored_at_a_stop_is_called_and_recorded_before_the_engine_ends(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    garage.now.go_on()
    command = await garage.command(await kim(garage, sandbox))
    async with a_sender(garage, producer, sandbox.url) as line:
        await line.__aenter__()
        async with garage.pool.acquire() as db, db.transaction():
            await db.execute("lock table templates in access exclusive mode")
            accepting = asyncio.create_task(accept(line, command))
            await sandbox.until(lambda: locks_are_waited_for(garage), PATIENCE)
            leaving = asyncio.create_task(line.__aexit__())
            for _ in range(100):  # as far as it comes without the command
                await asyncio.sleep(0)
        await accepting
        await leaving
    assert await garage.states(command) == ["accepted"]
    assert len(await sandbox.messages()) == 1
