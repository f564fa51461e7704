"""What providers deliver once more of a customer who was erased: it creates nobody, and brings nothing back."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from libs.common.directory.identities import Binding, bind
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES
from tests.integration.test_ingest_calls import customers_call
from tests.integration.test_ingest_consent import published_consents, switched
from tests.support.erased import erase, forget
from tests.support.ingest import ORG, Ingest, now
from tests.support.texts import a_twilio_sms, post_twilio
from tests.support.waiting import eventually_true
from tests.support.webhooks import (
    BSUID,
    NUMBER,
    OUR_NUMBER,
    WA_ID,
    a_contact,
    a_message,
    a_status,
    a_value,
    a_webhook,
    an_echo,
    of_echoes,
    of_messages,
)

_PEOPLE = "select (select count(*) from customers) as customers, (select count(*) from customer_identities) as ids"


async def all_but_the_last(ingest: Ingest) -> list[str]:
    """What is known of everybody but the customer who writes in the end."""
    tables = ("customers", "customer_identities", "former_identities", "identity_notices", "consents", "suppressions")
    asked = "select to_jsonb(t)::text as row from {} t where t::text not like '%447700900777%' order by 1"
    return [row["row"] for table in (*tables, "conversations") for row in await ingest.rows(asked.format(table))]


async def nobody_is_known(ingest: Ingest) -> None:
    assert tuple(await ingest.row(_PEOPLE)) == (1, 0)
    assert tuple(await ingest.row("select wa_id, bsuid from conversations")) == (None, None)


async def test_a_message_that_comes_again_is_published_without_its_words_and_makes_no_customer(ingest: Ingest) -> None:
    message = a_message(now())
    assert await ingest.post(of_messages(message)) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(of_messages(message)) == 200
    _, again = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert again["content"] == {"kind": "unsupported", "type": "erased", "erased": True}
    assert (again["message_id"], again["conversation_id"]) == (first["message_id"], first["conversation_id"])
    await nobody_is_known(ingest)


def by_bsuid(**more: Any) -> dict[str, Any]:
    """A message of a customer whose number Meta does not name."""
    message: dict[str, Any] = {"from": None, "from_user_id": BSUID} | more
    return of_messages(a_message(now(), **message), contacts=[a_contact(None, BSUID)])


async def test_a_message_that_comes_again_says_nothing_of_who_has_its_senders_bsuid_now(ingest: Ingest) -> None:
    message = by_bsuid()
    assert await ingest.post(message) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(by_bsuid()) == 200
    *_, other = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert other["customer_id"] != first["customer_id"]
    assert await ingest.post(message) == 200
    *_, again = await ingest.published.events(INBOUND_MESSAGES, 3)
    assert {name: again[name] for name in ("message_id", "conversation_id", "customer_id", "window")} == {
        name: first[name] for name in ("message_id", "conversation_id", "customer_id", "window")
    }


async def test_what_was_denied_at_a_number_holds_for_who_was_known_before_it_was_learnt(ingest: Ingest) -> None:
    assert await ingest.post(of_messages(a_message(now(), text="STOP"))) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert await post_twilio(ingest.http, ingest.url, a_twilio_sms("STOP")) == 200
    await ingest.published.events(INBOUND_MESSAGES, 2)
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(by_bsuid()) == 200
    *_, known = await ingest.published.events(INBOUND_MESSAGES, 3)
    denied = "select category, address from consents where not allowed and customer_id = $1 order by category"
    assert await ingest.rows(denied, UUID(known["customer_id"])) == []
    named: dict[str, Any] = {"from_user_id": BSUID}
    assert await ingest.post(of_messages(a_message(now(), **named), contacts=[a_contact(WA_ID, BSUID)])) == 200
    *_, again = await ingest.published.events(INBOUND_MESSAGES, 4)
    assert again["customer_id"] == known["customer_id"]
    rows = await ingest.rows(denied, UUID(known["customer_id"]))
    assert [tuple(row) for row in rows] == [("marketing", None), ("sms", f"+{WA_ID}")]


async def test_an_sms_that_comes_again_makes_no_customer(ingest: Ingest) -> None:
    form = a_twilio_sms()
    assert await post_twilio(ingest.http, ingest.url, form) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await post_twilio(ingest.http, ingest.url, form) == 200
    _, again = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert again["content"] == {"kind": "unsupported", "type": "erased", "erased": True}
    assert again["verified"] is False
    assert again["conversation_id"] == first["conversation_id"]
    await nobody_is_known(ingest)


async def test_what_comes_again_before_the_words_are_erased_makes_no_customer_either(ingest: Ingest) -> None:
    message, sms, echo = a_message(now()), a_twilio_sms(), an_echo(now())
    assert await ingest.post(of_messages(message)) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert await post_twilio(ingest.http, ingest.url, sms) == 200
    assert await ingest.post(of_echoes(echo)) == 200
    await ingest.published.events(INBOUND_MESSAGES, 2)
    await ingest.published.events(DELIVERY_UPDATES, 1)
    await forget(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(of_messages(message)) == 200
    assert await post_twilio(ingest.http, ingest.url, sms) == 200
    assert await ingest.post(of_echoes(echo)) == 200
    again = (await ingest.published.events(INBOUND_MESSAGES, 4))[2:]
    assert {one["conversation_id"] for one in again} == {first["conversation_id"]}
    await ingest.published.events(DELIVERY_UPDATES, 2)
    await nobody_is_known(ingest)


async def test_neither_a_status_nor_an_answer_nor_a_reply_binds_an_id_to_the_customer_again(ingest: Ingest) -> None:
    """Also not of a message that came while the customer was erased, and has its words still."""
    echo = an_echo(now())
    assert await ingest.post(of_messages(a_message(now()))) == 200
    assert await ingest.post(of_echoes(echo)) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await ingest.published.events(DELIVERY_UPDATES, 1)
    customer_id = await forget(ingest.pool, ORG, first["conversation_id"])
    status = a_status(echo["id"], "read", now() + timedelta(seconds=1), recipient_user_id=BSUID)
    assert await ingest.post(a_webhook(a_value(contacts=[a_contact(WA_ID, BSUID)], statuses=[status]))) == 200
    await ingest.published.events(DELIVERY_UPDATES, 2)
    answer = Binding(ORG, NUMBER, customer_id, WA_ID, BSUID, f"+{WA_ID}", now(), "answer")
    reply = replace(answer, wa_id=None, phone=None, source="message")
    async with ingest.pool.acquire() as db, db.transaction():
        await bind(db, [answer, reply], now())
    await nobody_is_known(ingest)


async def test_an_echo_and_a_status_that_come_again_name_nobody(ingest: Ingest) -> None:
    echo = an_echo(now())
    assert await ingest.post(of_echoes(echo)) == 200
    await ingest.published.events(DELIVERY_UPDATES, 1)
    assert await ingest.post(of_messages(a_message(now()))) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(of_echoes(echo)) == 200
    status = a_status(echo["id"], "read", now() + timedelta(seconds=1), recipient_user_id=BSUID)
    assert await ingest.post(a_webhook(a_value(contacts=[a_contact(WA_ID, BSUID)], statuses=[status]))) == 200
    *_, last = await ingest.published.events(DELIVERY_UPDATES, 3)
    assert last["status"] == "read"
    await nobody_is_known(ingest)


async def test_a_number_that_was_shared_is_nobodys_when_its_card_comes_again(ingest: Ingest) -> None:
    card = {"name": {"formatted_name": "Kim"}, "phones": [{"phone": f"+{WA_ID}"}], "origin": "contact_request"}
    shared: dict[str, Any] = {"type": "contacts", "contacts": [card], "from": None, "from_user_id": BSUID}
    webhook = of_messages(a_message(now(), text=None, **shared), contacts=[{"user_id": BSUID}])
    assert await ingest.post(webhook) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert (await ingest.row("select count(*) as ids from customer_identities"))["ids"] == 2
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(webhook) == 200
    await ingest.published.events(INBOUND_MESSAGES, 2)
    await nobody_is_known(ingest)


async def test_a_reply_to_a_message_that_was_erased_is_somebody_new(ingest: Ingest) -> None:
    assert await ingest.post(of_messages(a_message(now()))) == 200
    echo = an_echo(now())
    assert await ingest.post(of_echoes(echo)) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await ingest.published.events(DELIVERY_UPDATES, 1)
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(by_bsuid(context={"from": OUR_NUMBER, "id": echo["id"]})) == 200
    _, again = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert again["conversation_id"] != first["conversation_id"]
    assert again["customer_id"] != first["customer_id"]


async def test_a_stop_of_marketing_that_comes_again_makes_no_customer(ingest: Ingest) -> None:
    stop = switched("stop", now() - timedelta(minutes=1))
    assert await ingest.post(of_messages(a_message(now()))) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert await ingest.post(stop) == 200
    await published_consents(ingest, 1)
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(stop) == 200
    assert await ingest.post(of_messages(a_message(now(), **{"from": "447700900777"}), contacts=[])) == 200
    await ingest.published.events(INBOUND_MESSAGES, 2)
    assert (await ingest.row(_PEOPLE))["customers"] == 2  # the one who was erased, and the one who wrote now
    assert await ingest.rows("select 1 from customer_identities where value like '%447700900999'") == []


async def test_what_has_no_message_of_its_own_makes_nobody_when_it_comes_again(ingest: Ingest) -> None:
    """A call, a stop of marketing that was taken back, and a change of number. A call of today is somebody new's."""
    at = now() - timedelta(minutes=1)
    stop, resume, later = switched("stop", at), switched("resume", at + timedelta(seconds=1)), at + timedelta(seconds=2)
    call, moved = customers_call("connect", at), {"type": "user_changed_number", "wa_id": "447700900888", "body": "New"}
    said = (call, stop, resume, of_messages(a_message(later, text=None, type="system", system=moved)))
    assert await ingest.post(of_messages(a_message(at - timedelta(minutes=1)))) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    for webhook in said:
        assert await ingest.post(webhook) == 200
    await eventually_true(lambda: ingest.rows("select 1 from consents where allowed and published"))
    await ingest.published.events(INBOUND_MESSAGES, 2)  # the notice of the new number
    await erase(ingest.pool, ORG, first["conversation_id"])
    for webhook in (*said, of_messages(a_message(now(), **{"from": "447700900777"}), contacts=[])):
        assert await ingest.post(webhook) == 200
    *_, last = await ingest.published.events(INBOUND_MESSAGES, 3)
    assert (await ingest.row(_PEOPLE))["customers"] == 2  # the one who was erased, and the one who wrote now
    assert (
        await ingest.rows("select 1 from customer_identities where customer_id <> $1", UUID(last["customer_id"])) == []
    )
    assert await ingest.rows("select 1 from identity_notices") == []
    assert await ingest.post(customers_call("connect", now() + timedelta(seconds=1))) == 200
    await ingest.post(of_messages(a_message(now(), **{"from": "447700900777"}), contacts=[]))
    await ingest.published.events(INBOUND_MESSAGES, 4)
    assert (await ingest.row(_PEOPLE))["customers"] == 3


async def test_a_stop_that_comes_after_the_erasure_is_kept(ingest: Ingest) -> None:
    """It was on its way. The directory may name the number again, with an older consent."""
    at = now() - timedelta(minutes=1)
    assert await ingest.post(of_messages(a_message(at - timedelta(minutes=1)))) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await erase(ingest.pool, ORG, first["conversation_id"])
    assert await ingest.post(switched("stop", at)) == 200
    assert await ingest.post(of_messages(a_message(now()))) == 200
    _, new = await ingest.published.events(INBOUND_MESSAGES, 2)
    rows = await ingest.rows(
        "select category, allowed, at from consents where customer_id = $1", UUID(new["customer_id"])
    )
    assert [tuple(row) for row in rows] == [("marketing", False, at)]
    assert (await ingest.row(_PEOPLE))["customers"] == 2


async def test_a_start_by_sms_gives_back_what_was_stopped_before_the_erasure(ingest: Ingest) -> None:
    assert await post_twilio(ingest.http, ingest.url, a_twilio_sms("STOP")) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await erase(ingest.pool, ORG, first["conversation_id"])
    kept = await ingest.rows("select category, of_address from suppressions")
    assert [tuple(row) for row in kept] == [("sms", True)]  # for the number that said it, not for the others of theirs
    denied = "select allowed, address from consents where category = 'sms' and customer_id = $1"
    for place, (word, allowed) in enumerate((("Is it ready?", False), ("START", True)), 2):
        assert await post_twilio(ingest.http, ingest.url, a_twilio_sms(word)) == 200
        *_, heard = await ingest.published.events(INBOUND_MESSAGES, place)
        assert heard["customer_id"] != first["customer_id"]
        row = await ingest.row(denied, UUID(heard["customer_id"]))
        assert (row["allowed"], row["address"]) == (allowed, None if allowed else "+447700900999")
    assert await ingest.rows("select 1 from address_marks") == []


async def test_what_comes_again_touches_nobody_who_had_the_number_by_then(ingest: Ingest) -> None:
    """A call, switches of marketing and the notice by which the number was given up."""
    at, new = now() - timedelta(hours=2), "447700900888"
    moved_at, minute = at + timedelta(minutes=10), timedelta(minutes=1)
    moved = {"type": "user_changed_number", "wa_id": new, "body": "New"}
    said = (
        customers_call("connect", at + minute),
        switched("stop", at + 2 * minute),
        switched("resume", at + 3 * minute),
        of_messages(a_message(moved_at, text=None, type="system", system=moved), contacts=[]),
    )
    assert await ingest.post(of_messages(a_message(at))) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    for webhook in said:
        assert await ingest.post(webhook) == 200
    await ingest.published.events(INBOUND_MESSAGES, 2)  # the notice
    await eventually_true(lambda: ingest.rows("select 1 from consents where allowed and published"))
    assert await ingest.post(of_messages(a_message(moved_at + minute), contacts=[a_contact(name="Sam")])) == 200
    *_, other = await ingest.published.events(INBOUND_MESSAGES, 3)
    assert other["customer_id"] != first["customer_id"]
    await erase(ingest.pool, ORG, first["conversation_id"])
    before = await all_but_the_last(ingest)
    for webhook in (*said, of_messages(a_message(now(), **{"from": "447700900777"}), contacts=[])):
        assert await ingest.post(webhook) == 200
    await ingest.published.events(INBOUND_MESSAGES, 4)
    assert await all_but_the_last(ingest) == before


@pytest.mark.parametrize("late", [20, 60], ids=["of_before", "of_afterwards"])
async def test_a_late_status_binds_no_id_where_another_has_the_number_by_then(ingest: Ingest, late: int) -> None:
    """Also not to somebody new. Meta repeats the number that the message went to, with the BSUID of who had it."""
    at, minute = now() - timedelta(hours=2), timedelta(minutes=1)
    echo, named, others = an_echo(at + minute), {"from_user_id": BSUID}, {"from_user_id": "GB.999888777"}
    assert await ingest.post(of_messages(a_message(at, **named), contacts=[a_contact(WA_ID, BSUID)])) == 200
    assert await ingest.post(of_echoes(echo)) == 200
    (first,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await ingest.published.events(DELIVERY_UPDATES, 1)
    message = of_messages(a_message(at + 30 * minute, **others), contacts=[a_contact(WA_ID, "GB.999888777", "Sam")])
    assert await ingest.post(message) == 200
    _, other = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert other["customer_id"] != first["customer_id"]
    await erase(ingest.pool, ORG, first["conversation_id"])
    before = await all_but_the_last(ingest)
    status = a_status(echo["id"], "read", at + late * minute, recipient_user_id=BSUID)
    assert await ingest.post(a_webhook(a_value(contacts=[a_contact(WA_ID, BSUID)], statuses=[status]))) == 200
    _, update = await ingest.published.events(DELIVERY_UPDATES, 2)
    assert update["status"] == "read"
    assert await all_but_the_last(ingest) == before
