"""Whether an SMS may go to a customer. The router asks when it decides, the SMS bridge when it sends. Pure.

Rule 1: the rules hold for every SMS, bridge or plain text, from every producer.
Rule 2: a customer gets an SMS only if they wrote to the organisation (on any channel, to any number) or consented to
        SMS explicitly. The default that allows SMS is no explicit consent.
Rule 3: an SMS has at most three segments, in the form in which it is sent.
Rule 4: no SMS goes to a number from which an organisation sends its own: two systems would answer each other.
Rule 5: no SMS goes to satellite, premium, shared-cost and free-phone numbers, nor to codes of no country. No customer
        is reached there, and each costs a multiple.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal

import phonenumbers
from phonenumbers import PhoneNumberType

from libs.common.countries import ANYWHERE, country_of
from libs.common.gsm7 import economical, segments
from libs.common.phone import same_line

MOST_SEGMENTS = 3

SmsObstacle = Literal["no_phone", "sms_opted_out", "sms_unavailable", "never_contacted", "country_not_allowed"]

_IMPERSONAL = frozenset(
    {
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
    default; ``explicit``: it was given explicitly.
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


def obstacle(reach: SmsReach, now: datetime) -> SmsObstacle | None:
    """Why no SMS may go, the first reason that holds; None when one may."""
    if reach.phone is None or reach.of_organisation or _is_ahead(reach.no_phone_until, now):
        return "no_phone"
    if not reach.allowed or _is_ahead(reach.stopped_until, now):
        return "sms_opted_out"
    if not reach.active or reach.number is None:
        return "sms_unavailable"
    if not (reach.contacted or reach.explicit):
        return "never_contacted"
    return None if may_be_personal(reach.phone) else "country_not_allowed"


def is_allowed(phone: str | None, *, consent: bool, stopped: str | None) -> bool:
    """Whether the consent for SMS allows one to ``phone``.

    A STOP by SMS holds for the number that it came from (``stopped``), under every spelling, and for none that the
    customer has instead.
    """
    return consent or (stopped is not None and phone is not None and not same_line(stopped, phone))


def too_long(text: str) -> bool:
    """Whether the text would need more segments than an SMS may have."""
    return segments(economical(text)) > MOST_SEGMENTS


@lru_cache(maxsize=1 << 14)
def may_be_personal(phone: str) -> bool:
    """Whether an E.164 number may be a person's in some country."""
    if country_of(phone) == ANYWHERE:
        return False
    try:
        return phonenumbers.number_type(phonenumbers.parse(phone)) not in _IMPERSONAL
    except phonenumbers.NumberParseException:
        return False


def _is_ahead(until: datetime | None, now: datetime) -> bool:
    return until is not None and now < until
