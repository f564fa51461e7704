"""Structured logging: one line per handled message, with static event names and ids, nothing private.

Rule 1: ``event`` is a static dotted name (``intent.decided``); all that varies is in fields, which are those of
        ``log_schema.json``.
Rule 2: every line passes ``redact``, also those of libraries and exceptions. So a mistake of a caller leaks nothing.
Rule 3: lines of libraries have the event ``library.log``; their access logs are off.
Rule 4: lines of level info and below that are logged in one turn of the event loop are written together when the turn
        ends. All other lines are written at once. A killed process loses at most the lines of its last turn.

Every record of every batch costs a line, so the path from the call to the bytes is short. Only public names of
structlog are used.
"""

import asyncio
import atexit
import json
import logging
import sys
import threading
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal, cast
from uuid import UUID

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from libs.common.clock import unix_now
from libs.common.redact import describe, redact, scrub

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error"]

# Their messages name brokers, sockets and tasks. Of other libraries only the place is logged, because a message may
# quote a payload.
_SPEAKING_LIBRARIES = ("aiokafka", "uvicorn", "asyncio", "aiohttp")
_MESSAGE_LIMIT = 300


def get_logger() -> FilteringBoundLogger:
    """Give a module its logger, to be used as ``log.info("intent.decided", intent_id=…)``."""
    return cast(FilteringBoundLogger, _Logger())


class _Logger:
    """Passes on to structlog. ``info`` is called per record and skips structlog's own call chain."""

    __slots__ = ("_usual",)

    def __init__(self) -> None:
        self._usual: Any = structlog.get_logger()

    def info(self, event: str, **fields: Any) -> None:
        if _direct is None:
            self._usual.info(event, **fields)
        else:
            _direct(event, fields)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usual, name)


_direct: Callable[[str, dict[str, Any]], None] | None = None
"""Writes a line of level info, once logging is configured."""


def configure(
    *, service: str, version: str, fmt: Format = "json", level: Level = "info", stream: BinaryIO | None = None
) -> None:
    """Send every line of this process, ours and the libraries', to ``stream`` (standard output unless given)."""
    out = stream or sys.stdout.buffer
    number = logging.getLevelNamesMapping()[level.upper()]
    own = stream is not None  # only tests give a stream: they read at once, and the next test gives another stream
    lines = _Lines(out, at_once=own)
    steps = [_exceptions, redact, _stamp(service, version), _renderer(fmt)]
    global _direct  # noqa: PLW0603 -- a process has one log
    _direct = _info(lines, steps, shown=number <= logging.INFO)
    structlog.configure(
        processors=steps,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=not own,
    )
    if not own:
        atexit.register(lines.flush)
    root = logging.getLogger()
    root.handlers = [_IntoStructlog()]
    root.setLevel(max(number, logging.INFO))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "faststream", "aiokafka", "asyncpg"):
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = name != "uvicorn.access"
        library.setLevel(max(number, logging.WARNING))
    logging.getLogger("uvicorn.error").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """An answer that cannot be ended is broken off, which closes its connection. Who does so logs the reason."""
    return record.msg != "ASGI callable returned without completing response."


def _info(lines: "_Lines", steps: Sequence[Processor], *, shown: bool) -> Callable[[str, dict[str, Any]], None]:
    exceptions, mask, stamp, render = steps
    write = lines.info

    def info(event: str, fields: Any) -> None:
        if not shown:
            return
        fields["event"] = event
        if "exc_info" in fields:
            exceptions(lines, "info", fields)
        mask(lines, "info", fields)
        stamp(lines, "info", fields)
        write(render(lines, "info", fields))  # type: ignore[arg-type]  # a renderer makes bytes

    return info


class _Lines:
    """Writes finished lines to ``out``: one write for all lines of a turn of the event loop."""

    def __init__(self, out: BinaryIO, *, at_once: bool) -> None:
        self._out = out
        self._at_once = at_once
        self._waiting: list[bytes] = []
        self._lock = threading.RLock()
        self._writing = False

    def info(self, line: bytes) -> None:
        """Write the line when this turn of the event loop ends."""
        waiting = self._waiting
        waiting.append(line)
        if self._at_once:
            self.flush()
        elif len(waiting) == 1:  # else a flush is due already
            loop = _running_loop()
            if loop is None or loop.is_closed():
                self.flush()
            else:
                loop.call_soon(self.flush)

    def warning(self, line: bytes) -> None:
        """Write the line now, behind the waiting ones."""
        self._waiting.append(line)
        self.flush()

    debug = info
    error = critical = warning

    def flush(self) -> None:
        with self._lock:
            if self._writing:
                return  # a finaliser logged during this write (garbage collection); the loop below takes its line
            self._writing = True
            try:
                while self._waiting:
                    waiting, self._waiting = self._waiting, []
                    self._out.write(b"\n".join((*waiting, b"")))
                    self._out.flush()
            finally:
                self._writing = False


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _stamp(service: str, version: str) -> Processor:
    last = 0
    time = ""

    def stamp(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        nonlocal last, time
        if (this := int(unix_now() * 1000)) != last:
            second, ms = divmod(this, 1000)
            last, time = this, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
        event["timestamp"] = time
        event["level"] = "error" if method in ("exception", "critical") else method
        event["service"] = service
        event["version"] = version
        return event

    return stamp


def _renderer(fmt: Format) -> Processor:
    if fmt == "json":
        return _dumps
    pretty = structlog.dev.ConsoleRenderer(colors=False)

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
        plain = {name: _named(value) if isinstance(value, UUID | datetime) else value for name, value in event.items()}
        if isinstance(errors := plain.get("exception"), list):
            plain["exception"] = "\n".join(orjson.dumps(error).decode() for error in errors)
        return str(pretty(logger, method, plain)).encode(errors="replace")

    return render


def _dumps(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=_named, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # a lone surrogate or a number beyond 64 bits: rare; the line is kept
        return json.dumps(event, default=_named, skipkeys=True).encode()


def _named(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else f"<{type(value).__name__}>"


def _exceptions(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace ``exc_info`` by ``exception``: type, place, and a message where it cannot quote a payload."""
    if "exc_info" not in event:
        return event
    exc_info = event.pop("exc_info")
    if exc_info is True:
        error = sys.exc_info()[1]
    elif isinstance(exc_info, tuple):
        error = exc_info[1]
    else:
        error = exc_info
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event


class _IntoStructlog(logging.Handler):
    """Sends records of the standard library's logging to the same stream, in the same form, redacted."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name, "line": f"{record.module}:{record.lineno}"}
        if record.name.partition(".")[0] in _SPEAKING_LIBRARIES:
            try:
                message = record.getMessage()
            except (TypeError, ValueError):  # a formatting bug of the library
                message = str(record.msg)
            first_line = message.partition("\n")[0]  # asyncio prints a task's exception below the first
            fields["message"] = scrub(first_line)[:_MESSAGE_LIMIT]
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.ERROR)
        get_logger().log(level, "library.log", exc_info=record.exc_info, **fields)
