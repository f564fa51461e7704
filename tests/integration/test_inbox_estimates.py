"""Estimates of the composer: the dated rate card, the customer's country, the organisation's currency."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.sending.pricing import Rate, upsert_rates
from services.inbox.composer_views import Price, Prices
from services.inbox.estimates import prices_at, prices_for

NOW = datetime(2026, 11, 25, 14, 8, tzinfo=UTC)
SINCE = date(2026, 10, 1)
CARD = [
    Rate(SINCE, "whatsapp", "utility", "GB", "GBP", Decimal("0.0159")),
    Rate(SINCE, "whatsapp", "utility", "DE", "GBP", Decimal("0.0456")),
    Rate(SINCE, "whatsapp", "marketing", "*", "GBP", Decimal("0.0382")),
    Rate(SINCE, "whatsapp", "marketing", "GB", "USD", Decimal(9)),
    Rate(date(2026, 1, 1), "sms", "sms", "GB", "GBP", Decimal("0.0300")),
    Rate(SINCE, "sms", "sms", "GB", "GBP", Decimal("0.0400")),
    Rate(date(2027, 1, 1), "sms", "sms", "GB", "GBP", Decimal(7)),
]


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", command_seconds=10) as opened:
        yield opened


async def _conversation(pool: Pool, **columns: Any) -> UUID:
    """A conversation of acme with a British customer; the number has delivered ``delivered`` messages this month."""
    customer, conversation = uuid4(), uuid4()
    async with pool.acquire() as db:
        await db.execute(
            "insert into orgs (org_id, name, currency, upserted_at) values ('acme', 'Acme', 'GBP', now())"
            " on conflict (org_id) do nothing"
        )
        await db.execute(
            "insert into whatsapp_numbers (phone_number_id, org_id, waba_id, display_number, upserted_at)"
            " values ('1064001', 'acme', '2064001', '+447700900123', now()) on conflict do nothing"
        )
        await db.execute(
            "insert into customers (customer_id, org_id, phone, origin) values ($1, 'acme', $2, 'inbound')",
            customer,
            columns.get("phone", "+447700900999"),
        )
        await db.execute(
            "insert into conversations (conversation_id, org_id, customer_id, phone_number_id, wa_id)"
            " values ($1, 'acme', $2, '1064001', $3)",
            conversation,
            customer,
            columns.get("wa_id"),
        )
        await db.execute(
            "insert into service_months (org_id, phone_number_id, month, delivered) values ('acme', '1064001', $1, $2)"
            " on conflict (org_id, phone_number_id, month) do update set delivered = excluded.delivered",
            NOW.date().replace(day=1),
            columns.get("delivered", 1000),
        )
        await upsert_rates(db, CARD)
    return conversation


async def _prices(pool: Pool, conversation: UUID, org_id: str = "acme") -> Prices:
    async with pool.acquire() as db:
        return await prices_for(db, org_id, conversation, NOW)


async def test_prices_are_those_of_the_customers_country_and_of_the_day(pool: Pool) -> None:
    prices = await _prices(pool, await _conversation(pool))
    assert prices.of("UTILITY") == Price(Decimal("0.0159"), "GBP")
    assert prices.of("MARKETING") == Price(Decimal("0.0382"), "GBP")
    assert prices.of("AUTHENTICATION") is None
    assert prices.sms == Price(Decimal("0.0400"), "GBP")
    assert prices.service == Price(Decimal("0.0159"), "GBP")


async def test_a_customer_who_is_known_by_whatsapp_alone_is_priced_by_that_number_and_gets_no_sms(pool: Pool) -> None:
    prices = await _prices(pool, await _conversation(pool, phone=None, wa_id="4915112345678"))
    assert prices.of("UTILITY") == Price(Decimal("0.0456"), "GBP")
    assert prices.sms is None


async def test_the_free_messages_of_a_number_cost_nothing(pool: Pool) -> None:
    prices = await _prices(pool, await _conversation(pool, delivered=999))
    assert prices.service == Price(Decimal(0), "GBP")


async def test_another_organisations_conversation_has_no_price(pool: Pool) -> None:
    assert await _prices(pool, await _conversation(pool), org_id="other") == Prices()


async def test_who_writes_a_template_sees_what_it_costs_in_the_country_of_the_number(pool: Pool) -> None:
    await _conversation(pool)
    async with pool.acquire() as db:
        british, german = [await prices_at(db, "acme", number, NOW) for number in ("+447700900123", "+4915112345678")]
    assert british.of("UTILITY") == Price(Decimal("0.0159"), "GBP")
    assert german.of("UTILITY") == Price(Decimal("0.0456"), "GBP")
    assert british.of("MARKETING") == german.of("MARKETING") == Price(Decimal("0.0382"), "GBP")
    assert british.of("AUTHENTICATION") is None
