"""One structured line per handled message: static event names, ids, nothing private.

Rule 1: ``event`` is a static dotted name (``intent.decided``); what varies are fields, and the fields are those of ``log_schema.json``.
Rule 2: every line passes ``redact``, also those of libraries, also exceptions; a slip in a caller leaks nothing.
Rule 3: lines of libraries come as event ``library.log``; their access logs are off.
Rule 4: a line written in a turn of the event loop leaves the process at the end of that turn, with the others of it; every other line, and
        from a warning upwards each, leaves at once. Whoever is killed loses no more than the turn that was not over.

A line costs every record of every batch, hence the short way from the call to the bytes.
"""

import asyncio
import atexit
import json
import logging
import sys
import threading
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Literal, cast
from uuid import UUID

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, Processor

from libs.common.clock import utc_now
from libs.common.redact import describe, redact, scrub

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error"]

# Their messages speak of brokers, sockets and tasks. Of every other library only the place is logged: nobody knows what it quotes.
_SPEAKING_LIBRARIES = ("aiokafka", "uvicorn", "asyncio", "aiohttp")
_MESSAGE_LIMIT = 300


def get_logger() -> FilteringBoundLogger:
    """Give a module its logger, to be used as ``log.info("intent.decided", intent_id=…)``."""
    return cast(FilteringBoundLogger, structlog.get_logger())


def configure(
    *, service: str, version: str, fmt: Format = "json", level: Level = "info", stream: BinaryIO | None = None
) -> None:
    """Send every line of this process, ours and the libraries', to ``stream`` (standard output unless given)."""
    out = stream or sys.stdout.buffer
    number = logging.getLevelNamesMapping()[level.upper()]
    own = stream is not None  # a stream of one's own is a test's: it reads at once, and the next test has another
    lines = _Lines(out, at_once=own)
    structlog.configure(
        processors=[_exceptions, redact, _stamp(service, version), _renderer(fmt)],
        wrapper_class=_logger_class(number),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=not own,
    )
    if not own:
        atexit.register(lines.leave)
    root = logging.getLogger()
    root.handlers = [_IntoStructlog()]
    root.setLevel(max(number, logging.INFO))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "faststream", "aiokafka", "asyncpg"):
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = name != "uvicorn.access"
        library.setLevel(max(number, logging.WARNING))


def _logger_class(level: int) -> type[FilteringBoundLogger]:
    """What structlog makes; ``info``, which is called per record, goes straight through the processors."""
    usual: Any = structlog.make_filtering_bound_logger(level)
    if level > logging.INFO:
        return cast(type[FilteringBoundLogger], usual)

    class Short(usual):  # type: ignore[misc] # made at run time
        def info(self, event: str, **fields: Any) -> None:
            fields["event"] = event
            for processor in self._processors:
                fields = processor(self._logger, "info", fields)
            self._logger.info(fields)

    return cast(type[FilteringBoundLogger], Short)


class _Lines:
    """Where finished lines go: into ``out``, one write for all that a turn of the event loop has to say."""

    def __init__(self, out: BinaryIO, *, at_once: bool) -> None:
        self._out = out
        self._at_once = at_once
        self._waiting: list[bytes] = []
        self._lock = threading.RLock()
        self._writing = False

    def info(self, line: bytes) -> None:
        """It may wait for the end of this turn."""
        loop = None if self._at_once else asyncio._get_running_loop()  # noqa: SLF001 -- documented, and raises nothing
        waiting = self._waiting
        waiting.append(line)
        if loop is None or loop.is_closed():
            self.leave()
        elif len(waiting) == 1:
            loop.call_soon(self.leave)

    def warning(self, line: bytes) -> None:
        """It leaves now, and what waited before it."""
        self._waiting.append(line)
        self.leave()

    debug = info
    error = critical = warning

    def leave(self) -> None:
        """Write what waits."""
        with self._lock:
            if self._writing:
                return  # the collector came by, and somebody's finaliser has a word to say: it is next
            self._writing = True
            try:
                while self._waiting:
                    waiting, self._waiting = self._waiting, []
                    self._out.write(b"\n".join((*waiting, b"")))
                    self._out.flush()
            finally:
                self._writing = False


def _stamp(service: str, version: str) -> Processor:
    told = 0
    second = ""

    def stamp(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        nonlocal told, second
        now = utc_now()
        if (this := int(now.timestamp())) != told:
            told, second = this, now.strftime("%Y-%m-%dT%H:%M:%S")
        event["timestamp"] = f"{second}.{now.microsecond // 1000:03d}Z"
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
        plain = {name: str(value) if isinstance(value, UUID) else value for name, value in event.items()}
        return str(pretty(logger, method, plain)).encode(errors="replace")

    return render


def _dumps(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(event, default=_named, option=orjson.OPT_NON_STR_KEYS)
    except (
        TypeError
    ):  # a lone surrogate, an enormous number: rare, and no reason to lose the line or the message it tells of
        return json.dumps(event, default=_named, skipkeys=True).encode()


def _named(value: Any) -> str:
    return str(value) if isinstance(value, UUID) else f"<{type(value).__name__}>"


def _exceptions(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """``exc_info`` becomes ``exception``: what, where, and of the words only those that cannot quote a payload."""
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
    """Where the standard library's logging ends: in the same stream, in the same form, redacted."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name, "line": f"{record.module}:{record.lineno}"}
        if record.name.partition(".")[0] in _SPEAKING_LIBRARIES:
            try:
                message = record.getMessage()
            except (TypeError, ValueError):  # the library's own formatting slip
                message = str(record.msg)
            first_line = message.partition("\n")[0]  # asyncio prints a task's exception below the first
            fields["message"] = scrub(first_line)[:_MESSAGE_LIMIT]
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.ERROR)
        get_logger().log(level, "library.log", exc_info=record.exc_info, **fields)
