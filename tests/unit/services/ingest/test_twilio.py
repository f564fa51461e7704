"""Twilio's status callbacks: their words, and what no callback of theirs holds."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import TypeAdapter

from libs.common.errors import Undecodable
from libs.common.events.content import InContent
from services.ingest import twilio
from services.ingest.items import (
    Ignored,
    Item,
    MessageStatus,
)
from services.ingest.parse import parse

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
CONTENT: TypeAdapter[Any] = TypeAdapter(InContent)


@pytest.mark.parametrize(
    ("told", "status"),
    [("sent", "sent"), ("delivered", "delivered"), ("undelivered", "failed"), ("canceled", "failed"), ("queued", None)],
)
def test_twilios_words_are_statuses_of_ours(told: str, status: str | None) -> None:
    form = {"MessageSid": ["SM1"], "AccountSid": ["AC1"], "MessageStatus": [told], "ErrorCode": ["30003"]}
    key, value = twilio.status_record(form, AT, "m1:1")
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
    _, value = twilio.status_record({name: [told] for name, told in form.items()}, AT, ref)
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
    assert twilio.read_form(body) is None
