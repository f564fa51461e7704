"""Twilio's status callbacks: their words, and what no callback of theirs holds."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from libs.common.errors import Undecodable
from libs.common.events.content import InContent
from services.ingest import twilio
from services.ingest.forms import read_form
from services.ingest.items import (
    Ignored,
    InboundSms,
    Item,
    MessageStatus,
    SmsMedia,
)
from services.ingest.parse import parse

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
CONTENT: TypeAdapter[Any] = TypeAdapter(InContent)


@pytest.mark.parametrize(
    ("told", "status"),
    [("sent", "sent"), ("delivered", "delivered"), ("undelivered", "failed"), ("canceled", "failed"), ("queued", None)],
)
def test_twilios_words_are_statuses_of_ours(told: str, status: str | None) -> None:
    form = {"MessageSid": "SM1", "AccountSid": "AC1", "MessageStatus": told, "ErrorCode": "30003"}
    key, value = twilio.status_record(form, AT, "AC1", "m1:1")
    one = parse(value, reaction_opens=False)
    assert key == b"SM1"
    if status is None:
        assert isinstance(one, Ignored)
    else:
        assert isinstance(one, MessageStatus)
        assert (one.phone_number_id, one.status.status, one.status.code, one.status.at) == (None, status, "30003", AT)
        assert one.status.callback == "m1:1"


CALLBACK = {
    "AccountSid": "AC" + "0" * 32,
    "ApiVersion": "2010-04-01",
    "ErrorCode": "30007",
    "From": "+447700900001",
    "MessageSid": "SM" + "0" * 32,
    "MessageStatus": "undelivered",
    "SmsSid": "SM" + "0" * 32,
    "SmsStatus": "undelivered",
    "To": "+447700900999",
}


def parsed_status(form: dict[str, str], ref: str | None = None) -> Item:
    _, value = twilio.status_record(form, AT, CALLBACK["AccountSid"], ref)
    return parse(value, reaction_opens=False)


def test_a_callback_is_read_whatever_twilio_adds_to_it() -> None:
    one = parsed_status(CALLBACK | {"SomethingNew": "x" * 10_000, "Body": "never kept"}, "m:1:abcdefgh")
    assert isinstance(one, MessageStatus)
    assert one.status.item == {name: CALLBACK[name] for name in ("MessageStatus", "ErrorCode", "From", "To")}


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("ErrorCode", "3" * 100_000),
        ("ErrorCode", "3000x"),
        ("MessageSid", "SM" + "0" * 33),
        ("AccountSid", "AC 1"),
        ("AccountSid", "AC" + "9" * 32),
        ("From", "+44" + "7" * 40),
        ("MessageStatus", "delivered!"),
    ],
)
def test_a_field_that_cannot_be_twilios_makes_a_dead_letter(field: str, told: str) -> None:
    with pytest.raises(Undecodable) as caught:
        parsed_status(CALLBACK | {field: told})
    assert caught.value.reason == "bad_status"


def test_a_reference_of_any_length_is_not_ours() -> None:
    with pytest.raises(Undecodable):
        parsed_status(CALLBACK, "r" * 81)


@pytest.mark.parametrize("lost", [name for name in sorted(CALLBACK) if name != "AccountSid"])
def test_a_callback_cut_into_other_fields_under_its_signature_is_parsed_as_nothing(lost: str) -> None:
    names = sorted(CALLBACK)
    before = names[names.index(lost) - 1]
    cut = {name: told for name, told in CALLBACK.items() if name != lost}
    cut[before] += lost + CALLBACK[lost]
    with pytest.raises(Undecodable):
        parsed_status(cut)


@pytest.mark.parametrize("body", [b"MessageSid=SM1&MessageSid=SM2", b"To=%2B1&To=%2B1", b"\xff"])
def test_a_form_that_names_a_field_twice_is_none_of_twilios(body: bytes) -> None:
    assert read_form(body) is None


SMS = {
    "AccountSid": "AC" + "0" * 32,
    "ApiVersion": "2010-04-01",
    "Body": "Is my car ready?",
    "From": "+447700900999",
    "FromCity": "LONDON",
    "MessageSid": "SM" + "1" * 32,
    "NumMedia": "0",
    "NumSegments": "1",
    "SmsSid": "SM" + "1" * 32,
    "To": "+447700900001",
}


def parsed_sms(**changes: str) -> InboundSms:
    one = parse(twilio.sms_record(SMS | changes, AT, SMS["AccountSid"])[1], reaction_opens=False)
    assert isinstance(one, InboundSms)
    return one


def test_a_customers_text_has_no_time_but_that_of_its_receipt() -> None:
    assert parsed_sms() == InboundSms(
        provider="twilio",
        account=SMS["AccountSid"],
        provider_id=SMS["MessageSid"],
        to="+447700900001",
        sender="+447700900999",
        text="Is my car ready?",
        received_at=AT,
    )


def test_the_pictures_of_an_mms_are_links() -> None:
    link = "https://api.twilio.com/2010-04-01/Accounts/AC0/Messages/MM0/Media/ME0"
    got = parsed_sms(Body="", NumMedia="1", MediaUrl0=link, MediaContentType0="image/jpeg")
    assert (got.text, got.media) == ("", (SmsMedia(link, "image/jpeg"),))


@pytest.mark.parametrize("text", ["Is the silver Golf of the Müllers ready? We would come at five. 🚗", "x" * 80])
def test_a_text_that_came_as_base64_is_read(text: str) -> None:
    assert parsed_sms(Body=base64.b64encode(text.encode()).decode()).text == text


@pytest.mark.parametrize("text", ["STOP", "https://a.example/" + "x" * 62, "A" * 60, "a" * 61])
def test_a_text_that_is_no_base64_of_a_text_stays_as_it_is(text: str) -> None:
    assert parsed_sms(Body=text).text == text


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("Body", "x" * 10_001),
        ("MessageSid", ""),
        ("From", ""),
        ("From", "whatsapp:+447700900999"),
        ("AccountSid", "AC" + "9" * 32),
        ("NumMedia", "many"),
    ],
)
def test_what_is_no_text_of_a_customer_is_a_dead_letter(field: str, told: str) -> None:
    form = SMS | {field: told} | ({"SmsSid": ""} if field == "MessageSid" else {})
    with pytest.raises(Undecodable) as caught:
        parse(twilio.sms_record(form, AT, SMS["AccountSid"])[1], reaction_opens=False)
    assert caught.value.reason == "bad_sms"
