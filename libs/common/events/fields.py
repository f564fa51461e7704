"""Fields that many events have, and their valid values."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_BEHIND_IT = LATEST + timedelta(days=1)
"""What is stored right behind ``LATEST``, as the word of a customer behind one from the end of time, stays there."""


def within_the_calendar(instant: datetime) -> datetime:
    """A time with its zone, brought between 1970 and 9000. Raises ValueError where UTC does not have it."""
    try:
        instant.astimezone(UTC)
    except OverflowError:  # within hours of the calendar's ends
        raise ValueError("a time is needed that the calendar has in UTC too") from None
    return max(instant, EARLIEST) if instant < _BEHIND_IT else LATEST


OrgId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]
"""An organisation's id, chosen by the platform.

It stands in log lines and in keys, so it has no white space and no control characters.
"""

Attempt = Annotated[int, Field(ge=1, le=999_999)]
"""The number of an attempt of an intent. Callback data holds six digits of it (``libs.common.ids``)."""

Sequence = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""A message's place in the order of its conversation."""

MetaId = Annotated[str, Field(pattern=r"^[0-9]{5,20}$")]
"""The id of a business number or of a WhatsApp business account at Meta. It becomes part of Graph API addresses."""

ConsentPurpose = Literal["transactional", "service_reminders", "marketing"]
"""What a template is sent for: the category of consent that it is held against."""

MAX_USER_ID = 200
"""Characters of the id by which an identity provider knows a member of staff."""

Instant = Annotated[AwareDatetime, AfterValidator(within_the_calendar)]
"""A time with its zone, brought between 1970 and 9000.

Not every zone can show the ends of the calendar: the zero time of Go is before the first one of London.
"""
