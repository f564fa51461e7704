"""``/templates``: the list, a new template, a template with its form, preview, checks and history.

Rule 1: a form that Meta's limits refuse comes back with all that was typed, and nothing was asked.
Rule 2: the action ``check`` stores nothing: it is how the page's script has examples, preview and checks follow what is
        typed, by the same rules.
Rule 3: who may not manage templates reads them; the pages say why nothing can be changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID

from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from libs.common.pages.languages import zone_of
from services.inbox.clocks import Clock
from services.inbox.composer_views import Prices
from services.inbox.deps import Deps
from services.inbox.estimates import prices_at
from services.inbox.pages.frame import framed
from services.inbox.people import Capability
from services.inbox.problems import not_found
from services.inbox.template_forms import (
    CATEGORIES,
    CHECKS,
    LANGUAGES,
    QUALITIES,
    SOURCES,
    Shown,
    TemplateForm,
    advice_of,
    event_word,
    form_of,
    preview,
    read_form,
    shown_faults,
    state_of,
    title_of,
    urgency_of,
)
from services.inbox.template_limits import BODY, FOOTER, HEADER, LABEL, Fault, faults_of
from services.inbox.template_outcomes import Absent, Busy, Deleted, Faulty, NotAsked, NotTaken, Outcome, Stored, Wanted
from services.inbox.template_queries import Event, TemplateRow
from services.inbox.template_sync_queries import Account
from services.inbox.templates import EDITABLE
from services.inbox.visits import Handler, Visit, language_of, signed_in

MOST_BYTES = 128 * 1024
MOST_FIELDS = 256
"""Of the form: an example for each placeholder."""
MANAGE: Capability = "messages.tier.manage"
_MOST_SHOWN = 2000
_LIMITS = {"header": HEADER, "body": BODY, "footer": FOOTER, "label": LABEL}


@dataclass(frozen=True, slots=True)
class Editor:
    """What the form's page shows.

    ``faults``: of what was typed, where it was refused. ``limits``: all that Meta would refuse now.
    """

    form: TemplateForm
    row: TemplateRow | None
    may_edit: bool
    faults: list[Shown]
    limits: list[Fault]
    history: list[Event]
    refused: str | None = None

    def fault(self, part: str, field: str | None = None) -> Fault | None:
        """The first fault of a field, where the form was refused."""
        return next((one.fault for one in self.faults if (one.part, one.field) == (part, field)), None)

    def bad(self, check: str) -> bool:
        return any(fault.check == check for fault in self.limits)


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module."""

    def post(path: str, handler: Handler) -> Route:
        endpoint = signed_in(deps, handler, needs=MANAGE, most_bytes=MOST_BYTES, most_fields=MOST_FIELDS)
        return Route(path, endpoint, methods=["POST"])

    return [
        Route("/templates", signed_in(deps, _list)),
        Route("/templates/new", signed_in(deps, _new, needs=MANAGE)),
        post("/templates/new", _create),
        post("/templates/sync", _sync),
        Route("/templates/{template_id:uuid}", signed_in(deps, _show)),
        post("/templates/{template_id:uuid}", _change),
        post("/templates/{template_id:uuid}/delete", _delete),
        Route("/templates/sync", signed_in(deps, _to_the_list)),
        Route("/templates/{template_id:uuid}/delete", signed_in(deps, _to_the_template)),
    ]


async def _list(visit: Visit) -> Response:
    asked = {name: visit.request.query_params.get(name, "").strip()[:100] for name in ("q", "status", "language")}
    rows = await visit.deps.templates.listed(visit.person, limit=_MOST_SHOWN)
    shown = sorted(
        (row for row in rows if _matches(row, asked)), key=lambda row: (urgency_of(row.status), row.name, row.language)
    )
    return await framed(
        visit,
        "templates.html",
        "templates",
        rows=shown,
        total=len(rows),
        asked=asked,
        statuses=sorted({row.status for row in rows}, key=urgency_of),
        languages=sorted({row.language for row in rows}),
        **await _words(visit),
    )


def _matches(row: TemplateRow, asked: Mapping[str, str]) -> bool:
    words = f"{row.name} {title_of(row.name)} {row.components}".casefold()
    return (
        asked["q"].casefold() in words
        and asked["status"] in ("", row.status)
        and asked["language"] in ("", row.language)
    )


async def _new(visit: Visit) -> Response:
    return await _editor(visit, TemplateForm(), None)


async def _show(visit: Visit) -> Response:
    row = await _row(visit)
    return await _editor(visit, _form(row), row)


async def _create(visit: Visit) -> Response:
    form = read_form(visit.form, TemplateForm(), is_new=True)
    if visit.form.get("action") == "check":
        return await _editor(visit, form, None)
    wanted = Wanted(form.waba_id or None, form.content)
    outcome = await visit.deps.templates.create(visit.person, wanted, submit=_is_submitted(visit))
    return await _answered(visit, form, None, outcome)


async def _change(visit: Visit) -> Response:
    row = await _row(visit)
    form = read_form(visit.form, _form(row), is_new=False)
    if visit.form.get("action") == "check":
        return await _editor(visit, form, row)
    outcome = await visit.deps.templates.change(
        visit.person,
        row.template_id,
        category=form.category,
        components=form.components,
        submit=_is_submitted(visit),
    )
    return await _answered(visit, form, row, outcome)


async def _delete(visit: Visit) -> Response:
    row = await _row(visit)
    outcome = await visit.deps.templates.delete(visit.person, row.template_id)
    if isinstance(outcome, Deleted | Absent):
        return RedirectResponse("/templates", HTTPStatus.SEE_OTHER)
    return await _refused(visit, _form(row), row, outcome)


async def _to_the_template(visit: Visit) -> Response:
    """Where a form was answered somebody comes back by the address. What is there is the page that has the form."""
    return RedirectResponse(f"/templates/{(await _row(visit)).template_id}", HTTPStatus.SEE_OTHER)


async def _to_the_list(_: Visit) -> Response:
    return RedirectResponse("/templates", HTTPStatus.SEE_OTHER)


async def _sync(visit: Visit) -> Response:
    await visit.deps.templates.wish(visit.person, None)
    return RedirectResponse("/templates", HTTPStatus.SEE_OTHER)


def _is_submitted(visit: Visit) -> bool:
    return visit.form.get("action") == "submit"


async def _answered(visit: Visit, form: TemplateForm, row: TemplateRow | None, outcome: Outcome) -> Response:
    match outcome:
        case Stored(stored, _):
            return RedirectResponse(f"/templates/{stored.template_id}", HTTPStatus.SEE_OTHER)
        case Faulty(faults):
            return await _editor(visit, form, row, faults=list(faults), status=HTTPStatus.UNPROCESSABLE_ENTITY)
        case NotTaken(stored) | NotAsked(stored):
            return await _refused(visit, form, stored, outcome)
        case _:
            return await _refused(visit, form, row, outcome)


async def _refused(
    visit: Visit, form: TemplateForm, row: TemplateRow | None, outcome: NotTaken | NotAsked | Busy | Absent
) -> Response:
    """The form again, with why Meta has it not."""
    _ = language_of(visit.request).words.gettext
    match outcome:
        case NotTaken(_, code, sentence):
            why = _("Meta did not take it (%(code)s): %(sentence)s") % {"code": code, "sentence": sentence}
            status = HTTPStatus.UNPROCESSABLE_ENTITY
        case NotAsked(_, code, account=True):
            why = _(
                "Meta refuses this WhatsApp account (%(code)s). Your text is kept; the account must be mended first."
            )
            why, status = why % {"code": code}, HTTPStatus.BAD_GATEWAY
        case NotAsked():
            why = _("Meta cannot be reached at the moment. Your text is kept: try again soon.")
            status = HTTPStatus.SERVICE_UNAVAILABLE
        case Busy():
            why = _("It is being submitted at the moment. Your text stands below: look again in a minute.")
            status = HTTPStatus.CONFLICT
        case Absent():
            raise not_found()
    return await _editor(visit, form, row, refused=why, status=status)


async def _editor(
    visit: Visit,
    form: TemplateForm,
    row: TemplateRow | None,
    *,
    faults: list[Fault] | None = None,
    refused: str | None = None,
    status: int = HTTPStatus.OK,
) -> Response:
    words = await _words(visit)
    may_edit = visit.person.may(MANAGE) and (row is None or row.status == "DRAFT" or row.status in EDITABLE)
    editor = Editor(
        form=form,
        row=row,
        may_edit=may_edit,
        faults=shown_faults(faults or [], form),
        limits=faults or faults_of(form.content),
        history=[] if row is None else await visit.deps.templates.history(visit.person, row.template_id),
        refused=refused,
    )
    return await framed(
        visit,
        "template.html",
        "templates",
        status=status,
        editor=editor,
        limits=_LIMITS,
        languages=LANGUAGES if form.language in LANGUAGES else (form.language, *LANGUAGES),
        preview=preview,
        prices=await _prices(visit, form, words["accounts"]),
        **words,
    )


async def _prices(visit: Visit, form: TemplateForm, accounts: Sequence[Account]) -> Prices:
    """What a template costs to customers in the country of the account's number."""
    number = next((one.display_number for one in accounts if form.waba_id in ("", one.waba_id)), None)
    if number is None:
        return Prices()
    async with visit.deps.reads.of(visit.person.org_id) as db:
        return await prices_at(db, visit.person.org_id, number, visit.deps.pool.now())


async def _words(visit: Visit) -> dict[str, Any]:
    """What templates of both pages are written with."""
    accounts = await visit.deps.templates.accounts(visit.person)
    zone = zone_of(accounts[0].display_number if accounts else None)
    return {
        "accounts": accounts,
        "clock": Clock(visit.deps.pool.now(), zone, language_of(visit.request)),
        "may_manage": visit.person.may(MANAGE),
        "state_of": state_of,
        "advice_of": advice_of,
        "title_of": title_of,
        "event_word": event_word,
        "categories": CATEGORIES,
        "qualities": QUALITIES,
        "sources": SOURCES,
        "check_words": CHECKS,
    }


async def _row(visit: Visit) -> TemplateRow:
    template_id: UUID = visit.request.path_params["template_id"]
    row = await visit.deps.templates.one(visit.person, template_id)
    if row is None:
        raise not_found()
    return row


def _form(row: TemplateRow) -> TemplateForm:
    """The form of a template: with the draft that Meta does not have, where there is one."""
    identity = TemplateForm(
        waba_id=row.waba_id, name=row.name, language=row.language, parameter_format=row.parameter_format
    )
    written = row.draft or {"category": row.category, "components": row.components}
    return form_of(identity, written["category"], written["components"])
