"""Log lines of tests: short where nobody reads them, else as they leave the process, held against the schema."""

import io
import json
import logging as stdlib_logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import structlog

from libs.common import logging

SCHEMA: dict[str, Any] = json.loads((Path(logging.__file__).with_name("log_schema.json")).read_text(encoding="utf-8"))
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def pytest_configure() -> None:
    """Log to standard output, with exceptions as Python prints them.

    structlog's own default draws each exception with the variables of every frame, which takes up to a tenth of a
    second. Tests of outages log hundreds.
    """
    pretty = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], pretty])


def validated(output: str | bytes) -> list[dict[str, Any]]:
    """The lines of a service's output as objects.

    Fails, without quoting it, where a line is not what the schema allows. A line that is no JSON is quoted: it is what
    the process says to the operator as it ends, or a traceback.
    """
    lines = [_parsed(line) for line in output.splitlines() if line.strip()]
    for line in lines:
        for error in _VALIDATOR.iter_errors(line):
            where = "/".join(map(str, error.absolute_path)) or "the line"
            pytest.fail(f"log line {line.get('event')!r}: {where}: {error.validator} {error.message[:200]}")
    return lines


def _parsed(line: str | bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        pytest.fail(f"a line of the log is no JSON: {line[:500]!r}")
    return found


class LogLines:
    """What was logged since the fixture began."""

    def __init__(self) -> None:
        self.stream = io.BytesIO()

    @property
    def raw(self) -> str:
        return self.stream.getvalue().decode()

    def all(self) -> list[dict[str, Any]]:
        return validated(self.raw)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.all() if line["event"] == event]


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """Logging as a service has it, into memory; at the end every line is held against the schema."""
    lines = LogLines()
    root = stdlib_logging.getLogger()
    handlers, level, before = root.handlers, root.level, structlog.get_config()
    logging.configure(service="test", version="0", level="debug", stream=lines.stream)
    yield lines
    root.handlers, root.level = handlers, level
    structlog.configure(**before)
    structlog.contextvars.clear_contextvars()
    lines.all()
