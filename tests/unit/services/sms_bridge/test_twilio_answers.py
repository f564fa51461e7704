"""What Twilio's answers mean, from the recorded ones and from all that may yet come."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.faults import RecipientFault
from libs.common.providers.twilio import fault_of
from libs.common.sending.outcomes import Accepted, Refused, RetryLater, SendOutcome, Unknown
from services.sms_bridge.providers import ListUnavailable
from services.sms_bridge.providers.twilio import classify, read_list, refusal
from tests.support.recordings import recording, recordings

ACCOUNT = "AC" + "0" * 32
SID = "SM5f0c1a2b3c4d5e6f708192a3b4c5d6e7"

Meaning = str
"""In one word: ``sent``; ``in_flight`` (the sender rests shortly); ``sender`` and ``account`` (people must mend it);

``on the way`` (a proxy said it, and this
message waits); ``refused``; ``unknown``.
"""


WAITS = {
    ("account", False): "in_flight",
    ("account", True): "sender",
    ("provider", True): "account",
    ("message", False): "on the way",
}


def meaning_of(outcome: SendOutcome) -> Meaning:
    match outcome:
        case Accepted(account, provider_id):
            assert (account, provider_id) == (ACCOUNT, SID)
            return "sent"
        case RetryLater(scope=scope, limit=None) if (scope, outcome.fault) in WAITS:
            return WAITS[scope, outcome.fault]
        case Refused(_, "provider_refused"):
            return "refused"
        case Unknown():
            return "unknown"
        case _:
            return "a surprise"


RECORDED: dict[str, Meaning] = {
    "a_text_is_queued": "sent",
    "a_text_of_two_segments_is_counted": "sent",
    "one_emoji_makes_a_text_unicode": "sent",
    "a_messaging_service_chooses_the_sender_later": "sent",
    "the_account_sends_too_fast": "in_flight",
    "the_body_is_missing": "refused",
    "the_body_is_too_long": "refused",
    "the_callback_is_not_a_public_address": "account",
    "the_country_is_not_permitted": "refused",
    "the_credentials_are_wrong": "account",
    "the_recipient_has_opted_out": "refused",
    "the_recipient_is_a_landline": "refused",
    "the_recipient_is_missing": "refused",
    "the_recipient_is_not_a_number": "refused",
    "the_sender_is_missing": "sender",
    "the_validity_period_is_out_of_range": "account",
    "twilio_has_a_bad_moment": "unknown",
}


@pytest.mark.parametrize(("name", "meaning"), RECORDED.items())
def test_every_recorded_answer_has_its_meaning(name: str, meaning: Meaning) -> None:
    answer = recording("twilio", name)
    outcome = classify(ACCOUNT, answer["status"], answer["body"])
    assert meaning_of(outcome) == meaning
    if not isinstance(outcome, Accepted):
        assert outcome.code == str(answer["body"]["code"])


def test_no_recorded_answer_to_a_send_was_left_out() -> None:
    assert {name for name in recordings("twilio") if not name.startswith(("callback_", "list_"))} == set(RECORDED)


@pytest.mark.parametrize("code", [21211, 21214, 21614, 21635, 21265, 21268, 21610])
def test_a_refusal_that_lies_with_the_recipient_is_known_by_its_code(code: int) -> None:
    outcome = classify(ACCOUNT, 400, {"code": code})
    assert outcome == Refused(str(code))
    assert isinstance(fault_of(code), RecipientFault)


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (21612, "refused"),
        (21608, "refused"),
        (29999, "refused"),
        (21212, "sender"),
        (21606, "sender"),
        (21703, "sender"),
        (21705, "sender"),
        *[(code, "sender") for code in (21659, 21660, 21661, 21702, 21264, 63007)],
        *[(code, "account") for code in (30002, 10001, 20006, 70051)],
        (21611, "in_flight"),
    ],
)
def test_other_refusals_are_the_texts_or_the_senders(code: int, meaning: Meaning) -> None:
    assert meaning_of(classify(ACCOUNT, 400, {"code": code, "message": "…", "status": 400})) == meaning
    assert not isinstance(fault_of(code), RecipientFault)


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("code", [20003, 20006, 20403, 70051, 20104, 99999])
def test_a_closed_door_is_the_accounts_matter_whatever_the_code(status: int, code: int) -> None:
    assert meaning_of(classify(ACCOUNT, status, {"code": code, "message": "…", "status": status})) == "account"


def test_what_twilio_had_no_room_for_is_tried_again_a_few_times() -> None:
    outcome = classify(ACCOUNT, 400, {"code": 21730})
    assert isinstance(outcome, RetryLater)
    assert (outcome.scope, outcome.limit) == ("message", 5)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        *[(status, "on the way") for status in (302, 400, 401, 403, 404, 407, 418)],
        (408, "unknown"),
        (429, "in_flight"),
        (200, "unknown"),
        (201, "unknown"),
        (500, "unknown"),
        (502, "unknown"),
        (503, "unknown"),
        (504, "unknown"),
    ],
)
def test_an_answer_without_a_readable_body_goes_by_its_status(status: int, meaning: Meaning) -> None:
    assert meaning_of(classify(ACCOUNT, status, {})) == meaning


def test_a_server_error_of_twilios_and_a_page_of_a_proxy_are_as_good_as_silence() -> None:
    assert classify(ACCOUNT, 500, {"code": 20500}) == Unknown("20500", answered=False)
    assert classify(ACCOUNT, 502, {}) == Unknown("502", answered=False)
    page = classify(ACCOUNT, 403, {})
    assert isinstance(page, RetryLater)
    assert (page.scope, page.answered, page.limit) == ("message", False, None)


@pytest.mark.parametrize("after", [timedelta(seconds=7), None])
def test_a_throttle_says_how_long_when_it_does(after: timedelta | None) -> None:
    outcome = classify(ACCOUNT, 429, {"code": 20429}, after)
    assert isinstance(outcome, RetryLater)
    assert outcome.after == after


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_whoever_gives_an_id_has_taken_the_text(status: int) -> None:
    assert classify(ACCOUNT, status, {"sid": SID, "status": "queued"}) == Accepted(ACCOUNT, SID)
    assert isinstance(classify(ACCOUNT, status, {"status": "queued"}), Unknown)


@given(
    status=st.integers(min_value=100, max_value=999),
    body=st.dictionaries(st.sampled_from(["code", "sid", "num_segments", "status", "message"]), JSON),
)
def test_no_answer_is_beyond_reading(status: int, body: dict[str, Any]) -> None:
    match classify(ACCOUNT, status, body):
        case Accepted(_, sid):
            assert 200 <= status < 300
            assert sid == body["sid"]
        case Unknown():
            assert status < 300 or status >= 500 or status == 408
        case RetryLater() | Refused():
            assert 300 <= status < 500
        case surprise:
            pytest.fail(f"{surprise}")


def test_a_list_is_read_into_evidence() -> None:
    found, following = read_list(recording("twilio", "list_of_what_was_sent")["body"])
    assert following is None
    assert [(sms.provider_id, sms.text) for sms in found] == [(SID, "AcmeMotors: Update for you.")]
    assert found[0].created_at == datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    assert "AcmeMotors" not in repr(found)


def test_a_record_that_does_not_show_its_text_its_id_or_its_date_is_on_record_all_the_same() -> None:
    found, _ = read_list({"messages": [{"sid": 7}, {"sid": "SM1", "body": None, "date_created": "yesterday"}]})
    assert [(sms.provider_id, sms.text) for sms in found] == [(None, None), ("SM1", None)]
    assert all(sms.created_at == datetime.max.replace(tzinfo=UTC) for sms in found)


def test_a_date_without_a_zone_is_utc() -> None:
    [sms], _ = read_list({"messages": [{"date_created": "Sun, 22 Nov 2026 10:00:00 -0000"}]})
    assert sms.created_at == datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": ["x"]},
        {"messages": [], "next_page_uri": "@elsewhere.example/"},
        {"messages": [], "next_page_uri": "https://elsewhere.example/2010-04-01/Messages.json"},
        {"messages": [], "next_page_uri": 7},
    ],
)
def test_a_page_that_cannot_be_read_to_its_end_is_no_list_and_a_foreign_address_is_not_followed(
    body: dict[str, Any],
) -> None:
    with pytest.raises(ListUnavailable):
        read_list(body)


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        ("failed", 21610, Refused("21610")),
        ("undelivered", 21614, Refused("21614")),
        ("failed", 30007, None),
        ("undelivered", 30003, None),
        ("failed", None, None),
        ("delivered", None, None),
        ("queued", 21610, None),
    ],
)
def test_a_record_is_read_with_its_status_and_error(status: str, code: int | None, outcome: Refused | None) -> None:
    [message] = recording("twilio", "list_of_what_was_sent")["body"]["messages"]
    [listed], _ = read_list({"messages": [message | {"status": status, "error_code": code}]})
    assert listed.refusal == outcome


def test_a_record_that_was_refused_for_its_sender_waits_as_the_answer_would_have() -> None:
    assert refusal("21660") == classify(ACCOUNT, 400, {"code": 21660})
    assert isinstance(refusal("20003"), RetryLater)
    assert refusal("30410") is None
