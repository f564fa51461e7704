"""What WhatsApp messages cost: charges from Meta's words and the dated rate card."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.directory.merge import Merge, merge_customers
from libs.common.sending.pricing import Pricing, Rate, keep_pricing, upsert_rates
from libs.common.sending.whatsapp_charges import FIRST_LOOK, LOOKED_AFTER, charge_some
from libs.common.sending.whatsapp_prices import FREE_SERVICE
from tests.support.databases import somebody_waits
from tests.support.world import a_conversation, a_customer

ORG = "acme"
NUMBER = "106400000000001"
AT = datetime(2026, 11, 20, 10, tzinfo=UTC)

CARD = [
    Rate(date(2026, 1, 1), "whatsapp", "utility", "GB", "GBP", Decimal("0.0200")),
    Rate(date(2026, 11, 1), "whatsapp", "utility", "GB", "GBP", Decimal("0.0159")),
    Rate(date(2026, 11, 1), "whatsapp", "utility", "GB", "EUR", Decimal("0.0190")),
    Rate(date(2026, 1, 1), "whatsapp", "marketing", "*", "GBP", Decimal("0.0382")),
    Rate(date(2026, 1, 1), "whatsapp", "utility", "*", "GBP", Decimal("0.0500")),
]


@dataclass
class World:
    """One conversation of one organisation, and what Meta says of its messages."""

    pool: Pool
    conversation_id: UUID
    wamids: dict[UUID, str] = field(default_factory=dict)

    async def run(self, query: str, *values: Any) -> list[Any]:
        async with self.pool.acquire() as db:
            return await db.fetch(query, *values)

    async def said(
        self,
        category: str = "utility",
        type_: str = "regular",
        *,
        at: datetime = AT,
        message_id: UUID | None = None,
        wamid: str | None = None,
    ) -> UUID:
        """Meta says a price of a message, of a new one unless it is named."""
        new, message_id = message_id is None, message_id or uuid4()
        if new:
            await self.run(
                "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status,"
                " occurred_at, received_at) values ($1, $2, $3, 'out', 'whatsapp', 'text', '{}', 'sent', $4, $4)",
                ORG,
                message_id,
                self.conversation_id,
                at,
            )  # fmt: skip -- a row
            self.wamids[message_id] = f"wamid.{message_id}"
        word = Pricing(ORG, message_id, wamid or self.wamids[message_id], 1, type_, category, "PMP", None, None, at)
        async with self.pool.acquire() as db, db.transaction():
            await keep_pricing(db, [word])
        return message_id

    async def becomes(self, message_id: UUID, status: str, at: datetime = AT) -> None:
        column = {"delivered": "delivered_at", "read": "read_at", "failed": "failed_at"}[status]
        await self.run(f"update messages set status = $2, {column} = $3 where message_id = $1", message_id, status, at)

    async def charge(self, now: datetime = AT, *, after: timedelta = timedelta(0)) -> None:
        while await self.charge_some(now + after):
            pass

    async def charge_some(self, now: datetime, limit: int = 100) -> int:
        async with self.pool.acquire() as db, db.transaction():
            return await charge_some(db, now, limit)

    async def price(self, message_id: UUID) -> tuple[Decimal | None, str | None, bool]:
        (row,) = await self.run("select price, currency, estimated from charges where message_id = $1", message_id)
        return row["price"], row["currency"], row["estimated"]


@pytest_asyncio.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_pool(database, application_name="test", size=6, command_seconds=10) as pool:
        async with pool.acquire() as db, db.transaction():
            await upsert_rates(db, CARD)
            await db.execute(
                "insert into orgs (org_id, name, currency, upserted_at) values ($1, 'AcmeMotors', 'GBP', $2)", ORG, AT
            )
            await db.execute(
                "insert into whatsapp_numbers (phone_number_id, org_id, waba_id, display_number, upserted_at)"
                " values ($1, $2, '206400000000001', '+447700900123', $3)",
                NUMBER,
                ORG,
                AT,
            )  # fmt: skip -- a row
            customer = await db.fetchval(
                "insert into customers (org_id, origin, phone) values ($1, 'inbound', '+447700900999')"
                " returning customer_id",
                ORG,
            )
            conversation = await db.fetchval(
                "insert into conversations (org_id, customer_id, phone_number_id, wa_id)"
                " values ($1, $2, $3, '447700900999') returning conversation_id",
                ORG,
                customer,
                NUMBER,
            )  # fmt: skip -- a row
        yield World(pool, conversation)


async def test_the_estimate_of_a_sent_message_is_confirmed_by_its_delivery(world: World) -> None:
    message = await world.said()
    await world.charge()
    assert await world.price(message) == (Decimal("0.0159"), "GBP", True)
    await world.becomes(message, "delivered", AT + timedelta(seconds=2))
    await world.charge(after=timedelta(seconds=5))
    assert (await world.price(message))[2], "it is looked at again later"
    await world.charge(after=FIRST_LOOK)
    assert await world.price(message) == (Decimal("0.0159"), "GBP", False)
    assert not await world.run("select 1 from charges where price_due_at is not null")


async def test_the_price_is_that_of_the_day_the_country_and_the_currency(world: World) -> None:
    of_september = await world.said(at=datetime(2026, 9, 30, 23, 59, tzinfo=UTC))
    await world.charge(datetime(2026, 10, 1, tzinfo=UTC))
    assert await world.price(of_september) == (Decimal("0.0200"), "GBP", True)
    marketing = await world.said("marketing")
    await world.charge()
    assert await world.price(marketing) == (Decimal("0.0382"), "GBP", True)
    await world.run("update orgs set currency = 'EUR'")
    euros = await world.said()
    await world.charge()
    assert await world.price(euros) == (Decimal("0.0190"), "EUR", True)
    await world.run("update conversations set wa_id = null, bsuid = 'FR.1234567890'")
    await world.run("update customers set phone = null")
    await world.run("update orgs set currency = 'GBP'")
    abroad = await world.said()
    await world.charge()
    assert await world.price(abroad) == (Decimal("0.0500"), "GBP", True)


@pytest.mark.parametrize(("category", "type_"), [("marketing", "free_entry_point"), ("utility", "free_tomorrow")])
async def test_what_meta_gives_away_costs_nothing(world: World, category: str, type_: str) -> None:
    message = await world.said(category, type_)
    await world.becomes(message, "delivered")
    await world.charge()
    price, _, estimated = await world.price(message)
    assert (price, estimated) == (Decimal(0), False)


async def test_an_unknown_category_has_no_known_price_until_the_card_has_one(world: World) -> None:
    message = await world.said("general_purpose_ai")
    await world.becomes(message, "read")
    await world.charge()
    assert await world.price(message) == (None, "GBP", False)
    async with world.pool.acquire() as db, db.transaction():
        await upsert_rates(db, [Rate(date(2026, 1, 1), "whatsapp", "general_purpose_ai", "*", "GBP", Decimal("0.01"))])
    await world.charge(after=timedelta(hours=1))
    assert await world.price(message) == (Decimal("0.01"), "GBP", False)


async def test_of_the_free_form_messages_of_a_number_the_first_thousand_of_a_month_are_free(world: World) -> None:
    await world.run("insert into service_months values ($1, $2, '2026-11-01', $3)", ORG, NUMBER, FREE_SERVICE - 2)
    messages = [await world.said("service", at=AT + timedelta(seconds=n)) for n in range(4)]
    for n, message in enumerate(messages):
        await world.becomes(message, "delivered", AT + timedelta(seconds=n))
    await world.charge()
    assert [(await world.price(one))[0] for one in messages] == [0, 0, Decimal("0.0159"), Decimal("0.0159")]
    for one in messages:  # Meta says it again, and says something new of the last one
        await world.said("service", "regular_again", at=AT + timedelta(minutes=1), message_id=one)
    await world.charge(after=timedelta(minutes=1))
    assert [(await world.price(one))[0] for one in messages] == [0, 0, Decimal("0.0159"), Decimal("0.0159")]
    (row,) = await world.run("select delivered from service_months")
    assert row["delivered"] == FREE_SERVICE + 2, "each counts once"
    december = await world.said("service", at=datetime(2026, 12, 1, tzinfo=UTC))
    await world.charge(datetime(2026, 12, 1, tzinfo=UTC))
    assert (await world.price(december))[0] == 0


async def test_what_meta_takes_out_of_the_free_thousand_afterwards_makes_room_for_another(world: World) -> None:
    await world.run("insert into service_months values ($1, $2, '2026-11-01', $3)", ORG, NUMBER, FREE_SERVICE - 2)
    first, second, third = [await world.said("service", at=AT + timedelta(seconds=n)) for n in range(3)]
    for message in (first, second):
        await world.becomes(message, "delivered")
    await world.charge()
    await world.said("service", "free_entry_point", at=AT + timedelta(minutes=1), message_id=first)
    await world.said("marketing", at=AT + timedelta(minutes=1), message_id=second)
    await world.charge()
    await world.becomes(third, "delivered")
    fourth = await world.said("service", at=AT + timedelta(minutes=2))
    await world.becomes(fourth, "delivered", AT + timedelta(minutes=2))
    await world.charge(after=timedelta(minutes=2))
    assert [(await world.price(one))[0] for one in (first, second, third, fourth)] == [0, Decimal("0.0382"), 0, 0]
    await world.said("service", at=AT + timedelta(minutes=3), message_id=first)
    await world.charge(after=timedelta(minutes=3))
    assert (await world.price(first))[0] == Decimal("0.0159"), "it is one of them again, and comes last"


async def test_what_does_not_arrive_costs_nothing(world: World) -> None:
    failed, never = await world.said(), await world.said()
    await world.charge()
    await world.becomes(failed, "failed")
    await world.charge(after=FIRST_LOOK)
    assert (await world.price(failed))[0] == 0
    assert (await world.price(never))[::2] == (Decimal("0.0159"), True)
    await world.charge(after=LOOKED_AFTER)
    assert (await world.price(never))[::2] == (Decimal(0), False)
    await world.becomes(failed, "read", AT + timedelta(minutes=1))
    await world.said("utility", "regular_again", at=AT + timedelta(minutes=1), message_id=failed)
    await world.charge(after=timedelta(days=1))
    assert (await world.price(failed))[::2] == (Decimal("0.0159"), False), "it was read all the same"


async def test_a_message_that_a_resend_delivered_twice_costs_twice(world: World) -> None:
    message = await world.said()
    await world.said(message_id=message, wamid="wamid.second")
    await world.becomes(message, "delivered")
    await world.charge()
    assert await world.price(message) == (Decimal("0.0318"), "GBP", False)
    (row,) = await world.run("select provider_ids from charges")
    assert len(row["provider_ids"]) == 2


async def test_another_category_of_meta_makes_the_charge_anew(world: World) -> None:
    message = await world.said()
    await world.becomes(message, "delivered")
    await world.charge()
    await world.said("marketing", at=AT + timedelta(minutes=1), message_id=message)
    await world.charge(after=timedelta(minutes=1))
    assert await world.price(message) == (Decimal("0.0382"), "GBP", False)
    (row,) = await world.run("select category, estimate from charges")
    assert (row["category"], row["estimate"]) == ("marketing", Decimal("0.0159"))


async def test_processes_side_by_side_charge_each_message_once(world: World) -> None:
    messages = [await world.said("service", at=AT + timedelta(seconds=n)) for n in range(40)]
    for message in messages:
        await world.becomes(message, "delivered")

    async def one_process() -> None:
        while await world.charge_some(AT, 7):
            pass

    await asyncio.gather(*(one_process() for _ in range(4)))
    assert len(await world.run("select 1 from charges where not estimated and price = 0")) == 40
    (row,) = await world.run("select delivered from service_months")
    assert row["delivered"] == 40
    places = await world.run("select (jsonb_each_text(figures)).value::int as place from charges order by 1")
    assert [row["place"] for row in places] == list(range(1, 41))


async def test_two_processes_with_words_on_one_message_count_its_places_once(world: World) -> None:
    message = await world.said("service")
    await world.said("service", message_id=message, wamid="wamid.second")
    await world.becomes(message, "delivered")
    async with world.pool.acquire() as db, db.transaction():
        assert await charge_some(db, AT, 1) == 1
        other = asyncio.create_task(world.charge_some(AT, 1))
        await somebody_waits(db)
    assert await other == 1
    (row,) = await world.run("select delivered from service_months")
    (charge,) = await world.run("select figures from charges")
    assert row["delivered"] == 2
    assert sorted(charge["figures"].values()) == [1, 2]


async def test_a_message_of_a_thread_that_is_being_merged_is_charged_before_its_rows_have_followed(
    world: World,
) -> None:
    (known,) = await world.run("select customer_id from customers")
    async with world.pool.acquire() as db, db.transaction():
        remains = uuid4()
        await a_customer(db, ORG, remains, None)
        await a_conversation(db, ORG, uuid4(), remains, NUMBER)
        await merge_customers(db, [Merge(ORG, known["customer_id"], remains)])
    one = await world.said()  # it stands under the id that was given up
    await world.charge()
    await world.becomes(one, "delivered")
    await world.charge(after=FIRST_LOOK)
    assert await world.price(one) == (Decimal("0.0159"), "GBP", False)
