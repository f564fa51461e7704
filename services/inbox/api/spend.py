"""``GET /v1/spend``."""

import re
from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.inbox.api.security import DepsOf, Viewer
from services.inbox.problems import FieldFault, invalid
from services.inbox.spend import GROUPS, MOST_DAYS, SpendError, answer_of, csv_of, read_query
from services.inbox.spend_report import exported, report

router = APIRouter(tags=["spend"])

CSV = "text/csv"
Money = Annotated[str, Field(description="An exact decimal.", pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["0.0400"])]
_NOTHING = re.compile(r"q=0(\.0*)?")
_DAY = "A day (UTC), included, such as 2026-11-25."


class SpendGroup(BaseModel):
    """One group of charges. Of the first five fields there are those that are grouped by."""

    day: date | None = None
    channel: str | None = None
    category: str | None = None
    number: str | None = None
    conversation: UUID | None = None
    currency: str | None
    messages: int
    segments: int = Field(description="Of SMS.")
    amount: Money
    estimated: Money = Field(description="The part of the amount that no provider has confirmed yet.")
    unpriced: int = Field(description="Messages whose price is not known. They add nothing.")


class SpendInCurrency(BaseModel):
    """What was spent in another currency."""

    currency: str | None
    messages: int
    total: Money


class Spend(BaseModel):
    """The sums of an organisation's charges. Amounts of different currencies are never added."""

    currency: str | None = Field(description="ISO 4217: that of the totals.")
    first: date = Field(alias="from")
    last: date = Field(alias="to")
    rows: list[SpendGroup]
    total: Money
    total_estimated: Money
    total_messages: int
    others: list[SpendInCurrency]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "currency": "GBP",
                    "from": "2026-11-12",
                    "to": "2026-11-25",
                    "rows": [
                        {
                            "channel": "sms",
                            "category": "bridge",
                            "currency": "GBP",
                            "messages": 109,
                            "segments": 109,
                            "amount": "4.360000",
                            "estimated": "0.640000",
                            "unpriced": 0,
                        }
                    ],
                    "total": "4.360000",
                    "total_estimated": "0.640000",
                    "total_messages": 109,
                    "others": [],
                }
            ]
        }
    }


@router.get(
    "/spend",
    response_model=Spend,
    response_model_exclude_unset=True,
    responses={
        200: {
            "content": {CSV: {"schema": {"type": "string"}, "example": "channel,currency,messages\r\nsms,GBP,109\r\n"}}
        }
    },
)
async def spend(
    deps: DepsOf,
    person: Viewer,
    *,
    first: Annotated[str | None, Query(alias="from", description=_DAY)] = None,
    last: Annotated[str | None, Query(alias="to", description=f"{_DAY} At most {MOST_DAYS} days.")] = None,
    group_by: Annotated[str | None, Query(description=f"Any of {', '.join(GROUPS)}, with commas between.")] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response | dict[str, object]:
    """What the organisation's messages cost, in groups; ``Accept: text/csv`` gives CSV."""
    given = {"from": first or "", "to": last or "", "group_by": group_by or ""}
    try:
        query = read_query(given, deps.pool.now().date())
        found = await report(deps.reads, person, query)
    except SpendError as wrong:
        raise invalid(FieldFault(wrong.field, wrong.message)) from None
    if wants_csv(accept):
        await exported(deps.pool, person, query)
        name = f"spend-{query.first}-{query.last}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept"}
        return Response(csv_of(query, found.rows), media_type=f"{CSV}; charset=utf-8", headers=headers)
    return answer_of(query, found.rows, found.currency)


def wants_csv(accept: str | None) -> bool:
    """Whether CSV is named before JSON and before anything. What has the weight 0 is not wanted."""
    for part in (accept or "").split(","):
        kind, _, weight = part.replace(" ", "").lower().partition(";")
        if _NOTHING.fullmatch(weight):
            continue
        if kind == CSV:
            return True
        if kind in ("application/json", "*/*"):
            return False
    return False
