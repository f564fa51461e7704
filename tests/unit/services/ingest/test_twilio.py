"""Twilio's status callbacks: their words, and what no callback of theirs holds."""

import base64
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    [
        ("sent", "sent"),
        ("delivered", "delivered"),
        ("undelivered", "failed"),
        ("canceled", "failed"),
        ("queued", None),
        ("teleported", None),
    ],
)
def test_twilios_words_are_statuses_of_ours(told: str, status: str | None) -> None:
    form = {"MessageSid": "SM1", "AccountSid": "AC1", "MessageStatus": told, "ErrorCode": "30003"}
    key, value = twilio.status_record(form, AT, "AC1", "m1:1")
    one = parse(value, reaction_opens=False)
    assert key == b"SM1"
    if status is None:
        assert one == Ignored("status", ("twilio", told) if told == "teleported" else None)
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
    assert field in caught.value.detail


@pytest.mark.parametrize(
    ("field", "told"),
    [
        *(("ErrorCode", told) for told in ("", " ", "3000x", "-30003", "3" * 100_000, "null", "From Kent", "\x00")),
        *(("RawDlrDoneDate", told) for told in ("", "tomorrow", "2" * 21)),
    ],
)
def test_a_failure_counts_without_a_code_or_date_that_cannot_be_read(field: str, told: str) -> None:
    one = parsed_status(CALLBACK | {field: told}, "m:1:abcdefgh")
    assert isinstance(one, MessageStatus)
    assert (one.status.provider_id, one.status.status) == (CALLBACK["MessageSid"], "failed")
    assert one.status.code == (None if field == "ErrorCode" else CALLBACK["ErrorCode"])
    assert not one.status.item.get(field)


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
        ("NumSegments", "1OptOutTypeSTOP"),
    ],
)
def test_what_is_no_text_of_a_customer_is_a_dead_letter(field: str, told: str) -> None:
    form = SMS | {field: told} | ({"SmsSid": ""} if field == "MessageSid" else {})
    with pytest.raises(Undecodable) as caught:
        parse(twilio.sms_record(form, AT, SMS["AccountSid"])[1], reaction_opens=False)
    assert caught.value.reason == "bad_sms"


@pytest.mark.parametrize("field", ["NumSegments", "NumMedia", "OptOutType", "MessagingServiceSid", "MediaUrl0"])
@pytest.mark.parametrize("told", ["", " ", "many of them", "\x00", "9" * 2_000])
def test_a_text_counts_without_what_beside_it_cannot_be_read(field: str, told: str) -> None:
    got = parsed_sms(**{"Body": "STOP", field: told})
    assert (got.provider_id, got.sender, got.text) == (SMS["MessageSid"], SMS["From"], "STOP")
    assert (got.media, got.opted) == ((), None)


WHOLE = SMS | {"SmsMessageSid": SMS["MessageSid"], "SmsStatus": "received"}
USED = ("AccountSid", "MessageSid", "From", "To", "NumMedia", "OptOutType")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ReferralNumMedia", "0"),
        ("OriginalRepliedMessageSid", "SM" + "2" * 32),
        ("OriginalRepliedMessageSender", "whatsapp:+447700900001"),
        ("SmsMessageSid", "SM" + "1" * 32),
        ("ReferralMediaUrl", "https://a.example/MediaUrl0"),
        ("TomorrowsFrom", "+447700900123"),
        ("LastErrorCode", "30003"),
        ("MessageStatusReason", "delivered"),
        ("OriginalMessageStatus", "sent"),
        ("ErrorCodeText", "Unknown"),
        ("OriginalOptOutType", "STOP"),
    ],
)
def test_a_field_that_twilio_adds_is_ignored_also_with_the_name_of_another_in_its_own(name: str, told: str) -> None:
    assert twilio.is_split_as_sent("", WHOLE | {name: told}, is_sms=True)
    assert twilio.is_split_as_sent("ref=m1:1:abc", CALLBACK | {name: told}, is_sms=False)


@pytest.mark.parametrize(
    "cut",
    [
        {"Body": "hi", "From": "+447700900666", "FromSourceFrom": "+447700900999"},
        {"Body": "hi", "From": "+447700900666", "FromCity": "From+447700900999"},
        {"ApiVersion": "2010-04-01BodyI did not", "Body": "STOP"},
        {"NumSegments": "1OptOutTypeSTOP"},
        {"NumSegments1OptOutType": "STOP"},
        {"From": "+447700900999FromCityLONDON"},
        {"Body": "From+447700900999", "From": "CityLONDON"},
    ],
)
def test_a_text_cannot_be_divided_into_fields_of_its_own(cut: dict[str, str]) -> None:
    assert not twilio.is_split_as_sent("", WHOLE | cut, is_sms=True)


def as_signed(form: dict[str, str]) -> str:
    return "".join(name + form[name] for name in sorted(form))


NAMES = sorted({*WHOLE, *CALLBACK, "FromZip", "Foo", "FooFrom", "OptOutType", "ReferralFrom", "ZFrom"})


@given(st.data())
def test_whatever_is_divided_anew_under_a_signature_has_the_same_used_fields_or_none(data: st.DataObject) -> None:
    body = "".join(data.draw(st.lists(st.sampled_from([*NAMES, "+447700900666", "SM" + "6" * 32, "hi "]), max_size=8)))
    original = WHOLE | {"Body": body} | data.draw(st.sampled_from([{}, {"OptOutType": "STOP"}]))
    assert twilio.is_split_as_sent("", original, is_sms=True)
    signed = as_signed(original)
    starts = [0, *(n for n in range(1, len(signed)) if any(signed.startswith(name, n) for name in NAMES))]
    cuts = [0, *sorted(data.draw(st.sets(st.sampled_from(starts[1:])))), len(signed)]
    divided: dict[str, str] = {}
    for begin, end in pairwise(cuts):
        piece = signed[begin:end]
        name = data.draw(st.sampled_from([name for name in [*NAMES, piece] if piece.startswith(name)]))
        divided[name] = piece[len(name) :]
    if as_signed(divided) != signed or divided.get("AccountSid") != original["AccountSid"]:
        return  # Another signature is needed.
    if not {"From", "To", "MessageSid"} <= divided.keys():
        return  # It makes a dead letter.
    if twilio.is_split_as_sent("", divided, is_sms=True):
        assert {name: divided.get(name) for name in USED} == {name: original.get(name) for name in USED}


@given(st.data())
def test_a_status_divided_anew_is_refused(data: st.DataObject) -> None:
    names = sorted(CALLBACK)
    lost = data.draw(st.sets(st.sampled_from([n for n in names if n not in ("AccountSid", "ApiVersion")]), min_size=1))
    divided: dict[str, str] = {}
    last = ""
    for name in names:
        if name in lost:
            divided[last] += name + CALLBACK[name]
        else:
            divided[name] = CALLBACK[name]
            last = name
    assert as_signed(divided) == as_signed(CALLBACK)
    assert not twilio.is_split_as_sent("ref=m1:1", divided, is_sms=False)
