"""Faults on demand: which requests they strike, and how they look on the wire."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Annotated, Literal, assert_never

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from deploy.local.sandbox.schemas import Answer, Json

Mode = Literal["fail", "fail_async", "throttle", "stall", "slow", "drop_answer", "reset", "server_error", "page"]
Endpoint = Literal["send", "list", "fetch", "create", "edit", "delete", "account"]
"""``list`` to ``delete`` of Meta: templates. Their ``number`` is the id of the account or template, ``to`` the name.

``account``: a read of the account at Twilio or Vonage. Meta's reads of a number are ``fetch``.
"""
Provider = Literal["meta", "twilio", "vonage"]


class Fault(BaseModel):
    """One fault; it strikes requests to its provider and endpoint, of its ``number`` (sender) and ``to`` if named.

    - ``fail``: an error answer with ``code``; nothing is sent.
    - ``fail_async``: accepted, then a failed status with ``code``.
    - ``throttle``: the provider's "too many requests" (130429, 20429, status 1, or ``code``); nothing is sent.
    - ``stall``: no answer for ``seconds``, then the connection closes; sent only if ``sent``.
    - ``slow``: sent at once, answered after ``seconds``, or once faults are cleared: webhooks overtake the answer.
    - ``drop_answer``: sent, then the connection closes without an answer.
    - ``reset``: the connection is reset before anything is processed.
    - ``server_error``: the provider's own error, JSON, with ``http_status`` (500); sent only if ``sent``.
    - ``page``: the HTML error page of a proxy, with ``http_status`` (502); sent only if ``sent``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: Provider
    mode: Mode
    endpoint: Endpoint = "send"
    number: str | None = None
    to: str | None = None
    code: int | None = None
    http_status: int | None = None
    seconds: Annotated[float, Field(ge=0)] = 5.0
    sent: bool = False
    calls: Annotated[int, Field(gt=0)] | None = None
    """How many requests it strikes; None: every one until it is cleared."""
    spares: Annotated[int, Field(ge=0)] = 0
    """How many matching requests pass first. With 1 the first page of a list is read, and the second is not."""
    chance: Annotated[float, Field(ge=0, le=1)] = 1.0


class Faults:
    """The faults in force, asked in the order they were set; the first that matches strikes."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._ids = count(1)
        self._set: dict[int, tuple[Fault, int | None]] = {}
        self._spared: Counter[int] = Counter()
        self._slow: set[asyncio.Event] = set()

    def add(self, fault: Fault) -> int:
        """Set a fault; returns the id to clear it by."""
        number = next(self._ids)
        self._set[number] = (fault, fault.calls)
        return number

    def clear(self, number: int | None = None) -> None:
        """Clear that one or all; all slow answers are given now."""
        if number is None:
            self._set.clear()
        else:
            self._set.pop(number, None)
        for answer in self._slow:
            answer.set()

    async def slowly(self, seconds: float) -> None:
        """Return after so long, or once faults are cleared."""
        cleared = asyncio.Event()
        self._slow.add(cleared)
        try:
            async with asyncio.timeout(seconds):
                await cleared.wait()
        except TimeoutError:
            pass
        finally:
            self._slow.discard(cleared)

    def all(self) -> dict[int, tuple[Fault, int | None]]:
        """The faults in force by id, each with the calls it has left."""
        return dict(self._set)

    def strike(self, provider: Provider, endpoint: Endpoint, number: str | None, to: str | None) -> Fault | None:
        """The fault this request meets, if any; uses up one of its calls."""
        for key, (fault, left) in self._set.items():
            if (fault.provider, fault.endpoint) != (provider, endpoint):
                continue
            if not _same(fault.number, number) or not _same(fault.to, to) or self._rng.random() >= fault.chance:
                continue
            if self._spared[key] < fault.spares:
                self._spared[key] += 1
                continue
            if left is not None:
                if left <= 1:
                    del self._set[key]
                else:
                    self._set[key] = (fault, left - 1)
            return fault
        return None


def _same(wanted: str | None, given: str | None) -> bool:
    return wanted is None or (given is not None and wanted.lstrip("+") == given.lstrip("+"))


async def apply_fault(  # noqa: PLR0911  one arm per mode
    faults: Faults,
    fault: Fault | None,
    request: web.Request,
    process: Callable[[int | None], Answer],
    refuse: Callable[[int | None, int | None], Answer],
) -> tuple[Answer, bool]:
    """Answer a request as its fault demands.

    ``process(late_code)`` does the work and returns the true answer; ``refuse(code, http_status)`` builds an error.
    Returns the answer, and whether it may be written: false once the connection was closed.
    """
    if fault is None:
        return process(None), True
    match fault.mode:
        case "fail" | "throttle":
            return refuse(fault.code, fault.http_status), True
        case "fail_async":
            return process(fault.code), True
        case "server_error":
            answer = process(None) if fault.sent else None
            failed = refuse(None, fault.http_status or 500)
            return Answer(failed.status, failed.body, failed.code, answer.subject if answer else None), True
        case "page":
            answer = process(None) if fault.sent else None
            return Answer(fault.http_status or 502, {}, None, answer.subject if answer else None, page=True), True
        case "slow":
            answer = process(None)
            await faults.slowly(fault.seconds)
            return answer, True
        case "stall":
            answer = process(None) if fault.sent else refuse(None, None)
            await asyncio.sleep(fault.seconds)
            return _hang_up(request, answer)
        case "drop_answer":
            return _hang_up(request, process(None))
        case "reset":
            return _hang_up(request, refuse(None, None))
        case _:
            assert_never(fault.mode)


def outcome(answer: Answer, mode: Mode | None, *, alive: bool) -> Json:
    status = answer.status if alive else None
    return {"http_status": status, "code": answer.code, "fault": mode, "subject": answer.subject}


def response(answer: Answer, *, alive: bool) -> web.Response:
    """An answer as it goes over the wire; ``alive`` is false once the connection was closed."""
    if not alive:
        return web.Response(status=500)
    if answer.page:
        return web.Response(
            text=f"<html><h1>{answer.status}</h1></html>", status=answer.status, content_type="text/html"
        )
    return web.json_response(answer.body, status=answer.status)


def _hang_up(request: web.Request, answer: Answer) -> tuple[Answer, bool]:
    if request.transport is not None:
        request.transport.abort()
    return answer, False
