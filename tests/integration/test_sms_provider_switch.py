"""The setting names another SMS provider while sends of the first are under way: none is made twice. On real servers."""

import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, cast

from deploy.local.sandbox.client import SandboxClient
from libs.common.bridge.link_codes import LinkCodes
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.providers import Provider
from libs.common.sending.engine import SendEngine
from libs.common.sending.outcomes import Accepted, SendOutcome
from services.sms_bridge.adapter import SmsAdapter
from services.sms_bridge.effects import BridgeConfig
from services.sms_bridge.providers import ListedSms, OutgoingSms, RecordedStatus
from tests.support.sms_world import GRACE, HOLD, LINK_KEY, LINK_LIFE, SETTLING, TIMINGS, SmsWorld, to_somebody_else

LONG = GRACE + SETTLING + timedelta(minutes=1)


class OtherProvider:
    """Takes every SMS, and has nothing on record of what the first provider sent."""

    name = cast("Provider", "other")
    account = "other-account"

    def __init__(self) -> None:
        self.sent: list[OutgoingSms] = []

    async def send(self, sms: OutgoingSms) -> SendOutcome:
        self.sent.append(sms)
        return Accepted(self.account, f"other-{len(self.sent)}")

    async def list_sent(self, *, sender: str, to: str, since: datetime) -> Sequence[ListedSms]:
        return []

    async def list_obscured(self, *, sender: str, to: Collection[str], since: datetime) -> Sequence[ListedSms]:
        return []

    async def recorded_status(self, provider_id: str) -> RecordedStatus:
        return RecordedStatus(None)

    def refusal(self, code: str | None) -> None:
        return None


@asynccontextmanager
async def switched(
    world: SmsWorld, kafka: KafkaConnection, provider: OtherProvider
) -> AsyncIterator[SendEngine[OutgoingSms]]:
    """A process of the bridge whose setting names the other provider. Its loops do not run."""
    adapter = SmsAdapter(
        provider=provider,
        pool=world.pool,
        redis_gate=world.redis_gate,
        link_codes=LinkCodes([LINK_KEY], secrets.choice),
        config=BridgeConfig(timedelta(hours=24), timedelta(minutes=5), HOLD, LINK_LIFE, None),
        grace=GRACE,
        settling=SETTLING,
    )
    async with Producer(kafka) as producer:
        yield SendEngine(adapter, world.pool, producer, TIMINGS, now=world.clock)


async def an_answer_is_lost(world: SmsWorld, sandbox: SandboxClient, *, sent: bool) -> Any:
    await sandbox.configure(sent_after=0)
    await sandbox.fault("twilio", "server_error", sent=sent, calls=1)
    command = await world.decided(route="session", text="Your Golf is ready.")
    await world.send(command)
    row = await world.send_row(command)
    assert (row["state"], row["provider"]) == ("unknown", "twilio")
    return command


async def test_a_lost_answer_is_settled_by_the_provider_that_took_the_send(
    world: SmsWorld, kafka_of_senders: KafkaConnection, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=True)
    other = OtherProvider()
    async with switched(world, kafka_of_senders, other) as line:
        for _ in range(3):
            world.clock.forward(LONG)
            await line.sweep_once()
            assert await line.claim_once() == 0
        assert (await world.send_row(command))["state"] == "unknown"
        new = await to_somebody_else(world, 1)
        await world.accept(new)
        assert await line.claim_once() == 1
        assert [sms.to for sms in other.sent] == [new.to]
        assert (await world.send_row(new))["provider"] == "other"
    await world.sweep()
    assert (await world.send_row(command))["state"] == "accepted"
    assert len(await sandbox.sms()) == 1


async def test_a_send_whose_first_call_was_lost_is_called_again_by_the_same_provider(
    world: SmsWorld, kafka_of_senders: KafkaConnection, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=False)
    await world.sweep(LONG)
    row = await world.send_row(command)
    assert (row["state"], row["resends"], row["provider"]) == ("pending", 1, "twilio")
    other = OtherProvider()
    async with switched(world, kafka_of_senders, other) as line:
        assert await line.claim_once() == 0
    assert await world.send() == 1
    assert (await world.send_row(command))["state"] == "accepted"
    assert (len(await sandbox.sms()), other.sent) == (1, [])


async def test_without_a_process_that_asks_the_first_provider_the_send_ends_as_unknown(
    world: SmsWorld, kafka_of_senders: KafkaConnection, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=True)
    other = OtherProvider()
    async with switched(world, kafka_of_senders, other) as line:
        world.clock.forward(timedelta(hours=24) + TIMINGS.patience + LONG)
        await line.sweep_once()
    row = await world.send_row(command)
    assert (row["state"], row["outcome"]["reason"]) == ("failed", "unknown_outcome")
    assert other.sent == []
