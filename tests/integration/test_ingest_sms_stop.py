"""STOP and START by SMS, from the provider's callback to the consent and the mark on the line."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.events.directory import ConsentChanged
from libs.common.events.topics import DIRECTORY_CHANGES, INBOUND_MESSAGES
from tests.support import world
from tests.support.ingest import ORG, Ingest, ingest, now
from tests.support.texts import WRITER, a_twilio_sms, post_twilio
from tests.support.waiting import DEADLINE_SECONDS
from tests.support.webhooks import a_message, of_messages

__all__ = ["ingest"]

KIM, SAM = uuid4(), uuid4()


async def said(ingest: Ingest, *texts: str, before: int = 0) -> list[dict[str, Any]]:
    """The customer writes these one after the other; what is published of them."""
    events: list[dict[str, Any]] = []
    for count, body in enumerate(texts, before + 1):
        assert await post_twilio(ingest.http, ingest.url, a_twilio_sms(body)) == 200
        events = await ingest.published.events(INBOUND_MESSAGES, count)
    return events[before:]


async def sms_consent(ingest: Ingest) -> list[tuple[Any, ...]]:
    rows = await ingest.rows("select allowed, address, source, cause from consents where category = 'sms'")
    return [tuple(row) for row in rows]


async def marks(ingest: Ingest) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await ingest.rows("select address, reason, source from address_marks")]


async def kim(ingest: Ingest, **consents: bool) -> None:
    async with ingest.pool.acquire() as db:
        await world.a_customer(db, ORG, KIM, WRITER, consents)  # type: ignore[arg-type]  # categories by name


async def test_a_stop_opts_the_line_out_and_is_told_with_its_trail(ingest: Ingest) -> None:
    await kim(ingest)
    (one,) = await said(ingest, "Stop.")
    assert (one["keyword"], one["content"]) == ("stop", {"kind": "text", "text": "Stop."})
    assert await sms_consent(ingest) == [(False, WRITER, "sms", "keyword")]
    assert await marks(ingest) == [(WRITER, "sms_opted_out", "message")]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (told := await ingest.published.events(DIRECTORY_CHANGES)):  # noqa: ASYNC110 -- a record
            await asyncio.sleep(0.05)
    change = ConsentChanged.model_validate(told[0])
    assert (change.customer_id, change.category, change.allowed) == (KIM, "sms", False)
    assert (change.source, change.cause) == ("sms", "keyword")
    assert len(await ingest.rows("select 1 from audit_log where action = 'consent'")) == 1


async def test_start_lifts_the_stop_and_a_repeated_stop_does_not_come_back(ingest: Ingest) -> None:
    await kim(ingest)
    form = a_twilio_sms("STOP")
    for copies in (1, 2):
        await post_twilio(ingest.http, ingest.url, form)
        await ingest.published.events(INBOUND_MESSAGES, copies)
    (start,) = await said(ingest, "start", before=2)
    assert start["keyword"] == "start"
    assert await sms_consent(ingest) == [(True, None, "sms", "keyword")]
    assert await marks(ingest) == []
    await post_twilio(ingest.http, ingest.url, form)
    await ingest.published.events(INBOUND_MESSAGES, 4)
    assert await sms_consent(ingest) == [(True, None, "sms", "keyword")]
    assert await marks(ingest) == []


async def test_start_lifts_no_opt_out_of_the_platform_even_where_a_stop_came_on_top(ingest: Ingest) -> None:
    await kim(ingest, sms=False)
    await said(ingest, "STOP", "START")
    (row,) = await sms_consent(ingest)
    assert row[:2] == (False, None)


async def test_start_lifts_nothing_that_was_said_in_whatsapp_and_whatsapp_lifts_no_sms(ingest: Ingest) -> None:
    await kim(ingest, marketing=True)
    await ingest.post(of_messages(a_message(now() - timedelta(minutes=3), "STOP")))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    await said(ingest, "START", "STOP", before=1)
    await ingest.post(of_messages(a_message(now() + timedelta(seconds=5), "START")))
    await ingest.published.events(INBOUND_MESSAGES, 4)
    found = {row["category"]: row["allowed"] for row in await ingest.rows("select category, allowed from consents")}
    assert found == {"marketing": True, "sms": False}


async def test_a_yes_is_an_answer_until_a_stop_stands(ingest: Ingest) -> None:
    await kim(ingest)
    answer, _stop, yes = await said(ingest, "Yes", "STOP", "YES")
    assert "keyword" not in answer
    assert yes["keyword"] == "start"
    assert (await sms_consent(ingest))[0][0] is True


async def test_a_word_of_another_country_is_a_text(ingest: Ingest) -> None:
    (one,) = await said(ingest, "Abmelden")
    assert "keyword" not in one
    assert await sms_consent(ingest) == []


async def test_a_stop_also_holds_for_another_customer_with_the_same_phone(ingest: Ingest) -> None:
    await kim(ingest)
    async with ingest.pool.acquire() as db:
        await world.a_customer(db, ORG, SAM, WRITER)
    (one,) = await said(ingest, "STOP")
    assert UUID(one["customer_id"]) in (KIM, SAM)
    assert await marks(ingest) == [(WRITER, "sms_opted_out", "message")]
    await said(ingest, "START", before=1)
    assert await marks(ingest) == []


@pytest.mark.parametrize("word", ["UNSUBSCRIBE", "cancel", "End."])
async def test_what_twilio_takes_for_a_stop_is_one(ingest: Ingest, word: str) -> None:
    (one,) = await said(ingest, word)
    assert one["keyword"] == "stop"
    assert await marks(ingest) == [(WRITER, "sms_opted_out", "message")]


async def test_a_word_of_a_messaging_services_own_counts_as_twilio_took_it(ingest: Ingest) -> None:
    for count, (text, taken) in enumerate((("genug", "STOP"), ("weiter", "START"), ("info", "HELP")), 1):
        await post_twilio(ingest.http, ingest.url, a_twilio_sms(text, OptOutType=taken))
        events = await ingest.published.events(INBOUND_MESSAGES, count)
    assert [one.get("keyword") for one in events] == ["stop", "start", None]
    assert await marks(ingest) == []


async def test_a_file_beside_the_word_changes_nothing(ingest: Ingest) -> None:
    """Some phones send even a short text as an MMS, with a file of its layout."""
    await kim(ingest)
    for count, (word, keyword) in enumerate((("Stop", "stop"), ("our stop", None), ("START.", "start")), 1):
        picture = {"NumMedia": "1", "MediaUrl0": "https://api.twilio.com/x/Media/ME1", "MediaContentType0": "image/png"}
        assert await post_twilio(ingest.http, ingest.url, a_twilio_sms(word, **picture)) == 200
        told = (await ingest.published.events(INBOUND_MESSAGES, count))[-1]
        assert (told.get("keyword"), told["content"]["caption"]) == (keyword, word)
        assert await marks(ingest) == ([] if keyword == "start" else [(WRITER, "sms_opted_out", "message")])
