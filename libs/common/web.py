"""The HTTP side that every service has: liveness, readiness, metrics, problems.

Liveness asks nobody. Readiness asks every dependency the service cannot work without, each within a second, and says which one is
away. Errors are RFC 9457 problems.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common import metrics
from libs.common.errors import TransomError
from libs.common.logging import get_logger

log = get_logger()

Check = Callable[[], Awaitable[object]]  # returns when the dependency answers, raises when it does not

CHECK_SECONDS = 1.0


def problem(
    status: int, title: str, *, detail: str | None = None, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """An RFC 9457 answer; ``members`` are added to it (``type`` names the kind where a caller must tell kinds apart)."""
    body = {"type": "about:blank", "title": title, "status": status} | ({"detail": detail} if detail else {}) | members
    return Response(orjson.dumps(body), status, headers, media_type="application/problem+json")


class Readiness:
    """Asks the dependencies. At most one question to each is under way, so a black hole collects no tasks."""

    def __init__(self, checks: Mapping[str, Check], *, seconds: float = CHECK_SECONDS) -> None:
        self._checks = dict(checks)
        self._seconds = seconds
        self._asking: dict[str, asyncio.Future[object]] = {}
        self._round: asyncio.Task[list[str]] | None = None
        self._away: frozenset[str] = frozenset()
        self.reasons: dict[str, str] = {}
        """Of those that do not answer and say why (``TransomError``): in words, nothing private."""
        self.draining = False

    async def away(self) -> list[str]:
        """Names of the dependencies that did not answer in time, sorted; logged when that changes."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._ask())
        return await asyncio.shield(self._round)  # who asks meanwhile gets the same answer

    async def _ask(self) -> list[str]:
        deaf = {name: task for name, task in self._asking.items() if not task.done()}
        asking = {name: asyncio.ensure_future(check()) for name, check in self._checks.items() if name not in deaf}
        self._asking = deaf | asking
        if self._asking:
            # not wait_for: it would wait for the cancelled task, and a black-holed one may not end
            await asyncio.wait(self._asking.values(), timeout=self._seconds)
        silent = set[str]()
        self.reasons = {}
        for name, task in self._asking.items():
            if not task.done():
                task.cancel()
                silent.add(name)
            elif name in deaf or task.cancelled():
                silent.add(name)
            elif (error := task.exception()) is not None:
                silent.add(name)
                if isinstance(error, TransomError):
                    self.reasons[name] = str(error)
        self._tell(frozenset(silent))
        return sorted(silent)

    def _tell(self, away: frozenset[str]) -> None:
        for name in sorted(away - self._away):
            log.warning("dependency.away", dependency=name)
        for name in sorted(self._away - away):
            log.info("dependency.back", dependency=name)
        self._away = away


def metrics_app() -> Starlette:
    """``/metrics`` alone, for an address of its own."""
    return _starlette([_METRICS])


def build_app(readiness: Readiness, routes: Sequence[BaseRoute] = (), *, with_metrics: bool = True) -> Starlette:
    """The service's own routes, and those that all have; ``/metrics`` unless it is served elsewhere."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        if readiness.draining:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining")
        away = await readiness.away()
        if away:
            told = [readiness.reasons.get(name, f"no answer from {name}") for name in away]
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not ready", detail="; ".join(told), away=away)
        return PlainTextResponse("ready\n")

    own = [Route("/livez", livez), Route("/readyz", readyz), *([_METRICS] if with_metrics else [])]
    return _starlette([*routes, *own])


async def _metrics_page(_request: Request) -> Response:
    return Response(metrics.render(), media_type=metrics.CONTENT_TYPE)


_METRICS = Route("/metrics", _metrics_page)


def _starlette(routes: Sequence[BaseRoute]) -> Starlette:
    return Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_problem,
            ClientDisconnect: _client_gone,
            Exception: _server_problem,
        },
    )


class Direct:
    """ASGI applications at exact paths, asked before the framework: for a path where every microsecond is paid per request.

    One that fails has not begun to answer: the caller gets a problem, as from the framework, and the server the exception, to log it.
    """

    def __init__(self, apps: Mapping[str, ASGIApp], rest: ASGIApp) -> None:
        self._apps = apps
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request to whom it belongs."""
        app = self._apps.get(scope["path"]) if scope["type"] == "http" else None
        if app is None:
            await self._rest(scope, receive, send)
            return
        try:
            await app(scope, receive, send)
        except Exception:
            await _internal_error()(scope, receive, send)
            raise


async def _http_problem(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    headers = error.headers if isinstance(error, HTTPException) else None
    return problem(status, HTTPStatus(status).phrase, headers=headers)


async def _client_gone(_request: Request, _error: Exception) -> Response:
    return problem(HTTPStatus.BAD_REQUEST, "the request ended early")  # nobody reads it


async def _server_problem(_request: Request, _error: Exception) -> Response:
    return _internal_error()


def _internal_error() -> Response:
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")  # the server logs the exception itself
