"""From a customer's SMS to its answer: what ingest stores, and what the router makes of an answer. On real servers."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.common.providers.accounts import SmsAccounts
from libs.common.thread import conversations, parting
from libs.common.thread.parting import SenderFilter, ThreadMessage
from services.ingest import sms
from services.ingest.items import InboundSms
from services.ingest.number_gate import NumberGate
from services.ingest.sms_gate import SmsGate
from services.ingest.sms_parts import OrgSms
from services.ingest.worker_deps import Deps
from tests.support import world
from tests.support.router import NOW, Garage, Router, stored

pytestmark = pytest.mark.usefixtures("log_lines")

DAY = timedelta(hours=24)
WRITER = "+447700900999"


@dataclass
class Texts:
    """What customers write by SMS, stored as ingest stores it."""

    router: Router
    deps: Deps = field(init=False)

    def __post_init__(self) -> None:
        pool = self.router.pool
        gates = NumberGate(pool), SmsGate(pool, SmsAccounts("twilio", {}, {}))
        self.deps = Deps(pool, self.router.deps.producer, DAY, timedelta(minutes=5), lambda: NOW, *gates)

    async def come(
        self, garage: Garage, sender: str = WRITER, text: str = "When is it ready?", seconds_ago: int = 60
    ) -> dict[str, Any]:
        """The garage gets this SMS; the message as it is stored."""
        one = an_sms(garage, sender, text, NOW - timedelta(seconds=seconds_ago))
        await self.store([one])
        [found] = await self.router.rows("select * from messages where provider_id = $1", one.sms.provider_id)
        return found

    async def store(self, batch: Sequence[OrgSms]) -> None:
        await sms.store_batch(batch, self.deps)


def an_sms(garage: Garage, sender: str, text: str, at: datetime) -> OrgSms:
    one = InboundSms("twilio", "AC1", f"SM{uuid4().hex}", garage.sms_number, sender, text, at, at=at)
    return OrgSms(garage.org_id, "GB", one)


@pytest.fixture
def texts(router: Router) -> Texts:
    return Texts(router)


async def answer(router: Router, garage: Garage, message: dict[str, Any]) -> tuple[str, str | None, str]:
    """The AI answers there; route, channel and reason."""
    published = await router.decide(garage.intent(conversation_id=str(message["conversation_id"])))
    [decision] = published["outbound.decisions.v1"]
    return decision["route"], decision["channel"], decision["reason"]


async def test_an_sms_is_answered_by_sms_in_the_conversation_that_went_silent(router: Router, texts: Texts) -> None:
    garage = await stored(router, Garage.closed())
    message = await texts.come(garage)
    assert message["conversation_id"] == garage.conversation_id
    published = await router.decide(garage.intent())
    [command] = published["outbound.sms.v1"]
    assert (command["route"], command["from_number"], command["to"]) == ("session", garage.sms_number, WRITER)
    [decision] = published["outbound.decisions.v1"]
    assert (decision["channel"], decision["reason"], decision["window"]["open"]) == ("sms", "live_channel", False)


async def test_a_newer_whatsapp_message_makes_whatsapp_the_live_channel_again(router: Router, texts: Texts) -> None:
    garage = await stored(router, Garage())
    await texts.come(garage)
    assert (await answer(router, garage, {"conversation_id": garage.conversation_id}))[1] == "sms"
    await router.rows("update conversations set last_inbound_channel = 'whatsapp', last_inbound_at = $1", NOW)
    assert (await answer(router, garage, {"conversation_id": garage.conversation_id}))[1] == "whatsapp"


@pytest.mark.parametrize("word", ["STOP", "START", "Unsubscribe"])
async def test_a_word_by_sms_leaves_the_portal_the_live_channel(router: Router, texts: Texts, word: str) -> None:
    garage = await stored(router, Garage.closed(last_inbound_channel="portal"))
    await router.rows("update conversations set last_inbound_at = $1", NOW - timedelta(hours=1))
    message = await texts.come(garage, text=word)
    assert await answer(router, garage, message) == ("session", "portal", "live_channel")
    await router.rows("update conversations set last_inbound_at = $1", NOW - DAY)
    again = await texts.come(garage, text=word)
    assert (await answer(router, garage, again))[0] != "session"


async def test_after_a_stop_from_another_phone_of_the_customer_the_answer_goes_where_they_wrote(
    router: Router, texts: Texts
) -> None:
    garage, other = await stored(router, Garage()), "+447700900888"
    await router.rows(
        "insert into customer_identities (org_id, kind, value, customer_id, source, since)"
        " values ($1, 'phone', $2, $3, 'directory', $4)",
        *(garage.org_id, other, garage.customer_id, NOW - DAY),
    )
    message = await texts.come(garage, other, "STOP")
    assert message["conversation_id"] == garage.conversation_id
    assert await answer(router, garage, message) == ("session", "whatsapp", "window_open")


async def test_who_has_only_said_stop_and_start_has_written_and_is_asked_back(router: Router, texts: Texts) -> None:
    garage = await stored(router, Garage(last_customer_at=None, last_inbound_channel=None))
    stop = await texts.come(garage, text="STOP", seconds_ago=60)
    assert await answer(router, garage, stop) == ("silent", None, "sms_opted_out")
    start = await texts.come(garage, text="START", seconds_ago=30)
    assert await answer(router, garage, start) == ("bridge", "sms", "window_expired")


@pytest.mark.parametrize("word", ["STOP", "START"])
async def test_who_wrote_by_sms_before_their_first_word_and_is_heard_after_it_is_answered_by_sms(
    router: Router, texts: Texts, word: str
) -> None:
    garage = await stored(router, Garage(last_customer_at=None, last_inbound_channel=None))
    await texts.come(garage, text=word, seconds_ago=30)
    message = await texts.come(garage, seconds_ago=60)
    [found] = await router.rows("select last_inbound_channel, last_inbound_at from conversations")
    assert (found["last_inbound_channel"], found["last_inbound_at"]) == ("sms", message["occurred_at"])
    told = {"STOP": ("silent", None, "sms_opted_out"), "START": ("session", "sms", "live_channel")}
    assert await answer(router, garage, message) == told[word]


@pytest.mark.parametrize("seed", range(12))
async def test_the_live_channel_is_that_of_the_newest_sms_which_is_no_word_in_whatever_order_they_come(
    router: Router, texts: Texts, seed: int
) -> None:
    draw = random.Random(seed)
    garage = await stored(router, Garage(last_customer_at=NOW - timedelta(hours=2)))
    said = [
        (draw.choice(["STOP", "START", "When is it ready?"]), NOW - timedelta(minutes=draw.randrange(1, 240)))
        for _ in range(6)
    ]
    rest = [an_sms(garage, WRITER, text, at) for text, at in said]
    while rest:
        size = draw.randint(1, 3)
        batch, rest = rest[:size], rest[size:]
        await texts.store(batch)
    before = NOW - timedelta(hours=2)
    newest = max([at for text, at in said if text[0] == "W"], default=before)
    [found] = await router.rows("select last_inbound_channel, last_inbound_at from conversations")
    live = ("sms", newest) if newest > before else ("whatsapp", before)
    assert (found["last_inbound_channel"], found["last_inbound_at"]) == live


async def test_a_customer_of_an_organisation_without_a_whatsapp_number_is_answered(
    router: Router, texts: Texts
) -> None:
    garage = await stored(router, Garage())
    other = Garage()
    await router.rows(
        "insert into orgs (org_id, name, sms_number, sms_line, sms_active, portal_host, upserted_at)"
        " values ($1, 'SMS alone', $2, $2, true, 'alone.example', now())",
        other.org_id,
        other.sms_number,
    )
    message = await texts.come(other)
    assert message["conversation_id"] != garage.conversation_id
    assert await answer(router, other, message) == ("session", "sms", "live_channel")
    await router.rows("update conversations set last_inbound_at = $1 where org_id = $2", NOW - 2 * DAY, other.org_id)
    published = await router.decide(other.intent(conversation_id=str(message["conversation_id"])))
    [bridge] = published["outbound.sms.v1"]
    assert (bridge["route"], bridge["whatsapp_number"], bridge["portal_host"]) == ("bridge", None, "alone.example")


@pytest.mark.parametrize("sender", ["60777", "HMRC"])
async def test_a_short_code_is_never_answered(router: Router, texts: Texts, sender: str) -> None:
    garage = await stored(router, Garage())
    message = await texts.come(garage, sender)
    assert await answer(router, garage, message) == ("silent", None, "no_phone")


async def test_two_garages_that_text_each_other_stop_by_themselves(router: Router, texts: Texts) -> None:
    one, other = await stored(router, Garage()), Garage()
    async with router.pool.acquire() as db:
        await world.an_org(
            db, other.org_id, other.number, sms_number=other.sms_number, waba=f"2{other.number}", portal_host=None
        )
    for garage, writer in ((one, other), (other, one)) * 3:
        message = await texts.come(garage, writer.sms_number, "We are closed. Please call us.")
        assert await answer(router, garage, message) == ("silent", None, "no_phone")
    assert await router.rows("select 1 from decisions where channel = 'sms'") == []


@pytest.mark.parametrize(("theirs", "ours"), [("+525512345678", "+5215512345678"), ("+5215512345678", "+525512345678")])
async def test_no_sms_answers_an_organisations_line_under_another_spelling(
    router: Router, texts: Texts, theirs: str, ours: str
) -> None:
    """The customer is on file under one number of the line; the other organisation has the other one."""
    garage, other = await stored(router, Garage.closed(phone=ours)), Garage(sms_number=theirs)
    async with router.pool.acquire() as db:
        await world.an_org(db, other.org_id, other.number, sms_number=theirs, waba=f"2{other.number}", portal_host=None)
    await router.rows("""update orgs set policy = '{"sms_countries": ["MX"]}'""")
    published = await router.decide(garage.intent(channel="sms"))
    assert [d["reason"] for d in published["outbound.decisions.v1"]] == ["no_phone"]


@pytest.mark.parametrize("known", [False, True])
async def test_what_a_stranger_wrote_by_sms_moves_with_the_number_and_opens_no_window(
    router: Router, texts: Texts, *, known: bool
) -> None:
    garage = await stored(router, Garage.closed())
    message = await texts.come(garage)
    stranger = uuid4()
    async with router.pool.acquire() as db, db.transaction():
        await world.a_customer(db, garage.org_id, stranger, None)
        asked = SenderFilter(garage.org_id, [garage.customer_id], [WRITER[1:]], [], NOW - DAY)
        [sent] = await parting.messages_from(db, [asked])
        at = message["occurred_at"]
        assert sent == [
            ThreadMessage(message["message_id"], garage.conversation_id, at, garage.number, "sms"),
        ]
        address = conversations.ConversationAddress(garage.org_id, stranger, garage.number)
        await conversations.ensure(db, [address])
        if known:  # they wrote in WhatsApp before
            wrote = "update conversations set last_inbound_channel = 'whatsapp', last_inbound_at = $2"
            await db.execute(f"{wrote} where customer_id = $1", stranger, NOW - DAY)
        await parting.split(db, garage.org_id, stranger, sent)
    [moved] = await router.rows("select * from conversations where customer_id = $1", stranger)
    assert (moved["last_customer_at"], moved["last_inbound_at"], moved["last_inbound_channel"]) == (None, at, "sms")
    [left] = await router.rows("select * from conversations where customer_id = $1", garage.customer_id)
    assert left["identity_changed_at"] is None
    [row] = await router.rows("select conversation_id from messages where message_id = $1", message["message_id"])
    assert row["conversation_id"] == moved["conversation_id"]
