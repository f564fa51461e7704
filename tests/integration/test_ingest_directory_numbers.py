"""Two business numbers of an organisation: one that moved, or two."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.events.directory import NumberUpserted
from services.ingest.items import Sender
from tests.integration.test_ingest_directory import a_change, apply
from tests.support import world
from tests.support.ingest import ORG, now
from tests.support.people import People
from tests.support.webhooks import NUMBER, WA_ID


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield pool


async def test_a_number_that_moved_to_another_waba_goes_on_with_its_threads(pool: Pool) -> None:
    people = People(pool, now())
    kims = await people.writes(0, Sender(WA_ID, "GB.1"))
    moved = a_change(NumberUpserted, phone_number_id="106400000000002", waba_id="206400000000009")
    assert await apply(pool, moved, moved) == []
    assert await people.writes(1, Sender(WA_ID, "GB.1"), number="106400000000002") == kims
    assert await people.writes(2, Sender(WA_ID, "GB.1")) == kims  # a late one, under the id before
    pats = await people.writes(3, Sender("447700900111", "GB.2"))
    assert await people.writes(4, Sender("447700900111", "GB.2"), number="106400000000002") == pats
    assert await apply(pool, a_change(NumberUpserted, after=9)) == []  # the old one is told again, and is no new one
    again = a_change(NumberUpserted, phone_number_id="106400000000003", waba_id="206400000000008", after=10)
    assert await apply(pool, again) == []
    numbers = ("106400000000001", "106400000000002", "106400000000003")
    assert {await people.writes(5, Sender(WA_ID, "GB.1"), number=number) for number in numbers} == {kims}


async def test_numbers_with_two_display_numbers_are_two(pool: Pool) -> None:
    people = People(pool, now())
    kims = await people.writes(0, Sender(WA_ID, "GB.1"))
    other: dict[str, Any] = {"phone_number_id": "106400000000002", "waba_id": "206400000000009"}
    assert await apply(pool, a_change(NumberUpserted, **other, display_number="+447700900124")) == []
    assert await people.writes(1, Sender(WA_ID, "GB.1"), number="106400000000002") != kims
