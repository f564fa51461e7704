"""Reads lines of logs, also where something else has written before, after or around them. No I/O, no clock.

A line of ours is a JSON object with an event. What stands before it is left out: the prefixes of Docker Compose, of
``kubectl logs --prefix`` and of container runtimes. Docker's own files, journals and exports wrap a line into an object
of theirs, as a string; it is unwrapped.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

Kind = Literal["ours", "ancient", "foreign", "torn"]
"""``ancient``: of another release: it lacks a field that every line has, or its event is not known here.
``foreign``: not Transom's. ``torn``: the beginning or the end of a JSON object is missing, or it is too long."""

LONGEST = 1024 * 1024
_REQUIRED = ("timestamp", "level", "service", "version")
_WRAPPERS = ("log", "line", "MESSAGE", "message")
_TRIES = 4
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Line:
    """What was read. ``fields`` is empty where it is not ours. ``at``: its time in seconds; None where it has none."""

    kind: Kind
    fields: Mapping[str, Any]
    at: float | None = None


_FOREIGN, _TORN = Line("foreign", {}), Line("torn", {})


def read_line(raw: bytes, events: Collection[str]) -> Line | None:
    """The line in these bytes; None where they are blank. ``events``: those that are known."""
    raw = raw.strip()
    if not raw:
        return None
    if len(raw) > LONGEST:
        return _TORN
    found = _object_in(raw)
    if found is None:
        return _TORN if _looks_torn(raw) else _FOREIGN
    for _ in range(2):  # an export of Docker's files wraps twice
        wrapped = next((found[name] for name in _WRAPPERS if isinstance(found.get(name), str)), None)
        if isinstance(found.get("event"), str) or wrapped is None:
            break
        inner = _object_in(wrapped.encode(errors="replace"))
        if inner is None:
            return _TORN if _looks_torn(wrapped.encode(errors="replace")) else _FOREIGN
        found = inner
    return _judged(found, events)


def _judged(found: Mapping[str, Any], events: Collection[str]) -> Line:
    event = found.get("event")
    texts = [name for name in _REQUIRED if isinstance(found.get(name), str)]
    if not isinstance(event, str) or not ("timestamp" in texts or "service" in texts):
        return _FOREIGN
    at = instant(found.get("timestamp"))
    whole = at is not None and event in events and len(texts) == len(_REQUIRED)
    return Line("ours" if whole else "ancient", found, at)


def instant(text: object) -> float | None:
    """Seconds since 1970 of an ISO 8601 time with a zone; None where it is none, or one before 1970."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
        seconds = -1.0 if at.tzinfo is None else at.timestamp()
    except (ValueError, OverflowError):
        return None
    return None if seconds < 0 else seconds


def _object_in(raw: bytes) -> dict[str, Any] | None:
    """The first JSON object in these bytes."""
    start = -1
    for _ in range(_TRIES):
        start = raw.find(b"{", start + 1)
        if start < 0:
            return None
        if (found := _decoded(raw[start:])) is not None:
            return found
    return None


def _decoded(raw: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        try:
            found, _ = _DECODER.raw_decode(raw.decode(errors="replace"))  # something stands behind it
        except (ValueError, RecursionError):
            return None
    return found if isinstance(found, dict) else None


def _looks_torn(raw: bytes) -> bool:
    """Whether a piece of a line of ours is left: it names a field that every line has."""
    return b'"event"' in raw or b'"timestamp"' in raw or b'"service"' in raw or (b'{"' in raw and b'":' in raw)
