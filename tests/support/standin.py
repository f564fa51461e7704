"""Providers that answer as a test says: a Graph API and a Twilio whose every answer is the test's, over real HTTP.

The sandbox plays the providers by their rules. Here a test plays what they do against them: an answer, a silence, a
status of its own making.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aiohttp
import orjson
from aiohttp import web

from deploy.local.servers.ports import LOOPBACK
from libs.common.clock import utc_now
from tests.support.garages import Customer, Garage
from tests.support.sandbox import APP_SECRET, TWILIO_SID
from tests.support.webhooks import a_message, a_value, sign

Answer = tuple[int, Any]
"""HTTP status and JSON value; bytes go as they are, status 0 hangs up without an answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One send that reached a provider."""

    sender: str
    to: str | None
    body: Mapping[str, Any]
    id: str

    @property
    def text(self) -> str | None:
        found = self.body.get("text")
        return found.get("body") if isinstance(found, dict) else self.body.get("Body")


def accepted(call: Call) -> Answer:
    """Graph's answer to a message that it takes."""
    return 200, {"messaging_product": "whatsapp", "messages": [{"id": call.id}]}


def taken(call: Call) -> Answer:
    """Twilio's answer to an SMS that it takes."""
    return 201, {"sid": call.id, "status": "queued", "account_sid": TWILIO_SID, "num_segments": "1", "body": call.text}


def graph_error(status: int, code: int) -> Callable[[Call], Answer]:
    """Graph refuses with this code."""
    return lambda _: (status, {"error": {"message": f"(#{code})", "type": "OAuthException", "code": code}})


def twilio_error(status: int, code: int) -> Callable[[Call], Answer]:
    """Twilio refuses with this code."""
    return lambda _: (status, {"code": code, "message": "refused", "status": status})


@dataclass
class StandIn:
    """Both providers on one address; ``graph`` and ``twilio`` answer sends, ``listed`` is Twilio's list.

    An async context manager.
    """

    graph: Callable[[Call], Answer] = accepted
    twilio: Callable[[Call], Answer] = taken
    listed: list[dict[str, Any]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    url: str = ""
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{version}/{number}/messages", self._graph)
        app.router.add_post("/2010-04-01/Accounts/{sid}/Messages.json", self._twilio)
        app.router.add_get("/2010-04-01/Accounts/{sid}/Messages.json", self._list)
        self._runner = web.AppRunner(app, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, LOOPBACK, 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def reset(self) -> None:
        """Every provider takes everything again, and has taken nothing yet."""
        self.graph, self.twilio = accepted, taken
        self.listed.clear()
        self.calls.clear()

    def to(self, *addresses: str) -> list[Call]:
        """What was asked to be sent to one of these, in order."""
        return [call for call in self.calls if call.to in addresses]

    async def receives(self, is_it: Callable[[Call], bool], *, times: int = 1, seconds: float = 40.0) -> Call:
        """The ``times``-th such call, once it was made."""
        try:
            async with asyncio.timeout(seconds):
                while len(found := [call for call in self.calls if is_it(call)]) < times:  # noqa: ASYNC110 -- other processes call
                    await asyncio.sleep(0.02)
        except TimeoutError:
            last = [(call.sender, call.to, call.body) for call in self.calls[-5:]]
            raise AssertionError(f"no such call (time {times}); the last ones: {last}") from None
        return found[times - 1]

    async def _graph(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        call = Call(request.match_info["number"], body.get("to") or body.get("recipient"), body, f"wamid.{uuid4().hex}")
        self.calls.append(call)
        return await _answer(request, self.graph(call))

    async def _twilio(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        call = Call(form["From"], form["To"], form, f"SM{uuid4().hex}")
        self.calls.append(call)
        return await _answer(request, self.twilio(call))

    async def _list(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"messages": self.listed, "next_page_uri": None})


async def _answer(request: web.Request, answer: Answer) -> web.StreamResponse:
    status, body = answer
    if status == 0:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    if isinstance(body, bytes):
        return web.Response(status=status, body=body, content_type="text/html")
    return web.json_response(body, status=status)


@dataclass(frozen=True, slots=True)
class Meta:
    """Meta's webhooks as a test writes them, signed, for one garage."""

    garage: Garage

    async def post(self, value: dict[str, Any], *, field: str = "messages", waba: str | None = None) -> None:
        """One change with this value."""
        change = {"field": field, "value": value}
        entry = {"id": waba or self.garage.waba_id, "changes": [change]}
        await self.post_whole({"object": "whatsapp_business_account", "entry": [entry]})

    async def post_whole(self, webhook: Any) -> None:
        """A whole webhook."""
        body = orjson.dumps(webhook)
        headers = {"X-Hub-Signature-256": sign(body, APP_SECRET.encode()), "Content-Type": "application/json"}
        await posted(f"{self.garage.system.env['TRANSOM_PUBLIC_URL']}/webhooks/meta", body, headers)

    async def value(self, *, field: str = "messages", **parts: Any) -> None:
        """A change of this garage's number with these parts."""
        await self.post(a_value(number=self.garage.phone_number_id, **parts), field=field)

    async def writes(
        self,
        text: str | None = "Is my car ready?",
        *,
        sender: Mapping[str, Any],
        at: datetime | None = None,
        contacts: Any = None,
    ) -> Mapping[str, Any]:
        """A message; ``sender`` are further fields of it. Returns the inbound event that was published of it."""
        message = a_message(at or utc_now(), text, **sender)
        if text is not None:
            self.garage.system.private.add(text)
        await self.value(messages=[message], **({} if contacts is None else {"contacts": contacts}))
        return (await self.garage.system.published.one("inbound.messages.v1", provider_id=message["id"])).event

    async def status(
        self, wamid: str, status: str, *, code: int | None = None, at: datetime | None = None, **more: Any
    ) -> None:
        """A status of a message of ours."""
        contacts = more.pop("contacts", None)
        message = {"id": wamid, "status": status, "timestamp": str(int((at or utc_now()).timestamp()))} | more
        if code is not None:
            message["errors"] = [{"code": code, "title": "Something went wrong"}]
        await self.value(statuses=[message], **({} if contacts is None else {"contacts": contacts}))


async def posted(url: str, data: Any, headers: Mapping[str, str]) -> None:
    """Post until it is accepted, as providers do: a slow machine's Kafka may acknowledge too late, which is a 503."""
    async with aiohttp.ClientSession() as http:
        while True:
            async with http.post(url, data=data, headers=headers) as answer:
                if answer.status != 503:
                    assert answer.status == 200, await answer.text()
                    return
            await asyncio.sleep(0.5)


def answered(garage: Garage, message: Mapping[str, Any], phone: str) -> Customer:
    """The customer behind a published inbound message, to be written to."""
    return Customer(garage, phone, str(message["conversation_id"]))
