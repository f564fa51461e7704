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
from typing import TypeVar

import aiohttp
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from deploy.local.sandbox import inbound_sms, inbound_whatsapp
from deploy.local.sandbox.faults import Fault
from deploy.local.sandbox.ledger import RecordLog
from deploy.local.sandbox.templates import Number, Template
from deploy.local.sandbox.twilio_rules import RECIPIENTS
from deploy.local.sandbox.webhook_sender import Order
from deploy.local.sandbox.world import World

M = TypeVar("M", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LIMIT = 1000
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
    """Refuse control calls that a web page could have made."""
    if request.path.startswith(PREFIX):
        if not _is_loopback(request.host):
            return web.json_response({"error": "host: a loopback address is wanted"}, status=403)
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in _NO_PAGE:
            return web.json_response({"error": "origin: web pages may not call this"}, status=403)
        # a page may send these types without a preflight; they are refused also without a body, as in a reset
        if request.content_type in _OF_FORMS or (request.body_exists and request.content_type != "application/json"):
            return web.json_response({"error": "content-type: application/json is wanted"}, status=415)
    return await handler(request)


def _is_loopback(authority: str) -> bool:
    """Whether the Host header names this machine by a loopback address or as localhost."""
    host = authority[1:].partition("]")[0] if authority.startswith("[") else authority.partition(":")[0]
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Control:
    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        base = "/_control"
        return [
            web.get(f"{base}/health", self._health),
            web.post(f"{base}/reset", self._reset),
            web.get(f"{base}/config", self._config),
            web.patch(f"{base}/config", self._configure),
            web.post(f"{base}/numbers", self._put_number),
            web.post(f"{base}/templates", self._put_template),
            web.post(f"{base}/customer/writes", self._writes),
            web.post(f"{base}/customer/registered", self._registered),
            web.post(f"{base}/customer/calls", self._calls),
            web.post(f"{base}/customer/texts", self._texts),
            web.post(f"{base}/meta/change", self._raw),
            web.post(f"{base}/meta/verify", self._verify),
            web.get(f"{base}/windows/{{number_id}}/{{who}}", self._window),
            web.get(f"{base}/faults", self._list_faults),
            web.post(f"{base}/faults", self._add_fault),
            web.delete(f"{base}/faults", self._clear_faults),
            web.put(f"{base}/sms/recipients/{{phone}}", self._sms_recipient),
            web.get(f"{base}/calls", self._shelf("calls")),
            web.get(f"{base}/messages", self._shelf("messages")),
            web.get(f"{base}/sms", self._shelf("sms")),
            web.get(f"{base}/webhooks", self._shelf("webhooks")),
            web.get(f"{base}/webhooks/outstanding", self._outstanding),
            web.post(f"{base}/webhooks/hold", self._hold),
            web.post(f"{base}/webhooks/release", self._release),
            web.post(f"{base}/webhooks/retry", self._try_again),
        ]

    async def _health(self, _request: web.Request) -> web.Response:
        ledger = self._world.ledger
        totals = {name: getattr(ledger, name).total for name in ("calls", "messages", "sms", "webhooks")}
        return web.json_response({"ok": True, **totals, **self._world.webhook_sender.outstanding()})

    async def _reset(self, _request: web.Request) -> web.Response:
        await self._world.reset()
        return web.json_response({})

    async def _config(self, _request: web.Request) -> web.Response:
        return web.json_response(self._world.behaviour.model_dump())

    async def _configure(self, request: web.Request) -> web.Response:
        fields = await request.json()
        if not isinstance(fields, dict):
            raise ValueError("an object of settings is wanted")  # noqa: TRY004  becomes a 400
        self._world.behaviour = self._world.behaviour.changed(**fields)
        if "seed" in fields:
            self._world.rng.seed(self._world.behaviour.seed)
        return web.json_response(self._world.behaviour.model_dump())

    async def _put_number(self, request: web.Request) -> web.Response:
        number = await _read(request, Number)
        self._world.numbers[number.phone_number_id] = number
        return web.json_response(number.model_dump(exclude={"token"}))

    async def _put_template(self, request: web.Request) -> web.Response:
        template = await _read(request, Template)
        self._world.templates.put(template)
        return web.json_response(template.model_dump())

    async def _writes(self, request: web.Request) -> web.Response:
        return web.json_response(
            inbound_whatsapp.writes(self._world, await _read(request, inbound_whatsapp.CustomerWrites))
        )

    async def _registered(self, request: web.Request) -> web.Response:
        inbound_whatsapp.registered(self._world, await _read(request, inbound_whatsapp.CustomerRegistered))
        return web.json_response({})

    async def _calls(self, request: web.Request) -> web.Response:
        return web.json_response(
            inbound_whatsapp.calls(self._world, await _read(request, inbound_whatsapp.CustomerCalls))
        )

    async def _texts(self, request: web.Request) -> web.Response:
        return web.json_response(inbound_sms.texts(self._world, await _read(request, inbound_sms.CustomerTexts)))

    async def _raw(self, request: web.Request) -> web.Response:
        return web.json_response(inbound_whatsapp.raw(self._world, await _read(request, inbound_whatsapp.RawChange)))

    async def _verify(self, request: web.Request) -> web.Response:
        """Meta's handshake with the webhook URL: good when it answers 200 and exactly the challenge."""
        given = await request.json() if request.can_read_body else {}
        challenge = str(secrets.randbelow(10**10))
        token = str(given.get("verify_token", self._world.secrets.verify_token))
        params = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": token}
        try:
            status, body = await self._world.webhook_sender.fetch(self._world.behaviour.webhook_url, params)
        except (aiohttp.ClientError, TimeoutError) as trouble:
            return web.json_response({"verified": False, "status": None, "error": type(trouble).__name__})
        verified = (status, hmac.compare_digest(body.encode(), challenge.encode())) == (200, True)
        return web.json_response({"verified": verified, "status": status, "error": None})

    async def _window(self, request: web.Request) -> web.Response:
        world, number_id, who = self._world, request.match_info["number_id"], request.match_info["who"]
        bsuid = who if "." in who else world.customers.bsuid_of(who.lstrip("+"))
        return web.json_response(
            {"user_id": bsuid, "closes_at": world.windows.closes_at(number_id, bsuid, world.behaviour.day_seconds)}
        )

    async def _list_faults(self, _request: web.Request) -> web.Response:
        faults = self._world.faults.all()
        return web.json_response(
            [{"id": key, "left": left, "fault": fault.model_dump()} for key, (fault, left) in faults.items()]
        )

    async def _add_fault(self, request: web.Request) -> web.Response:
        return web.json_response({"id": self._world.faults.add(await _read(request, Fault))})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._world.faults.clear(int(request.query["id"]) if "id" in request.query else None)
        return web.json_response({})

    async def _sms_recipient(self, request: web.Request) -> web.Response:
        state = str((await request.json()).get("state"))
        if state == "fine":
            self._world.sms_recipients.pop(request.match_info["phone"], None)
        elif state in RECIPIENTS or state == "unreachable":
            self._world.sms_recipients[request.match_info["phone"]] = state
        else:
            raise ValueError(f"state: one of fine, unreachable, {', '.join(RECIPIENTS)}")
        return web.json_response({})

    def _shelf(self, name: str) -> Handler:
        """``?after=n&limit=m``: records numbered above n, oldest first."""

        async def show(request: web.Request) -> web.Response:
            log: RecordLog = getattr(self._world.ledger, name)
            after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", LIMIT))
            return web.json_response({"total": log.total, "records": log.after(after, limit)})

        return show

    async def _outstanding(self, _request: web.Request) -> web.Response:
        return web.json_response(self._world.webhook_sender.outstanding())

    async def _hold(self, _request: web.Request) -> web.Response:
        self._world.webhook_sender.hold()
        return web.json_response({})

    async def _try_again(self, _request: web.Request) -> web.Response:
        return web.json_response({"tried": self._world.webhook_sender.try_again()})

    async def _release(self, request: web.Request) -> web.Response:
        how = await _read(request, Release)
        return web.json_response(
            {"released": self._world.webhook_sender.release(how.order, times=how.times, together=how.together)}
        )


async def _read(request: web.Request, model: type[M]) -> M:
    raw = await request.read()
    return model.model_validate_json(raw or b"{}")
