"""A platform may type anything into a policy: what cannot be a limit has its default and is named."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.sms_policy import DAILY_SEGMENTS, HOURLY_ANSWERS, is_in, policy_of, read_policy

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def test_without_a_policy_an_organisation_writes_to_its_own_country() -> None:
    assert read_policy({}, country="DE", sms_number="+447700900001") == ((("DE",), DAILY_SEGMENTS, HOURLY_ANSWERS), ())
    assert read_policy({}, country=None, sms_number="+447700900001")[0].countries == ("GB",)
    assert read_policy({}, country="UK", sms_number="+447700900001")[0].countries == ("GB",)
    for nowhere in (None, "+88213000001", "+999123456789", "AcmeMotors"):
        assert read_policy({}, country=None, sms_number=nowhere)[0].countries == ()


def test_a_policy_is_taken_as_it_stands() -> None:
    policy = {"sms_countries": ["IE", "GB", "IE"], "sms_daily_segments": 0, "sms_hourly_answers": 12, "other": []}
    assert read_policy(policy, country="DE", sms_number=None) == ((("GB", "IE"), 0, 12), ())
    assert read_policy({"sms_countries": []}, country="DE", sms_number=None)[0].countries == ()


@pytest.mark.parametrize("value", [-1, "500", 1.5, True, [], {}, 10**30, 1_000_001])
def test_a_number_that_cannot_be_one_is_the_default_and_is_named(value: object) -> None:
    found, faults = read_policy({"sms_daily_segments": value}, country="DE", sms_number=None)
    assert (found.daily_segments, faults) == (DAILY_SEGMENTS, ("sms_daily_segments",))


@pytest.mark.parametrize("value", ["GB", ["gb"], ["XX"], ["GB", 44], {"GB": 1}, ["*"], ["GB"] * 301, 7])
def test_countries_that_cannot_be_some_are_the_own_one_and_are_named(value: object) -> None:
    found, faults = read_policy({"sms_countries": value}, country="DE", sms_number=None)
    assert (found.countries, faults) == (("DE",), ("sms_countries",))


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("sms_countries", "sms_daily_segments", "sms_hourly_answers"), JSON)
    )
)
def test_no_policy_stops_anything(policy: dict[str, object]) -> None:
    found, _faults = read_policy(policy, country=None, sms_number="+447700900001")
    assert 0 <= found.daily_segments <= 1_000_000
    assert 0 <= found.hourly_answers <= 1000
    assert policy_of(json.dumps(policy), None, "+447700900001") == found


@pytest.mark.parametrize("text", ["", "[", "[]", "null", '"x"', "[" * 100_000, "1" * 5000])
def test_text_that_is_no_policy_counts_as_none(text: str) -> None:
    assert policy_of(text, "DE", None) == (("DE",), DAILY_SEGMENTS, HOURLY_ANSWERS)


@pytest.mark.parametrize(
    ("phone", "country", "reached"),
    [
        ("+447700900999", "GB", True),  # in no range, and yet of +44
        ("+447781123456", "GB", True),  # Guernsey
        ("+447797123456", "IM", True),
        ("+447700900999", "JE", True),
        ("+14165550123", "US", True),
        ("+18765550123", "CA", True),
        ("+77012345678", "RU", True),
        ("+262692123456", "YT", True),
        ("+353851234567", "GB", False),
        ("+88213000001", "GB", False),
        ("+4915112345678", "AT", False),
    ],
)
def test_regions_of_one_calling_code_are_one_country(phone: str, country: str, *, reached: bool) -> None:
    assert is_in(phone, (country,)) is reached
