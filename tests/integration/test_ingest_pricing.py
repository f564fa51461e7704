"""What Meta asks for a message is kept: it is told in the statuses alone."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.common.events.topics import DELIVERY_UPDATES
from libs.common.ids import callback_data
from tests.support.ingest import ORG, Ingest, now
from tests.support.messages_out import a_conversation, sent
from tests.support.waiting import DEADLINE_SECONDS
from tests.support.webhooks import a_status, a_value, a_webhook

UTILITY = {"billable": True, "pricing_model": "PMP", "category": "utility", "type": "regular"}


def priced(wamid: str, status: str, pricing: Any, after: int = 0, **more: Any) -> dict[str, Any]:
    told = a_status(wamid, status, now() + timedelta(seconds=after), **more)
    return a_webhook(a_value(statuses=[told if pricing is None else told | {"pricing": pricing}]))


async def kept(ingest: Ingest) -> list[dict[str, Any]]:
    asked = (
        "select message_id, provider_id, attempt, type, category, model, billable, more from message_pricing"
        " order by provider_id"
    )
    return [dict(row) for row in await ingest.rows(asked)]


async def test_the_price_of_a_message_is_kept_once_whatever_comes_again(ingest: Ingest) -> None:
    message_id = await sent(ingest.pool, await a_conversation(ingest), "wamid.1")
    for status in ("sent", "sent", "delivered", "delivered"):
        await ingest.post(priced("wamid.1", status, UTILITY))
    await ingest.post(priced("wamid.1", "read", None))
    await ingest.published.events(DELIVERY_UPDATES, 5)
    assert await kept(ingest) == [
        {
            "message_id": message_id,
            "provider_id": "wamid.1",
            "attempt": 1,
            "type": "regular",
            "category": "utility",
            "model": "PMP",
            "billable": True,
            "more": None,
        },
    ]  # fmt: skip -- a row


async def test_a_price_that_came_before_the_id_of_its_send_is_kept_too(ingest: Ingest) -> None:
    conversation = await a_conversation(ingest)
    message_id = uuid4()
    ours: dict[str, Any] = {"biz_opaque_callback_data": callback_data(ORG, message_id, 1)}
    await ingest.post(priced("wamid.early", "sent", UTILITY, **ours))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await ingest.rows("select 1 from early_statuses"):  # noqa: ASYNC110 -- a row, not an event
            await asyncio.sleep(0.02)
    assert await kept(ingest) == []
    await sent(ingest.pool, conversation, "wamid.early", message_id)
    assert [(row["message_id"], row["category"]) for row in await kept(ingest)] == [(message_id, "utility")]


async def test_words_that_are_invented_tomorrow_are_kept_as_they_are(ingest: Ingest) -> None:
    await sent(ingest.pool, await a_conversation(ingest), "wamid.1")
    pricing = {
        "pricing_model": "XMP",
        "category": "general_purpose_ai",
        "type": "free_on_sundays",
        "tier": {"name": "gold", "of": 3},
    }
    await ingest.post(priced("wamid.1", "sent", pricing))
    await ingest.published.events(DELIVERY_UPDATES, 1)
    (row,) = await kept(ingest)
    assert (row["model"], row["category"], row["type"], row["billable"]) == (
        "XMP",
        "general_purpose_ai",
        "free_on_sundays",
        None,
    )
    assert row["more"] == {"tier": {"name": "gold", "of": 3}}


async def test_of_two_prices_the_one_said_later_counts(ingest: Ingest) -> None:
    await sent(ingest.pool, await a_conversation(ingest), "wamid.1")
    await ingest.post(priced("wamid.1", "delivered", UTILITY | {"type": "free_customer_service"}, after=-10))
    await ingest.post(priced("wamid.1", "sent", UTILITY, after=-20))
    await ingest.published.events(DELIVERY_UPDATES, 2)
    assert [row["type"] for row in await kept(ingest)] == ["free_customer_service"]


@pytest.mark.parametrize("arrived", ["delivered", "read"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "the other way round"])
async def test_of_two_prices_of_one_second_that_of_the_delivery_counts(
    ingest: Ingest, arrived: str, order: tuple[int, int]
) -> None:
    """Meta's times are whole seconds, a message often arrives within the one in which it was sent, and it is charged
    on delivery."""
    await sent(ingest.pool, await a_conversation(ingest), "wamid.1")
    at = now().replace(microsecond=0) - timedelta(seconds=9)
    free = UTILITY | {"type": "free_customer_service", "billable": False}
    told = [("sent", UTILITY), (arrived, free)]
    for n, place in enumerate(order, 1):
        status, pricing = told[place]
        await ingest.post(a_webhook(a_value(statuses=[a_status("wamid.1", status, at) | {"pricing": pricing}])))
        await ingest.published.events(DELIVERY_UPDATES, n)
    assert [(row["type"], row["billable"]) for row in await kept(ingest)] == [("free_customer_service", False)]


async def test_a_price_that_is_none_does_no_harm(ingest: Ingest) -> None:
    await sent(ingest.pool, await a_conversation(ingest), "wamid.1")
    odd: list[Any] = ["free", [], {}, 7, {"type": ["x"], "billable": "yes"}]
    for pricing in odd:
        await ingest.post(priced("wamid.1", "sent", pricing))
    await ingest.published.events(DELIVERY_UPDATES, 5)
    assert [(row["type"], row["billable"]) for row in await kept(ingest)] == [(None, None)]
