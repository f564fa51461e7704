"""What an organisation's policy says about SMS: to which countries, and how many. Pure.

Rule 1: a value that cannot be one counts as missing and is named in ``faults`` (``libs.common.policy_values``).
Rule 2: without ``sms_countries`` SMS go to the organisation's own country, else to that of its SMS number. An empty
        list allows no country.
Rule 3: regions that share a calling code count as one country: +44 is also Guernsey, Jersey and the Isle of Man.
"""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import phonenumbers

from libs.common.policy_values import policy_from, whole_number

DAILY_SEGMENTS = 500
HOURLY_ANSWERS = 6
DAILY_ANSWERS = 20
"""The most SMS answers in a conversation within a day, whatever the policy says."""

MOST_DAILY_SEGMENTS = 1_000_000
MOST_ANSWERS = 1000
MOST_COUNTRIES = 300


class SmsPolicy(NamedTuple):
    """The limits of an organisation's SMS. ``countries`` are ISO 3166-1 alpha-2, sorted."""

    countries: tuple[str, ...]
    daily_segments: int
    hourly_answers: int


class Taken(NamedTuple):
    """Segments that an SMS of an organisation takes on a day (UTC). ``bridges``: how many of them are bridges."""

    org_id: str
    day: date
    segments: int
    bridges: int = 0


class SegmentRate(NamedTuple):
    """What one segment costs by the rate card."""

    price: Decimal
    currency: str


class Answers(NamedTuple):
    """The SMS answers in a conversation within an hour and within a day."""

    hour: int
    day: int


def read_policy(
    policy: Mapping[str, Any], *, country: str | None, sms_number: str | None
) -> tuple[SmsPolicy, tuple[str, ...]]:
    """The limits, and the names of the fields that have a default because their value cannot be one."""
    faults: list[str] = []
    countries = _countries(policy, faults)
    if countries is None:
        countries = _own_country(country, sms_number)
    found = SmsPolicy(
        countries,
        whole_number(policy, "sms_daily_segments", faults, default=DAILY_SEGMENTS, most=MOST_DAILY_SEGMENTS),
        whole_number(policy, "sms_hourly_answers", faults, default=HOURLY_ANSWERS, most=MOST_ANSWERS),
    )
    return found, tuple(faults)


@lru_cache(maxsize=1 << 13)
def policy_of(policy: str | None, country: str | None, sms_number: str | None) -> SmsPolicy:
    """The limits by the policy as JSON text; None is an empty one."""
    return read_policy(policy_from(policy), country=country, sms_number=sms_number)[0]


def calling_code(phone: str) -> int | None:
    """The calling code of an E.164 number; None when there is no such code."""
    try:
        return phonenumbers.parse(phone).country_code
    except phonenumbers.NumberParseException:
        return None


@lru_cache(maxsize=1 << 14)
def is_in(phone: str, countries: tuple[str, ...]) -> bool:
    """Whether an E.164 number is of one of these countries, or of a region that shares the calling code of one."""
    return calling_code(phone) in {_code_of(country) for country in countries}


def _code_of(country: str) -> int:
    return int(phonenumbers.country_code_for_region(country))


def _countries(policy: Mapping[str, Any], faults: list[str]) -> tuple[str, ...] | None:
    value = policy.get("sms_countries")
    if value is None:
        return None
    if isinstance(value, list) and len(value) <= MOST_COUNTRIES and all(map(is_country, value)):
        return tuple(sorted(set(value)))
    faults.append("sms_countries")
    return None


def is_country(value: object) -> bool:
    """Whether it is the code of a country, ISO 3166-1 alpha-2, that has phone numbers. ``UK`` is none."""
    return isinstance(value, str) and value in phonenumbers.SUPPORTED_REGIONS


def _own_country(country: str | None, sms_number: str | None) -> tuple[str, ...]:
    if country is not None and is_country(country):
        return (country,)
    code = None if sms_number is None else calling_code(sms_number)
    region = None if code is None else phonenumbers.region_code_for_country_code(code)
    return (region,) if region is not None and is_country(region) else ()
