"""The search in a list of conversations, through the API of a running inbox."""

import asyncio
from dataclasses import replace

import orjson
import pytest
import pytest_asyncio

from libs.common.events.directory import CustomerUpserted
from libs.common.events.topics import DIRECTORY_CHANGES
from libs.common.kafka.producer import Producer, Record
from services.inbox.conversation_queries import ListQuery, is_found_often, page
from services.inbox.word_queries import write_customers
from services.inbox.words import text_query
from tests.support.inbox import RunningInbox
from tests.support.inbox_garage import a_garage, conversations_of
from tests.support.inbox_world import HOUR, InboxWorld
from tests.support.waiting import eventually_true

PHONE = "+447700900999"


@pytest_asyncio.fixture
async def garage(inbox: RunningInbox) -> InboxWorld:
    return await a_garage(inbox)


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("quandt", "name"),
        ("ZOE quan", "name"),
        ("zoë", "name"),
        ("gearbox", "text"),
        ("gear oil", "text"),
        ("getriebeöl", "german"),
        ("getriebeol", "german"),
        ("+44 7700 900 991", "name"),
        ("07700 900991", "name"),
        ("900991", "name"),
        ("nothing such", None),
        ("gearbox quandt", None),
    ],
)
async def test_the_search_finds_names_texts_and_numbers(
    inbox: RunningInbox, garage: InboxWorld, q: str, found: str | None
) -> None:
    threads = {
        "name": (await garage.customer("Zoë Quandt", "+447700900991"))[1],
        "text": (await garage.customer("Kim"))[1],
        "german": (await garage.customer("Ana"))[1],
    }
    await garage.hears(threads["name"], "Hello")
    await garage.says(threads["text"], "The gearbox needs oil, it's 'dry'")
    await garage.hears(threads["german"], "Wie viel Getriebeöl?")
    assert await conversations_of(inbox.api(garage.org), q=q) == ([] if found is None else [threads[found]])


async def test_the_search_is_bounded_and_finds_nothing_of_others(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer("Kim", PHONE)
    await garage.hears(thread, "gearbox")
    other = inbox.api(await inbox.an_org())
    assert await conversations_of(other, q="gearbox") == []
    assert await conversations_of(other, q=PHONE) == []
    kim = inbox.api(garage.org)
    for q in ("a", "x" * 101, "??"):
        answer = await kim.get("/v1/conversations", params={"q": q})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "q")
    assert await conversations_of(kim, q="it's & | ! <-> :* \\ acme/x") == []


async def test_a_search_ends_in_time_and_a_person_runs_one_at_once(inbox: RunningInbox, garage: InboxWorld) -> None:
    kim, ana = inbox.api(garage.org, user_id="kim"), inbox.api(garage.org, user_id="ana")
    await conversations_of(kim, q="warm")
    async with inbox.pool.acquire() as db, db.transaction():
        await db.execute("lock table message_words in access exclusive mode")
        searches = [kim.get("/v1/conversations", params={"q": f"word {number}"}) for number in range(3)]
        answers = await asyncio.gather(*searches, ana.get("/v1/conversations"))
    assert sorted(answer.status_code for answer in answers[:3]) == [422, 422, 429]
    slow = next(answer for answer in answers if answer.status_code == 422)
    assert slow.json()["errors"] == [{"field": "q", "message": "too much is found: add a word"}]
    assert answers[3].status_code == 200  # lists go on
    assert await conversations_of(kim, q="again") == []


async def test_words_that_stand_everywhere_are_looked_for_from_the_newest_conversation_on(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    for number in range(5):
        _, thread = await garage.customer("Zoe" if number % 2 else "Kim")
        await garage.hears(thread, "My gearbox" if number % 3 else "My clutch")
    now = inbox.pool.now()
    asked = ListQuery(garage.org, "kim", "all", now - 24 * HOUR, now - 22 * HOUR, now, limit=50)
    async with inbox.pool.acquire() as db:
        for word in ("gear", "zoe", "clutch", "my", "nothing"):
            query = replace(asked, text=text_query(garage.org, word))
            collected, walked = await page(db, query), await page(db, replace(query, walk=True))
            assert walked == collected
            assert await is_found_often(db, garage.org, query.text or "", 0) == bool(collected)
            assert not await is_found_often(db, garage.org, query.text or "", 20)


async def test_a_name_is_found_without_what_no_database_can_store(inbox: RunningInbox, garage: InboxWorld) -> None:
    customer, thread = await garage.customer("Old Name")
    await garage.hears(thread)
    at = (garage.now + HOUR).isoformat()
    change = {"type": "customer.upserted.v1", "org_id": garage.org, "at": at, "customer_id": customer}
    async with Producer(inbox.kafka) as producer:
        value = orjson.dumps(change | {"name": "Zo\0 Quandt"})
        await producer.publish([Record(DIRECTORY_CHANGES, garage.org.encode(), value)])
    kim = inbox.api(garage.org)
    await eventually_true(lambda: conversations_of(kim, q="quandt"))


async def test_a_change_of_another_organisation_takes_nobody_out_of_the_search(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    customer, thread = await garage.customer("Old Name")
    await garage.hears(thread)
    changes = [
        CustomerUpserted(org_id=org, at=garage.now + hours * HOUR, customer_id=customer, name="Zoë Quandt")
        for hours, org in enumerate((garage.org, await inbox.an_org()), 1)
    ]
    async with inbox.pool.acquire() as db, db.transaction():
        await write_customers(db, [], changes)
    assert await conversations_of(inbox.api(garage.org), q="quandt") == [thread]
