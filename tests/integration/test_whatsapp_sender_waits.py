"""Throttles, breakers and lost connections: who waits, for how long, and who passes."""

from datetime import timedelta

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.ids import callback_data
from libs.common.kafka.producer import Producer
from libs.common.sending import queries as sends
from libs.common.sending.rows import RUN
from services.whatsapp_sender.worker import new_send
from tests.support.published import Published
from tests.support.sending import Garage, Line, a_sender, accept, begins_to_stop, kim, nobodys_url, quicker


async def test_a_throttled_conversation_waits_in_order_and_others_pass(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    slow, other = await kim(garage, sandbox), await kim(garage, sandbox)
    first, second = await garage.command(slow), await garage.command(slow)
    passing = await garage.command(other)
    await sandbox.fault("meta", "throttle", code=131056, to=slow.phone, calls=1)
    await accept(line, first, second, passing)

    await line.claim_once()
    await line.claim_once()
    assert await garage.states(first, second, passing) == ["pending", "pending", "accepted"]
    assert len(await sandbox.messages()) == 1, "what is behind a call that was not accepted is not called"

    garage.now.forward(timedelta(seconds=5))
    await line.claim_once()
    assert await garage.states(first, second) == ["accepted", "pending"]
    await line.claim_once()
    assert await garage.states(first, second) == ["accepted", "accepted"]
    callbacks = [message["callback"] for message in await sandbox.messages()]
    assert callbacks == [callback_data(command.org_id, command.message_id, 1) for command in (passing, first, second)]


async def test_a_row_whose_turn_would_come_too_late_for_its_lease_is_given_back_while_the_call_before_goes_on(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    first, second = await garage.command(conversation), await garage.command(conversation)
    await sandbox.fault("meta", "stall", seconds=60)
    timings = quicker(timeout=timedelta(seconds=19), lease=timedelta(seconds=20))
    async with a_sender(garage, producer, sandbox.url, timings=timings) as line:
        await accept(line, first, second)
        assert await line.begin_calls() == 2

        async def given_back() -> bool:
            await line.record()
            return await garage.states(first, second) == ["claimed", "pending"]

        await sandbox.until(given_back)
        assert (await garage.row(second))["tries"] == 0
        await line.begin_calls()
        assert await garage.states(first, second) == ["claimed", "pending"], "it waits for the call before all the same"
        await line.abandon_calls()


async def test_a_stop_ends_the_call_under_way_and_gives_back_the_rows_that_wait_for_it(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    first, *behind = [await garage.command(conversation) for _ in range(3)]
    await sandbox.fault("meta", "slow", seconds=60)
    async with a_sender(garage, producer, sandbox.url) as line:
        await line.__aenter__()
        await accept(line, first, *behind)
        await sandbox.until(sandbox.messages)
        stopping = await begins_to_stop(line)
        await sandbox.clear_faults()
        await stopping
    assert await garage.states(first, *behind) == ["accepted", "pending", "pending"]
    assert [(await garage.row(one))["tries"] for one in behind] == [0, 0]
    assert len(await sandbox.messages()) == 1


async def test_many_rows_behind_a_waiting_one_are_looked_at_once_and_again_when_their_turn_comes(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    slow = await kim(garage, sandbox)
    first, *behind = [await garage.command(slow) for _ in range(80)]
    passing = await garage.command(await kim(garage, sandbox))
    due = garage.now()
    await sandbox.fault("meta", "throttle", code=131056, to=slow.phone, calls=1)
    await accept(line, first)
    await line.claim_once()
    await accept(line, *behind, passing)
    await line.claim_once()
    await line.claim_once()
    assert await garage.states(first, passing) == ["pending", "accepted"]
    rows = [await garage.row(one) for one in behind]
    assert [(row["due_at"], row["tries"]) for row in rows] == [(due, 0)] * 79
    assert all(row["deferred_until"] is not None for row in rows)

    garage.now.forward(timedelta(seconds=5))
    await line.claim_once()
    freed = await garage.fetch("select message_id from sends where state = 'pending' and deferred_until is null")
    assert {row["message_id"] for row in freed} == {one.message_id for one in behind[:RUN]}
    runs = [len(behind[n : n + RUN]) for n in range(0, len(behind), RUN)]
    assert [await line.claim_once() for _ in runs] == runs
    callbacks = [message["callback"] for message in await sandbox.messages()]
    assert callbacks == [callback_data(command.org_id, command.message_id, 1) for command in (passing, first, *behind)]


async def test_a_claim_defers_the_rows_behind_it_and_none_of_its_own(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    commands = [await garage.command(conversation) for _ in range(3 * RUN + 5)]
    async with a_sender(garage, producer, sandbox.url, concurrency=8 * RUN) as line:
        await accept(line, *commands)
        assert await line.call_once() == RUN
        rows = [await garage.row(one) for one in commands]
        assert [row["state"] for row in rows if row["deferred_until"] is None] == ["claimed"] * RUN
        assert {row["state"] for row in rows if row["deferred_until"] is not None} == {"pending"}
        await line.record()
        assert [await line.claim_once() for _ in range(3)] == [RUN, RUN, 5]


async def test_rows_that_fill_a_claim_behind_calls_of_this_process_are_not_deferred_until_those_are_recorded(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    commands = [await garage.command(conversation) for _ in range(12)]
    async with a_sender(garage, producer, sandbox.url, concurrency=4) as line:
        for command in commands:  # one due before the other, so that a claim reads the oldest
            await accept(line, command)
            garage.now.forward(timedelta(milliseconds=1))
        assert await line.call_once() == 4
        assert await line.call_once() == 0  # what a claim may read is all behind those four
        deferred = await garage.fetch("select from sends where deferred_until is not null")
        assert not deferred
        await line.record()
        assert [await line.claim_once() for _ in range(2)] == [4, 4]
    assert set(await garage.states(*commands)) == {"accepted"}


async def test_rows_behind_one_that_may_hold_them_back_for_a_minute_are_looked_at_after_it(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    await garage.template()
    first, *behind = [await garage.command(conversation, template="car_ready" if n == 0 else None) for n in range(40)]
    await sandbox.fault("meta", "fail", code=131048, calls=1)  # templates of this number rest for long
    await accept(line, first, *behind)
    await line.claim_once()
    await line.claim_once()
    garage.now.forward(timedelta(seconds=61))
    await line.sweep_once()
    for _ in behind:
        await line.claim_once()
    assert await garage.states(first, *behind) == ["pending"] + ["accepted"] * 39


async def test_templates_at_rest_are_left_as_they_are_and_hold_sessions_back_for_a_minute(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await garage.template()
    trigger = await garage.command(await kim(garage, sandbox), template="car_ready")
    await sandbox.fault("meta", "fail", code=131048, calls=1)
    await accept(line, trigger)
    await line.claim_once()
    conversation = await kim(garage, sandbox)
    templates = [await garage.command(conversation, template="car_ready") for _ in range(3)]
    session = await garage.command(conversation)
    await accept(line, *templates, session)
    before = await garage.fetch("select ctid, xmin, * from sends where message_id <> $1", trigger.message_id)
    await line.claim_once()
    await line.sweep_once()
    assert await garage.fetch("select ctid, xmin, * from sends where message_id <> $1", trigger.message_id) == before

    garage.now.forward(timedelta(seconds=61))
    await line.claim_once()
    assert await garage.states(*templates, session) == ["pending"] * 3 + ["accepted"]


async def test_a_pair_that_is_throttled_again_waits_longer(line: Line, garage: Garage, sandbox: SandboxClient) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "throttle", code=131056, calls=2)
    await accept(line, command)
    await line.claim_once()
    first = (await garage.row(command))["due_at"] - garage.now()
    garage.now.forward(timedelta(seconds=5))
    await line.claim_once()
    second = (await garage.row(command))["due_at"] - garage.now()
    assert first <= timedelta(seconds=2) < timedelta(seconds=3) < second


async def test_a_throttled_number_rests_for_every_replica_and_is_probed_first(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(12)]
    await sandbox.fault("meta", "throttle", calls=1)
    await accept(line, commands[0])
    assert await line.claim_once() == 1
    async with a_sender(garage, producer, sandbox.url) as replica:
        await accept(replica, *commands[1:])
        assert await replica.claim_once() == 0

        garage.now.forward(timedelta(seconds=3))
        assert await replica.claim_once() == 4  # the probes
    assert await line.claim_once() == 8  # they went through
    assert set(await garage.states(*commands)) == {"accepted"}
    assert await garage.fetch("select from pauses where provider = 'meta'") == []


async def test_a_spam_limit_stops_templates_and_lets_sessions_pass(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await garage.template()
    await sandbox.template("car_ready", "en_GB", "Your {{1}} is ready.")
    conversation, other = await kim(garage, sandbox), await kim(garage, sandbox)
    template = await garage.command(conversation, template="car_ready")
    behind = await garage.command(conversation)
    session = await garage.command(other)
    waiting = await garage.command(other, template="car_ready")
    await sandbox.fault("meta", "fail", code=131048, calls=1)
    await accept(line, template)
    await line.claim_once()
    await accept(line, behind, session, waiting)
    await line.claim_once()
    assert await garage.states(template, behind, session, waiting) == ["pending", "pending", "accepted", "pending"]

    garage.now.forward(timedelta(seconds=60))  # the template holds nobody back for longer than a minute
    await line.claim_once()
    assert await garage.states(template, behind, waiting) == ["pending", "accepted", "pending"]


async def test_a_spam_limit_that_free_form_messages_meet_costs_one_call_at_a_time(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    texts = [await garage.command(await kim(garage, sandbox)) for _ in range(3)]
    await sandbox.fault("meta", "fail", code=131048, calls=2)
    await accept(line, texts[0])
    await line.claim_once()
    await accept(line, *texts[1:])
    assert await line.claim_once() == 0
    garage.now.forward(timedelta(minutes=4))
    assert [await line.claim_once() for _ in range(2)] == [1, 0]  # refused again
    garage.now.forward(timedelta(minutes=5))
    await line.claim_once()
    await line.claim_once()
    assert await garage.states(*texts) == ["accepted"] * 3


async def test_a_number_whose_token_is_refused_waits_to_be_mended(
    garage: Garage, producer: Producer, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    async with a_sender(garage, producer, sandbox.url, token="expired") as line:
        await accept(line, command)
        await line.claim_once()
        assert await garage.states(command) == ["pending"]

        await garage.execute("update whatsapp_numbers set token = 'sandbox-graph-token'")  # a number may carry its own
        garage.now.forward(timedelta(minutes=2))
        await line.claim_once()
    assert await garage.states(command) == ["accepted"]
    assert await published.updates() == []


async def test_a_request_that_never_left_is_simply_later(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    async with a_sender(garage, producer, nobodys_url()) as cut_off:
        await accept(cut_off, command)
        await cut_off.claim_once()
    row = await garage.row(command)
    assert (row["state"], row["outcome"]["code"], row["resends"]) == ("pending", "never_left", 0)

    garage.now.forward(timedelta(seconds=5))
    async with a_sender(garage, producer, sandbox.url) as line:
        await line.claim_once()
    assert await garage.states(command) == ["accepted"]


@pytest.mark.parametrize("status", [403, 404, 302])
async def test_an_error_page_for_one_message_puts_off_that_message_alone(
    line: Line, garage: Garage, sandbox: SandboxClient, status: int
) -> None:
    odd, other = [await garage.command(await kim(garage, sandbox)) for _ in range(2)]
    await sandbox.fault("meta", "page", http_status=status, to=odd.to, calls=3)
    for _ in range(3):
        await accept(line, odd)
        await line.claim_once()
        garage.now.forward(timedelta(minutes=5))
    await accept(line, other)
    await line.claim_once()
    assert await garage.states(other) == ["accepted"]
    garage.now.forward(timedelta(minutes=5))
    await line.claim_once()
    assert await garage.states(odd) == ["accepted"]


async def test_media_that_meta_cannot_fetch_is_tried_a_few_times(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "fail", code=131053)
    await accept(line, command)
    for _ in range(5):
        await line.claim_once()
        garage.now.forward(timedelta(minutes=2))
    assert len(await sandbox.calls()) == 3
    assert [(u["reason"], u["provider_code"]) for u in await published.updates()] == [("provider_refused", "131053")]


async def test_a_row_of_an_account_at_rest_ends_at_its_deadline(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await kim(garage, sandbox), expires_in=timedelta(seconds=4))
    await sandbox.fault("meta", "fail", code=131031)
    await accept(line, command)
    await line.claim_once()
    garage.now.forward(timedelta(seconds=4))
    await line.claim_once()
    assert await garage.states(command) == ["pending"]  # its account rests: nobody looks
    await line.sweep_once()
    assert [update["reason"] for update in await published.updates()] == ["intent_expired"]


async def test_an_older_sms_of_the_conversation_is_waited_for_but_not_longer_than_a_minute(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    sms, behind = await garage.command(conversation), await garage.command(conversation)
    async with garage.pool.acquire() as db:
        now = garage.now()
        await sends.store(db, "sms", [new_send(sms)], now, now + timedelta(days=1))
    await accept(line, behind)
    assert await line.claim_once() == 0
    garage.now.forward(timedelta(seconds=60))
    assert await line.claim_once() == 1
    assert await garage.states(sms, behind) == ["pending", "accepted"]


async def test_an_account_that_stays_away_is_asked_ever_more_rarely(garage: Garage, producer: Producer) -> None:
    commands = [await garage.command(await garage.conversation()) for _ in range(20)]
    pauses = []
    async with a_sender(garage, producer, nobodys_url()) as cut_off:
        await accept(cut_off, *commands)
        for _ in range(8):
            await cut_off.claim_once()
            [pause] = await garage.fetch("select until_at, tries from pauses where provider = 'meta'")
            pauses.append(pause["tries"])
            garage.now.ahead += max(pause["until_at"] - garage.now(), timedelta(0)) + timedelta(milliseconds=1)
    assert pauses == [1, 2, 3, 4, 5, 6, 7, 8]
    assert set(await garage.states(*commands)) == {"pending"}
