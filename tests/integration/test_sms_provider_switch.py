"""An organisation changes its SMS account while sends of the first are in flight: none is made twice, and no account
stands in for another.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.providers.accounts import AccountKey, SmsAccounts, account_of
from libs.common.sending.outcomes import MENDING, Accepted, RetryLater, SendOutcome, Unknown
from services.sms_bridge.providers import OutgoingSms
from services.sms_bridge.worker import new_send
from tests.support.logs import LogLines
from tests.support.sandbox import TWILIO_SID, TWILIO_TOKEN
from tests.support.sms_world import GRACE, ORG, SETTLING, TIMINGS, SmsWorld, to_somebody_else

LONG = GRACE + SETTLING + timedelta(minutes=1)
BOTH = SmsAccounts(
    "twilio",
    {"twilio": account_of("twilio", TWILIO_SID, [TWILIO_TOKEN]), "vonage": account_of("vonage", "other", ["s"])},
    {"own": account_of("twilio", "AC" + "9" * 32, ["t"], messaging_service="MG1")},
)


OTHER = AccountKey("vonage", "other")


@dataclass
class OtherAccount:
    """Takes every SMS, or answers as it is told to."""

    key: AccountKey = OTHER
    outcome: SendOutcome | None = None
    sent: list[OutgoingSms] = field(default_factory=list)
    lookup: None = None

    async def send(self, sms: OutgoingSms) -> SendOutcome:
        self.sent.append(sms)
        return self.outcome or Accepted(self.key.account, f"{self.key.account}-{len(self.sent)}")

    async def answers(self) -> bool:
        return True

    def refusal(self, code: str | None) -> None:
        return None


async def an_answer_is_lost(world: SmsWorld, sandbox: SandboxClient, *, sent: bool) -> Any:
    await sandbox.configure(sent_after=0)
    await sandbox.fault("twilio", "server_error", sent=sent, calls=1)
    command = await world.decided(route="session", text="Your Golf is ready.")
    await world.send(command)
    row = await world.send_row(command)
    assert (row["state"], row["provider"], row["provider_account"]) == ("unknown", "twilio", TWILIO_SID)
    return command


async def switched(world: SmsWorld, provider: str | None, account: str | None = None) -> None:
    await world.execute("update orgs set sms_provider = $2, sms_account = $3 where org_id = $1", ORG, provider, account)


async def test_a_lost_answer_is_looked_for_at_the_account_that_took_the_send(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=True)
    other = OtherAccount()
    await switched(world, "vonage")
    _, line = world.another(world.twilio, other, accounts=BOTH)
    new = await to_somebody_else(world, 1)
    await line.accept([new_send(new)])
    assert await line.claim_once() == 1
    assert [sms.to for sms in other.sent] == [new.to]
    assert (await world.send_row(new))["provider_account"] == "other"
    world.clock.forward(LONG)
    await line.sweep_once()
    assert (await world.send_row(command))["state"] == "accepted"
    assert await world.value("select provider from provider_ids where send_id = $1", command.message_id) == "twilio"
    assert await world.value("select provider from charges where message_id = $1", command.message_id) == "twilio"
    assert (len(await sandbox.sms()), len(other.sent)) == (1, 1)


async def test_a_send_whose_first_call_was_lost_is_called_again_by_the_same_account(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=False)
    await world.sweep(LONG)
    row = await world.send_row(command)
    assert (row["state"], row["resends"], row["provider_account"]) == ("pending", 1, TWILIO_SID)
    other = OtherAccount()
    await switched(world, "vonage")
    only_other = SmsAccounts("vonage", {"vonage": BOTH.single["vonage"]}, {})
    _, line = world.another(other, accounts=only_other)
    assert await line.claim_once() == 0
    world.clock.forward(LONG)
    _, line = world.another(other, world.twilio, accounts=BOTH)
    assert await line.claim_once() == 1
    assert (await world.send_row(command))["state"] == "accepted"
    assert (len(await sandbox.sms()), other.sent) == (1, [])


async def test_without_a_process_that_has_the_first_account_the_send_ends_as_unknown(
    world: SmsWorld, sandbox: SandboxClient
) -> None:
    command = await an_answer_is_lost(world, sandbox, sent=True)
    other = OtherAccount()
    _, line = world.another(other, accounts=SmsAccounts("vonage", {"vonage": BOTH.single["vonage"]}, {}))
    for _ in range(2):
        world.clock.forward(timedelta(hours=13) + TIMINGS.patience + LONG)
        await line.sweep_once()
    row = await world.send_row(command)
    assert (row["state"], row["outcome"]["reason"]) == ("failed", "unknown_outcome")
    assert other.sent == []


async def test_at_an_account_without_a_list_no_lost_answer_is_called_again(world: SmsWorld) -> None:
    other = OtherAccount(outcome=Unknown("no_answer"))
    await switched(world, "vonage")
    _, line = world.another(other, world.twilio, accounts=BOTH)
    command = await world.decided()
    await line.accept([new_send(command)])
    await line.claim_once()
    for _ in range(5):
        world.clock.forward(LONG)
        await line.sweep_once()
        assert await line.claim_once() == 0
    assert (await world.send_row(command))["state"] == "unknown"
    assert len(other.sent) == 1


@pytest.mark.parametrize(
    ("provider", "account"), [(None, "nobody"), ("vonage", "own"), ("twilio", "nobody")], ids=["unknown", "mixed", "no"]
)
async def test_an_account_that_is_not_configured_sends_nothing_and_no_other_stands_in_for_it(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines, provider: str | None, account: str
) -> None:
    other = OtherAccount()
    await switched(world, provider, account)
    _, line = world.another(world.twilio, other, accounts=BOTH)
    command = await world.decided()
    await line.accept([new_send(command)])
    assert await line.claim_once() == 0
    row = await world.send_row(command)
    assert (row["state"], row["outcome"]["reason"]) == ("failed", "window_expired_sms_unavailable")
    assert (await sandbox.sms(), other.sent) == ([], [])
    [refused] = [one for one in log_lines.of("send.refused") if one["reason"] == "unknown_account"]
    assert (refused["level"], refused["org_id"]) == ("error", ORG)
    assert (await world.slot())[0] is None


async def test_an_account_of_its_own_sends_by_its_messaging_service(world: SmsWorld, sandbox: SandboxClient) -> None:
    own = OtherAccount(BOTH.named["own"].key)
    await switched(world, None, "own")
    _, line = world.another(world.twilio, own, accounts=BOTH)
    command = await world.decided()
    await line.accept([new_send(command)])
    assert await line.claim_once() == 1
    assert [sms.messaging_service for sms in own.sent] == ["MG1"]
    assert await sandbox.sms() == []


@pytest.mark.parametrize("scope", ["provider", "account"])
async def test_a_fault_of_one_account_rests_no_other(world: SmsWorld, sandbox: SandboxClient, scope: Any) -> None:
    await sandbox.configure(sent_after=0)
    broken = OtherAccount(outcome=RetryLater(scope, MENDING, "4", fault=True))
    _, line = world.another(world.twilio, broken, accounts=BOTH)
    await switched(world, "vonage")
    waits = await to_somebody_else(world, 1)
    await line.accept([new_send(waits)])
    assert await line.claim_once() == 1
    assert await line.claim_once() == 0  # the account rests
    await switched(world, None)
    goes = await to_somebody_else(world, 2)
    await line.accept([new_send(goes)])
    assert await line.claim_once() == 2  # the same number, by the other account
    assert [len(await sandbox.sms()), len(broken.sent)] == [2, 1]
    [(account, provider)] = [tuple(row) for row in await _pauses(world)]
    assert account == ("*" if scope == "provider" else "+447700900001") + "@vonage:other"
    assert provider == "vonage"


async def _pauses(world: SmsWorld) -> list[Any]:
    async with world.pool.acquire() as db:
        return list(await db.fetch("select account, provider from pauses"))
