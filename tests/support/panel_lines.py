"""Log lines for tests of panels, valid by default."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from deploy.panels.definition import PANELS
from deploy.panels.figures import NONE, Limits, Words
from deploy.panels.logql import queries
from deploy.panels.panel import Panel, Until
from deploy.panels.reading import Reading
from tests.support.logql import LogLine, evaluate
from tests.support.logs import SCHEMA

EVENTS = frozenset(one["const"] for one in SCHEMA["properties"]["event"]["oneOf"])
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()


def written(event: str, *, at: float = NOON, level: str = "info", **fields: Any) -> bytes:
    """A line as a service writes it."""
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    common = {"timestamp": stamp, "level": level, "service": "router", "version": "0.1.0"}
    return orjson.dumps({"event": event, **fields, **common})


def a_reading(*lines: bytes, limits: Limits | None = None, present: float = NOON + 100 * 24 * 3600) -> Reading:
    """What these lines come to, read in this order."""
    reading = Reading(PANELS, EVENTS, lambda: present, limits)
    for line in lines:
        reading.take(line)
    return reading


def rows(reading: Reading, panel: str, *, now: float = NOON, org_id: str | None = None) -> dict[tuple[str, ...], float]:
    """The values of a panel's rows."""
    (shown,) = [one for one in reading.figures.shown(now, org_id) if one.panel.name == panel]
    return {row.words: float(row.value) for row in shown.rows}


def as_loki_says(panel: Panel, raw: Sequence[bytes], now: float, org_id: str | None = None) -> dict[Words, float]:
    """The rows of a panel as its queries of Loki have them, called as ``figures`` calls them."""
    lines = [LogLine.of(one) for one in raw]
    found: dict[Words, float] = {}
    for query, label in zip(queries(panel), _labels(panel), strict=True):
        for words, value in evaluate(query.text, lines, now, ".*" if org_id is None else org_id).items():
            left = iter(words)
            named = tuple(label if name == "label" else next(left) or NONE for name in panel.labels)
            found[named] = found.get(named, 0.0) + float(value)
    return {words: round(value, 6) for words, value in found.items() if value or not isinstance(panel.how, Until)}


def _labels(panel: Panel) -> Sequence[str]:
    """What the rows of each query are called."""
    return panel.how.words if isinstance(panel.how, Until) else [take.label or NONE for take in panel.how.takes]
