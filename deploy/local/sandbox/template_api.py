"""Meta's endpoints for templates: list, create, edit, delete, and the review that follows."""

import base64
import binascii
import hmac
import json
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from deploy.local.sandbox.clock import unix_now
from deploy.local.sandbox.faults import Endpoint, apply_fault, outcome, response
from deploy.local.sandbox.meta_errors import bad_template, no_such_object, refusal, unauthorised
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.template_rules import Verdict, fault_of_name, fault_of_parts, review
from deploy.local.sandbox.templates import Template
from deploy.local.sandbox.webhooks import of_template
from deploy.local.sandbox.world import World

PAGE, PAGE_MOST = 25, 1000
TEMPLATES_MOST = 250
THROTTLED = 80008
EDITABLE = ("APPROVED", "REJECTED", "PAUSED")
DAY = 86400
EDITS_A_MONTH = 10
STATUS_FIELD = "message_template_status_update"

Word = Literal[
    "APPROVED", "REJECTED", "PENDING", "PAUSED", "DISABLED", "IN_APPEAL", "FLAGGED", "REINSTATED", "DELETED", "ARCHIVED"
]


class Decision(BaseModel):
    """What Meta decides about a template by itself, from now on. Without ``webhook`` it tells nobody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    waba_id: str
    name: str
    language: str
    event: Word | None = None
    reason: str = "NONE"
    category: str | None = None
    quality: str | None = None
    components: list[dict[str, Any]] | None = None
    webhook: bool = True


class TemplateApi:
    """Lists and changes the templates of an account, and plans their review."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        account, template = r"/{version:v\d+\.0}/{node}/message_templates", r"/{version:v\d+\.0}/{node:\d+}"
        return [
            web.get(account, self._list),
            web.post(account, self._create),
            web.delete(account, self._delete),
            web.post(template, self._edit),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        return await self._answer(request, "list", request.query.get("name", ""), self._page)

    async def _create(self, request: web.Request) -> web.Response:
        body = _read(await request.read())
        return await self._answer(
            request, "create", str(body.get("name")), lambda _, node: self._created(node, body), body
        )

    async def _edit(self, request: web.Request) -> web.Response:
        body = _read(await request.read())
        known = self._world.templates.with_id(request.match_info["node"], unix_now())
        name = "" if known is None else known.name
        return await self._answer(request, "edit", name, lambda _, node: self._edited(node, body), body)

    async def _delete(self, request: web.Request) -> web.Response:
        return await self._answer(request, "delete", request.query.get("name", ""), self._deleted)

    async def _answer(
        self, request: web.Request, endpoint: Endpoint, name: str, act: Any, body: Json | None = None
    ) -> web.Response:
        node, world = request.match_info["node"], self._world
        fault = world.faults.strike("meta", endpoint, node, name)
        mode = None if fault is None else fault.mode

        def process(_late: int | None) -> Answer:
            return self._refused(request, endpoint, node) or act(request, node)

        def refuse(code: int | None, http: int | None) -> Answer:
            return refusal(code or (THROTTLED if mode == "throttle" else 1), http=http)

        calls = world.ledger.template_calls
        answer, alive = await apply_fault(world.faults, fault, request, process, refuse)
        call: Json = {"at": unix_now(), "endpoint": endpoint, "node": node, "name": name, "path": request.raw_path}
        calls.add(call | {"body": body} | outcome(answer, mode, alive=alive))
        return response(answer, alive=alive)

    def _refused(self, request: web.Request, endpoint: Endpoint, node: str) -> Answer | None:
        """Of a token that may not, and of an account that Meta does not know."""
        world = self._world
        if endpoint == "edit":
            template = world.templates.with_id(node, unix_now())
            numbers = None if template is None else world.numbers_of(template.waba_id or "0")
            numbers = [] if template is not None and template.waba_id is None else numbers
        else:
            numbers = world.numbers_of(node)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return unauthorised(104)
        good = [*world.secrets.graph_tokens, *(number.token for number in numbers or [] if number.token)]
        if not any(hmac.compare_digest(token.strip().encode(), one.encode()) for one in good):
            return unauthorised(190)
        return no_such_object(node) if numbers is None else None

    def _page(self, request: web.Request, waba_id: str) -> Answer:
        """One page; ``after`` is an opaque cursor. ``name`` finds every name that contains it."""
        query = request.query
        found = [
            one
            for one in self._world.templates.of_account(waba_id, unix_now())
            if query.get("name", "") in one.name
            and query.get("status", one.status) == one.status
            and query.get("language", one.language) == one.language
        ]
        try:
            limit = min(max(int(query.get("limit", PAGE)), 1), PAGE_MOST)
            start = _position(query["after"]) if query.get("after") else 0
        except ValueError:
            return refusal(100, "Invalid cursor or limit.")
        page, more = found[start : start + limit], len(found) > start + limit
        fields = [name for name in query.get("fields", "").split(",") if name]
        everything = self._world.templates.of_account(waba_id, unix_now())
        counts: Json = {"message_template_count": len(everything), "message_template_limit": TEMPLATES_MOST}
        counted = {"summary": counts} if "message_template_count" in query.get("summary", "") else {}
        paging: Json = {"cursors": {"before": _cursor(start), "after": _cursor(start + limit)}}
        if more:
            paging["next"] = f"{request.url.origin()}{request.path}?after={_cursor(start + limit)}&limit={limit}"
        return Answer(
            200, {"data": [_shown(one, fields) for one in page], **({"paging": paging} if page else {}), **counted}
        )

    def _created(self, waba_id: str, body: Json) -> Answer:
        world, now = self._world, unix_now()
        name, language, category = body.get("name"), body.get("language"), body.get("category")
        form = str(body.get("parameter_format") or "POSITIONAL").upper()
        parts = body.get("components")
        if wrong := fault_of_name(name, language, category) or fault_of_parts(parts, form):
            return wrong
        if any((one.name, one.language) == (name, language) for one in world.templates.of_account(waba_id, now)):
            return bad_template(
                2388024, "Content in this language already exists", f"There is already {language} content for {name}."
            )
        if world.templates.is_reserved(str(name), str(language), now):
            return bad_template(
                2388023, "Message template language is being deleted", "Try again in 4 weeks or use another name."
            )
        made = Template(
            name=str(name), language=str(language), category=str(category), parameter_format=form, waba_id=waba_id
        )
        template = world.templates.put(made.with_parts(list(parts or []), status="PENDING"))
        self._review(template, waba_id)
        return Answer(200, {"id": template.id, "status": "PENDING", "category": template.category}, subject=template.id)

    def _edited(self, number: str, body: Json) -> Answer:
        world, now = self._world, unix_now()
        template = world.templates.with_id(number, now)
        if template is None:
            return no_such_object(number)
        if template.status not in EDITABLE:
            return bad_template(2388025, "Template can't be edited", f"A template that is {template.status} stays.")
        if (wrong := fault_of_parts(body.get("components"), template.parameter_format)) is not None:
            return wrong
        category = body.get("category", template.category)
        edits = [at for at in template.edits if now - at < 30 * DAY]
        if template.status == "APPROVED":
            if category != template.category:
                return bad_template(2388025, "Category can't be changed", "The category of an approved template stays.")
            if len(edits) >= EDITS_A_MONTH or (edits and now - edits[-1] < DAY):
                return bad_template(2593079, "Too many edits", "An approved template changes once a day.")
            edits.append(now)
        changed = template.with_parts(
            body["components"], status="PENDING", category=category, edits=tuple(edits), rejected_reason="NONE"
        )
        self._review(world.templates.put(changed), template.waba_id or "0")
        return Answer(200, {"success": True}, subject=number)

    def _deleted(self, request: web.Request, waba_id: str) -> Answer:
        """By name: every language of it; with ``hsm_id`` that one alone."""
        name, number = request.query.get("name"), request.query.get("hsm_id")
        found = [
            one
            for one in self._world.templates.of_account(waba_id, unix_now())
            if one.name == name and number in (None, one.id)
        ]
        if not found:
            return bad_template(2593002, "Message Template Not Found", "No template of this name and id was found.")
        for one in found:
            self._world.templates.remove(one, unix_now())
            self._tell(one, waba_id, STATUS_FIELD, {"event": "DELETED", "reason": None}, status="DELETED")
        return Answer(200, {"success": True})

    def _review(self, template: Template, waba_id: str) -> None:
        """Plan the reviewer's verdict and its webhook."""
        rules = self._world.behaviour
        if rules.template_review != "auto":
            return
        verdict, after = review(template.category, template.parts), rules.template_review_after
        self._world.templates.decide_later(template, unix_now() + after, verdict)
        self._tell_status(template, waba_id, verdict, after=after)

    def _tell_status(self, template: Template, waba_id: str, verdict: Verdict, *, after: float = 0.0) -> None:
        value: Json = {"event": verdict.status, "reason": verdict.reason}
        if verdict.status in ("PAUSED", "DISABLED"):
            value |= {"reason": "NONE", "other_info": {"title": verdict.reason, "description": "…"}}
        self._tell(template, waba_id, STATUS_FIELD, value, status=verdict.status, after=after)

    def _tell(
        self, template: Template, waba_id: str, field: str, value: Json, *, status: str, after: float = 0.0
    ) -> None:
        numbers = self._world.numbers_of(waba_id) or []
        url = next((one.webhook_url for one in numbers if one.webhook_url), None) or self._world.behaviour.webhook_url
        known = {
            "message_template_id": int(template.id or 0),
            "message_template_name": template.name,
            "message_template_language": template.language,
        }
        hook = of_template(waba_id, url, field, known | value, status=status, at=int(unix_now() + after))
        self._world.webhook_sender.chain([(after, hook)])

    def decide(self, what: Decision) -> Json:
        """Meta decides by itself: a status, a category, a quality, other components. For the control API."""
        world, now = self._world, unix_now()
        found = [
            one
            for one in world.templates.of_account(what.waba_id, now)
            if (one.name, one.language) == (what.name, what.language)
        ]
        if not found:
            raise ValueError("there is no such template")
        template = found[0]
        if what.event == "DELETED":
            world.templates.remove(template, now)
        else:
            if what.components is not None:
                template = template.with_parts(what.components)
            status = {"REINSTATED": "APPROVED", "FLAGGED": template.status, None: template.status}
            template = world.templates.put(
                template.model_copy(
                    update={
                        "status": status.get(what.event, what.event),
                        "rejected_reason": what.reason if what.event == "REJECTED" else "NONE",
                        "category": what.category or template.category,
                        "quality": what.quality or template.quality,
                    }
                )
            )
        if what.webhook:
            self._tell_all(template, what)
        return {"id": template.id, "status": what.event or template.status}

    def _tell_all(self, template: Template, what: Decision) -> None:
        if what.event is not None:
            self._tell_status(template, what.waba_id, Verdict(what.event, what.reason))
        if what.category is not None:
            value = {"new_category": what.category}
            self._tell(template, what.waba_id, "template_category_update", value, status=what.category)
        if what.quality is not None:
            value = {"previous_quality_score": "UNKNOWN", "new_quality_score": what.quality}
            self._tell(template, what.waba_id, "message_template_quality_update", value, status=what.quality)
        if what.components is not None:
            by_type = {str(one.get("type")).upper(): one for one in what.components}
            value = {
                f"message_template_{name}": by_type[kind]["text"]
                for kind, name in (("BODY", "element"), ("HEADER", "title"), ("FOOTER", "footer"))
                if kind in by_type and "text" in by_type[kind]
            }
            self._tell(template, what.waba_id, "message_template_components_update", value, status="components")


def _shown(template: Template, fields: list[str]) -> Json:
    everything: Json = {
        "name": template.name,
        "parameter_format": template.parameter_format.upper(),
        "components": template.parts,
        "language": template.language,
        "status": template.status.upper(),
        "category": template.category.upper(),
        "quality_score": {"score": template.quality, "date": int(unix_now())},
        "rejected_reason": template.rejected_reason,
    }
    wanted = fields or ["name", "parameter_format", "components", "language", "status", "category"]
    return {name: everything[name] for name in wanted if name in everything} | {"id": template.id}


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"page/{position}".encode()).decode()


def _position(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("page/"))
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError(cursor) from None


def _read(raw: bytes) -> Json:
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
