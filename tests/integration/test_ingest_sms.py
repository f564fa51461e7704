"""Customers' SMS, from the provider's callback to ``inbound.messages.v1``."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.directory.organisations import forget_former_numbers
from libs.common.events.directory import OrgUpserted
from libs.common.events.topics import INBOUND_MESSAGES, WEBHOOKS
from tests.support import world
from tests.support.ingest import ORG, Ingest, ingest, now
from tests.support.texts import CALLED, WRITER, a_twilio_sms, post_twilio
from tests.support.webhooks import NUMBER, a_message, of_messages

__all__ = ["ingest"]

KIM = uuid4()
OTHER, OTHER_CALLED, OTHER_NUMBER = "beta", "+447700900002", "106400000000002"


async def received(ingest: Ingest, count: int) -> list[dict[str, Any]]:
    return await ingest.published.events(INBOUND_MESSAGES, count)


async def text(ingest: Ingest, body: str = "Is my car ready?", **more: str) -> dict[str, str]:
    form = a_twilio_sms(body, **more)
    assert await post_twilio(ingest.http, ingest.url, form) == 200
    return form


async def another_garage(ingest: Ingest, **fields: Any) -> None:
    async with ingest.pool.acquire() as db:
        await world.an_org(
            db, OTHER, OTHER_NUMBER, sms_number=OTHER_CALLED, waba="206400000000002", portal_host=None, **fields
        )


async def test_an_unknown_sender_becomes_a_customer_with_a_conversation_on_the_first_number(ingest: Ingest) -> None:
    form = await text(ingest, "Is my Golf ready?")
    (one,) = await received(ingest, 1)
    assert (one["channel"], one["provider_id"], one["org_id"]) == ("sms", form["MessageSid"], ORG)
    assert one["content"] == {"kind": "text", "text": "Is my Golf ready?"}
    assert one["verified"] is False
    assert one["window"] == {"opened_at": None, "closes_at": None, "open": False}
    (customer,) = await ingest.rows("select customer_id, phone, origin from customers")
    assert (customer["phone"], customer["origin"]) == (WRITER, "inbound")
    assert UUID(one["customer_id"]) == customer["customer_id"]
    conversation = await ingest.row("select * from conversations")
    assert conversation["phone_number_id"] == NUMBER
    assert (conversation["last_inbound_channel"], conversation["last_customer_at"]) == ("sms", None)
    (identity,) = await ingest.rows("select kind, source, seen from customer_identities")
    assert tuple(identity) == ("phone", "sms", None)
    assert await ingest.rows("select 1 from consents") == []


async def test_a_repeated_delivery_is_one_message_and_moves_nothing(ingest: Ingest) -> None:
    form = await text(ingest)
    await received(ingest, 1)
    before = await ingest.row("select last_inbound_at from conversations")
    assert await post_twilio(ingest.http, ingest.url, form) == 200
    first, again = await received(ingest, 2)
    assert first == again
    assert await ingest.row("select last_inbound_at from conversations") == before
    assert len(await ingest.rows("select 1 from messages")) == 1


async def test_an_sms_goes_on_in_the_whatsapp_conversation_and_leaves_its_window(ingest: Ingest) -> None:
    at = now() - timedelta(minutes=5)
    await ingest.post(of_messages(a_message(at)))
    (whatsapp,) = await received(ingest, 1)
    await text(ingest)
    (_, sms) = await received(ingest, 2)
    assert sms["conversation_id"] == whatsapp["conversation_id"]
    assert sms["window"] == whatsapp["window"]
    row = await ingest.row("select last_customer_at, last_inbound_channel from conversations")
    assert tuple(row) == (at, "sms")


async def test_what_was_written_in_whatsapp_before_a_first_stop_and_comes_after_it_says_where(ingest: Ingest) -> None:
    await text(ingest, "STOP")
    await received(ingest, 1)
    at = now() - timedelta(minutes=5)
    await ingest.post(of_messages(a_message(at)))
    await received(ingest, 2)
    row = await ingest.row("select last_inbound_channel, last_inbound_at, last_customer_at from conversations")
    assert tuple(row) == ("whatsapp", at, at)


async def test_two_garages_with_one_customer_stay_apart(ingest: Ingest) -> None:
    await another_garage(ingest)
    await text(ingest)
    await text(ingest, To=OTHER_CALLED)
    events = await received(ingest, 2)
    assert {one["org_id"] for one in events} == {ORG, OTHER}
    assert len({one["customer_id"] for one in events}) == 2
    assert len({one["conversation_id"] for one in events}) == 2


async def test_an_unknown_number_is_a_loud_dead_letter_and_delays_nobody(
    ingest: Ingest, capsys: pytest.CaptureFixture[str]
) -> None:
    await text(ingest, To="+447700900777")
    await text(ingest)
    assert await ingest.reasons(WEBHOOKS, 1) == ["unknown_number"]
    assert len(await received(ingest, 1)) == 1


async def test_a_message_signed_by_another_account_than_the_organisation_uses_is_refused(ingest: Ingest) -> None:
    await another_garage(ingest, sms_account="beta_own")
    await text(ingest, To=OTHER_CALLED)
    assert await ingest.reasons(WEBHOOKS, 1) == ["account_mismatch"]
    assert await ingest.rows("select 1 from messages") == []


async def told(ingest: Ingest, org_id: str = ORG, days: int = 1, **fields: Any) -> None:
    """The organisation as the platform publishes it so many days after it was told first."""
    at = world.LONG_AGO + timedelta(days=days)
    async with ingest.pool.acquire() as db:
        await world.change(db, OrgUpserted(org_id=org_id, at=at, name="AcmeMotors", sms_active=True, **fields))


async def test_an_answer_to_a_former_number_or_by_a_former_account_is_the_organisations_until_another_has_the_line(
    ingest: Ingest,
) -> None:
    await told(ingest, sms_number=CALLED, sms_account="own")
    await text(ingest, "STOP")  # signed by the account of before
    await told(ingest, days=2, sms_number="+447700900005")
    await text(ingest, "Is it ready?")
    assert [one["org_id"] for one in await received(ingest, 2)] == [ORG, ORG]
    assert len(await ingest.rows("select 1 from consents where category = 'sms' and not allowed")) == 1

    await told(ingest, OTHER, sms_number=CALLED)
    await text(ingest, "And mine?")
    assert [one["org_id"] for one in await received(ingest, 3)][2:] == [OTHER]
    await told(ingest, OTHER, days=2, sms_number=CALLED, sms_account="own")
    await told(ingest, OTHER, days=3, sms_number=None)
    await text(ingest, "Still there?")
    assert [one["org_id"] for one in await received(ingest, 4)][3:] == [OTHER]

    async with ingest.pool.acquire() as db:
        assert await forget_former_numbers(db, now() - timedelta(minutes=10), 10) == 0
        assert await forget_former_numbers(db, now() + timedelta(minutes=10), 10) == 2
    await text(ingest)
    assert await ingest.reasons(WEBHOOKS, 1) == ["unknown_number"]


async def test_of_several_conversations_it_is_the_one_with_the_newest_inbound_message(ingest: Ingest) -> None:
    ids = {number: uuid4() for number in ("106400000000003", "106400000000004", "106400000000005")}
    async with ingest.pool.acquire() as db:
        await world.a_customer(db, ORG, KIM, WRITER)
        for minutes, (number, conversation) in enumerate(ids.items()):
            await world.a_number(db, ORG, number, waba="206400000000001", display_number=f"+44770090010{minutes}")
            spoken = now() - timedelta(hours=1 + minutes) if minutes < 2 else None
            await world.a_conversation(db, ORG, conversation, KIM, number, last_inbound_at=spoken)
    await text(ingest)
    (one,) = await received(ingest, 1)
    assert UUID(one["conversation_id"]) == ids["106400000000003"]
    assert UUID(one["customer_id"]) == KIM


async def test_an_organisation_without_a_whatsapp_number_has_conversations_without_one(ingest: Ingest) -> None:
    async with ingest.pool.acquire() as db:
        await world.change(
            db,
            OrgUpserted(org_id=OTHER, at=world.LONG_AGO, name="SMS alone", sms_number=OTHER_CALLED, sms_active=True),
        )
    for _ in range(2):
        await text(ingest, To=OTHER_CALLED)
    first, second = await received(ingest, 2)
    assert first["conversation_id"] == second["conversation_id"]
    row = await ingest.row("select phone_number_id from conversations")
    assert row["phone_number_id"] is None


@pytest.mark.parametrize("sender", ["60777", "+60777", "HMRC", "+HMRC"])
async def test_a_short_code_or_a_name_has_a_thread_and_no_phone(ingest: Ingest, sender: str) -> None:
    await text(ingest, "STOP", From=sender)
    await text(ingest, From=sender)
    first, second = await received(ingest, 2)
    assert first["conversation_id"] == second["conversation_id"]
    assert "keyword" not in first
    assert tuple(await ingest.row("select name, phone from customers")) == (sender, None)
    assert await ingest.rows("select 1 from consents") == []


async def test_files_of_an_mms_are_kept_as_links(ingest: Ingest) -> None:
    link = "https://api.twilio.com/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME{}"
    media = {
        "NumMedia": "2",
        "MediaUrl0": link.format(0),
        "MediaContentType0": "image/jpeg",
        "MediaUrl1": link.format(1),
        "MediaContentType1": "application/pdf",
    }
    await text(ingest, "The scratch", **media)
    (one,) = await received(ingest, 1)
    picture = {"kind": "image", "link": link.format(0), "mime_type": "image/jpeg"}
    paper = {"kind": "document", "link": link.format(1), "mime_type": "application/pdf"}
    assert one["content"] == picture | {"caption": "The scratch"}
    assert one["media"] == [picture, paper]


async def test_many_at_once_from_one_unknown_sender_are_one_conversation(ingest: Ingest) -> None:
    await asyncio.gather(*(text(ingest, f"{n}") for n in range(30)))
    events = await received(ingest, 30)
    assert len({one["conversation_id"] for one in events}) == 1
    assert len(await ingest.rows("select 1 from customers")) == 1
