"""Lists, single conversations and what has been read, through the API of a running inbox."""

from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from libs.common.events.content import InText
from libs.common.events.inbound import InboundMessage
from libs.common.events.outbound import WindowState
from libs.common.events.topics import INBOUND_MESSAGES
from libs.common.kafka.producer import Producer, Record
from tests.support.inbox import ADVISOR, OWNER, TECHNICIAN, RunningInbox
from tests.support.inbox_garage import a_garage, conversations_of
from tests.support.inbox_world import HOUR, MINUTE, InboxWorld
from tests.support.waiting import eventually_true

PHONE = "+447700900999"


@pytest_asyncio.fixture
async def garage(inbox: RunningInbox) -> InboxWorld:
    return await a_garage(inbox)


async def test_all_conversations_stand_newest_first_and_pages_miss_none(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    threads = [(await garage.customer(f"Kim {number}"))[1] for number in range(7)]
    for thread in threads:
        await garage.hears(thread)
    kim = inbox.api(garage.org)
    assert await conversations_of(kim) == threads[::-1]
    assert await conversations_of(kim, limit=3) == threads[::-1]


async def test_pages_stay_stable_while_messages_come(inbox: RunningInbox, garage: InboxWorld) -> None:
    threads = [(await garage.customer())[1] for _ in range(6)]
    for thread in threads:
        await garage.hears(thread)
    kim = inbox.api(garage.org)
    first = (await kim.get("/v1/conversations", params={"limit": 2})).json()
    await garage.hears(threads[5])  # one that was on the first page
    await garage.hears((await garage.customer("New"))[1])
    rest = await conversations_of(kim, limit=2, cursor=first["next"])
    assert rest == threads[3::-1]


async def test_a_conversation_says_what_a_list_shows(inbox: RunningInbox, garage: InboxWorld) -> None:
    customer, thread = await garage.customer("Kim", PHONE)
    message = await garage.hears(thread, "Is my   car\nready?", ago=HOUR)
    item = (await inbox.api(garage.org).get(f"/v1/conversations/{thread}")).json()
    at = _utc(garage.now - HOUR)
    assert item == {
        "conversation_id": str(thread),
        "customer": {"customer_id": str(customer), "name": "Kim", "phone": PHONE},
        "number": {"phone_number_id": garage.number, "display_number": "+447700900123"},
        "window": {
            "state": "open",
            "opened_at": at,
            "closes_at": _utc(garage.now + 23 * HOUR),
            "open": True,
        },
        "last_message": {
            "message_id": str(message),
            "direction": "in",
            "channel": "whatsapp",
            "preview": "Is my car ready?",
            "at": at,
            "status": "received",
        },
        "last_inbound_channel": "whatsapp",
        "unread": True,
        "portal": {"state": "never", "last_seen_at": None},
        "held": False,
        "held_until": None,
        "held_by": None,
        "unanswered_since": at,
        "escalated_at": None,
    }


async def test_closing_windows_stand_most_urgent_first_while_an_answer_is_wanted(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    ago = {"soon": 23 * HOUR, "sooner": 23 * HOUR + 30 * MINUTE, "later": 3 * HOUR, "over": 25 * HOUR}
    threads = {name: (await garage.customer(name))[1] for name in (*ago, "answered", "refused")}
    for name, since in ago.items():
        await garage.hears(threads[name], ago=since)
    await garage.hears(threads["answered"], ago=23 * HOUR)
    await garage.says(threads["answered"])
    refused = garage.now - HOUR
    async with inbox.pool.acquire() as db:
        await db.execute(
            "update conversations set first_refused_at = $2, last_refused_at = $2 where conversation_id = $1",
            *(threads["refused"], refused),
        )
    await garage.hears(threads["refused"], ago=23 * HOUR)
    kim = inbox.api(garage.org)
    assert await conversations_of(kim, view="closing") == [threads["sooner"], threads["soon"]]
    assert await conversations_of(kim, view="closing", limit=1) == [threads["sooner"], threads["soon"]]
    assert await conversations_of(kim, view="expired") == [threads["refused"], threads["over"]]
    window = (await kim.get(f"/v1/conversations/{threads['refused']}/window")).json()
    assert (window["state"], window["open"], window["closes_at"]) == ("expired", False, _utc(refused))
    states = {
        name: (await kim.get(f"/v1/conversations/{thread}/window")).json()["state"] for name, thread in threads.items()
    }
    assert states == {
        "soon": "closing",
        "sooner": "closing",
        "later": "open",
        "over": "expired",
        "answered": "closing",
        "refused": "expired",
    }


async def test_failed_conversations_are_listed_until_something_goes(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears((await garage.customer())[1])
    await garage.says(thread, status="failed", reason="provider_refused", provider_code="131026", ago=HOUR)
    kim = inbox.api(garage.org)
    assert await conversations_of(kim, view="failed") == [thread]
    await garage.says(thread)
    assert await conversations_of(kim, view="failed") == []


async def test_a_failed_text_that_staff_drop_has_not_failed_any_more(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    text = await garage.says(thread, actor="ai", status="failed", reason="window_expired_bridge_sent")
    async with inbox.pool.acquire() as db:
        await db.execute(
            "insert into parked_messages (org_id, message_id, conversation_id, kind, actor, content, written_at,"
            " expires_at) values ($1, $2, $3, 'failed', 'ai', $4, now(), now() + interval '1 day')",
            *(garage.org, text, thread, {"kind": "text", "text": "Yes, it is."}),
        )
    kim = inbox.api(garage.org)
    assert await conversations_of(kim, view="failed") == [thread]
    dropped = await kim.post(f"/v1/conversations/{thread}/parked/{text}", json={"action": "drop"})
    assert dropped.status_code == 204, dropped.text
    assert await conversations_of(kim, view="failed") == []


async def test_unread_is_each_members_own(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, old = await garage.customer()
    _, new = await garage.customer()
    await garage.hears(old)
    await garage.hears(new)
    kim, ana = inbox.api(garage.org, user_id="kim"), inbox.api(garage.org, user_id="ana")
    assert await conversations_of(kim, view="unread") == [new, old]
    assert (await kim.post(f"/v1/conversations/{new}/read")).status_code == 204
    assert (await kim.post(f"/v1/conversations/{new}/read")).status_code == 204
    assert await conversations_of(kim, view="unread") == [old]
    assert await conversations_of(ana, view="unread") == [new, old]
    assert (await kim.get(f"/v1/conversations/{new}")).json()["unread"] is False
    await garage.hears(new)
    assert await conversations_of(kim, view="unread", limit=1) == [new, old]


async def test_lists_by_channel_and_by_number(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, by_sms = await garage.customer()
    _, by_whatsapp = await garage.customer()
    await garage.hears(by_sms, channel="sms")
    await garage.hears(by_whatsapp)
    kim = inbox.api(garage.org)
    assert await conversations_of(kim, channel="sms") == [by_sms]
    assert await conversations_of(kim, channel="whatsapp", view="unread") == [by_whatsapp]
    assert await conversations_of(kim, number=garage.number) == [by_whatsapp, by_sms]
    assert await conversations_of(kim, number="106400000009999") == []


async def test_what_was_unread_for_too_long_stands_on_top_until_somebody_reads(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    threads = [(await garage.customer())[1] for _ in range(4)]
    for thread in threads:
        await garage.hears(thread)
    async with inbox.pool.acquire() as db:
        await db.execute(
            "update conversation_heads set escalated_at = now() where conversation_id = any($1::uuid[])", threads[:2]
        )
    kim = inbox.api(garage.org)
    wanted = [threads[1], threads[0], threads[3], threads[2]]
    for limit in (1, 2, 3, 50):
        assert await conversations_of(kim, limit=limit) == wanted
        assert await conversations_of(kim, limit=limit, view="unread") == wanted
    await kim.post(f"/v1/conversations/{threads[1]}/read")
    assert await conversations_of(kim) == [threads[0], threads[3], threads[2], threads[1]]


async def test_who_comes_for_the_first_time_has_not_to_read_what_is_a_week_old(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    threads = [(await garage.customer())[1] for _ in range(3)]
    for thread, days in zip(threads, (30, 8, 6), strict=True):
        await garage.hears(thread, ago=24 * days * HOUR)
    assert await conversations_of(inbox.api(garage.org, user_id="new"), view="unread") == [threads[2]]


async def test_numbers_are_masked_and_not_searched_without_the_capability(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    _, thread = await garage.customer("Kim", PHONE)
    await garage.hears(thread, "My gearbox. Call +44 7700 900999 or 07700900999!")
    technician = inbox.api(garage.org, TECHNICIAN, "tom")
    for q in (PHONE, "900999", "07700 900", "kim 9009", "\u0669\u0660\u0660\u0669\u0669\u0669"):
        answer = await technician.get("/v1/conversations", params={"q": q})
        assert answer.status_code == 403, q
        assert answer.headers["content-type"] == "application/problem+json"
    assert await conversations_of(technician, q="gearbox") == [thread]
    item = (await technician.get(f"/v1/conversations/{thread}")).json()
    assert item["customer"]["phone"] == "+44 •••• ••• 999"
    assert "7700" not in item["last_message"]["preview"]
    advisor = inbox.api(garage.org, ADVISOR, "ada")
    assert (await advisor.get(f"/v1/conversations/{thread}")).json()["customer"]["phone"] == PHONE


async def test_an_etag_is_of_what_the_person_sees(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer("Kim")
    await garage.hears(thread)
    path = f"/v1/conversations/{thread}"
    owner, technician = inbox.api(garage.org, OWNER, "olga"), inbox.api(garage.org, TECHNICIAN, "olga")
    answer = await owner.get(path)
    tag = answer.headers["etag"]
    again = await owner.get(path, headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    assert (await technician.get(path, headers={"if-none-match": tag})).status_code == 200
    await owner.post(f"{path}/read")
    assert (await owner.get(path, headers={"if-none-match": tag})).status_code == 200


async def test_what_is_published_about_a_conversation_puts_it_into_the_lists(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    """Through Kafka and the worker: stored by others, then told."""
    customer, thread = await garage.customer("Zoë Quandt", PHONE)
    async with inbox.pool.acquire() as db:
        message = await db.fetchval(
            "insert into messages (org_id, conversation_id, direction, channel, provider, account, provider_id, kind,"
            " content, status, occurred_at, received_at) values ($1, $2, 'in', 'whatsapp', 'meta', $3, $4, 'text', $5,"
            " 'received', now(), now()) returning message_id",
            *(garage.org, thread, garage.number, f"wamid.{uuid4().hex}", {"kind": "text", "text": "Wheel balance"}),
        )
    event = InboundMessage(
        message_id=message,
        org_id=garage.org,
        conversation_id=thread,
        customer_id=customer,
        channel="whatsapp",
        provider_id="wamid.x",
        content=InText(text="Wheel balance"),
        reply_to=None,
        sent_at=garage.now,
        received_at=garage.now,
        window=WindowState(opened_at=garage.now, closes_at=garage.now + 24 * HOUR, open=True),
    )
    async with Producer(inbox.kafka) as producer:
        await producer.publish([Record(INBOUND_MESSAGES, str(thread).encode(), event.encode())])
    kim = inbox.api(garage.org)

    # the head and the name may come from the walk over all threads
    await eventually_true(lambda: conversations_of(kim, q="wheel"))
    for asked in ({"view": "unread"}, {"q": "quandt"}, {"q": "wheel"}, {"q": "900999"}):
        assert await conversations_of(kim, **asked) == [thread], asked


async def test_another_organisations_conversation_is_unknown(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread)
    other = inbox.api(await inbox.an_org())
    for path in ("", "/window", "/messages"):
        answer = await other.get(f"/v1/conversations/{thread}{path}")
        unknown = await other.get(f"/v1/conversations/{uuid4()}{path}")
        assert (answer.status_code, answer.content) == (404, unknown.content)
    assert (await other.post(f"/v1/conversations/{thread}/read")).status_code == 404
    assert await conversations_of(other) == []


async def test_a_filter_that_is_empty_is_none(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread)
    assert await conversations_of(inbox.api(garage.org), view="", channel="", number="", q="", cursor="") == [thread]


async def test_a_cursor_is_of_one_list_of_one_organisation(inbox: RunningInbox, garage: InboxWorld) -> None:
    for _ in range(3):
        await garage.hears((await garage.customer())[1])
    kim = inbox.api(garage.org)
    cursor = (await kim.get("/v1/conversations", params={"limit": 1})).json()["next"]
    other = inbox.api(await inbox.an_org())
    refused = [
        await kim.get("/v1/conversations", params={"cursor": cursor, "view": "unread"}),
        await kim.get("/v1/conversations", params={"cursor": cursor, "q": "kim"}),
        await kim.get("/v1/conversations", params={"cursor": cursor[:-2] + "xx"}),
        await kim.get("/v1/conversations", params={"cursor": "AAAA"}),
        await other.get("/v1/conversations", params={"cursor": cursor}),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "cursor")


async def test_a_conversation_without_a_head_is_there_all_the_same(inbox: RunningInbox, garage: InboxWorld) -> None:
    """The worker may be behind: one conversation is read from its thread."""
    _, thread = await garage.customer()
    message = await garage.hears(thread)
    async with inbox.pool.acquire() as db:
        await db.execute("delete from conversation_heads where conversation_id = $1", thread)
    item = (await inbox.api(garage.org).get(f"/v1/conversations/{thread}")).json()
    assert item["last_message"]["message_id"] == str(message)


async def test_what_another_organisation_says_of_a_number_that_was_given_up_stays_there(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread)
    api, other = inbox.api(garage.org), await inbox.an_org()
    shown = []
    for owner, display_number in ((None, "+447700900123"), (other, "+447700900777")):
        async with inbox.pool.acquire() as db:
            await db.execute(
                "update whatsapp_numbers set org_id = $2, display_number = $3 where phone_number_id = $1",
                *(garage.number, owner, display_number),
            )
        shown.append((await api.get(f"/v1/conversations/{thread}")).json()["number"]["display_number"])
    assert shown == ["+447700900123", None]


def _utc(at: Any) -> str:
    text: str = at.isoformat()
    return text.replace("+00:00", "Z")


@pytest.mark.parametrize("path", ["conversations?number=", "templates?status=", "templates?language="])
async def test_a_filter_that_no_stored_text_can_be_finds_nothing(inbox: RunningInbox, path: str) -> None:
    answer = await inbox.api(await inbox.an_org()).get(f"/v1/{path}%00")
    assert (answer.status_code, answer.json()["items"]) == (200, [])


async def test_the_page_of_such_a_filter_is_an_empty_list(inbox: RunningInbox, garage: InboxWorld) -> None:
    staff = await inbox.staff(garage.org)
    assert (await staff.get("/inbox?number=%00")).status_code == 200
