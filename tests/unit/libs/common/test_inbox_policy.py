"""A platform may type anything into a policy: what cannot be a value of the inbox has its default and is named."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.inbox_policy import InboxPolicy, inbox_policy_of, read_inbox_policy

MINUTE = timedelta(minutes=1)
DEFAULT = InboxPolicy(30 * MINUTE, 60 * MINUTE, "offer")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def test_without_a_policy_texts_are_offered_and_unread_conversations_told_after_half_an_hour() -> None:
    assert read_inbox_policy({}) == (DEFAULT, ())
    assert inbox_policy_of(None) == DEFAULT


def test_a_policy_is_taken_as_it_stands() -> None:
    policy = {"escalate_minutes": 5, "hold_minutes": 1, "release": "send", "other": []}
    assert read_inbox_policy(policy) == (InboxPolicy(5 * MINUTE, MINUTE, "send"), ())


@pytest.mark.parametrize("minutes", [5, 6, 1439, 1440])
def test_five_minutes_to_a_day_is_a_time_after_which_unread_is_told(minutes: int) -> None:
    assert read_inbox_policy({"escalate_minutes": minutes}) == (DEFAULT._replace(escalate_after=minutes * MINUTE), ())


@pytest.mark.parametrize("value", [4, 0, -30, 1441, 10**30, "30", 30.0, True, [], {}])
@pytest.mark.parametrize("name", ["escalate_minutes", "hold_minutes"])
def test_minutes_that_cannot_be_some_are_the_default_and_are_named(name: str, value: object) -> None:
    if name == "hold_minutes" and value in (4, 1441) and value is not True:
        value = 0 if value == 4 else 7 * 1440 + 1
    assert read_inbox_policy({name: value}) == (DEFAULT, (name,))


@pytest.mark.parametrize("value", ["Send", "never", "", True, 1, ["send"], {"send": 1}])
def test_a_release_that_is_neither_offers_and_is_named(value: object) -> None:
    assert read_inbox_policy({"release": value}) == (DEFAULT, ("release",))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("escalate_minutes", "hold_minutes", "release"), JSON)))
def test_no_policy_stops_anything(policy: dict[str, object]) -> None:
    found, faults = read_inbox_policy(policy)
    assert 5 * MINUTE <= found.escalate_after <= 1440 * MINUTE
    assert found.hold >= MINUTE
    assert set(faults) <= policy.keys()
    assert inbox_policy_of(json.dumps(policy)) == found


@pytest.mark.parametrize("text", ["", "[", "[]", "null", '"x"', "[" * 100_000, "1" * 5000])
def test_text_that_is_no_policy_counts_as_none(text: str) -> None:
    assert inbox_policy_of(text) == DEFAULT
