"""``/v1/templates``: the organisation's copies of Meta's templates, and what people do with them."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal, NoReturn, assert_never
from uuid import UUID

from fastapi import APIRouter, Body, Query
from fastapi.openapi.models import Example
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from libs.common.directory.template_parts import Parameter, parameters_of
from libs.common.events.content import at_most, passable
from libs.common.events.fields import MetaId
from libs.common.sanitize import sanitize
from services.inbox.api.conversations import EmptyIsNone, Limit
from services.inbox.api.security import DepsOf, TemplateManager, Viewer
from services.inbox.cursors import Cursors
from services.inbox.problems import FieldFault, Problem, away, invalid, not_found
from services.inbox.template_limits import Content, Fault
from services.inbox.template_outcomes import (
    Absent,
    Busy,
    Deleted,
    Faulty,
    NotAsked,
    NotTaken,
    Outcome,
    Removal,
    Stored,
    Wanted,
)
from services.inbox.template_queries import Event, TemplateRow
from services.inbox.template_sync_queries import Account

router = APIRouter(tags=["templates"])

MAX_BYTES = 64 * 1024
Components = Annotated[
    list[dict[str, Any]],
    AfterValidator(passable),
    AfterValidator(at_most(MAX_BYTES)),
    AfterValidator(sanitize),
    Field(description="In Meta's shape: `HEADER`, `BODY`, `FOOTER`, `BUTTONS`, with their examples."),
]
Word = Annotated[str, Field(max_length=600)]
_COMPONENTS: list[JsonDict] = [
    {
        "type": "BODY",
        "text": "Hi {{customer_name}}, your car is ready to be picked up.",
        "example": {"body_text_named_params": [{"param_name": "customer_name", "example": "Kim"}]},
    }
]
_NEW: JsonDict = {
    "name": "car_ready",
    "language": "en_GB",
    "category": "UTILITY",
    "parameter_format": "NAMED",
    "components": [dict(one) for one in _COMPONENTS],
}
_ID = "0193a5b0-7c1e-7000-8000-0000000000aa"
_TEMPLATE: JsonDict = {
    "template_id": _ID,
    "waba_id": "206400000000001",
    "name": "car_ready",
    "language": "en_GB",
    "category": "UTILITY",
    "status": "REJECTED",
    "status_at": "2026-11-25T10:12:00Z",
    "rejected_reason": "INVALID_FORMAT",
    "quality": "UNKNOWN",
    "parameter_format": "NAMED",
    "components": [dict(one) for one in _COMPONENTS],
    "parameters": [
        {
            "name": "customer_name",
            "position": None,
            "place": "body",
            "button": None,
            "kind": "text",
            "example": "Kim",
        }
    ],
    "synced_at": "2026-11-25T14:03:00Z",
    "draft": None,
    "submission": "none",
    "refusal": None,
    "stale": False,
}
_HISTORY: list[JsonDict] = [
    {
        "event": "status",
        "word": "REJECTED",
        "reason": "INVALID_FORMAT",
        "source": "webhook",
        "user_id": None,
        "at": "2026-11-25T10:12:00Z",
    }
]
_SYNC: JsonDict = {
    "waba_id": "206400000000001",
    "synced_at": "2026-11-25T14:03:00Z",
    "due_at": "2026-11-25T14:05:00Z",
    "error": None,
    "rests_until": None,
}


_BUSY: dict[str, Any] = {"description": "A submission is under way, or its outcome is not known yet."}


class TemplateParameter(BaseModel):
    """A value that a send gives: of a named place its name, of a numbered one its position."""

    name: str | None
    position: int | None
    place: Literal["header", "body", "button"]
    button: int | None = Field(description="The index of the button, from 0.")
    kind: str = Field(description="`text`, or the format of a header with a file.")
    example: str | None

    @classmethod
    def of(cls, parameter: Parameter) -> "TemplateParameter":
        return cls(**parameter._asdict())


class TemplateDraft(BaseModel):
    """What was written here, and Meta does not have yet."""

    category: str
    components: list[dict[str, Any]]


class TemplateRefusal(BaseModel):
    """Meta's answer to the last submission, where it was no."""

    code: str
    sentence: str


class Template(BaseModel):
    """A template of the organisation in one of its WhatsApp Business Accounts, in one language."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TEMPLATE]})

    template_id: UUID = Field(description="Ours: it stays, whatever becomes of the template.")
    waba_id: str
    name: str
    language: str
    category: str
    status: str = Field(description="Meta's word. `DRAFT`: never submitted. `DELETED`: Meta lists it no more.")
    status_at: datetime | None
    rejected_reason: str | None
    quality: str | None
    parameter_format: str
    components: list[dict[str, Any]]
    parameters: list[TemplateParameter]
    synced_at: datetime | None = Field(description="When Meta listed it last.")
    draft: TemplateDraft | None
    submission: Literal["none", "unknown"] = Field(description="`unknown`: Meta's answer is awaited, or was lost.")
    refusal: TemplateRefusal | None
    stale: bool = Field(description="Meta refused a send because the template has changed there.")

    @classmethod
    def of(cls, row: TemplateRow) -> "Template":
        return cls(
            **{name: getattr(row, name) for name in cls.model_fields.keys() & set(row._fields) - {"draft", "refusal"}},
            draft=None if row.draft is None else TemplateDraft.model_validate(row.draft),
            refusal=None if row.refusal is None else TemplateRefusal.model_validate(row.refusal),
            parameters=[TemplateParameter.of(one) for one in parameters_of(row.components, row.parameter_format)],
            submission="none" if row.asked_at is None else "unknown",
            stale=row.stale_since is not None,
        )


class TemplateEvent(BaseModel):
    """What happened to the template, by whose word. ``user_id``: where a person did it."""

    event: str
    word: str | None
    reason: str | None
    source: str
    user_id: str | None
    at: datetime

    @classmethod
    def of(cls, event: Event) -> "TemplateEvent":
        return cls(**{name: getattr(event, name) for name in cls.model_fields})


class TemplateWithHistory(Template):
    """A template with the newest hundred lines of its history, the newest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_TEMPLATE, "history": [dict(one) for one in _HISTORY]}]}
    )

    history: list[TemplateEvent]


class TemplateList(BaseModel):
    """A page of templates, by name, language and account."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [_TEMPLATE], "next": None}]})

    items: list[Template]
    next: str | None


class NewTemplate(BaseModel):
    """A new template. With ``submit: false`` it is kept as a draft, and Meta is not asked."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_NEW]})

    name: Word
    language: Word
    category: Word
    components: Components
    parameter_format: Word = "POSITIONAL"
    waba_id: MetaId | None = Field(default=None, description="May be left out where the organisation has one account.")
    submit: bool = True


class TemplateChange(BaseModel):
    """Another text or category. Without either the draft is submitted as it is."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"components": [dict(one) for one in _COMPONENTS]}]}
    )

    category: Word | None = None
    components: Components | None = None
    submit: bool = True


class SyncRequest(BaseModel):
    """Which account is to be read; all of the organisation where none is named."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"waba_id": "206400000000001"}, {}]})

    waba_id: MetaId | None = None


_SYNC_EXAMPLES: dict[str, Example] = {"one": {"value": {"waba_id": "206400000000001"}}, "all": {"value": {}}}
SyncBody = Annotated[SyncRequest | None, Body(openapi_examples=_SYNC_EXAMPLES)]


class SyncState(BaseModel):
    """How the reading of an account stands. ``error``: why Meta did not give the list; ``rests_until``: then again."""

    waba_id: str
    synced_at: datetime | None
    due_at: datetime | None
    error: str | None
    rests_until: datetime | None

    @classmethod
    def of(cls, account: Account) -> "SyncState":
        return cls(**{name: getattr(account, name) for name in cls.model_fields})


class SyncStates(BaseModel):
    """The accounts that will be read."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [_SYNC]}]})

    items: list[SyncState]


@router.get("/templates", summary="Templates")
async def list_templates(
    person: Viewer,
    deps: DepsOf,
    *,
    status: Annotated[
        Annotated[str, Field(max_length=40)] | None, EmptyIsNone, Query(description="Meta's word in upper case.")
    ] = None,
    waba_id: Annotated[MetaId | None, EmptyIsNone, Query()] = None,
    language: Annotated[Annotated[str, Field(max_length=20)] | None, EmptyIsNone, Query()] = None,
    limit: Limit = 50,
    cursor: Annotated[Annotated[str, Field(max_length=2000)] | None, EmptyIsNone, Query()] = None,
) -> TemplateList:
    """All templates, those that Meta lists no more included."""
    cursors = Cursors(deps.keys.cursors)
    scope = (person.org_id, "templates", status, waba_id, language)
    try:
        after = None if cursor is None else cursors.read(scope, cursor)
    except ValueError as wrong:
        raise invalid(FieldFault("cursor", str(wrong))) from None
    rows = await deps.templates.listed(
        person, status=status, waba_id=waba_id, language=language, after=after, limit=limit + 1
    )
    shown, more = rows[:limit], len(rows) > limit
    last = shown[-1] if more else None
    following = None if last is None else cursors.write(scope, [last.name, last.language, last.waba_id])
    return TemplateList(items=[Template.of(row) for row in shown], next=following)


@router.get("/templates/{template_id}", summary="A template with its history")
async def one_template(template_id: UUID, person: Viewer, deps: DepsOf) -> TemplateWithHistory:
    """The template, whatever its status."""
    row = await deps.templates.one(person, template_id)
    if row is None:
        raise not_found()
    events = [TemplateEvent.of(one) for one in await deps.templates.history(person, template_id)]
    return TemplateWithHistory(**Template.of(row).model_dump(), history=events)


@router.post(
    "/templates",
    status_code=HTTPStatus.CREATED,
    summary="Write a template, and submit it to Meta",
    responses={202: {"model": Template, "description": "Submitted, but Meta's answer was lost: a sync will show it."}},
)
async def create_template(body: NewTemplate, person: TemplateManager, deps: DepsOf, response: Response) -> Template:
    """Meta's limits are checked first: 422 names the field. The draft is kept whatever Meta answers."""
    content = Content(body.name, body.language, body.category, body.parameter_format, body.components)
    outcome = await deps.templates.create(person, Wanted(body.waba_id, content), submit=body.submit)
    return _answered(outcome, response)


@router.post("/templates/sync", status_code=HTTPStatus.ACCEPTED, summary="Read templates from Meta now")
async def sync_templates(person: TemplateManager, deps: DepsOf, body: SyncBody = None) -> SyncStates:
    """The accounts are read within seconds, each at most every ten seconds."""
    wanted = await deps.templates.wish(person, None if body is None else body.waba_id)
    if not wanted:
        raise invalid(FieldFault("waba_id", "the organisation has no number in this account"))
    accounts = await deps.templates.accounts(person)
    return SyncStates(items=[SyncState.of(one) for one in accounts if one.waba_id in wanted])


@router.patch(
    "/templates/{template_id}",
    summary="Write a template anew, and submit it to Meta",
    responses={
        202: {"model": Template, "description": "Submitted, but Meta's answer was lost: a sync will show it."},
        409: _BUSY,
    },
)
async def change_template(
    template_id: UUID, body: TemplateChange, person: TemplateManager, deps: DepsOf, response: Response
) -> Template:
    """Drafts and approved, rejected and paused templates can be changed; the name and the language stay."""
    outcome = await deps.templates.change(
        person, template_id, category=body.category, components=body.components, submit=body.submit
    )
    found = _answered(outcome, response)
    if response.status_code != HTTPStatus.ACCEPTED:
        response.status_code = HTTPStatus.OK
    return found


@router.delete(
    "/templates/{template_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Delete a template",
    responses={409: _BUSY},
)
async def delete_template(template_id: UUID, person: TemplateManager, deps: DepsOf) -> None:
    """At Meta, in this language. The template stays readable with the status `DELETED`; a mere draft is gone."""
    _removed(await deps.templates.delete(person, template_id))


def _answered(outcome: Outcome, response: Response) -> Template:
    if isinstance(outcome, Faulty):
        raise invalid(*map(_field_fault, outcome.faults))
    if not isinstance(outcome, Stored):
        _raise(outcome)
    if outcome.state == "unknown":
        response.status_code = HTTPStatus.ACCEPTED
    return Template.of(outcome.template)


def _removed(removal: Removal) -> None:
    if not isinstance(removal, Deleted):
        _raise(removal)


def _raise(outcome: NotTaken | NotAsked | Busy | Absent) -> NoReturn:
    match outcome:
        case NotTaken(_, code, sentence):
            raise invalid(FieldFault("components", sentence), detail=f"Meta did not take the template ({code})")
        case NotAsked(_, code, account=True):
            detail = f"Meta refuses this WhatsApp account ({code}): people must mend it first. The draft is kept."
            raise Problem(HTTPStatus.BAD_GATEWAY, detail)
        case NotAsked():
            raise away("Meta")
        case Busy():
            detail = "a submission of this template is under way, or its outcome is not known yet"
            raise Problem(HTTPStatus.CONFLICT, detail)
        case Absent():
            raise not_found()
        case _:
            assert_never(outcome)


def _field_fault(fault: Fault) -> FieldFault:
    return FieldFault(fault.field, fault.text())
