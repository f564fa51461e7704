"""Parsing: who wrote, who was reached, and what is told of a person's ids."""

from typing import Any

import pytest

from services.ingest import meta
from services.ingest.fields import recipient_of
from services.ingest.items import CustomerMessage, GroupMessage, IdentityChange, MessageStatus, Sender
from tests.support.parsed import AT, all_of
from tests.support.webhooks import NUMBER, WA_ID, a_contact, a_message, a_status, a_value, a_webhook, of_messages


@pytest.mark.parametrize(
    ("system", "now"),
    [
        ({"type": "user_changed_number", "wa_id": "447700900111"}, Sender("447700900111", None)),
        ({"type": "customer_changed_number", "new_wa_id": "447700900111"}, Sender("447700900111", None)),
        ({"type": "user_changed_user_id", "user_id": "GB.2", "previous_user_id": "GB.1"}, Sender(None, "GB.2")),
    ],
)
def test_a_new_number_or_user_id_is_a_change_of_identity(system: Any, now: Sender) -> None:
    (one,) = all_of(of_messages(a_message(AT, None, type="system", system=system)))
    assert isinstance(one, IdentityChange)
    assert one.notice is not None
    assert (one.now, one.sender.wa_id, one.notice.opens, one.alarm) == (now, WA_ID, False, False)


def test_a_new_user_id_is_the_customers_whom_the_notice_names_by_the_one_before_alone() -> None:
    system = {"type": "user_changed_user_id", "user_id": "GB.2", "previous_user_id": "GB.1"}
    webhook = of_messages(a_message(AT, None, **{"from": None}, type="system", system=system), contacts=[])
    (one,) = all_of(webhook)
    assert isinstance(one, IdentityChange)
    assert (one.sender, one.now) == (Sender(None, "GB.1"), Sender(None, "GB.2"))
    (record,) = meta.split(webhook, AT)
    assert record[0] == f"{NUMBER}:GB.1".encode()


@pytest.mark.parametrize("kind", ["text", "system", "reaction"])
def test_what_is_said_in_a_group_is_told_as_the_groups(kind: str) -> None:
    (one,) = all_of(of_messages(a_message(AT, "See you all at nine", type=kind, group_id="g")))
    assert isinstance(one, GroupMessage)
    assert (one.group_id, one.sender.wa_id) == ("g", WA_ID)


@pytest.mark.parametrize(
    "told", ["+447700900999", "+44 7700 900 999", " 447700900999", "+44 (7700) 900-999", 447700900999]
)
@pytest.mark.parametrize("card", [None, "447700900999", "+44 7700 900999"])
def test_a_number_is_no_user_id_however_it_is_written(told: Any, card: str | None) -> None:
    contacts = [] if card is None else [a_contact(card)]
    (one,) = all_of(of_messages(a_message(AT, **{"from": told}), contacts=contacts))
    assert isinstance(one, CustomerMessage)
    assert (one.sender.ids, one.sender.also) == (("447700900999", None), None)


def test_stop_in_a_group_is_no_word_to_the_business() -> None:
    (one,) = all_of(of_messages(a_message(AT, "STOP", group_id="g")))
    assert isinstance(one, GroupMessage)
    assert one.content == {"kind": "text", "text": "STOP"}


def test_the_own_number_is_taken_from_what_was_shared_on_request() -> None:
    card = {"name": {"formatted_name": "Kim"}, "phones": [{"phone": "+44 7700 900777"}]}
    shared: dict[str, Any] = {"from": None, "from_user_id": "GB.1", "type": "contacts", "contacts": [card]}
    (asked,) = all_of(of_messages(a_message(AT, **shared, origin="contact_request")))
    (forwarded,) = all_of(of_messages(a_message(AT, **shared)))
    assert isinstance(asked, CustomerMessage)
    assert isinstance(forwarded, CustomerMessage)
    assert (asked.shared, forwarded.shared) == ("+447700900777", None)


def test_a_number_that_may_be_in_other_hands_is_an_alarm_and_nobodys_message() -> None:
    system = {"type": "customer_identity_changed", "body": "User identity changed"}
    (one,) = all_of(of_messages(a_message(AT, None, type="system", system=system)))
    assert isinstance(one, IdentityChange)
    assert (one.sender.wa_id, one.now.ids, one.alarm) == (WA_ID, (None, None), True)
    assert one.notice is not None
    assert (one.notice.content["kind"], one.notice.content["type"], one.notice.opens) == (
        "unsupported",
        "system",
        False,
    )


@pytest.mark.parametrize("group", [None, ""])
def test_a_message_of_no_group_is_the_customers_own(group: str | None) -> None:
    (one,) = all_of(of_messages(a_message(AT, "Hello") | {"group_id": group}))
    assert isinstance(one, CustomerMessage)
    assert (one.content, one.opens) == ({"kind": "text", "text": "Hello"}, True)


def test_a_sender_keeps_the_number_on_the_card_beside_that_of_the_message() -> None:
    message = a_message(AT, **{"from": "5511990000001"})
    (one,) = all_of(of_messages(message, contacts=[a_contact("551190000001", "BR.1", "Ana")]))
    assert isinstance(one, CustomerMessage)
    assert one.sender == Sender("5511990000001", "BR.1", "Ana", "551190000001")


@pytest.mark.parametrize(
    ("told", "contacts", "recipient"),
    [
        ({}, None, Sender(WA_ID, None)),
        ({"recipient_user_id": "GB.1"}, None, Sender(WA_ID, "GB.1")),
        ({"recipient_id": "GB.1"}, None, Sender(None, "GB.1")),
        ({"recipient_id": None}, None, None),
        ({"recipient_id": None}, [{"wa_id": WA_ID}], Sender(WA_ID, None)),
        ({"recipient_id": None}, [{"user_id": "GB.1"}], Sender(None, "GB.1")),
        ({}, [a_contact(WA_ID, "GB.1")], Sender(WA_ID, "GB.1", "Kim")),
    ],
)
def test_a_status_says_whom_the_message_reached(told: dict[str, Any], contacts: Any, recipient: Sender | None) -> None:
    status = {name: value for name, value in (a_status("w", "failed", AT) | told).items() if value is not None}
    (one,) = all_of(a_webhook(a_value(statuses=[status], **({} if contacts is None else {"contacts": contacts}))))
    assert isinstance(one, MessageStatus)
    assert recipient_of(one) == recipient


@pytest.mark.parametrize(
    ("told", "name"),
    [("Kim", "Kim"), (" Kim ", "Kim"), ("كيم", "كيم"), ("🚗", "🚗"), ("", None), ("  ", None), ("\u200e\u2060", None)],
)
def test_a_name_of_which_nothing_is_seen_is_none(told: str, name: str | None) -> None:
    (one,) = all_of(of_messages(a_message(AT, "Hello"), contacts=[a_contact(name=told)]))
    assert isinstance(one, CustomerMessage)
    assert one.sender.name == name
