"""The inbox's pages over HTTP, on real servers: what each person gets, and what they do not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from libs.common.directory import holds
from libs.common.directory.changes import apply
from libs.common.events.directory import ConsentChanged, ConversationHeld
from services.inbox.heads import refresh
from tests.support.erased import erase, forget
from tests.support.form_browser import token_of
from tests.support.inbox import ADVISOR, ROLES, TECHNICIAN, RunningInbox, Staff
from tests.support.inbox_world import RULE, InboxWorld
from tests.support.written_pages import CANARY, Read, text_of

KIM = "+447700900999"


@pytest_asyncio.fixture
async def garage(inbox: RunningInbox) -> InboxWorld:
    """An organisation of the test's own."""
    org = await inbox.an_org()
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org)
    return InboxWorld(inbox.pool, org, number)


@pytest_asyncio.fixture
async def priya(inbox: RunningInbox, garage: InboxWorld) -> AsyncIterator[Staff]:
    yield await inbox.staff(garage.org, ADVISOR, "priya")


async def kim_writes(garage: InboxWorld, text: str = "Is my car ready?") -> UUID:
    _, conversation = await garage.customer("Kim Larsen", KIM)
    await garage.hears(conversation, text)
    return conversation


async def test_the_list_and_the_thread_show_what_the_customer_wrote(garage: InboxWorld, priya: Staff) -> None:
    kim = await kim_writes(garage)
    await garage.says(kim, "Yes, at four.", user_id="priya", status="read")
    listed = text_of((await priya.get("/inbox")).text)
    assert "Kim Larsen" in listed
    assert "Yes, at four." in listed
    opened = await priya.get(f"/inbox/{kim}")
    assert opened.headers["Content-Security-Policy"].startswith("default-src 'none'")
    said = text_of(opened.text)
    assert "Open · closes in 23 h 5" in said
    assert "Is my car ready? WhatsApp" in said
    assert "Yes, at four. WhatsApp" in said
    assert "Read" in said
    assert "WhatsApp window open until" in said


async def test_opening_a_conversation_reads_it_and_prefetching_does_not(garage: InboxWorld, priya: Staff) -> None:
    kim = await kim_writes(garage)
    await priya.get(f"/inbox/{kim}", **{"sec-purpose": "prefetch"})
    assert 'class="row unread"' in (await priya.get("/inbox")).text
    await priya.get(f"/inbox/{kim}")
    assert 'class="row unread"' not in (await priya.get("/inbox")).text
    await garage.hears(kim, "Hello?", ago=timedelta(0))
    page = await priya.get("/inbox?view=unread")
    assert 'class="row unread"' in page.text
    answer = await priya.post(f"/inbox/{kim}/read", {"token": token_of(page)})
    assert answer.status_code == 204
    assert "You have read everything" in (await priya.get("/inbox?view=unread")).text


async def test_the_side_bar_counts_on_every_page_what_is_to_be_done(garage: InboxWorld, priya: Staff) -> None:
    await kim_writes(garage)
    for path in ("/inbox", "/templates", "/spend", "/inbox/bell"):
        assert "Unread 1 conversation " in text_of((await priya.get(path)).text), path


@pytest.mark.parametrize("role", ROLES)
async def test_what_another_garage_has_is_what_never_was(inbox: RunningInbox, garage: InboxWorld, role: str) -> None:
    kim = await kim_writes(garage)
    message = await garage.says(kim, "Secret")
    stranger = await inbox.staff(await inbox.an_org(), ROLES[role], f"stranger-{role}")
    form = {"token": token_of(await stranger.get("/inbox"))}
    for path in ("", "/news", f"/messages/{message}", f"/media/{message}"):
        theirs = await stranger.get(f"/inbox/{kim}{path}")
        unknown = await stranger.get(f"/inbox/{uuid4()}{path.replace(str(message), str(uuid4()))}")
        assert theirs.status_code == unknown.status_code == 404, path
        assert theirs.text == unknown.text
    assert (await stranger.post(f"/inbox/{kim}/read", form)).status_code == 404
    assert "Kim" not in (await stranger.get("/inbox/list")).text


async def test_without_the_capability_no_number_is_in_any_page(inbox: RunningInbox, garage: InboxWorld) -> None:
    kim = await kim_writes(garage, "Call me: 07700 900999")
    await garage.hears(kim, {"kind": "contacts", "contacts": [{"name": {"formatted_name": "Ben"}, "phones": [
        {"phone": "+44 7700 900416"}]}]})  # fmt: skip
    await garage.customer(None, "+447700900777")
    tom = await inbox.staff(garage.org, TECHNICIAN, "tom")
    for path in ("/inbox", "/inbox/list", f"/inbox/{kim}", f"/inbox/{kim}/news?after=0"):
        page = (await tom.get(path)).text.replace(" ", "")
        for number in ("900999", "900416", "900777"):
            assert number not in page, path
    refused = await tom.get("/inbox?q=900999")
    assert "Your role may not search for numbers." in refused.text


async def test_the_search_finds_names_numbers_and_texts(garage: InboxWorld, priya: Staff) -> None:
    await kim_writes(garage, "Ist der Anlasser da?")
    for words in ("kim", "anlasser", "900999"):
        assert "Kim Larsen" in text_of((await priya.get(f"/inbox?q={words}")).text), words
    nothing = text_of((await priya.get("/inbox?q=flywheal")).text)
    assert "Nothing for “flywheal”" in nothing
    assert "A search has 2 to 100 characters." in (await priya.get("/inbox?q=x")).text
    assert "Kim Larsen" in text_of((await priya.get("/inbox?channel=whatsapp")).text)
    assert "Kim Larsen" not in text_of((await priya.get("/inbox?channel=sms")).text)
    assert "Kim Larsen" not in text_of((await priya.get("/inbox?view=expired")).text)


async def test_news_are_what_the_page_lacks(garage: InboxWorld, priya: Staff) -> None:
    kim = await kim_writes(garage)
    said = await garage.says(kim, "Yes, at four.")
    elements = Read((await priya.get(f"/inbox/{kim}")).text).elements
    last = max(int(found["data-sequence"] or 0) for _, found in elements if "data-sequence" in found)
    assert (await priya.get(f"/inbox/{kim}/news?after={last}")).text.strip() == ""
    reaction = {"kind": "reaction", "message_id": "wamid.x", "emoji": "👍"}
    async with garage.pool.acquire() as db:
        await db.execute(
            "insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id, attempt,"
            " recorded_at) values ('whatsapp', 'meta', $1, 'wamid.x', $2, $3, $3, 1, now())",
            garage.number, garage.org, said,
        )  # fmt: skip
    await garage.hears(kim, reaction, ago=timedelta(0))
    news = (await priya.get(f"/inbox/{kim}/news?after={last}")).text
    assert f'id="m-{said}"' in news
    assert "👍" in news
    one = (await priya.get(f"/inbox/{kim}/messages/{said}")).text
    assert one.count("<li ") == 1


async def test_older_messages_stand_behind_a_link(garage: InboxWorld, priya: Staff) -> None:
    kim = await kim_writes(garage, "The first one")
    for number in range(55):
        await garage.says(kim, f"Message {number}")
    newest = (await priya.get(f"/inbox/{kim}?view=unread")).text
    assert "The first one" not in newest
    path = next(found["href"] or "" for tag, found in Read(newest).elements if "before=" in (found.get("href") or ""))
    assert path.startswith(f"/inbox/{kim}?view=unread&before=")
    older = (await priya.get(path)).text
    assert "The first one" in older
    assert "Newest messages" in older
    assert (await priya.get(f"/inbox/{kim}?before=forged")).status_code == 422
    assert (await priya.get(f"/inbox/{kim}/news?after=0")).status_code == 205


async def test_a_page_of_a_customer_who_is_erased_is_loaded_again_and_then_asks_no_more(
    inbox: RunningInbox, garage: InboxWorld, priya: Staff
) -> None:
    kim = await kim_writes(garage, "The first one")
    assert "data-follow" in (await priya.get(f"/inbox/{kim}")).text
    assert (await priya.get(f"/inbox/{kim}/news?after=0")).status_code == 200
    await forget(inbox.pool, garage.org, kim)  # the words go a moment later
    assert "data-follow" in (await priya.get(f"/inbox/{kim}")).text
    await erase(inbox.pool, garage.org, kim)
    assert (await priya.get(f"/inbox/{kim}/news?after=9")).status_code == 205
    page = (await priya.get(f"/inbox/{kim}")).text
    assert "The first one" not in page
    assert "data-follow" not in page


async def test_one_canary_through_every_page_of_the_inbox(inbox: RunningInbox) -> None:
    org = await inbox.an_org(CANARY)
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org)
    garage = InboxWorld(inbox.pool, org, number)
    _, kim = await garage.customer(CANARY, KIM)
    contents: list[dict[str, Any]] = [
        {"kind": "text", "text": CANARY},
        {"kind": "document", "media_id": "1", "filename": CANARY, "caption": CANARY, "mime_type": CANARY},
        {"kind": "contacts", "contacts": [{"name": {"formatted_name": CANARY}, "phones": [{"phone": CANARY}]}]},
        {"kind": "button", "text": CANARY, "payload": CANARY},
        {"kind": "order", "text": CANARY, "items": [{"product_retailer_id": CANARY, "quantity": 1}]},
        {"kind": "location", "latitude": 1.0, "longitude": 2.0, "name": CANARY, "address": CANARY},
    ]
    for content in contents:
        await garage.hears(kim, content)
    template = {"kind": "template", "name": CANARY, "language": "en", "parameters": [CANARY]}
    await garage.says(kim, template, status="failed", reason="provider_refused", provider_code=CANARY)
    staff = await inbox.staff(org, ROLES["owner"], CANARY)
    for path in (
        *("/inbox", "/inbox/list", f"/inbox/{kim}", f"/inbox/{kim}/news?after=0", "/inbox/bell"),
        *("/templates", "/spend", f"/inbox?q={CANARY[:20]}", f"/inbox/{kim}?q={CANARY[:20]}&number={CANARY[:30]}"),
    ):
        page = await staff.get(path)
        assert page.status_code in (200, 404), path
        assert "<img" not in page.text, path
        assert "<script>" not in page.text, path
        assert "alert(1)</script" not in page.text, path
        assert not [found for _, found in Read(page.text).elements if "onerror" in found], path


async def test_a_merged_conversation_leads_to_the_one_that_stands(garage: InboxWorld, priya: Staff) -> None:
    kim = await kim_writes(garage)
    old = uuid4()
    async with garage.pool.acquire() as db:
        await db.execute(
            "insert into conversation_aliases (org_id, alias, conversation_id) values ($1, $2, $3)",
            garage.org,
            old,
            kim,
        )
        await refresh(db, [(garage.org, kim)], RULE)
    moved = await priya.get(f"/inbox/{old}?view=unread")
    assert moved.status_code == 303
    assert moved.headers["Location"] == f"/inbox/{kim}?view=unread"


async def test_the_thread_says_since_when_staff_hold_the_ai(garage: InboxWorld, priya: Staff) -> None:
    kim = await kim_writes(garage)
    page = await priya.get(f"/inbox/{kim}")
    assert "has taken over" not in page.text
    assert (await priya.post(f"/inbox/{kim}/hold", {"token": token_of(page)})).status_code == 303
    held = text_of((await priya.get(f"/inbox/{kim}")).text)
    assert "has taken over: the AI holds ·" in held


async def test_no_time_at_an_end_of_the_calendar_breaks_a_page(garage: InboxWorld, priya: Staff) -> None:
    customer, kim = await garage.customer("Kim Larsen", KIM)
    begin, end = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    said = ConsentChanged(org_id=garage.org, at=begin, customer_id=customer, category="sms", allowed=True)
    held = ConversationHeld(org_id=garage.org, at=begin, conversation_id=kim, user_id="crm", until=end)
    async with garage.pool.acquire() as db, db.transaction():
        await apply(db, [said])
    async with garage.pool.acquire() as db, db.transaction():
        await holds.apply(db, [held])
    for path in ("", "/panel"):
        assert (await priya.get(f"/inbox/{kim}{path}")).status_code == 200, path
