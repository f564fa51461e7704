"""Customers' SMS in Twilio's list are read as their callbacks would have brought them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sms_bridge.providers import ListUnavailable
from services.sms_bridge.providers.twilio_received import files_of, read_received

OURS, KIM = "+447700900001", "+447700900999"
AT = datetime(2026, 11, 26, 10, 30, 15, tzinfo=UTC)
BASE = "https://api.twilio.example"


def an_sms(**more: Any) -> dict[str, Any]:
    """As the list shows it; ``more``: other values, or None for a field that is missing."""
    shown = {
        "sid": "SM1",
        "account_sid": "AC1",
        "from": KIM,
        "to": OURS,
        "body": "Is it ready?",
        "direction": "inbound",
        "status": "received",
        "num_media": "0",
        "date_sent": "Thu, 26 Nov 2026 10:30:15 +0000",
    } | more
    return {name: value for name, value in shown.items() if value is not None}


def read(*messages: Any) -> list[Any]:
    return read_received({"messages": list(messages)}, OURS)


def test_an_sms_has_the_fields_of_its_callback_and_its_own_time() -> None:
    [sms] = read(an_sms())
    assert (sms.provider_id, sms.at, sms.has_files, sms.masked) == ("SM1", AT, False, False)
    assert sms.form == {
        "MessageSid": "SM1",
        "AccountSid": "AC1",
        "From": KIM,
        "To": OURS,
        "Body": "Is it ready?",
        "NumMedia": "0",
    }


@pytest.mark.parametrize(
    "left_out",
    [
        {"direction": "outbound-api"},
        {"direction": None},
        {"status": "receiving"},
        {"sid": None},
        {"from": ""},
        {"from": 447700900999},
        {"from": f"whatsapp:{KIM}"},
        {"to": f"whatsapp:{OURS}"},
    ],
)
def test_what_is_no_customers_sms_or_still_comes_is_left_out(left_out: dict[str, Any]) -> None:
    assert [sms.provider_id for sms in read(an_sms(**left_out), an_sms(sid="SM2"))] == ["SM2"]


@pytest.mark.parametrize(
    "dates",
    [
        {"date_sent": "Thu, 26 Nov 2026 12:30:15 +0200"},
        {"date_sent": "Thu, 26 Nov 2026 10:30:15"},
        {"date_sent": "Thu, 26 Nov 2026 10:30:15 -0000"},
        {"date_sent": None, "date_created": "Thu, 26 Nov 2026 10:30:15 +0000"},
        {"date_created": "Thu, 26 Nov 2026 10:00:00 +0000"},
    ],
)
def test_its_time_is_when_it_was_sent_in_utc(dates: dict[str, Any]) -> None:
    [sms] = read(an_sms(**dates))
    assert (sms.at, sms.at.utcoffset()) == (AT, UTC.utcoffset(None))


@pytest.mark.parametrize(
    "page",
    [
        [an_sms(), "SM2"],
        [an_sms(date_sent=None)],
        [an_sms(date_sent="today")],
        [an_sms(date_sent="Thu, 26 Nov 99999 10:30:15 +0000")],
    ],
)
def test_a_page_that_cannot_be_read_whole_is_no_list(page: list[Any]) -> None:
    with pytest.raises(ListUnavailable):
        read(*page)


def test_a_line_in_another_spelling_is_named_as_it_shows_and_any_other_as_the_one_asked_for() -> None:
    brazil, older = "+5511990000001", "+551190000001"
    shown = [older, KIM, None]
    found = read_received({"messages": [an_sms(to=to) for to in shown]}, brazil)
    assert [sms.form["To"] for sms in found] == [older, brazil, brazil]


@pytest.mark.parametrize(
    ("sender", "masked"),
    [("+4477009XXXXX", True), ("4477*", True), (KIM, False), ("447700900999", False), ("ACME", False)],
)
def test_a_number_that_breaks_off_is_masked(sender: str, *, masked: bool) -> None:
    assert [sms.masked for sms in read(an_sms(**{"from": sender}))] == [masked]


@pytest.mark.parametrize(
    ("count", "has_files"),
    [("1", True), ("10", True), ("0", False), ("", False), ("x", False), ("²", False), (3, False)],
)
def test_files_are_looked_for_where_a_number_of_them_is_shown(count: object, *, has_files: bool) -> None:
    assert [sms.has_files for sms in read(an_sms(num_media=count))] == [has_files]


def test_files_are_numbered_and_named_by_addresses_of_twilios_own() -> None:
    media = [
        {"uri": "/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME0.json", "content_type": "image/jpeg"},
        {"uri": "@evil.example/ME1.json", "content_type": "image/png"},
        "ME2",
        {"uri": "/ME3"},
    ]
    assert files_of(media, BASE) == {
        "MediaUrl0": f"{BASE}/2010-04-01/Accounts/AC1/Messages/MM1/Media/ME0",
        "MediaContentType0": "image/jpeg",
        "MediaUrl3": f"{BASE}/ME3",
        "MediaContentType3": "",
    }


@given(st.integers(0, 15))
def test_a_callback_names_ten_files_at_the_most(count: int) -> None:
    found = files_of([{"uri": f"/ME{number}.json", "content_type": "image/png"} for number in range(count)], BASE)
    assert len(found) == 2 * min(count, 10)
