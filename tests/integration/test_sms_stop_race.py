"""STOP against the claim of an SMS, on real servers: none is claimed after the STOP is committed."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.common.events.outbound import SmsCommand
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.providers.accounts import SmsAccounts
from services.ingest import sms
from services.ingest.items import InboundSms
from services.ingest.number_gate import NumberGate
from services.ingest.sms_gate import SmsGate
from services.ingest.sms_parts import OrgSms
from services.ingest.worker_deps import Deps
from tests.support.sms_world import ORG, SMS_NUMBER, TIMINGS, SmsWorld, to_somebody_else
from tests.support.stepped_engine import SteppedEngine

pytestmark = pytest.mark.usefixtures("log_lines")


class SlowGate:
    """The adapter, whose gate takes a while after it has read its facts: the claim is not committed yet."""

    def __init__(self, adapter: Any, chance: random.Random) -> None:
        self._adapter, self._chance = adapter, chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def judge(self, db: Any, rows: Sequence[Any], now: Any, *, stored: bool) -> Any:
        await asyncio.sleep(self._chance.random() * 0.01)
        verdicts = await self._adapter.judge(db, rows, now, stored=stored)
        await asyncio.sleep(self._chance.random() * 0.02)
        return verdicts


def deps_of(world: SmsWorld, producer: Producer) -> Deps:
    gates = NumberGate(world.pool), SmsGate(world.pool, SmsAccounts("twilio", {}, {}))
    return Deps(world.pool, producer, timedelta(hours=24), timedelta(minutes=5), world.clock, *gates)


def a_word(world: SmsWorld, command: SmsCommand, text: str) -> OrgSms:
    at = world.clock()
    return OrgSms(
        ORG,
        "GB",
        InboundSms("twilio", "AC1", f"SM{uuid4().hex}", SMS_NUMBER, command.to, text, at),
    )


async def race(world: SmsWorld, line: SteppedEngine[Any], deps: Deps, number: int, chance: random.Random) -> str:
    """One customer writes STOP while an SMS to them is claimed; how the SMS ended."""
    command = await to_somebody_else(world, number)
    await world.accept(command)

    async def stopped() -> str:
        await asyncio.sleep(chance.random() * 0.03)
        await sms.store_batch([a_word(world, command, "STOP")], deps)
        return str((await world.send_row(command))["state"])

    state, _ = await asyncio.gather(stopped(), line.claim_once())
    while (await world.send_row(command))["state"] in ("pending", "claimed"):
        await line.claim_once()
    row, message = await world.send_row(command), await world.message(command.message_id)
    if state == "pending":  # the claim was not committed when the STOP was
        assert row["tries"] == 0
    if row["tries"] == 0:
        assert (message["status"], message["reason"]) == ("failed", "window_expired_sms_opted_out")
        return "stopped"
    return "claimed"


async def races(world: SmsWorld, kafka: KafkaConnection, times: int) -> None:
    chance = random.Random(11)
    async with Producer(kafka) as producer:
        line = SteppedEngine(
            SlowGate(world.adapter, chance), world.pool, producer, TIMINGS, now=world.clock, concurrency=8
        )
        deps = deps_of(world, producer)
        ends = [await race(world, line, deps, number, chance) for number in range(times)]
    assert set(ends) == {"stopped", "claimed"}


async def test_no_sms_is_claimed_after_stop_is_committed(world: SmsWorld, kafka_of_senders: KafkaConnection) -> None:
    await races(world, kafka_of_senders, 30)


@pytest.mark.proof
async def test_no_sms_is_claimed_after_stop_in_two_hundred_races(
    world: SmsWorld, kafka_of_senders: KafkaConnection
) -> None:
    await races(world, kafka_of_senders, 200)


async def test_what_waits_when_stop_comes_ends_as_opted_out_and_start_lets_the_next_one_go(
    world: SmsWorld, kafka_of_senders: KafkaConnection
) -> None:
    async with Producer(kafka_of_senders) as producer:
        deps = deps_of(world, producer)
        bridge = await world.decided()
        await world.accept(bridge)
        await sms.store_batch([a_word(world, bridge, "STOP")], deps)
        assert await world.line.claim_once() == 0
        message = await world.message(bridge.message_id)
        assert (message["status"], message["reason"]) == ("failed", "window_expired_sms_opted_out")
        world.clock.forward(timedelta(minutes=1))
        await sms.store_batch([a_word(world, bridge, "START")], deps)
        assert await world.send(await world.decided(route="session", text="Welcome back.")) == 1
