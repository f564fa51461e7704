"""The ``policy`` of an organisation in a load file.

What reads a policy takes a value that cannot be one as missing, because a platform types it and no message may stop for
it. A file has somebody who reads the fault.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from libs.common.inbox_policy import LEAST_ESCALATE, LEAST_HOLD, MOST_ESCALATE, MOST_HOLD
from libs.common.sms_policy import MOST_ANSWERS, MOST_COUNTRIES, MOST_DAILY_SEGMENTS, is_country
from services.router.portal_unread import LEAST_MINUTES, MOST_MINUTES


def country(code: str) -> str:
    """The code, if it is a country's."""
    if not is_country(code):
        raise ValueError("a country of ISO 3166-1 is needed, such as GB or DE")
    return code


CountryCode = Annotated[str, AfterValidator(country)]


class PolicyEntry(BaseModel):
    """Every value that a policy may have. Null is the default, as a field is that is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    sms_countries: Annotated[list[CountryCode], Field(max_length=MOST_COUNTRIES)] | None = None
    sms_daily_segments: Annotated[int, Field(ge=0, le=MOST_DAILY_SEGMENTS)] | None = None
    sms_hourly_answers: Annotated[int, Field(ge=0, le=MOST_ANSWERS)] | None = None
    escalate_minutes: Annotated[int, Field(ge=LEAST_ESCALATE, le=MOST_ESCALATE)] | None = None
    hold_minutes: Annotated[int, Field(ge=LEAST_HOLD, le=MOST_HOLD)] | None = None
    release: Literal["offer", "send"] | None = None
    portal_unread_minutes: Annotated[float, Field(ge=LEAST_MINUTES, le=MOST_MINUTES)] | None = None
    portal_button: bool | None = None
