"""Whether a customer is reached now, by WhatsApp and by SMS, on what is stored.

Rule 1: an SMS may go where ``libs.common.sms_reach`` finds no obstacle. The router and the SMS bridge ask the same.
Rule 2: WhatsApp reaches a customer who has an address there that is not marked, as in the router's facts.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.directory.addressing import KnownAddresses, address_of
from libs.common.phone import same_line
from libs.common.sms_policy import policy_of
from libs.common.sms_reach import SmsObstacle, SmsReach, is_allowed, obstacle
from services.inbox.composer_queries import ReachRow

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Reach:
    """``obstacle`` is why no SMS may go; None: one may. ``whatsapp``: an address is there and not marked."""

    whatsapp: bool
    obstacle: SmsObstacle | None


def reach_of(row: ReachRow, now: datetime) -> Reach:
    """By both channels at ``now``."""
    policy = policy_of(row.policy, row.country, row.sms_number)
    answers = [now - at for at in row.answers or ()]
    sms = SmsReach(
        phone=row.phone,
        no_phone_until=row.no_phone_until,
        stopped_until=row.stopped_until,
        allowed=is_allowed(row.phone, consent=row.sms_consent, stopped=row.sms_stopped_by),
        explicit=row.explicit,
        contacted=row.contacted,
        number=row.sms_number,
        active=row.sms_active,
        of_organisation=row.of_organisation,
        countries=policy.countries,
        spent=row.spent,
        daily=policy.daily_segments,
        answers_hour=sum(age < _HOUR for age in answers),
        answers_day=sum(age < _DAY for age in answers),
        hourly=policy.hourly_answers,
    )
    return Reach(_on_whatsapp(row), obstacle(sms, now))


def _on_whatsapp(row: ReachRow) -> bool:
    known = KnownAddresses(row.phone, row.phone_at, row.wa_id, row.wa_id_at, row.bsuid, row.bsuid_at)
    address = address_of(known, None)
    to = address.to or address.recipient
    return to is not None and not any(marked == to or same_line(marked, to) for marked, _until in row.marks or ())
