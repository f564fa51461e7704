"""The life cycle of a service: settings, logging, wiring, HTTP until a signal, drain, exit code.

Each ``app.py`` calls ``run_service`` alone. The service's ``run(settings, service)`` opens what it needs with nested
async context managers and awaits ``service.serve(…)`` inside them. After a SIGTERM or SIGINT HTTP stops first, then
``serve`` returns. Then the context managers close in reverse order: that is the drain.

The whole stop takes at most ``TRANSOM_DRAIN_SECONDS`` (``drain``). Each step gets the time that remains. Work that is
not finished then is left, and is delivered again. A step that ignores its limit is cancelled at the end of the budget,
and by a second signal. ``HARD_SECONDS`` later the process exits even if a thread or the event loop hangs, and dumps its
stacks to stderr.

Exit codes:

- 0 after a signal, also where records were left.
- 2 when the configuration is wrong, a server cannot be reached at start, or another process took this one's name. One
  line on stderr says which and how to mend it. A PostgreSQL that stalls is waited for: ``libs/common/db/stalls.py``.
- 1 after an unexpected failure, or when the stop was cut short.
"""

import asyncio
import faulthandler
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from time import monotonic
from typing import Any, TypeVar

import uvicorn
import uvloop
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from libs.common.bounds import Bounds, ConnectionLimiter
from libs.common.drain import CALLS, HTTP, Drain
from libs.common.errors import ConfigurationError
from libs.common.logging import configure, get_logger
from libs.common.settings import ServiceSettings, load
from libs.common.web import Check, ExactPathRouter, Readiness, build_app, metrics_app

log = get_logger()

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)

_BACKLOG = 2048
_DATE_SECONDS = 1.0
HARD_SECONDS = 2.0
_KEEP_ALIVE_SECONDS = 75  # longer than the idle time of usual load balancers, so that these close first


class Service:
    """One running service: its name, its HTTP server, its stop."""

    def __init__(
        self,
        name: str,
        *,
        host: str,
        port: int,
        drain_seconds: float,
        admin: str | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """``admin``: host:port of ``/metrics`` where that is not served with the rest.

        ``bounds``: see ``libs.common.bounds``. ``drain_seconds``: the time limit of the stop.
        """
        self.name = name
        self._host = host
        self._port = port
        self._admin = admin
        self._bounds = bounds or Bounds()
        self.drain = Drain(drain_seconds, monotonic)
        self._stopping = asyncio.Event()
        self._failure: BaseException | None = None
        self.serving = False
        self.on_stop: Callable[[], None] = lambda: None
        """Called when the stop begins, before its budget starts."""
        self.on_overload: Callable[[str], object] = lambda _reason: None
        """Called whenever a request gets 503 because the server is full."""

    def stop(self, failure: BaseException | None = None) -> None:
        """End the service. ``serve`` then raises ``failure``.

        The process then exits with 1, or with 2 for a ConfigurationError.
        """
        self._failure = self._failure or failure
        self.on_stop()
        self.drain.begin()
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    async def stopped(self) -> None:
        await self._stopping.wait()

    @asynccontextmanager
    async def background(self, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Run ``work`` beside the service; cancelled on leaving. If it raises, the service ends with that failure."""
        task = asyncio.create_task(work)

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self.stop(error)

        task.add_done_callback(ended)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=self.drain.left(CALLS))

    async def serve(
        self,
        *,
        checks: Mapping[str, Check],
        routes: Sequence[BaseRoute] = (),
        direct: Mapping[str, ASGIApp] | None = None,
        around: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        """Answer HTTP until the service is to end.

        ``checks`` are the dependencies of readiness, by name. ``direct``: see ``web.ExactPathRouter``.
        ``around`` wraps the application of all routes, the common ones included.

        Raises ConfigurationError when the port is taken, and the failure that ``stop`` was given.
        """
        readiness = Readiness(checks)
        app: ASGIApp = ExactPathRouter(direct or {}, build_app(readiness, routes, with_metrics=self._admin is None))
        if around is not None:
            app = around(app)
        listeners: list[tuple[ASGIApp, socket.socket]] = [
            (app, _listen(self._host, self._port, "TRANSOM_HTTP_HOST and TRANSOM_HTTP_PORT"))
        ]
        if self._admin is not None:
            host, _, port = self._admin.rpartition(":")
            listeners.append((metrics_app(), _listen(host.strip("[]"), int(port), "TRANSOM_ADMIN_PORT")))
        limiters = [
            ConnectionLimiter(self._bounds, on_overload=self.on_overload),
            *(ConnectionLimiter(self._bounds) for _ in listeners[1:]),
        ]
        servers = [
            _Server(_config(app, self.drain.seconds, limiter))
            for (app, _), limiter in zip(listeners, limiters, strict=True)
        ]
        serving = [
            asyncio.create_task(server.serve(sockets=[listener]))
            for server, (_, listener) in zip(servers, listeners, strict=True)
        ]
        for task in serving:
            task.add_done_callback(lambda _done: self.stop())
        self.serving = True
        log.info("service.started", port=listeners[0][1].getsockname()[1])
        await self._stopping.wait()
        readiness.draining = True
        for server in servers:
            server.end()
        await asyncio.gather(*serving)
        if self._failure is not None:
            raise self._failure


def _listen(host: str, port: int, variables: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}): set {variables} to a free address"
        ) from error


def run_service(
    name: str,
    settings: Callable[[], SettingsT],
    run: Callable[[SettingsT, Service], Awaitable[None]],
    *,
    port: int | None = None,
) -> int:
    """Run a service until it ends; returns the exit code. ``port`` wins over TRANSOM_HTTP_PORT."""
    try:
        loaded = load(settings)
        configure(service=name, version=version("transom"), fmt=loaded.log_format, level=loaded.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(name, loaded, run, loaded.http_port if port is None else port))
    except ConfigurationError as error:
        print(f"transom {name}: {error}", file=sys.stderr)  # noqa: T201 -- the one line for the operator
        return 2
    except asyncio.CancelledError:  # a signal while it was still connecting, or a second one
        return 0
    except Exception:  # the last line of a process that is about to end
        log.exception("service.failed")
        return 1
    finally:
        faulthandler.cancel_dump_traceback_later()


async def _run(name: str, settings: SettingsT, run: Callable[[SettingsT, Service], Awaitable[None]], port: int) -> int:
    service = Service(
        name,
        host=settings.http_host,
        port=port,
        drain_seconds=settings.drain_seconds,
        admin=settings.admin_port,
    )
    with _ended_by_signals(service) as end:
        _tune_gc()
        try:
            await run(settings, service)
        except asyncio.CancelledError:
            if not end.late:
                raise
            log.exception("service.cut_short", duration_ms=settings.drain_seconds * 1000)
            return 1
    log.info("service.drained")
    return 0


class _End:
    """Ends the service after a signal, or when it stops by itself.

    ``late``: the stop took longer than its budget, and was cut short.
    """

    def __init__(self, service: Service, me: "asyncio.Task[Any]") -> None:
        self._service, self._me = service, me
        self._loop = asyncio.get_running_loop()
        self.late = False

    def on_signal(self, *_: object) -> None:
        """Handle a signal. It may run between any two bytecodes, also while the event loop hangs."""
        self.limit()
        self._loop.call_soon_threadsafe(self._in_the_loop)

    def limit(self) -> None:
        """Start the budget of the stop, and the hard limit after it."""
        if not self._service.drain.begun:
            self._service.drain.begin()
            faulthandler.dump_traceback_later(self._service.drain.seconds + HARD_SECONDS, exit=True)
            self._loop.call_soon_threadsafe(self._loop.call_later, self._service.drain.seconds, self._cut_short)

    def _in_the_loop(self) -> None:
        if self._service.stopping or not self._service.serving:
            self._me.cancel()  # still connecting, or the second signal
        self._service.stop()

    def _cut_short(self) -> None:
        self.late = True
        self._me.cancel()


@contextmanager
def _ended_by_signals(service: Service) -> Iterator[_End]:
    """Inside the block SIGTERM, SIGINT and SIGHUP stop the service, even where the shell had them ignored.

    Under ``nohup`` SIGHUP stays ignored.
    """
    me = asyncio.current_task()
    assert me is not None  # noqa: S101 -- narrows the type
    end = _End(service, me)
    service.on_stop = end.limit
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, end.on_signal)
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tune_gc() -> None:
    """Collect cycles rarely: imported objects stay, and batches are freed by reference counting.

    Python's defaults cost 10 % of a busy router's time. Nothing is collected before: imports leave a few hundred KB of
    garbage, and looking for it would be a tenth of the start.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def _config(app: ASGIApp, drain_seconds: float, limiter: ConnectionLimiter | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools" if limiter is None else limiter.protocol,  # type: ignore[arg-type] # any factory will do
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(drain_seconds * HTTP)),
    )


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handling: the service decides when to stop.

    Uvicorn wakes up ten times a second to see whether it is to end; here it is told, and wakes up for its clock alone.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Stop serving."""
        self.should_exit = True
        self._ending.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # renews the Date of answers
            with suppress(TimeoutError):
                async with asyncio.timeout(_DATE_SECONDS):
                    await self._ending.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
