"""One structured line per handled message: static event names, ids, nothing private.

Rule 1: ``event`` is a static dotted name (``intent.decided``); what varies are fields, and the fields are those of ``log_schema.json``.
Rule 2: every line passes ``redact``, also those of libraries, also exceptions; a slip in a caller leaks nothing.
Rule 3: lines of libraries come as event ``library.log``; their access logs are off.
"""

import json
import logging
import sys
from collections.abc import Iterable, MutableMapping
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
    structlog.configure(
        processors=[*_common(service, version), *_renderer(fmt)],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(out),
        cache_logger_on_first_use=stream is None,  # a stream of one's own is a test's, and the next test has another
    )
    root = logging.getLogger()
    root.handlers = [_IntoStructlog()]
    root.setLevel(max(number, logging.INFO))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "faststream", "aiokafka", "asyncpg"):
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = name != "uvicorn.access"
        library.setLevel(max(number, logging.WARNING))


def _common(service: str, version: str) -> Iterable[Processor]:
    def stamp(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["timestamp"] = utc_now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event["level"] = "error" if method in ("exception", "critical") else method
        event["service"] = service
        event["version"] = version
        return event

    return structlog.contextvars.merge_contextvars, _exceptions, redact, stamp


def _renderer(fmt: Format) -> Iterable[Processor]:
    if fmt == "json":
        return (structlog.processors.JSONRenderer(serializer=_dumps),)
    pretty = structlog.dev.ConsoleRenderer(colors=False)

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
        return str(pretty(logger, method, event)).encode(errors="replace")

    return (render,)


def _dumps(event: Any, **_unused: Any) -> bytes:
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
    exc_info = event.pop("exc_info", None)
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
