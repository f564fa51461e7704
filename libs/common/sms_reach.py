"""Whether an SMS may go to a customer. The router asks when it decides, the SMS bridge when it sends. Pure.

Rule 1: the rules hold for every SMS, bridge or plain text, from every producer.
Rule 2: a customer gets an SMS only if they wrote to the organisation (on any channel, to any number) or consented to
        SMS explicitly. The default that allows SMS is no explicit consent.
Rule 3: an SMS has at most three segments, in the form in which it is sent.
Rule 4: no SMS goes to a number from which an organisation sends its own: two systems would answer each other.
Rule 5: no SMS goes to satellite, premium, shared-cost, free-phone, pager and forwarding ("personal") numbers, nor to
        codes of no country. No customer is reached there, and most cost a multiple.
Rule 6: an SMS goes to the countries of the organisation's policy alone (``sms_policy``).
Rule 7: an organisation buys so many segments a day as its policy says, and a conversation gets so many SMS answers an
        hour. Two machines that text each other stop.
Rule 8: a landline, or a number that is too long or too short for its country, is no phone for SMS.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal

import phonenumbers
from phonenumbers import PhoneNumberType, ValidationResult

from libs.common.countries import ANYWHERE, country_of
from libs.common.gsm7 import economical, segments
from libs.common.phone import same_line, spellings
from libs.common.sms_policy import DAILY_ANSWERS, is_in

MOST_SEGMENTS = 3

SmsObstacle = Literal[
    "no_phone", "sms_opted_out", "sms_unavailable", "never_contacted", "country_not_allowed", "spend_cap_reached"
]

_IMPERSONAL = frozenset(
    {
        PhoneNumberType.PAGER,
        PhoneNumberType.PERSONAL_NUMBER,
        PhoneNumberType.PREMIUM_RATE,
        PhoneNumberType.SHARED_COST,
        PhoneNumberType.TOLL_FREE,
        PhoneNumberType.UAN,
        PhoneNumberType.VOICEMAIL,
    }
)


@dataclass(frozen=True, slots=True)
class SmsReach:
    """The facts about a customer and their organisation that decide whether an SMS may go.

    ``no_phone_until`` and ``stopped_until``: the phone is marked until then. ``allowed`` is the consent with its
    default; ``explicit``: it was given explicitly. ``countries``: None where the facts are of a release before the
    rule. ``spent``: the segments of the organisation's day so far; None where it was not asked, as ``answers_hour`` and
    ``answers_day`` of the conversation are 0 then. ``daily`` and ``hourly`` are the most of each.
    """

    phone: str | None
    no_phone_until: datetime | None
    stopped_until: datetime | None
    allowed: bool
    explicit: bool
    contacted: bool
    number: str | None
    active: bool
    of_organisation: bool = False
    """Whether the phone is the SMS number of any organisation."""
    countries: tuple[str, ...] | None = None
    spent: int | None = None
    daily: int | None = None
    answers_hour: int = 0
    answers_day: int = 0
    hourly: int | None = None


def obstacle(reach: SmsReach, now: datetime, parts: int = 1) -> SmsObstacle | None:  # noqa: PLR0911 -- one return per reason
    """Why no SMS of so many segments may go, the first reason that holds; None when one may."""
    if reach.phone is None or reach.of_organisation or _is_ahead(reach.no_phone_until, now):
        return "no_phone"
    if reach.countries is not None and not takes_sms(reach.phone):
        return "no_phone"
    if not reach.allowed or _is_ahead(reach.stopped_until, now):
        return "sms_opted_out"
    if not reach.active or reach.number is None:
        return "sms_unavailable"
    if not (reach.contacted or reach.explicit):
        return "never_contacted"
    if not may_be_personal(reach.phone) or (reach.countries is not None and not is_in(reach.phone, reach.countries)):
        return "country_not_allowed"
    return None if cap_reached(reach, parts) is None else "spend_cap_reached"


def is_allowed(phone: str | None, *, consent: bool, stopped: str | None) -> bool:
    """Whether the consent for SMS allows one to ``phone``.

    A STOP by SMS holds for the number that it came from (``stopped``), under every spelling, and for none that the
    customer has instead.
    """
    return consent or (stopped is not None and phone is not None and not same_line(stopped, phone))


def parts_of(text: str) -> int:
    """How many segments the text has in the form in which it is sent."""
    return segments(economical(text))


def too_long(text: str) -> bool:
    """Whether the text would need more segments than an SMS may have."""
    return parts_of(text) > MOST_SEGMENTS


@lru_cache(maxsize=1 << 14)
def takes_sms(phone: str) -> bool:
    """Whether an E.164 number may be a phone that takes SMS: possible with its country's code, and no landline.

    Where landlines and mobile phones look alike it may be either: in North America, and in Argentina under one of the
    spellings of a line.
    """
    found = [number for spelling in spellings(phone) if (number := _parsed(spelling)) is not None]
    return any(map(_is_possible, found)) and any(
        phonenumbers.number_type(number) != PhoneNumberType.FIXED_LINE for number in found
    )


@lru_cache(maxsize=1 << 14)
def may_be_personal(phone: str) -> bool:
    """Whether an E.164 number may be a person's in some country."""
    if country_of(phone) == ANYWHERE:
        return False
    found = _parsed(phone)
    return found is not None and phonenumbers.number_type(found) not in _IMPERSONAL


def _is_possible(number: phonenumbers.PhoneNumber) -> bool:
    """Whether a line may have the number. One without its area code is dialled in its area alone."""
    return phonenumbers.is_possible_number_with_reason(number) == ValidationResult.IS_POSSIBLE


def _parsed(phone: str) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(phone)
    except phonenumbers.NumberParseException:
        return None


def cap_reached(reach: SmsReach, parts: int) -> str | None:
    """The cap that keeps an SMS of so many segments back, and how much of it is used; None where none does."""
    if reach.spent is not None and reach.daily is not None and (day := day_reached(reach.spent, parts, reach.daily)):
        return day
    if reach.hourly is not None and reach.answers_hour >= reach.hourly:
        return f"sms_hourly_answers: {reach.answers_hour} of {reach.hourly} used"
    if reach.hourly is not None and reach.answers_day >= DAILY_ANSWERS:
        return f"answers of a day: {reach.answers_day} of {DAILY_ANSWERS} used"
    return None


def day_reached(spent: int, parts: int, daily: int) -> str | None:
    """How much of the organisation's day is used, where it has no room for so many segments; None where it has."""
    return f"sms_daily_segments: {spent} of {daily} used, {parts} needed" if spent + parts > daily else None


def _is_ahead(until: datetime | None, now: datetime) -> bool:
    return until is not None and now < until
