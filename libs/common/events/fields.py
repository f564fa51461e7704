"""Fields that many events have, and their valid values."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_BEHIND_IT = _LATEST + timedelta(days=1)
"""What is stored right behind ``_LATEST``, as the word of a customer behind one from the end of time, stays there."""


def _within_the_calendar(instant: datetime) -> datetime:
    try:
        instant.astimezone(UTC)
    except OverflowError:  # within hours of the calendar's ends
        raise ValueError("a time is needed that the calendar has in UTC too") from None
    return max(instant, EARLIEST) if instant < _BEHIND_IT else _LATEST


OrgId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]
"""An organisation's id, chosen by the platform.

It stands in log lines and in keys, so it has no white space and no control characters.
"""

MetaId = Annotated[str, Field(pattern=r"^[0-9]{5,20}$")]
"""The id of a business number or of a WhatsApp business account at Meta. It becomes part of Graph API addresses."""

ConsentPurpose = Literal["transactional", "service_reminders", "marketing"]
"""What a template is sent for: the category of consent that it is held against."""

MAX_USER_ID = 200
"""Characters of the id by which an identity provider knows a member of staff."""

Instant = Annotated[AwareDatetime, AfterValidator(_within_the_calendar)]
"""A time with its zone, brought between 1970 and 9000.

Not every zone can show the ends of the calendar: the zero time of Go is before the first one of London.
"""
