"""``/v1/notices``: what the bell of a member shows."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.inbox.api.conversations import Cursor, Limit
from services.inbox.api.security import DepsOf, Viewer
from services.inbox.cursors import Cursors
from services.inbox.notice_queries import MOST_NEW, BellNotice
from services.inbox.notices import NEWEST
from services.inbox.problems import FieldFault, invalid

router = APIRouter(tags=["notices"])

NoticeId = Annotated[int, Field(ge=1, le=NEWEST)]


class Notice(BaseModel):
    """A conversation that nobody has read ``since`` then, or a message that failed."""

    notice_id: int
    type: Literal["conversation.unread.v1", "delivery.failed.v1"]
    conversation_id: UUID
    customer_name: str | None
    since: datetime | None = Field(description="Of an unread conversation: its oldest message that is unread.")
    message_id: UUID | None = Field(description="Of a failed message, as are the next two.")
    reason: str | None
    provider_code: str | None
    at: datetime
    new: bool = Field(description="The member has not looked since.")

    @classmethod
    def of(cls, notice: BellNotice) -> "Notice":
        fields = {name: value for name, value in notice._asdict().items() if name in cls.model_fields}
        return cls.model_validate(fields | {"new": notice.is_new})


class Bell(BaseModel):
    """The newest notices first. ``new`` counts those that are new, up to a hundred."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "notice_id": 4711,
                            "type": "conversation.unread.v1",
                            "conversation_id": "0193a5b0-7c1e-7000-8000-000000000001",
                            "customer_name": "Kim",
                            "since": "2026-11-26T10:00:00Z",
                            "message_id": None,
                            "reason": None,
                            "provider_code": None,
                            "at": "2026-11-26T10:30:00Z",
                            "new": True,
                        }
                    ],
                    "next": None,
                    "new": 1,
                    "failures": True,
                }
            ]
        }
    )

    items: list[Notice]
    next: str | None = Field(description="The cursor of what is older; null where there is nothing.")
    new: int = Field(le=MOST_NEW)
    failures: bool = Field(description="Whether failed messages are told to this member.")


class Seen(BaseModel):
    """Up to which notice the member has looked; without it, all that there is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"notice_id": 4711}, {}]})

    notice_id: NoticeId | None = None


class Wanted(BaseModel):
    """Which notices the member wants."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"failures": False}]})

    failures: bool


@router.get("/notices", summary="The bell")
async def read_bell(
    person: Viewer,
    deps: DepsOf,
    *,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Bell:
    """What was told to the member since they were first here. Reading it changes nothing."""
    scope, cursors = (person.org_id, "notices", person.user_id), Cursors(deps.keys.cursors)
    before = NEWEST
    if cursor is not None:
        try:
            (before,) = cursors.read(scope, cursor)
        except ValueError as error:
            raise invalid(FieldFault("cursor", str(error))) from None
    bell = await deps.notices.bell(person.org_id, person.user_id, before=before, limit=limit + 1)
    items = [Notice.of(notice) for notice in bell.notices[:limit]]
    return Bell(
        items=items,
        next=cursors.write(scope, [items[-1].notice_id]) if len(bell.notices) > limit else None,
        new=bell.new,
        failures=bell.failures,
    )


@router.post("/notices/seen", status_code=HTTPStatus.NO_CONTENT, summary="The bell was looked at")
async def saw(body: Seen, person: Viewer, deps: DepsOf) -> Response:
    """What is there is new to the member no more."""
    await deps.notices.seen(person.org_id, person.user_id, body.notice_id or NEWEST)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.put("/notices/settings", status_code=HTTPStatus.NO_CONTENT, summary="Which notices the member wants")
async def set_wanted(body: Wanted, person: Viewer, deps: DepsOf) -> Response:
    """The switch of this member alone."""
    await deps.notices.switch(person.org_id, person.user_id, failures=body.failures)
    return Response(status_code=HTTPStatus.NO_CONTENT)
