"""A customer is erased, and everything that was ever said comes again.

One unmistakable name, number, BSUID and word goes into every way in, of two garages. In the end every column of every
table is looked through. Only those of ``STAYS`` hold any of it, and the other garage keeps all that it has.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.events.topics import (
    DIRECTORY_CHANGES,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    PORTAL_MESSAGES,
    WEBHOOKS,
)
from tests.e2e.conftest import SHORT, Place
from tests.e2e.test_replay import all_read, env_of
from tests.support.command import transom
from tests.support.garages import FILLED, LATE, Customer, Garage, a_garage
from tests.support.inbox import KEY, Staff, a_token
from tests.support.replays import live, replayed
from tests.support.servers import RunServers
from tests.support.system import System

WORD, NAME, PHONE = "zanzibarium", "Quillonia Featherstone", "+447700977361"
OLD_BSUID, BSUID = "GB.88112233445566770", "GB.88112233445566771"
STAYS = {
    "address_marks.address",
    "charges.figures",
    "charges.provider_ids",
    "consents.address",
    "message_pricing.provider_id",
    "messages.provider_id",
    "provider_ids.provider_id",
}
"""What the runbook names: the list of who must not be written to, and the providers' ids of messages."""
PRICES = ["charge_due", "currency", "estimated", "figures", "price", "price_due_at"]
GOES = {
    "conversations.bsuid",
    "conversations.wa_id",
    "customer_identities.bsuid",
    "customer_identities.line",
    "customer_identities.value",
    "customer_words.words",
    "customers.name",
    "customers.phone",
    "customers.directory_phone",
    "decisions.command",
    "decisions.record",
    "former_identities.bsuid",
    "former_identities.line",
    "former_identities.value",
    "identity_notices.new_bsuid",
    "identity_notices.old_bsuid",
    "identity_notices.old_line",
    "message_words.words",
    "messages.content",
    "messages.from_bsuid",
    "messages.from_wa_id",
    "messages.reply_to",
    "parked_messages.content",
    "portal_links.phone",
    "portal_sessions.phone",
    "sends.command",
    "sms_joins.sender",
    "sms_parts.text",
}
"""What held some of it before, so that the test would see it stay."""
_STATUS = "select status from messages where message_id = $1::uuid"


def canaries() -> list[str]:
    """What is looked for, in small letters. A wamid has the number in base64, at any of three places."""
    digits = PHONE.lstrip("+")
    coded = [base64.b64encode(b"x" * shift + digits.encode()).decode()[4 * (shift > 0) : -4] for shift in range(3)]
    return [one.lower() for one in (WORD, "quillonia", "featherstone", digits, OLD_BSUID, BSUID, *coded)]


def assert_quiet(text: str) -> None:
    """Nothing of the customer stands in it."""
    assert [one for one in canaries() if one in text.lower()] == []


async def found(system: System, org_id: str) -> set[str]:
    """The columns of an organisation's rows that hold any of it; of a table without organisations, of all its rows."""
    columns = await system.rows(
        "select table_name, array_agg(column_name::text) as names from information_schema.columns"
        " join pg_tables on tablename = table_name and schemaname = 'public'"
        " where table_schema = 'public' group by table_name order by table_name"
    )
    holding: set[str] = set()
    for table, names in columns:
        own = "where t.org_id = $2" if "org_id" in names else "where $2::text is not null"
        for name in names:
            asked = f"select exists (select from {table} t {own} and lower(t.{name}::text) like any ($1::text[]))"
            if await system.value(asked, [f"%{one}%" for one in canaries()], org_id):
                holding.add(f"{table}.{name}")
    return holding


async def everything(system: System, org_id: str) -> dict[str, list[str]]:
    """Every row of an organisation, but for what its streams tell and for prices, which come late."""
    tables = await system.rows(
        "select table_name from information_schema.columns join pg_tables on tablename = table_name"
        " where table_schema = 'public' and schemaname = 'public' and column_name = 'org_id'"
    )
    streams = {"inbox_feeds", "inbox_changes", "touched_customers", "template_syncs", "templates"}
    asked = "select (to_jsonb(t) - $2::text[])::text from {} t where org_id = $1 order by 1"
    return {
        table: [text for (text,) in await system.rows(asked.format(table), org_id, PRICES)]
        for (table,) in tables
        if table not in streams
    }


@pytest_asyncio.fixture
async def system(
    a_place: Place, run_servers: RunServers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    folder = tmp_path_factory.mktemp("erasure")
    async with System(await a_place("erasure"), run_servers.watchdog, folder, **SHORT) as running:
        running.private |= {WORD, NAME, PHONE.lstrip("+"), BSUID, OLD_BSUID}
        running.add("inbox", "inbox")
        await running.start("inbox", JWT_KEYS=KEY)
        yield running
        assert not running.leaks()


def api(system: System, garage: Garage) -> httpx.AsyncClient:
    token = a_token(garage.org_id)
    url = system.services["inbox"].url
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=20)


def erase(system: System, kim: Customer, *words: str) -> str:
    ended = transom("erase", "--org", kim.garage.org_id, *words, kim.conversation_id, env=env_of(system))
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


async def _next_second() -> None:
    """Meta's times are whole seconds, and what happens in one of them has no order: who has which id is then open."""
    await asyncio.sleep(1 - utc_now().timestamp() % 1)


async def _charged(system: System) -> None:
    """Return when the charge of each delivered message names it. It is looked at again now, not in half a minute."""
    await system.rows("update charges set price_due_at = now() where channel = 'whatsapp' and price_due_at is not null")

    async def charged() -> bool:
        return not await system.value(
            "select exists (select from message_pricing where charge_due) or exists (select from charges c"
            " join messages m using (org_id, message_id)"
            " where c.channel = 'whatsapp' and c.estimated and m.status in ('delivered', 'read'))"
        )

    await system.until(charged, "what was delivered has its charge")


async def _said(garage: Garage) -> tuple[Customer, list[str], str]:
    """Everything that a customer and a garage can say. Returns the intents, and the id at Meta of one of them."""
    system, kim = garage.system, garage.customer(PHONE)
    who: dict[str, Any] = {"name": NAME, "bsuid": OLD_BSUID}
    listed = {"type": "customer.upserted.v1", "org_id": garage.org_id, "at": utc_now().isoformat(), "name": NAME}
    await system.say(DIRECTORY_CHANGES.name, listed | {"customer_id": str(uuid4()), "phone": PHONE}, key=garage.org_id)
    await system.quiet()
    await _next_second()
    await kim.writes(f"Hello {WORD}", ago=LATE, **who)
    late = await kim.is_sent(f"Bridged {WORD}", actor="staff")
    assert await system.fails(late) == "window_expired_bridge_sent"
    await _next_second()
    notice = {"type": "user_changed_user_id", "user_id": BSUID, "previous_user_id": OLD_BSUID, "body": f"Now {WORD}"}
    told = {"from": PHONE.lstrip("+"), "id": f"wamid.{uuid4().hex}", "timestamp": str(int(utc_now().timestamp()))}
    await system.sandbox.meta_change(
        garage.phone_number_id, {"messages": [told | {"type": "system", "system": notice}]}
    )
    await system.quiet()
    await _next_second()
    first = await kim.writes(f"Back again {WORD}", name=NAME, bsuid=BSUID)
    card = {"name": {"formatted_name": NAME, "first_name": NAME}, "phones": [{"phone": PHONE, "wa_id": PHONE[1:]}]}
    for kind, content in (
        ("image", {"caption": f"Look {WORD}"}),
        ("contacts", [card]),
        ("location", {"name": NAME, "address": WORD, "latitude": 51.5, "longitude": 0.1}),
        ("reaction", {"message_id": first["provider_id"], "emoji": "👍"}),
        ("unsupported", {"type": "poll", "question": WORD}),
    ):
        await kim.writes(kind=kind, content=content, name=NAME, bsuid=BSUID)
    await kim.writes(f"A reply {WORD}", name=NAME, bsuid=BSUID, reply_to=first["provider_id"])
    await system.sandbox.staff_writes(garage.phone_number_id, PHONE, text=f"By phone {WORD}", bsuid=BSUID)
    await system.sandbox.customer_texts(PHONE, garage.sms_number, f"{WORD} " * 30, provider="vonage")
    common = {"org_id": garage.org_id, "conversation_id": kim.conversation_id, "at": utc_now().isoformat()}
    written = {"type": "portal.message.v1", "session": "s-1", "client_id": "f-1", "text": f"In the portal {WORD}"}
    await system.say(PORTAL_MESSAGES.name, written | common, key=kim.conversation_id)
    await system.quiet()
    template = {"kind": "template", **FILLED, "parameters": {"customer_name": NAME, "appointment_time": WORD}}
    intents = [
        kim.intent(f"By the AI {WORD}", channel="whatsapp", reply_to=first["message_id"]),
        kim.intent(f"By staff {WORD}", actor="staff", channel="whatsapp"),
        kim.intent(content=template, actor="staff"),
        kim.intent(f"By SMS {WORD}", channel="sms"),
        kim.intent(f"In the portal {WORD}", actor="staff", channel="portal"),
        kim.first_contact(actor="staff", content=template),
        kim.intent(content={"kind": "hologram", "text": WORD}),
    ]
    ids = [late, *await system.intend(*intents)]
    async with api(system, garage) as client:
        kept = {"content": {"kind": "text", "text": f"Kept {WORD}"}}
        answer = await client.post(f"/v1/conversations/{kim.conversation_id}/parked", json=kept)
        assert answer.status_code == 201, answer.text
    await system.quiet()
    await system.sandbox.customer_texts(PHONE, garage.sms_number, "STOP", provider="vonage")
    await all_read(system)
    await _charged(system)
    for table, key, ends in (
        ("portal_links", "code_hash", "expires_at"),
        ("portal_sessions", "session_hash", "ends_at"),
    ):
        other = "message_id" if table == "portal_links" else "session_name"
        seen = "" if table == "portal_links" else ", seen_at"
        await system.rows(
            f"insert into {table} ({key}, org_id, conversation_id, {other}, host, phone, created_at, {ends}{seen})"
            f" values (sha256($1::text::bytea), $1, $2::uuid, uuidv7(), 'x.link', $3, now(), now() + interval '1 day'"
            f"{', now()' if seen else ''})",
            *(garage.org_id, kim.conversation_id, PHONE),
        )
    (wamid,) = [one["wamid"] for one in await system.sandbox.messages() if (one["callback"] or "").startswith(ids[2])]
    return kim, ids, wamid


async def _comes_again(system: System, kim: Customer, message_id: str, wamid: str) -> None:
    """A late status of an erased message, and all that was said before."""
    late = {"id": wamid, "status": "read", "timestamp": str(int(utc_now().timestamp())), "recipient_id": PHONE[1:]}
    await system.sandbox.meta_change(kim.garage.phone_number_id, {"statuses": [late | {"recipient_user_id": BSUID}]})

    async def read() -> bool:
        return bool(await system.value(_STATUS, message_id) == "read")

    await system.until(read, "the late status is applied")
    for topic in (DIRECTORY_CHANGES, WEBHOOKS, PORTAL_MESSAGES, OUTBOUND_INTENTS):
        await replayed(system, live(topic))
        await all_read(system)


def _explained(system: System, intents: list[str]) -> None:
    for intent in intents:
        explained = transom("explain", intent, env=env_of(system))
        assert explained.returncode == 0, explained.stderr
        assert_quiet(explained.stdout)


async def _shown_to_staff(system: System, kim: Customer) -> None:
    async with api(system, kim.garage) as client:
        for path in ("messages", "context", "customer", "parked", ""):
            answer = await client.get(f"/v1/conversations/{kim.conversation_id}/{path}".rstrip("/"))
            assert answer.status_code == 200, answer.text
            assert_quiet(answer.text)
        for asked in (WORD, "quillonia", PHONE):
            assert (await client.get("/v1/conversations", params={"q": asked})).json()["items"] == []
    async with httpx.AsyncClient(base_url=system.services["inbox"].url, timeout=20) as browser:
        staff = Staff(browser)
        assert (await staff.signs_in(a_token(kim.garage.org_id))).status_code == 303
        for path in ("/inbox", f"/inbox/{kim.conversation_id}"):
            page = await staff.get(path)
            assert page.status_code == 200
            assert "This message was erased" in page.text
            assert_quiet(page.text)


async def _is_on_its_way(system: System, kim: Customer, answer_in_portal: str) -> None:
    """Intents, a text of the portal, and a refusal of what was said before. None sends or keeps anything."""
    sent = len(await kim.whatsapps()), len(await kim.texts())
    for channel in ("auto", "whatsapp", "sms", "portal"):
        intent = await kim.is_sent(f"It was on its way {WORD}", actor="staff", channel=channel)
        assert await system.fails(intent) == "customer_erased"
    common = {"org_id": kim.garage.org_id, "conversation_id": kim.conversation_id, "at": utc_now().isoformat()}
    written = {"type": "portal.message.v1", "session": "s-1", "client_id": "f-2", "text": f"Is it on its way {WORD}"}
    await system.say(PORTAL_MESSAGES.name, written | common, key=kim.conversation_id)
    refused = {"type": "outbound.refused.v1", "org_id": kim.garage.org_id, "conversation_id": kim.conversation_id}
    about = {"intent_id": answer_in_portal, "attempt": 1, "reason": "portal_unread", "at": utc_now().isoformat()}
    await system.say(OUTBOUND_REFUSED.name, refused | about, key=kim.conversation_id)
    assert await system.fails(answer_in_portal) == "customer_erased"
    await all_read(system)
    assert (len(await kim.whatsapps()), len(await kim.texts())) == sent


@pytest.mark.timeout(480)
async def test_nothing_of_a_customer_is_left_and_nothing_comes_back_with_what_is_delivered_again(
    system: System,
) -> None:
    garage, other = [await a_garage(system, sms_provider="vonage") for _ in range(2)]
    await _said(other)  # one after the other: in the sandbox a person has one BSUID at a time
    kim, intents, wamid = await _said(garage)
    await system.rows("update messages set status = 'delivered', read_at = null where message_id = $1", intents[2])
    before, theirs = await found(system, garage.org_id), await everything(system, other.org_id)
    assert before >= GOES | STAYS, GOES | STAYS - before
    statuses = [status for _, _, status, _ in await kim.thread()]

    told = await asyncio.to_thread(erase, system, kim)
    assert "nothing is erased yet: --yes erases it for good" in told
    assert await found(system, garage.org_id) == before
    done = await asyncio.to_thread(erase, system, kim, "--yes")
    assert done.removeprefix("erased").rstrip() == told.splitlines()[0].removeprefix("would erase")
    assert await asyncio.to_thread(erase, system, kim, "--yes") == "nothing of this customer is left to erase\n"
    await all_read(system)
    assert await found(system, garage.org_id) == STAYS
    unchanged = await everything(system, other.org_id)
    assert {table: (theirs[table], unchanged[table]) for table in theirs if theirs[table] != unchanged[table]} == {}
    assert [status for _, _, status, _ in await kim.thread()] == statuses
    people = await system.value("select count(*) from customers where org_id = $1", garage.org_id)

    await _comes_again(system, kim, intents[2], wamid)
    assert await found(system, garage.org_id) == STAYS
    assert await system.value("select count(*) from customers where org_id = $1", garage.org_id) == people
    await asyncio.to_thread(_explained, system, intents)
    await _shown_to_staff(system, kim)

    await _is_on_its_way(system, kim, intents[5])
    assert await found(system, garage.org_id) == STAYS
    assert await asyncio.to_thread(erase, system, kim, "--yes") == "nothing of this customer is left to erase\n"
    gone = kim.conversation_id
    again = await kim.writes("Hello, I am new here", name=NAME, bsuid=BSUID)
    assert again["conversation_id"] != gone
    assert await system.value("select count(*) from customers where org_id = $1", garage.org_id) == people + 1
    assert (
        await system.fails(await kim.is_sent("By SMS", actor="staff", channel="sms")) == "window_expired_sms_opted_out"
    )
