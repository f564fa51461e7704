"""What Twilio's answers mean, from the recorded ones and from all that may yet come."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sms_bridge.providers import Answer, NotSent, Rejected, Taken, Unclear, text_hash
from services.sms_bridge.providers.twilio import classify, read_list

DATA = Path(__file__).parents[3] / "data" / "twilio"
SID = "SM5f0c1a2b3c4d5e6f708192a3b4c5d6e7"


def recorded(name: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return answer


RECORDED: dict[str, Answer] = {
    "a_text_is_queued": Taken(SID, 1),
    "a_text_of_two_segments_is_counted": Taken(SID, 2),
    "one_emoji_makes_a_text_unicode": Taken(SID, 2),
    "a_messaging_service_chooses_the_sender_later": Taken(SID, None),
    "the_account_sends_too_fast": NotSent("20429", sender_rests=True),
    "the_body_is_missing": Rejected("21602"),
    "the_body_is_too_long": Rejected("21617"),
    "the_callback_is_not_a_public_address": NotSent("21609", sender_rests=True),
    "the_country_is_not_permitted": Rejected("21408"),
    "the_credentials_are_wrong": NotSent("20003", sender_rests=True),
    "the_recipient_has_opted_out": Rejected("21610", "sms_opted_out"),
    "the_recipient_is_a_landline": Rejected("21614", "no_phone"),
    "the_recipient_is_missing": Rejected("21604"),
    "the_recipient_is_not_a_number": Rejected("21211", "no_phone"),
    "the_sender_is_missing": NotSent("21603", sender_rests=True),
    "the_validity_period_is_out_of_range": NotSent("90007", sender_rests=True),
    "twilio_has_a_bad_moment": Unclear("20500"),
}


@pytest.mark.parametrize(("name", "meaning"), RECORDED.items())
def test_every_recorded_answer_has_its_meaning(name: str, meaning: Answer) -> None:
    answer = recorded(name)
    assert classify(answer["status"], answer["body"]) == meaning


def test_no_recorded_answer_to_a_send_was_left_out() -> None:
    sends = {path.stem for path in DATA.glob("*.json") if not path.stem.startswith(("callback_", "list_"))}
    assert sends == set(RECORDED)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (21214, Rejected("21214", "no_phone")),
        (21612, Rejected("21612")),
        (21608, Rejected("21608")),
        (21212, NotSent("21212", sender_rests=True)),
        (21606, NotSent("21606", sender_rests=True)),
        (21703, NotSent("21703", sender_rests=True)),
        (21705, NotSent("21705", sender_rests=True)),
        (21611, NotSent("21611", sender_rests=True)),
        (29999, Rejected("29999")),
    ],
)
def test_a_refusal_is_the_recipients_the_senders_or_the_texts(code: int, meaning: Answer) -> None:
    assert classify(400, {"code": code, "message": "…", "status": 400}) == meaning


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (302, NotSent("302", sender_rests=True)),
        (401, NotSent("401", sender_rests=True)),
        (403, NotSent("403", sender_rests=True)),
        (404, NotSent("404", sender_rests=True)),
        (400, Rejected("400")),
        (408, Unclear("408")),
        (429, NotSent(None, sender_rests=True)),
        (200, Unclear("200")),
        (201, Unclear("201")),
        (500, Unclear("500")),
        (502, Unclear("502")),
        (503, Unclear("503")),
        (504, Unclear("504")),
    ],
)
def test_an_answer_without_a_readable_body_goes_by_its_status(status: int, meaning: Answer) -> None:
    assert classify(status, {}) == meaning


def test_a_throttle_says_how_long_when_it_does() -> None:
    assert classify(429, {"code": 20429}, "7") == NotSent("20429", timedelta(seconds=7), sender_rests=True)
    assert classify(429, {"code": 20429}, "Wed, 21 Oct 2026 07:28:00 GMT") == NotSent("20429", sender_rests=True)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3)


@given(
    status=st.integers(min_value=100, max_value=999),
    body=st.dictionaries(st.sampled_from(["code", "sid", "num_segments", "status", "message"]), JSON),
    retry_after=st.none() | st.text(),
)
def test_no_answer_is_beyond_reading(status: int, body: dict[str, Any], retry_after: str | None) -> None:
    match classify(status, body, retry_after):
        case Taken(sid, _):
            assert sid == body["sid"]
        case Unclear():
            assert status < 300 or status >= 500 or status == 408
        case NotSent() | Rejected():
            assert 300 <= status < 500


def test_a_list_is_read_into_evidence() -> None:
    found, following = read_list(recorded("list_of_what_was_sent")["body"])
    assert following is None
    assert [(sms.provider_id, sms.text_hash, sms.segments) for sms in found] == [
        (SID, text_hash("AcmeMotors: Update for you."), 1)
    ]
    assert found[0].created_at == datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def test_what_is_no_message_is_no_evidence_and_a_foreign_address_is_not_followed() -> None:
    body = {"messages": [{"sid": 7}, "x", {"sid": "SM1", "body": None}], "next_page_uri": "@elsewhere.example/"}
    assert read_list(body) == ([], None)
