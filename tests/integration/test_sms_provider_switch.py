"""The setting names another SMS provider while sends of the first are in flight: none is made twice."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from deploy.local.sandbox.client import SandboxClient
from libs.common.providers import Provider
from libs.common.sending.outcomes import Accepted, SendOutcome
from services.sms_bridge.providers import ListedSms, OutgoingSms, RecordedStatus
from tests.support.sms_world import GRACE, SETTLING, TIMINGS, SmsWorld, to_somebody_else

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


async def an_answer_is_lost(world: SmsWorld, sandbox: SandboxClient, *, sent: bool) -> Any:
    await sandbox.configure(sent_after=0)
    await sandbox.fault("twilio", "server_error", sent=sent, calls=1)
    command = await world.decided(route="session", text="Your Golf is ready.")
    await world.send(command)
    row = await world.send_row(command)
    assert (row["state"], row["provider"]) == ("unknown", "twilio")
    return command


async def test_a_lost_answer_is_settled_by_the_provider_that_took_the_send(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=True)
    other = OtherProvider()
    _, line = world.another(other)
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


async def test_a_process_that_holds_both_providers_asks_the_one_that_took_the_send(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=True)
    other = OtherProvider()
    _, line = world.another(other, world.twilio)
    world.clock.forward(LONG)
    await line.sweep_once()
    assert (await world.send_row(command))["state"] == "accepted"
    assert await world.value("select provider from provider_ids where send_id = $1", command.message_id) == "twilio"
    assert await world.value("select provider from charges where message_id = $1", command.message_id) == "twilio"
    assert (len(await sandbox.sms()), other.sent) == (1, [])


async def test_a_send_whose_first_call_was_lost_is_called_again_by_the_same_provider(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=False)
    await world.sweep(LONG)
    row = await world.send_row(command)
    assert (row["state"], row["resends"], row["provider"]) == ("pending", 1, "twilio")
    other = OtherProvider()
    _, line = world.another(other)
    assert await line.claim_once() == 0
    assert await world.send() == 1
    assert (await world.send_row(command))["state"] == "accepted"
    assert (len(await sandbox.sms()), other.sent) == (1, [])


async def test_without_a_process_that_asks_the_first_provider_the_send_ends_as_unknown(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=True)
    other = OtherProvider()
    _, line = world.another(other)
    world.clock.forward(timedelta(hours=24) + TIMINGS.patience + LONG)
    await line.sweep_once()
    row = await world.send_row(command)
    assert (row["state"], row["outcome"]["reason"]) == ("failed", "unknown_outcome")
    assert other.sent == []
