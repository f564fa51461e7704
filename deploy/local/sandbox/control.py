"""The control API, JSON under ``/_control``: tests, demo and bench play customers and cause faults with it.

Every answer is JSON. A request that is not understood gets 400 with ``{"error": sentence}``.

A web page in a developer's browser can reach the loopback address too. ``guard`` refuses what a page could send:

- a request with an ``Origin``, which every cross-origin POST of a page has;
- a body that is not declared as JSON: a page needs a preflight to declare it, which is refused;
- a Host that is not a loopback address, such as a foreign name that resolves to one.
"""

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

import aiohttp
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.local.sandbox import inbound_sms, inbound_whatsapp
from deploy.local.sandbox.accounts import MetaApp, SmsAccount, SmsNumber
from deploy.local.sandbox.faults import Fault
from deploy.local.sandbox.ledger import RecordLog
from deploy.local.sandbox.oidc import PREFIX as OIDC
from deploy.local.sandbox.oidc import Colleague
from deploy.local.sandbox.schemas import Json
from deploy.local.sandbox.template_api import Decision, TemplateApi
from deploy.local.sandbox.templates import Number, Template
from deploy.local.sandbox.twilio_rules import RECIPIENTS
from deploy.local.sandbox.webhook_sender import Order
from deploy.local.sandbox.world import World

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Call = Callable[[web.Request], object]
LIMIT = 1000
LOGS = ("calls", "messages", "sms", "webhooks", "template_calls")
PREFIX = "/_control/"
_OF_FORMS = {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}
_NO_PAGE = {"none", "same-origin"}  # typed into the address bar, or requested by a page of the same origin


class Release(BaseModel):
    """How held webhooks are released: see ``WebhookSender.release``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: Order = "as_held"
    times: int = 1
    together: bool = False


@web.middleware
async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a faulty control call with 400 and a sentence."""
    try:
        return await handler(request)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        return web.json_response({"error": f"{where}: {first['msg']}" if where else first["msg"]}, status=400)
    except ValueError as wrong:
        if not request.path.startswith(PREFIX):
            raise
        return web.json_response({"error": str(wrong)}, status=400)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse control calls that a web page could have made, and sign-ins under a foreign name."""
    if request.path.startswith(f"{OIDC}/") and not is_loopback(request.host):
        return web.json_response({"error": "host: a loopback address is wanted"}, status=403)
    if request.path.startswith(PREFIX):
        if not is_loopback(request.host):
            return web.json_response({"error": "host: a loopback address is wanted"}, status=403)
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in _NO_PAGE:
            return web.json_response({"error": "origin: web pages may not call this"}, status=403)
        # a page may send these types without a preflight; they are refused also without a body, as in a reset
        if request.content_type in _OF_FORMS or (request.body_exists and request.content_type != "application/json"):
            return web.json_response({"error": "content-type: application/json is wanted"}, status=415)
    return await handler(request)


def is_loopback(authority: str) -> bool:
    """Whether the Host header names this machine by a loopback address or as localhost."""
    host = authority[1:].partition("]")[0] if authority.startswith("[") else authority.partition(":")[0]
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Control:
    """The control API. A handler returns what is answered as JSON; None stands for an empty object."""

    def __init__(self, world: World, templates: TemplateApi) -> None:
        self._world, self._templates = world, templates

    def routes(self) -> list[web.RouteDef]:
        world, webhooks = self._world, self._world.webhook_sender
        calls: tuple[tuple[str, str, Call], ...] = (
            ("GET", "health", self._health),
            ("POST", "reset", lambda _: world.reset()),
            ("GET", "config", lambda _: world.behaviour.model_dump()),
            ("PATCH", "config", self._configure),
            ("POST", "numbers", self._put_number),
            ("POST", "templates", self._put_template),
            ("POST", "templates/decided", self._asked(Decision, lambda _, what: self._templates.decide(what))),
            ("POST", "customer/writes", self._asked(inbound_whatsapp.CustomerWrites, inbound_whatsapp.writes)),
            (
                "POST",
                "customer/registered",
                self._asked(inbound_whatsapp.CustomerRegistered, inbound_whatsapp.registered),
            ),
            ("POST", "customer/calls", self._asked(inbound_whatsapp.CustomerCalls, inbound_whatsapp.calls)),
            ("POST", "staff/writes", self._asked(inbound_whatsapp.StaffWrites, inbound_whatsapp.staff_writes)),
            ("POST", "customer/texts", self._asked(inbound_sms.CustomerTexts, inbound_sms.texts)),
            ("POST", "meta/change", self._asked(inbound_whatsapp.RawChange, inbound_whatsapp.raw)),
            ("POST", "meta/verify", self._verify),
            ("GET", "windows/{number_id}/{who}", self._window),
            ("GET", "faults", self._list_faults),
            ("POST", "faults", self._asked(Fault, lambda world, fault: {"id": world.faults.add(fault)})),
            ("DELETE", "faults", lambda request: world.faults.clear(int(request.query.get("id", 0)) or None)),
            ("PUT", "sms/recipients/{phone}", self._sms_recipient),
            ("PUT", "sms/numbers/{phone}", self._sms_number),
            ("PUT", "sms/account", self._asked(SmsAccount, _sms_account)),
            ("PUT", "meta/app", self._asked(MetaApp, _meta_app)),
            ("GET", "oidc/people", lambda _: {"people": [one.model_dump() for one in world.oidc.people.values()]}),
            ("POST", "oidc/people", self._asked(Colleague, _employ)),
            ("POST", "oidc/tickets", self._ticket),
            ("PUT", "oidc/claims", self._say_claims),
            *(("GET", name, self._log(name)) for name in LOGS),
            ("GET", "webhooks/outstanding", lambda _: webhooks.outstanding()),
            ("POST", "webhooks/hold", lambda _: webhooks.hold()),
            ("POST", "webhooks/release", self._asked(Release, _release)),
            ("POST", "webhooks/retry", lambda _: {"tried": webhooks.try_again()}),
        )
        return [web.route(method, PREFIX + path, _answering(call)) for method, path, call in calls]

    def _asked(self, model: type[M], act: Callable[[World, M], object]) -> Call:
        """A call whose body is a ``model``."""

        async def call(request: web.Request) -> object:
            return act(self._world, await _read(request, model))

        return call

    def _health(self, _request: web.Request) -> Json:
        totals = {name: getattr(self._world.ledger, name).total for name in LOGS}
        return {"ok": True, **totals, **self._world.webhook_sender.outstanding()}

    async def _configure(self, request: web.Request) -> Json:
        fields = await request.json()
        if not isinstance(fields, dict):
            raise ValueError("an object of settings is wanted")  # noqa: TRY004  becomes a 400
        self._world.behaviour = self._world.behaviour.changed(**fields)
        if "seed" in fields:
            self._world.rng.seed(self._world.behaviour.seed)
        return self._world.behaviour.model_dump()

    async def _put_number(self, request: web.Request) -> Json:
        number = await _read(request, Number)
        self._world.numbers[number.phone_number_id] = number
        return number.model_dump(exclude={"token"})

    async def _put_template(self, request: web.Request) -> Json:
        return self._world.templates.put(await _read(request, Template)).model_dump()

    async def _verify(self, request: web.Request) -> Json:
        """Meta's handshake with the webhook URL: good when it answers 200 and exactly the challenge."""
        given = await request.json() if request.can_read_body else {}
        challenge = str(secrets.randbelow(10**10))
        token = str(given.get("verify_token", self._world.secrets.verify_token))
        params = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": token}
        try:
            status, body = await self._world.webhook_sender.fetch(self._world.behaviour.webhook_url, params)
        except (aiohttp.ClientError, TimeoutError) as trouble:
            return {"verified": False, "status": None, "error": type(trouble).__name__}
        verified = (status, hmac.compare_digest(body.encode(), challenge.encode())) == (200, True)
        return {"verified": verified, "status": status, "error": None}

    def _window(self, request: web.Request) -> Json:
        world, number_id, who = self._world, request.match_info["number_id"], request.match_info["who"]
        bsuid = who if "." in who else world.customers.bsuid_of(who.lstrip("+"))
        return {"user_id": bsuid, "closes_at": world.windows.closes_at(number_id, bsuid, world.behaviour.day_seconds)}

    def _list_faults(self, _request: web.Request) -> list[Json]:
        faults = self._world.faults.all()
        return [{"id": key, "left": left, "fault": fault.model_dump()} for key, (fault, left) in faults.items()]

    async def _sms_recipient(self, request: web.Request) -> None:
        state = str((await request.json()).get("state"))
        if state == "fine":
            self._world.sms_recipients.pop(request.match_info["phone"], None)
        elif state in RECIPIENTS or state == "unreachable":
            self._world.sms_recipients[request.match_info["phone"]] = state
        else:
            raise ValueError(f"state: one of fine, unreachable, {', '.join(RECIPIENTS)}")

    async def _sms_number(self, request: web.Request) -> None:
        self._world.sms_numbers[request.match_info["phone"]] = await _read(request, SmsNumber)

    async def _ticket(self, request: web.Request) -> Json:
        return {"ticket": self._world.oidc.ticket(str((await request.json()).get("user_id")))}

    async def _say_claims(self, request: web.Request) -> None:
        self._world.oidc.say(dict(await request.json()))

    def _log(self, name: str) -> Call:
        """``?after=n&limit=m``: records numbered above n, oldest first."""

        def show(request: web.Request) -> Json:
            log: RecordLog = getattr(self._world.ledger, name)
            after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", LIMIT))
            return {"total": log.total, "records": log.after(after, limit)}

        return show


def _employ(world: World, colleague: Colleague) -> None:
    world.oidc.people[colleague.user_id] = colleague


def _meta_app(world: World, app: MetaApp) -> None:
    world.app = app


def _sms_account(world: World, account: SmsAccount) -> None:
    world.sms_account = account


def _release(world: World, how: Release) -> Json:
    return {"released": world.webhook_sender.release(how.order, times=how.times, together=how.together)}


def _answering(call: Call) -> Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        found = call(request)
        if isawaitable(found):
            found = await found
        return web.json_response({} if found is None else found)

    return answer


async def _read(request: web.Request, model: type[M]) -> M:
    raw = await request.read()
    return model.model_validate_json(raw or b"{}")
