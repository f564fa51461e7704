"""Fields that many events have, and what may stand in them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field


def _in_utc_too(instant: datetime) -> datetime:
    try:
        instant.astimezone(UTC)
    except OverflowError:  # within hours of the calendar's ends
        raise ValueError("a time is needed that the calendar has in UTC too") from None
    return instant


OrgId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")]
"""An organisation, as the platform names it. It stands in log lines and in keys, so it has no white space and no control characters."""

MetaId = Annotated[str, Field(pattern=r"^[0-9]{5,20}$")]
"""A business number or a WhatsApp business account, as Meta numbers it. It becomes part of addresses at the Graph API."""

Instant = Annotated[AwareDatetime, AfterValidator(_in_utc_too)]
"""A time with its zone that a table can hold."""
