"""The composer over HTTP, as a browser without scripts uses it: nothing typed is lost, nothing is sent twice."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from libs.common.events.topics import OUTBOUND_INTENTS
from libs.common.kafka.producer import Producer
from tests.support.form_browser import token_of
from tests.support.inbox import TECHNICIAN, RunningInbox
from tests.support.inbox_composer import HOUR, MINUTE, a_desk, a_template, intents
from tests.support.inbox_thread import publishing
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually_true


@pytest_asyncio.fixture(scope="module")
async def producer(inbox: RunningInbox) -> AsyncIterator[Producer]:
    async with publishing(inbox) as made:
        yield made


async def test_a_text_goes_to_the_router_once_however_often_the_form_is_posted(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    fields = desk.form | {"text": "Your Corsa is ready."}
    assert fields["via"] == "whatsapp"
    led_to = set[str]()
    for _ in range(2):
        answer = await desk.staff.post(f"{desk.path}/messages", fields)
        assert answer.status_code == 303
        led_to |= {answer.headers["location"]}
    [intent] = await intents(desk)
    assert led_to == {f"{desk.path}?sent={intent['intent_id']}"}
    assert intent["content"]["text"] == "Your Corsa is ready."
    assert intent["channel"] == "whatsapp"
    assert intent["actor"] == {"kind": "staff", "user_id": "priya", "capabilities": ["messages.send"]}
    await desk.staff.post(f"{desk.path}/messages", fields | {"text": "Your Corsa is ready now."})
    assert len(await intents(desk)) == 2


async def test_a_sent_text_leads_back_to_the_page_with_its_list(inbox: RunningInbox, producer: Producer) -> None:
    desk = await a_desk(inbox, producer)
    fields = desk.form | {"text": "Your Corsa is ready."}
    ours = {"origin": desk.staff.origin, "sec-fetch-site": "same-origin"}
    page = f"{desk.staff.origin}{desk.path}"
    for referer, leads_to in (
        (f"{page}?view=closing&q=kim", "?view=closing&q=kim"),
        (f"{page}?view=nothing&next=//evil.example", ""),
        ("http://[no address", ""),
    ):
        headers = ours | {"referer": referer}
        answer = await desk.staff.post(f"{desk.path}/messages", fields, headers)
        assert answer.status_code == 303
        assert re.sub(r"[?&]sent=[^&]+$", "", answer.headers["location"]) == desk.path + leads_to


async def test_a_sent_text_is_said_to_be_on_its_way_until_it_stands_in_the_thread(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    answer = await desk.presses("messages", text="Your Corsa is ready.")
    assert "<noscript><p" in desk.page.text  # scripts show the text at once
    assert "Your message is on its way. <a" in desk.page.text
    [intent] = await intents(desk)
    await desk.thread.is_answered("Your Corsa is ready.", actor="staff", message_id=UUID(intent["intent_id"]))
    again = await desk.staff.get(answer.headers["location"])
    assert "on its way" not in again.text
    assert "Your Corsa is ready." in again.text


@pytest.mark.parametrize("action", ["messages", "again/{uuid}", "parked/all", "parked/{uuid}"])
async def test_the_address_of_a_form_that_was_answered_leads_back_to_the_thread(
    inbox: RunningInbox, producer: Producer, action: str
) -> None:
    desk = await a_desk(inbox, producer)
    path = f"{desk.path}/{action.format(uuid=uuid4())}?q=golf"
    refused = await desk.staff.post(path, desk.form | {"text": "", "do": "send"})
    assert refused.status_code >= 400
    again = await desk.staff.get(path)
    assert (again.status_code, again.headers["location"]) == (303, f"{desk.path}?q=golf")


async def test_what_cannot_be_sent_comes_back_with_its_reason_beside_the_field(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    answer = await desk.presses("messages", text="x" * 4_097)
    assert answer.status_code == 422
    assert desk.form["text"] == "x" * 4_097
    assert "too long for this channel" in desk.text
    assert 'aria-invalid="true"' in desk.page.text
    answer = await desk.presses("messages", text="ł" * 202, via="sms")
    assert answer.status_code == 422
    answer = await desk.presses("messages", text="  ")
    assert "There is no text in it." in desk.text
    assert await intents(desk) == []


async def test_a_text_and_a_template_survive_each_other_and_every_search(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    await a_template(desk)
    await a_template(desk, language="de", body="Hallo {{customer_name}}")
    assert "About" not in desk.text
    answer = await desk.presses("compose", text="Half a thought", template="en_GB/decision_needed", tl="en_GB")
    assert answer.status_code == 200
    fields = desk.form
    assert (fields["text"], fields["template"]) == ("Half a thought", "en_GB/decision_needed")
    assert fields["f.parameters.customer_name"] == "Amara"
    await desk.presses("compose", **{"f.parameters.vehicle": "Corsa", "tq": "nothing like it"})
    assert "Nothing for" in desk.text
    fields = desk.form
    assert (fields["text"], fields["shown"], fields["f.parameters.vehicle"]) == (
        "Half a thought",
        "en_GB/decision_needed",
        "Corsa",
    )
    answer = await desk.presses("template", **{"f.parameters.vehicle": ""})
    assert answer.status_code == 422
    assert "Fill this in: Meta refuses empty values." in desk.page.text
    assert "£0.0159" in desk.page.text
    answer = await desk.presses("template", **{"f.parameters.vehicle": "Corsa"})
    assert answer.status_code == 200
    assert desk.form["text"] == "Half a thought"
    [intent] = await intents(desk)
    assert intent["content"] == {
        "kind": "template",
        "name": "decision_needed",
        "language": "en_GB",
        "parameters": {"customer_name": "Amara", "vehicle": "Corsa"},
        "header": None,
        "buttons": None,
    }


async def test_a_template_that_may_not_be_sent_is_not_sent_by_a_form_made_by_hand(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    await a_template(desk, "winter_offer", category="MARKETING", body="Tyres!")
    await a_template(desk, "paused_one", status="PAUSED", body="Hello")
    await a_template(desk)
    await desk.opens()
    assert "Marketing is switched off for Amara" in desk.text.replace(" .", ".")
    assert "Paused by Meta" in desk.text
    for name in ("winter_offer", "paused_one", "unheard_of"):
        answer = await desk.presses("template", template=f"en_GB/{name}")
        assert answer.status_code == 422
        assert "This template may not be sent now." in desk.page.text
    assert await intents(desk) == []


async def test_the_ai_is_held_by_the_button_and_by_a_text_and_not_by_a_template(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    await a_template(desk, body="Hello")
    await desk.presses("template", template="en_GB/decision_needed")
    assert "Let the AI answer" not in desk.text
    await desk.presses("hold", text="Half a thought")
    assert desk.form["text"] == "Half a thought"
    assert "The AI holds since" in desk.text
    await desk.presses("release")
    assert "The AI holds since" not in desk.text
    await desk.presses("messages", text="I answer this one.")
    assert "The AI holds since" in desk.text


async def test_a_failed_message_is_sent_again_by_sms_or_after_a_second_question(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    unknown = await desk.thread.is_answered("At five?", actor="staff", status="failed", reason="unknown_outcome")
    await desk.presses(f"again/{unknown}")
    assert "It may have arrived. Send it a second time?" in desk.text
    assert await intents(desk) == []
    await desk.presses(f"again/{unknown}", sure="1")
    refused = await desk.thread.is_answered("At six?", actor="staff", status="failed", reason="provider_refused")
    await desk.thread.run("update messages set provider_code = '131026' where message_id = $1", refused)
    await desk.opens()
    assert "Send by SMS instead" in desk.page.text
    await desk.presses(f"again/{refused}", **{"with": "sms"})
    sent = [(one["content"]["text"], one["channel"]) for one in await intents(desk)]
    assert sent == [("At five?", "auto"), ("At six?", "sms")]
    arrived = await desk.thread.is_answered("Arrived", actor="staff", status="delivered")
    assert (await desk.staff.post(f"{desk.path}/again/{arrived}", desk.form)).status_code == 404


async def test_a_stored_text_with_a_number_comes_into_no_field_of_who_may_not_see_numbers(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer, capabilities=("messages.view", "messages.send"))
    said = "Call Sam on +447700900777."
    refused = await desk.thread.is_answered(said, actor="ai", status="failed", reason="provider_refused")
    await desk.staff.post(f"{desk.path}/parked", desk.form | {"text": said})
    kept = await desk.thread.run("select message_id from parked_messages where org_id = $1", desk.thread.org_id)
    for action, fields in ((f"again/{refused}", {"with": "text"}), (f"parked/{kept}", {"do": "edit"})):
        await desk.opens()
        answer = await desk.presses(action, **fields)
        assert answer.status_code == 403
        assert "Your role may not see a number in this text." in desk.text
        assert "7700900777" not in answer.text
    plain = await desk.thread.is_answered("At six?", actor="ai", status="failed", reason="provider_refused")
    await desk.presses(f"again/{plain}", **{"with": "text"})
    assert desk.form["text"] == "At six?"


async def test_a_failed_text_that_waits_is_sent_again_once_and_its_bubble_leads_to_the_new_message(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    failed = await desk.thread.is_answered("The clutch is done.", actor="staff")
    await desk.thread.moves(failed, "failed", "window_expired_no_phone")

    async def waits() -> bool:
        return bool(await desk.thread.run("select count(*) from parked_messages where message_id = $1", failed))

    await eventually_true(waits)
    await desk.opens()
    assert "Send a template now" in desk.page.text
    await desk.thread.customer_writes("Hello?", publish=False)
    await desk.opens()
    assert "One text could not go before." in desk.text
    for _ in range(2):
        await desk.presses(f"again/{failed}", sure="1")
    [intent] = await intents(desk)
    assert intent["content"]["text"] == "The clutch is done."
    assert "One text could not go before." not in desk.text
    assert f'<a href="#m-{intent["intent_id"]}">It was sent again</a>' in desk.page.text


async def test_a_colleague_who_answered_meanwhile_is_named_before_the_text_goes(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    await desk.presses("compose", text="Yes, we can do it to")
    assert "answered at" not in desk.text
    await desk.thread.is_answered("Olga's answer", actor="staff")
    await desk.presses("compose", text="Yes, we can do it today")
    assert "olga answered at" in desk.text
    assert "Send anyway" in desk.text


@pytest.mark.parametrize(("attempt", "name"), [(1, "Staff"), (0, "Phone app")])
async def test_a_colleague_whom_nobody_names_wrote_on_the_phone_only_where_it_was_told(
    inbox: RunningInbox, producer: Producer, attempt: int, name: str
) -> None:
    desk = await a_desk(inbox, producer)
    await desk.presses("compose", text="Yes, we can do it to")
    message_id = await desk.thread.is_answered("It is done.", actor="staff")
    changed = "update messages set user_id = null, attempt = $2 where message_id = $1"
    await desk.thread.run(changed, message_id, attempt)
    await desk.presses("compose", text="Yes, we can do it today")
    assert f"{name} answered at" in desk.text


async def test_what_is_said_of_the_portal_and_of_customers_who_never_wrote(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    assert "Never signed in to the portal. Choose WhatsApp or SMS." in desk.text
    assert 'class="note" id="portal-note"' in desk.page.text
    seen = inbox.pool.now() - timedelta(days=31)
    await desk.thread.run(
        "update customers set last_seen_at = $2 where customer_id = $1", desk.thread.customer_id, seen
    )
    await desk.opens()
    assert 'class="note closing" id="portal-note"' in desk.page.text
    await desk.thread.run(
        "update customers set last_seen_at = $2 where customer_id = $1",
        desk.thread.customer_id,
        seen + timedelta(days=2),
    )
    await desk.opens()
    assert "portal-note" not in desk.page.text
    never = await a_desk(inbox, producer, ago=None)
    assert "has never written to you." in never.text
    assert "ask-button" not in never.page.text


async def test_nobody_writes_to_a_customer_who_was_erased(inbox: RunningInbox, producer: Producer) -> None:
    desk = await a_desk(inbox, producer)
    async with inbox.pool.acquire() as db:
        await db.execute("update customers set erased = true where customer_id = $1", desk.thread.customer_id)
    page = await desk.staff.get(desk.path)
    assert "This customer was erased, and nothing can be sent to them." in page.text
    assert "<textarea" not in page.text
    assert 'id="take-over"' not in page.text
    form = desk.form | {"token": token_of(page), "text": "See you on Monday?"}
    kept = await desk.staff.post(f"{desk.path}/parked", form)  # of a page that was open before
    assert kept.status_code == 409
    assert "This customer was erased, and nothing can be sent to them." in kept.text
    async with inbox.pool.acquire() as db:
        place = desk.thread.conversation_id
        assert not await db.fetch("select from parked_messages where conversation_id = $1", place)


async def test_who_may_not_send_has_no_form_and_another_garage_finds_nothing(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    reader = await inbox.staff(desk.thread.org_id, TECHNICIAN, "tom")
    page = await reader.get(desk.path)
    assert 'id="composer"' in page.text
    assert "<textarea" not in page.text
    token = token_of(page)
    stranger = await a_desk(inbox, producer)
    for path in ("compose", "messages", "template", "bridge", "hold", "release", "parked", "parked/all"):
        answer = await reader.post(f"{desk.path}/{path}", {"token": token, "text": "x"})
        assert answer.status_code == 403, path
        answer = await stranger.staff.post(f"{desk.path}/{path}", stranger.form | {"text": "x"})
        assert answer.status_code == 404, path
        answer = await desk.staff.post(f"{desk.path}/{path}", {"text": "x", "token": "wrong"})
        assert answer.status_code == 403, path
    assert await intents(desk) == []


async def test_the_bell_counts_what_is_new_and_each_member_has_a_switch(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer, ago=MINUTE)  # nothing is told as unread for long
    failed = await desk.thread.is_answered("The clutch is done.", actor="staff")
    await desk.thread.moves(failed, "failed", "window_expired_no_phone")

    async def is_told() -> bool:
        part = await desk.staff.get("/inbox/bell", **{"x-part": "bell"})
        return ">1<" in part.text

    await eventually_true(is_told)
    page = await desk.staff.get("/inbox/bell")
    assert "No SMS is possible: no number on file takes SMS at present." in page.text
    assert f"{desk.path}#m-{failed}" in page.text
    assert not await is_told()
    off = await desk.staff.post("/inbox/bell", {"token": token_of(page), "failures": "off"})
    assert off.status_code == 303
    assert "You are not told" in (await desk.staff.get("/inbox/bell")).text
    assert "You are told" in (await (await inbox.staff(desk.thread.org_id, user_id="marek")).get("/inbox/bell")).text


async def test_a_message_is_quoted_and_the_quote_goes_with_the_text(inbox: RunningInbox, producer: Producer) -> None:
    desk = await a_desk(inbox, producer)
    asked = await desk.thread.customer_writes("And the brakes?", publish=False)
    await desk.opens()
    assert f'name="quote" value="{asked}"' in desk.page.text
    await desk.presses("compose", quote=str(asked))
    assert "Answer to:" in desk.text
    await desk.presses("messages", text="Done, too.")
    [intent] = await intents(desk)
    assert intent["reply_to"] == str(asked)


async def test_a_text_of_a_session_that_has_ended_stands_in_the_page_that_says_so(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer)
    fields = desk.form | {"text": "Half a <thought>"}
    await desk.thread.run("delete from inbox_sessions where org_id = $1", desk.thread.org_id)
    answer = await desk.staff.post(f"{desk.path}/messages", fields)
    assert answer.status_code == 401
    assert "Half a &lt;thought&gt;" in answer.text
    elsewhere = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    answer = await desk.staff.post(f"{desk.path}/messages", fields, elsewhere)
    assert "thought" not in answer.text
    assert await intents(desk) == []


async def test_while_kafka_takes_nothing_the_text_stays_in_the_field_and_goes_once_later(
    inbox: RunningInbox, producer: Producer, kafka_admin: AIOKafkaAdminClient
) -> None:
    desk = await a_desk(inbox, producer)
    topics = OwnTopics(kafka_admin, inbox.kafka.topic_prefix)
    name = f"{inbox.kafka.topic_prefix}{OUTBOUND_INTENTS.name}"
    await kafka_admin.delete_topics([name])

    async def is_gone() -> bool:  # the broker follows its controller
        return name not in await kafka_admin.list_topics()

    await eventually_true(is_gone)
    answer = await desk.presses("messages", text="Your Corsa is ready.")
    assert answer.status_code == 503
    assert "Not sent. Sending is down for the moment" in desk.text
    assert 'role="alert"' in answer.text
    assert desk.form["text"] == "Your Corsa is ready."
    assert "The AI holds since" not in desk.text
    await topics.create([OUTBOUND_INTENTS])
    assert (await desk.presses("messages")).status_code == 303
    [intent] = await intents(desk)
    assert intent["content"]["text"] == "Your Corsa is ready."
