"""The SMS provider answers nothing for minutes: the number pauses, and each backlogged SMS goes once afterwards."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from deploy.local.sandbox.faults import Mode
from libs.common.clock import utc_now
from libs.common.kafka.connection import KafkaConnection
from libs.common.providers.accounts import SmsAccounts, account_of
from libs.common.sending.breaker import UNRESPONSIVE_AFTER
from services.sms_bridge.providers.opening import ProviderConfig, open_accounts, open_http
from services.sms_bridge.search import LISTS_AT_ONCE
from services.sms_bridge.worker import new_send
from tests.support.logs import LogLines
from tests.support.sandbox import TWILIO_SID, VONAGE_KEY, VONAGE_SECRET
from tests.support.sms_world import ORG, SmsWorld, an_sms_world, to_somebody_else
from tests.support.waiting import eventually_true


@pytest_asyncio.fixture
async def world(
    database: str, patient_redis_url: str, kafka_of_senders: KafkaConnection, sandbox: SandboxClient
) -> AsyncIterator[SmsWorld]:
    async with an_sms_world(
        dsn=database, redis_url=patient_redis_url, kafka=kafka_of_senders, twilio_url=sandbox.url, public_url=None
    ) as made:
        yield made


@pytest.mark.parametrize("mode", ["page", "server_error"])
@pytest.mark.parametrize(("reads", "probes"), [("answered", 6), ("away", 1)])
async def test_an_outage_costs_no_sms_and_few_of_them_a_call(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines, *, mode: Mode, reads: str, probes: int
) -> None:
    await sandbox.fault("twilio", mode, http_status=503)
    if reads == "away":
        await sandbox.fault("twilio", mode, endpoint="account", http_status=503)
    await sandbox.fault("twilio", "page", endpoint="list", http_status=503)
    commands = []
    for number in range(20):
        commands.append(await to_somebody_else(world, 100 + number))
        await world.send(commands[-1])

    async def minutes_pass(minutes: int) -> None:
        for _ in range(minutes * 4):
            world.clock.forward(timedelta(seconds=15))
            while await world.send():
                pass
            await world.sweep()

    async def states() -> list[str]:
        return [(await world.send_row(command))["state"] for command in commands]

    assert await states() == ["unknown"] * UNRESPONSIVE_AFTER + ["pending"] * (20 - UNRESPONSIVE_AFTER)
    [opened] = log_lines.of("breaker.opened")
    assert (opened["dependency"], opened["org_id"], opened["detail"]) == ("twilio", ORG, f"account {TWILIO_SID}")
    await minutes_pass(5)
    assert sum([bool((await world.send_row(command))["tries"]) for command in commands]) <= UNRESPONSIVE_AFTER + probes
    await sandbox.clear_faults()
    for _ in range(30):  # a list that this machine is too slow for puts silence off
        if set(await states()) == {"accepted"}:
            break
        await minutes_pass(1)
    assert sorted([sms["message"]["to"] for sms in await sandbox.sms()]) == [command.to for command in commands]


async def test_where_no_call_is_made_twice_a_call_asks_first_once_one_was_lost(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    accounts = SmsAccounts("vonage", {"vonage": account_of("vonage", VONAGE_KEY, [VONAGE_SECRET])}, {})
    await sandbox.fault("vonage", "page")
    await sandbox.fault("vonage", "page", endpoint="account")
    async with open_http() as http:
        providers = open_accounts(accounts, http, ProviderConfig({"vonage": sandbox.url}, None, 20.0), utc_now)
        _, line = world.another(*providers.values(), accounts=accounts)
        commands = []
        for number in range(4):
            commands.append(await to_somebody_else(world, 100 + number))
            await line.accept([new_send(commands[-1])])
            await line.claim_once()
        states = [(await world.send_row(command))["state"] for command in commands]
        assert states == ["unknown", "pending", "pending", "pending"]

        await sandbox.clear_faults()
        world.clock.forward(timedelta(seconds=16))
        while await line.claim_once():
            pass
    states = [(await world.send_row(command))["state"] for command in commands]
    assert states == ["unknown", "accepted", "accepted", "accepted"]


async def test_where_no_call_is_made_twice_a_kill_in_the_read_before_it_is_no_call(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    accounts = SmsAccounts("vonage", {"vonage": account_of("vonage", VONAGE_KEY, [VONAGE_SECRET])}, {})
    await sandbox.fault("vonage", "page", calls=1)
    stall = await sandbox.fault("vonage", "stall", endpoint="account", seconds=60, calls=1)
    async with open_http() as http:
        providers = open_accounts(accounts, http, ProviderConfig({"vonage": sandbox.url}, None, 20.0), utc_now)
        _, line = world.another(*providers.values(), accounts=accounts)
        lost, waiting = await to_somebody_else(world, 100), await to_somebody_else(world, 101)
        await line.accept([new_send(lost)])
        await line.claim_once()
        await line.accept([new_send(waiting)])
        assert await line.begin_calls() == 1

        async def is_read() -> bool:
            return stall not in [one["id"] for one in await sandbox.faults()]

        await eventually_true(is_read, "the read is under way")
        await line.abandon_calls()
        world.clock.forward(timedelta(minutes=5))
        await line.sweep_once()
        while await line.claim_once():
            pass
    assert (await world.send_row(waiting))["state"] == "accepted"


@pytest.mark.parametrize(("mode", "http_status"), [("server_error", 500), ("page", 403)])
async def test_what_is_said_of_one_message_harms_no_neighbour(
    world: SmsWorld, sandbox: SandboxClient, mode: Any, http_status: int
) -> None:
    harmed = await to_somebody_else(world, 100)
    await sandbox.fault("twilio", mode, http_status=http_status, to=harmed.to)
    await world.send(harmed)
    for number in range(101, 101 + 2 * UNRESPONSIVE_AFTER):
        await world.send(await to_somebody_else(world, number))
    assert len(await sandbox.sms()) == 2 * UNRESPONSIVE_AFTER
    assert await world.value("select count(*) from pauses") == 0
    row = await world.send_row(harmed)
    assert (row["state"], row["tries"]) == ("unknown" if mode == "server_error" else "pending", 1)


async def test_a_list_that_is_away_is_asked_about_a_few_sms_and_not_about_every_one(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    lost = []
    for number in range(30):
        if number % UNRESPONSIVE_AFTER:
            await sandbox.fault("twilio", "drop_answer", calls=1)
        command = await to_somebody_else(world, 100 + number)
        await world.send(command)
        lost += [command] if number % UNRESPONSIVE_AFTER else []
    await sandbox.fault("twilio", "page", endpoint="list", http_status=503, calls=100)
    await world.sweep(timedelta(seconds=1))
    [away] = await sandbox.faults()
    assert 0 < 100 - away["left"] < 2 * LISTS_AT_ONCE
    await sandbox.clear_faults()
    await world.sweep(timedelta(minutes=2))
    assert {(await world.send_row(command))["state"] for command in lost} == {"accepted"}
