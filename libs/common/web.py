"""The HTTP endpoints that every service has: liveness, readiness, metrics, problems.

Liveness checks no dependency. Readiness checks every dependency that the service cannot work without, each within a
second, and names those that are away. Errors are RFC 9457 problems.
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
PROBES = frozenset({"/livez", "/readyz", "/metrics"})
"""What operators ask by address: these paths answer on any host."""


def problem(
    status: int, title: str, *, detail: str | None = None, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """An RFC 9457 answer; ``members`` are added to it (``type``, where a client must distinguish kinds)."""
    body = {"type": "about:blank", "title": title, "status": status} | ({"detail": detail} if detail else {}) | members
    return Response(orjson.dumps(body), status, headers, media_type="application/problem+json")


class Readiness:
    """Checks the dependencies. At most one check of each is pending, so a dependency that hangs collects no tasks."""

    def __init__(self, checks: Mapping[str, Check], *, seconds: float = CHECK_SECONDS) -> None:
        self._checks = dict(checks)
        self._seconds = seconds
        self._running: dict[str, asyncio.Future[object]] = {}
        self._round: asyncio.Task[list[str]] | None = None
        self._away: frozenset[str] = frozenset()
        self.reasons: dict[str, str] = {}
        """Why a check failed, by dependency, where it raised a ``TransomError``. Nothing private."""
        self.draining = False

    async def away(self) -> list[str]:
        """Names of the dependencies that did not answer in time, sorted. Changes are logged."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._check_all())
        return await asyncio.shield(self._round)  # concurrent callers share one round

    async def _check_all(self) -> list[str]:
        pending = {name: task for name, task in self._running.items() if not task.done()}
        started = {name: asyncio.ensure_future(check()) for name, check in self._checks.items() if name not in pending}
        self._running = pending | started
        if self._running:
            # not wait_for: it would wait for the cancelled task, which may not end
            await asyncio.wait(self._running.values(), timeout=self._seconds)
        failed = set[str]()
        self.reasons = {}
        for name, task in self._running.items():
            if not task.done():
                task.cancel()
                failed.add(name)
            elif name in pending or task.cancelled():
                failed.add(name)
            elif (error := task.exception()) is not None:
                failed.add(name)
                if isinstance(error, TransomError):
                    self.reasons[name] = str(error)
        self._log_changes(frozenset(failed))
        return sorted(failed)

    def _log_changes(self, away: frozenset[str]) -> None:
        for name in sorted(away - self._away):
            why = {"detail": self.reasons[name]} if name in self.reasons else {}
            log.warning("dependency.away", dependency=name, **why)
        for name in sorted(self._away - away):
            log.info("dependency.back", dependency=name)
        self._away = away


def metrics_app() -> Starlette:
    """The application that serves ``/metrics`` alone, for an address of its own."""
    return _starlette([_METRICS])


def build_app(readiness: Readiness, routes: Sequence[BaseRoute] = (), *, with_metrics: bool = True) -> Starlette:
    """The application of a service: ``routes`` and the common ones, with ``/metrics`` unless it is served elsewhere."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_request: Request) -> Response:
        if readiness.draining:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "draining")
        away = await readiness.away()
        if away:
            reasons = [readiness.reasons.get(name, f"no answer from {name}") for name in away]
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "not ready", detail="; ".join(reasons), away=away)
        return PlainTextResponse("ready\n")

    own = [Route("/livez", livez), Route("/readyz", readyz), *([_METRICS] if with_metrics else [])]
    return _starlette([*own, *routes])


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


class ExactPathRouter:
    """Routes exact paths to ASGI applications before the framework: it saves the framework's time per request.

    An application that fails has not begun its answer. The client gets a problem, as from the framework. The server
    gets the exception and logs it.
    """

    def __init__(self, apps: Mapping[str, ASGIApp], rest: ASGIApp) -> None:
        self._apps = apps
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
    return problem(HTTPStatus.BAD_REQUEST, "the request ended early")  # the client does not read it


async def _server_problem(_request: Request, _error: Exception) -> Response:
    return _internal_error()


def _internal_error() -> Response:
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")  # the server logs the exception itself
