"""What an SMS costs: the estimate by the rate card, then the provider's figure."""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.ids import SendKey, callback_data
from libs.common.providers.accounts import AccountKey, SmsAccounts, account_of
from libs.common.providers.cost import Cost
from libs.common.sending import sms_charges
from libs.common.sending.outcomes import Accepted, SendOutcome, Unknown
from libs.common.sending.sms_charges import Figure
from libs.common.sending.spent import Spent
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from services.sms_bridge import prices
from services.sms_bridge.providers import OutgoingSms
from services.sms_bridge.worker import new_send
from tests.support.sms_world import ORG, SmsWorld

KEY = AccountKey("vonage", "k")
VONAGE = SmsAccounts("vonage", {"vonage": account_of("vonage", "k", ["s"])}, {})


@dataclass
class Told:
    """An account of Vonage whose answer is given."""

    outcome: SendOutcome
    key: AccountKey = KEY
    lookup: None = None
    sent: list[OutgoingSms] = field(default_factory=list)

    async def send(self, sms: OutgoingSms) -> SendOutcome:
        self.sent.append(sms)
        return self.outcome

    async def answers(self) -> bool:
        return True

    def refusal(self, _code: str | None) -> None:
        return None


async def receipt(world: SmsWorld, send: SendKey, provider_id: str, price: str | None, status: str = "sent") -> None:
    one = ProviderStatus(
        *("sms", "vonage", "k", provider_id, status, world.clock(), None, callback_data(*send)),
        {"status": "accepted", "price": price, "currency": "EUR"},
    )
    async with world.pool.acquire() as db, db.transaction():
        await receive_statuses(db, [one], world.clock())


COLUMNS = "category, segments, price, currency, estimated, estimate, estimate_currency"


async def charges(world: SmsWorld) -> list[tuple[Any, ...]]:
    async with world.pool.acquire() as db:
        return [tuple(row.values()) for row in await db.fetch(f"select {COLUMNS} from charges order by at")]


async def ask(world: SmsWorld) -> None:
    for provider in world.adapter._providers.values():
        await prices.ask(world.pool, provider, world.clock)


async def told(world: SmsWorld, figure: Figure) -> None:
    async with world.pool.acquire() as db, db.transaction():
        await sms_charges.keep_figures(db, [figure], sms_charges.SpentByMessage(Spent))


async def test_the_estimate_stands_until_the_provider_tells_its_price(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.configure(sent_after=0)  # its record has a price once the message is sent, and the clock here is held
    await sandbox.sms_account(currency="EUR")
    await world.send(await world.decided())
    estimate = ("bridge", 1, Decimal("0.040000"), "GBP", True, Decimal("0.040000"), "GBP")
    await ask(world)
    assert await charges(world) == [estimate], "it is not asked for at once"
    world.clock.forward(sms_charges.ASK_AFTER)
    await ask(world)
    [(category, segments, price, currency, estimated, kept, _)] = await charges(world)
    assert (category, segments, estimated, kept) == ("bridge", 1, False, Decimal("0.040000"))
    [sent] = await sandbox.sms()
    assert (price, currency) == (abs(Decimal(sent["message"]["price"])), "EUR")
    assert await world.value("select price_due_at from charges") is None


async def test_plain_text_is_a_category_of_its_own(world: SmsWorld) -> None:
    await world.send(await world.decided(route="session", text="x" * 200))
    assert [row[:3] for row in await charges(world)] == [("sms", 2, Decimal("0.080000"))]


async def test_of_two_messages_of_a_charge_both_figures_count(world: SmsWorld) -> None:
    command = await world.decided(route="session", text="Ready.")
    await world.send(command)
    await world.execute("update charges set provider_ids = '{SM1,SM2}'")
    for provider_id, estimated in (("SM1", True), ("SM1", True), ("SM2", False)):
        await told(world, Figure(ORG, command.message_id, 1, provider_id, Cost(1, Decimal("0.05"), "USD")))
        [row] = await charges(world)
        assert row[4] is estimated
    assert row[1:4] == (2, Decimal("0.100000"), "USD")


async def test_a_figure_without_a_currency_is_in_that_of_the_estimate(world: SmsWorld) -> None:
    command = await world.decided(route="session", text="Ready.")
    await world.send(command)
    [provider_id] = await world.value("select provider_ids from charges")
    await told(world, Figure(ORG, command.message_id, 1, provider_id, Cost(1, Decimal("0.0333"), None)))
    assert [row[1:5] for row in await charges(world)] == [(1, Decimal("0.033300"), "GBP", False)]


async def test_a_price_that_never_comes_is_asked_for_ever_more_rarely_and_given_up(world: SmsWorld) -> None:
    await world.send(await world.decided(route="session", text="Ready."))
    provider = next(iter(world.adapter._providers))
    asked = 0
    for _ in range(3 * 24 * 4):
        world.clock.forward(timedelta(minutes=15))
        async with world.pool.acquire() as db, db.transaction():
            asked += len(await sms_charges.take_unpriced(db, *provider, world.clock(), 10))
    assert 4 <= asked <= 12
    assert await world.value("select price_due_at from charges") is None


async def test_the_price_in_a_receipt_counts_where_the_answer_was_lost(world: SmsWorld) -> None:
    """Vonage tells a price with its answer and with each receipt."""
    _, line = world.another(Told(Unknown("no_answer")), accounts=VONAGE)
    command = await world.decided()
    key = (ORG, command.message_id, 1)
    await line.accept([new_send(command)])
    await line.claim_once()
    await receipt(world, key, "P1", "0.03330000")
    assert await charges(world) == []
    world.clock.forward(timedelta(minutes=10))
    await line.sweep_once()
    found = [row[1:6] for row in await charges(world)]
    assert found == [(1, Decimal("0.033300"), "EUR", False, Decimal("0.040000"))]
    await receipt(world, key, "P1", "0.0444", "delivered")
    assert [row[2:5] for row in await charges(world)] == [(Decimal("0.044400"), "EUR", False)]
    await receipt(world, key, "P1", "no price", "delivered")
    await receipt(world, key, "P1", None, "delivered")
    assert [row[2:5] for row in await charges(world)] == [(Decimal("0.044400"), "EUR", False)]


async def test_of_a_long_sms_whose_answer_was_lost_every_part_must_have_its_price(world: SmsWorld) -> None:
    _, line = world.another(Told(Unknown("no_answer")), accounts=VONAGE)
    command = await world.decided(route="session", text="x" * 400)
    await line.accept([new_send(command)])
    await line.claim_once()
    for part, price in (("P1", "0.03"), ("P2", "0.04")):
        await receipt(world, (ORG, command.message_id, 1), part, price)
    world.clock.forward(timedelta(minutes=10))
    await line.sweep_once()
    assert [row[1:5] for row in await charges(world)] == [(3, Decimal("0.120000"), "GBP", True)]
    async with world.pool.acquire() as db, db.transaction():
        third = Figure(ORG, command.message_id, 1, "P3", Cost(None, Decimal("0.05"), "EUR"))
        await sms_charges.keep_figures(db, [third], sms_charges.SpentByMessage(Spent), of_parts=True)
    assert [row[1:5] for row in await charges(world)] == [(3, Decimal("0.120000"), "EUR", False)]


@pytest.mark.parametrize("early", [False, True])
async def test_a_receipt_adds_nothing_to_the_price_of_an_answer(world: SmsWorld, *, early: bool) -> None:
    answered = Accepted("k", "P1", cost=Cost(2, Decimal("0.07"), "EUR"), parts=("P2",))
    _, line = world.another(Told(answered), accounts=VONAGE)
    command = await world.decided(route="session", text="x" * 200)
    await line.accept([new_send(command)])
    if not early:
        await line.claim_once()
    for part in ("P1", "P2", "P1"):
        await receipt(world, (ORG, command.message_id, 1), part, "0.035")
    if early:
        await line.claim_once()
    assert [row[1:5] for row in await charges(world)] == [(2, Decimal("0.070000"), "EUR", False)]
    assert await world.value("select count(*) from early_statuses") == 0
