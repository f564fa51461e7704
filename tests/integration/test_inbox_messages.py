"""Threads and the customer beside them, through the API of a running inbox."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.ids import bridge_message_id
from libs.common.sending.status_effects import store_provider_ids
from libs.common.sending.statuses import ProviderId
from tests.support import world
from tests.support.inbox import ADVISOR, OWNER, TECHNICIAN, RunningInbox
from tests.support.inbox_garage import a_garage
from tests.support.inbox_world import HOUR, MINUTE, InboxWorld
from tests.support.written_pages import text_of

PHONE = "+447700900999"
CANARY = "447700900999"


@pytest_asyncio.fixture
async def garage(inbox: RunningInbox) -> InboxWorld:
    return await a_garage(inbox)


async def _messages(inbox: RunningInbox, garage: InboxWorld, thread: UUID, **query: Any) -> list[dict[str, Any]]:
    answer = await inbox.api(garage.org).get(f"/v1/conversations/{thread}/messages", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_a_thread_has_all_channels_newest_first(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    ids = [
        await garage.hears(thread, "One", ago=5 * MINUTE),
        await garage.says(thread, "Two", actor="ai", status="read"),
        await garage.hears(thread, "Three", channel="sms"),
        await garage.says(thread, "Four", channel="portal", status="sent", user_id="kim"),
        await garage.says(
            thread, {"kind": "template", "name": "x", "language": "en", "parameters": []}, actor="system"
        ),
    ]
    found = await _messages(inbox, garage, thread)
    assert [one["message_id"] for one in found] == [str(one) for one in ids[::-1]]
    assert [one["author"]["kind"] for one in found[::-1]] == ["customer", "ai", "customer", "staff", "system"]
    assert [one["channel"] for one in found[::-1]] == ["whatsapp", "whatsapp", "sms", "portal", "whatsapp"]
    assert found[3]["ai_generated"] is True
    assert found[1]["author"] == {"kind": "staff", "user_id": "kim", "name": None}
    assert found[3]["times"]["read"] is not None
    pages = []
    cursor = None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await inbox.api(garage.org).get(f"/v1/conversations/{thread}/messages", params=query)).json()
        pages += [one["message_id"] for one in page["items"]]
        await garage.hears(thread, "meanwhile")
        if (cursor := page["next"]) is None:
            break
    assert pages == [str(one) for one in ids[::-1]]


async def test_an_sms_always_has_a_cost(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.hears(thread, "By SMS", channel="sms")
    await garage.says(thread, "x" * 161, channel="sms", status="pending")
    bought = await garage.says(thread, "bought", channel="sms", status="sent")
    async with inbox.pool.acquire() as db:
        await db.execute(
            "insert into charges (org_id, message_id, attempt, conversation_id, channel, provider, category, segments,"
            " currency, price, estimated, at) values ($1, $2, 1, $3, 'sms', 'twilio', 'sms', 2, 'GBP', 0.0815, false,"
            " now())",
            *(garage.org, bought, thread),
        )
    await garage.says(thread, "WhatsApp")
    whatsapp, charged, pending, inbound = await _messages(inbox, garage, thread)
    assert whatsapp["cost"] is None
    assert charged["cost"] == {"amount": "0.081500", "currency": "GBP", "estimated": False, "segments": 2}
    assert pending["cost"] == {"amount": None, "currency": None, "estimated": True, "segments": 2}
    assert inbound["cost"] == {"amount": None, "currency": None, "estimated": True, "segments": 1}


async def test_a_failure_says_why_in_the_readers_language(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer("Kim")
    original = await garage.says(thread, actor="ai", status="failed", reason="window_expired_bridge_sent")
    await garage.says(
        thread,
        "AcmeMotors: Update for you.",
        actor="system",
        channel="sms",
        message_id=bridge_message_id(original),
        notification_type="bridge",
        parent_id=original,
    )
    bridge, failed = await _messages(inbox, garage, thread)
    assert bridge["bridge_for"] == str(original)
    assert bridge["notification_type"] == "bridge"
    assert (bridge["ai_generated"], bridge["user_id"], bridge["author"]["kind"]) == (False, None, "system")
    assert failed["reason"] == "window_expired_bridge_sent"
    assert failed["reason_text"].startswith("Not delivered: the window had closed. We asked Kim by SMS to come back.")
    german = await inbox.api(garage.org).get(
        f"/v1/conversations/{thread}/messages", headers={"accept-language": "de-CH, en;q=0.5"}
    )
    assert german.json()["items"][1]["reason_text"].startswith("Nicht zugestellt: Das Fenster war geschlossen.")


async def test_a_wish_for_a_bridge_that_was_sent_says_so_and_the_page_calls_it_no_failure(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    _, thread = await garage.customer("Kim")
    asked = await garage.says(thread, {"kind": "bridge"}, status="failed", reason="window_expired_bridge_sent")
    [message] = await _messages(inbox, garage, thread)
    assert message["reason_text"] == "We asked Kim by SMS to come back."
    priya = await inbox.staff(garage.org)
    shown = (await priya.get(f"/inbox/{thread}/messages/{asked}")).text
    assert "Asked by SMS to come back SMS" in text_of(shown)
    assert "Not delivered" not in shown
    assert "WhatsApp" not in text_of(shown)


async def test_a_text_that_an_earlier_sms_announced_says_when_that_was(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer("Kim")
    holder = await garage.says(thread, actor="ai", status="failed", reason="window_expired_bridge_sent")
    await garage.says(
        thread, "SMS", actor="system", channel="sms", message_id=bridge_message_id(holder), notification_type="bridge"
    )
    silenced = await garage.says(thread, actor="ai", status="failed", reason="window_expired_bridge_already_sent")
    async with inbox.pool.acquire() as db:
        await db.execute(
            "insert into decisions (org_id, intent_id, attempt, conversation_id, route, reason, slot_holder, record,"
            " decided_at) values ($1, $2, 1, $3, 'silent', 'bridge_already_sent', $4, '{}', now())",
            *(garage.org, silenced, thread, holder),
        )
        await db.execute(
            "insert into bridge_slots (conversation_id, org_id, intent_id, held_until) values ($1, $2, $3, $4)",
            *(thread, garage.org, holder, until := garage.now + 24 * HOUR),
        )
    newest = (await _messages(inbox, garage, thread, limit=1))[0]
    assert "Kim was already asked by SMS at " in newest["reason_text"]
    day = until.astimezone(ZoneInfo("Europe/London"))
    assert f"the next SMS is possible {day:%A}, " in newest["reason_text"]


async def test_what_failed_and_was_read_later_says_so(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    await garage.says(thread, status="read", reason="provider_refused", failed_at=garage.now, read_at=garage.now)
    (message,) = await _messages(inbox, garage, thread)
    assert message["reason"] is None
    assert message["reason_text"].startswith("Reported as not delivered, but read at ")


@pytest.mark.parametrize(
    ("pause", "ends_in", "said"),
    [
        ("throttle 130429", MINUTE, "WhatsApp is slowing us down; it goes out by itself."),
        ("throttle 130429", -MINUTE, None),
        ("silence no_answer", -MINUTE, "WhatsApp does not answer at the moment; it goes out by itself."),
        (
            "fault 131042",
            -MINUTE,  # a fault stands until a call proves that it is mended
            "The garage's WhatsApp account needs attention: payment. It goes out by itself once that is mended.",
        ),
        (
            "fault 131045",
            MINUTE,
            "The garage's WhatsApp account needs attention. It goes out by itself once that is mended.",
        ),
    ],
)
async def test_what_waits_because_its_number_rests_says_so(
    inbox: RunningInbox, garage: InboxWorld, pause: str, ends_in: timedelta, said: str | None
) -> None:
    _, thread = await garage.customer()
    await garage.says(thread, status="pending")
    await garage.says(thread, {"kind": "template", "name": "ready", "language": "en_GB"}, status="pending")
    await garage.says(thread, status="pending", channel="sms")
    assert [one["reason_text"] for one in await _messages(inbox, garage, thread)] == [None, None, None]
    async with inbox.pool.acquire() as db:
        await db.execute(
            "insert into pauses (channel, provider, account, scope, kind, reason, until_at)"
            " values ('whatsapp', 'meta', $1, 'templates', $2, $3, now() + $4)",
            *(garage.number, *pause.split(), ends_in),
        )
    assert [one["reason_text"] for one in await _messages(inbox, garage, thread)] == [None, said, None]
    async with inbox.pool.acquire() as db:
        await db.execute("update pauses set scope = 'all' where account = $1", garage.number)
    assert [one["reason_text"] for one in await _messages(inbox, garage, thread)] == [None, said, said]


async def test_messages_name_each_other_by_our_ids_and_never_by_a_providers(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    _, thread = await garage.customer()
    asked = await garage.hears(thread, "Question", provider_id="wamid.QUESTION")
    answer = await garage.says(thread, "Answer", reply_to=str(asked))
    async with inbox.pool.acquire() as db, db.transaction():
        ours = ProviderId("whatsapp", "meta", garage.number, "wamid.ANSWER", garage.org, answer, answer, 1)
        await store_provider_ids(db, [ours], utc_now())
    await garage.hears(thread, "About that", reply_to="wamid.ANSWER")
    await garage.hears(thread, "About mine", reply_to="wamid.QUESTION")
    await garage.hears(thread, "About what?", reply_to="wamid.NOBODY")
    await garage.hears(thread, {"kind": "reaction", "message_id": "wamid.ANSWER", "emoji": "👍"})
    text = (await inbox.api(garage.org).get(f"/v1/conversations/{thread}/messages")).text
    assert "wamid" not in text
    reaction, unknown, mine, that, ours_, _ = await _messages(inbox, garage, thread)
    assert reaction["content"] == {"kind": "reaction", "message_id": str(answer), "emoji": "👍"}
    assert reaction["reply_to"] == str(answer)
    assert unknown["reply_to"] is None
    assert mine["reply_to"] == str(asked)
    assert that["reply_to"] == str(answer)
    assert ours_["reply_to"] == str(asked)


async def test_a_template_is_shown_as_the_customer_read_it(inbox: RunningInbox, garage: InboxWorld) -> None:
    _, thread = await garage.customer()
    async with inbox.pool.acquire() as db:
        await world.a_template(db, garage.org, "206400000000001")
    content = {"kind": "template", "name": "car_ready", "language": "en_GB", "parameters": ["Golf"]}
    await garage.says(thread, content)
    (message,) = await _messages(inbox, garage, thread)
    assert message["content"]["text"] == "Your Golf is ready."
    item = (await inbox.api(garage.org).get(f"/v1/conversations/{thread}")).json()
    assert item["last_message"]["preview"]


CONTENTS: list[dict[str, Any]] = [
    {"kind": "text", "text": f"Call me: +{CANARY} or 07700 900-999"},
    {"kind": "contacts", "contacts": [{"name": {"formatted_name": "Bo"}, "phones": [{"phone": "+447700900111"}]}]},
    {"kind": "contacts", "contacts": [{"name": {"formatted_name": f"+{CANARY}"}, "emails": [{"email": "a@b.c"}]}]},
    {"kind": "location", "latitude": 51.5, "longitude": 0.1, "name": f"Garage +{CANARY}", "address": CANARY},
    {"kind": "document", "media_id": "447700900999", "filename": f"{CANARY}.pdf", "caption": f"+{CANARY}"},
    {"kind": "unsupported", "type": "system", "raw": {"body": f"{CANARY} changed", "wa_id": CANARY}},
    {"kind": "unsupported", "type": "edit", "raw": {"x": CANARY}, "caption": f"tel {CANARY}"},
    {
        "kind": "interactive",
        "reply": {"type": "nfm_reply", "response": f'{{"p": "{CANARY}"}}', "details": {"t": CANARY}},
    },
    {"kind": "button", "text": f"Call {CANARY}", "payload": CANARY},
    {"kind": "order", "catalog_id": "1", "items": [], "text": f"to {CANARY}"},
]


async def test_no_number_reaches_a_person_who_may_not_see_numbers(inbox: RunningInbox, garage: InboxWorld) -> None:
    customer, thread = await garage.customer(f"Kim +{CANARY}", PHONE, wa_id=CANARY)
    for content in CONTENTS:
        await garage.hears(thread, content)
    await garage.says(thread, f"Is {PHONE} right?", status="failed", reason="window_expired_bridge_already_sent")
    paths = ("", "/window", "/messages", "/customer")
    technician, advisor = inbox.api(garage.org, TECHNICIAN, "tom"), inbox.api(garage.org, ADVISOR, "ada")
    shown = ""
    for path in (*(f"/v1/conversations/{thread}{path}" for path in paths), "/v1/conversations"):
        answer = await technician.get(path)
        assert answer.status_code == 200
        # the id of a file is Meta's, and names nobody
        text = answer.text.replace('"media_id":"447700900999"', "")
        for canary in (CANARY, "7700900111", "900-999", "07700 ", "a@b.c"):
            assert canary not in text.replace(str(customer), ""), (path, canary)
        shown += (await advisor.get(path)).text
    assert PHONE in shown
    assert "+447700900111" in shown


async def test_the_customer_stands_beside_the_thread(inbox: RunningInbox, garage: InboxWorld) -> None:
    customer, thread = await garage.customer("Kim", PHONE, wa_id=CANARY)
    await garage.hears(thread)
    async with inbox.pool.acquire() as db:
        await db.execute(
            "insert into consents (org_id, customer_id, category, allowed, at, source, cause)"
            " values ($1, $2, 'marketing', false, $3, 'whatsapp', 'keyword')",
            *(garage.org, customer, garage.now - HOUR),
        )
        for allowed, source, ago in ((True, None, 48 * HOUR), (False, "whatsapp", HOUR)):
            await db.execute(
                "insert into audit_log (org_id, customer_id, action, detail, at) values ($1, $2, 'consent', $3, $4)",
                *(
                    garage.org,
                    customer,
                    {"category": "marketing", "allowed": allowed, "source": source, "cause": "keyword"},
                ),
                garage.now - ago,
            )
        await db.execute(
            "update customers set last_seen_at = $2 where customer_id = $1", customer, garage.now - timedelta(days=40)
        )
    panel = (await inbox.api(garage.org, OWNER, "olga").get(f"/v1/conversations/{thread}/customer")).json()
    assert panel["contact"] == {
        "customer_id": str(customer),
        "name": "Kim",
        "phone": PHONE,
        "wa_id": CANARY,
        "reachable": True,
        "unreachable_until": None,
    }
    assert panel["portal"]["state"] == "inactive"
    by_category = {one["category"]: one for one in panel["consents"]}
    assert {name: one["allowed"] for name, one in by_category.items()} == {
        "transactional": True,
        "service_reminders": True,
        "marketing": False,
        "whatsapp": True,
        "sms": True,
    }
    marketing = by_category["marketing"]
    assert (marketing["by"], marketing["source"], marketing["how"]) == ("customer", "whatsapp", "keyword")
    assert [(one["allowed"], one["by"]) for one in marketing["trail"]] == [(False, "customer"), (True, "directory")]
    assert panel["sms"] == {
        "possible": False,
        "obstacle": "sms_unavailable",
        "text": "AcmeMotors has no active SMS number.",
        "next_at": None,
    }
    async with inbox.pool.acquire() as db:
        seen = await db.fetch("select detail from audit_log where org_id = $1 and action = 'contact_seen'", garage.org)
    assert [row["detail"] for row in seen] == [{"user_id": "olga"}]


async def test_who_read_numbers_in_lists_or_of_one_customer_is_written_down_once_an_hour(
    inbox: RunningInbox, garage: InboxWorld
) -> None:
    customer, thread = await garage.customer("Kim", PHONE)
    await garage.hears(thread)
    ada, tom = inbox.api(garage.org, ADVISOR, "ada"), inbox.api(garage.org, TECHNICIAN, "tom")
    for path in ("/v1/conversations", f"/v1/conversations/{thread}", f"/v1/conversations/{thread}/customer") * 2:
        assert (await tom.get(path)).status_code == 200
        assert (await ada.get(path)).status_code == 200
    async with inbox.pool.acquire() as db:
        rows = await db.fetch(
            "select customer_id, detail, count(*) from audit_log where org_id = $1 and action = 'contact_seen'"
            " group by 1, 2, date_trunc('hour', at) order by customer_id nulls first",
            garage.org,
        )
    assert [tuple(row) for row in rows][:2] == [
        (None, {"user_id": "ada", "what": "lists"}, 1),
        (customer, {"user_id": "ada"}, 1),
    ]
    assert {row["detail"]["user_id"] for row in rows} == {"ada"}


async def test_why_an_sms_would_not_go_is_the_routers_own_answer(inbox: RunningInbox) -> None:
    org = await inbox.an_org()
    sms = f"+4477009{str(uuid4().int)[:5]}"
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org)
        await db.execute(
            "update orgs set sms_number = $2, sms_line = $2, sms_active = true, country = 'GB' where org_id = $1",
            org,
            sms,
        )
    garage = InboxWorld(inbox.pool, org, number, inbox.pool.now())
    kim = inbox.api(org)

    async def outlook(thread: UUID) -> tuple[str | None, str | None]:
        said = (await kim.get(f"/v1/conversations/{thread}/customer")).json()["sms"]
        return said["obstacle"], said["next_at"]

    customer, thread = await garage.customer("Kim", PHONE)
    assert (await outlook(thread))[0] == "never_contacted"
    await garage.hears(thread)
    assert (await outlook(thread))[0] is None
    stranger, _ = await garage.customer("Bo", "+447700900998")
    async with inbox.pool.acquire() as db:  # what another customer says is theirs alone
        await db.execute(
            "insert into consents (org_id, customer_id, category, allowed, at) values ($1, $2, 'sms', false, now())",
            *(org, stranger),
        )
    assert (await outlook(thread))[0] is None
    until = garage.now + 5 * HOUR
    async with inbox.pool.acquire() as db:
        await db.execute(
            "insert into bridge_slots (conversation_id, org_id, intent_id, held_until) values ($1, $2, $3, $4)",
            *(thread, org, uuid4(), until),
        )
    assert await outlook(thread) == ("bridge_already_sent", until.isoformat().replace("+00:00", "Z"))
    async with inbox.pool.acquire() as db:
        await db.execute(
            "insert into consents (org_id, customer_id, category, allowed, at) values ($1, $2, 'sms', false, now())",
            *(org, customer),
        )
    assert (await outlook(thread))[0] == "sms_opted_out"
    async with inbox.pool.acquire() as db:
        await db.execute("update customers set phone = null where customer_id = $1", customer)
    assert (await outlook(thread))[0] == "no_phone"


@pytest.mark.parametrize("path", ["messages", "customer"])
async def test_another_organisations_customer_is_unknown(inbox: RunningInbox, garage: InboxWorld, path: str) -> None:
    _, thread = await garage.customer()
    other = inbox.api(await inbox.an_org())
    answer = await other.get(f"/v1/conversations/{thread}/{path}")
    unknown = await other.get(f"/v1/conversations/{uuid4()}/{path}")
    assert (answer.status_code, answer.content) == (404, unknown.content)
