"""Vonage's answers, one file each: what is certain, and whose fault a refusal is."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.sending.outcomes import Accepted, Refused, RetryLater, SendOutcome, Unknown
from services.sms_bridge.providers.vonage import classify
from tests.support.recordings import recording, recordings

ANSWERS = [name for name in recordings("vonage") if not name.startswith("callback_")]


def told(outcome: SendOutcome) -> dict[str, Any]:
    match outcome:
        case Accepted():
            return {"kind": "Accepted", "ids": [outcome.provider_id, *outcome.parts]}
        case RetryLater():
            fault = {"fault": True} if outcome.fault else {}
            return {"kind": "RetryLater", "scope": outcome.scope, "code": outcome.code, **fault}
        case Refused() | Unknown():
            return {"kind": type(outcome).__name__, "code": outcome.code}
        case _:
            raise AssertionError(outcome)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_recorded_answer_has_its_outcome(name: str) -> None:
    seen = recording("vonage", name)
    assert told(classify("key", seen["status"], seen["body"])) == seen["outcome"]


def test_a_price_is_of_all_parts_and_in_euros_whatever_the_organisation_has() -> None:
    outcome = classify("key", 200, recording("vonage", "a_long_text_is_taken_part_by_part")["body"])
    assert isinstance(outcome, Accepted)
    assert outcome.cost is not None
    prices = [
        Decimal(p["message-price"])
        for p in recording("vonage", "a_long_text_is_taken_part_by_part")["body"]["messages"]
    ]
    assert outcome.cost == (len(prices), sum(prices), "EUR")


@pytest.mark.parametrize("unread", [{"status": "0"}, {"status": "0", "message-id": 7}, {"to": "447700900999"}, None])
def test_one_part_that_was_taken_makes_it_sent_whatever_another_says(unread: object) -> None:
    taken = {"status": "0", "message-id": "0A0000001234567B", "message-price": "0.0333"}
    for parts in ([taken, unread], [unread, taken]):
        outcome = classify("key", 200, {"messages": parts})
        assert outcome == Accepted("key", "0A0000001234567B")
        assert isinstance(outcome, Accepted)
        assert outcome.cost is None


def test_a_throttled_account_waits_as_long_as_it_is_told() -> None:
    answer = recording("vonage", "the_account_sends_too_fast")
    outcome = classify("key", 200, answer["body"], timedelta(seconds=7))
    assert isinstance(outcome, RetryLater)
    assert outcome.after == timedelta(seconds=7)


def test_a_server_error_is_as_good_as_silence_whoever_says_it() -> None:
    assert classify("key", 200, {"messages": [{"status": "5"}]}) == Unknown("5", answered=False)
    assert classify("key", 503, {"title": "Service unavailable"}) == Unknown("503", answered=False)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["status", "message-id", "x"]), inner),
)


@given(st.integers(200, 599), st.dictionaries(st.sampled_from(["messages", "x"]), _JSON))
def test_whatever_comes_back_nothing_that_may_have_been_taken_is_called_untaken(
    status: int, body: dict[str, Any]
) -> None:
    outcome = classify("key", status, body)
    parts = body.get("messages")
    if status == 200 and isinstance(parts, list) and any(isinstance(p, dict) and p.get("status") == "0" for p in parts):
        assert isinstance(outcome, Accepted | Unknown)
