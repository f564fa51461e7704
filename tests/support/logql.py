"""The part of LogQL that our boards use: its grammar, and what it means, over lines in memory.

No Loki runs in the suite. This is our reading of Loki's documentation, and only as good as that. It reads the text of a
query and nothing of the panel that it was made from, so it finds a query that says something else than its panel.

Loki's ``json`` makes labels of the fields of a line: text as it is, numbers as they are written, and none of ``null``.
A label that is missing is the empty text. A line that is no object has no labels.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from deploy.panels.line import instant

_AGGREGATE = re.compile(
    r"(?P<function>sum|max)(?: by \((?P<by>\w+(?:, \w+)*)\) )?"
    r"\((?P<range>count|sum|max)_over_time\((?P<lines>.*) \[(?P<time>\d+s|\$__range)\]\)\)"
)
_COUNT = re.compile(r"count\((?P<inner>.*)\)")
_DIFFERENCE = re.compile(r"(?P<first>count\(.*\)) - \((?P<second>count\(.*\)) or vector\(0\)\)")
_STREAM = re.compile(r"\{\$\{stream:raw\}\}")
_STAGE = re.compile(
    r" (?:\|= `(?P<has>[^`]+)`|\|~ `(?P<finds>[^`]+)`|\| (?P<json>json)|\| unwrap (?P<unwrap>\w+)"
    r"|\| (?P<label>\w+)(?P<operator>=~|!~|!=|=)\"(?P<value>(?:[^\"\\]|\\.)*)\")"
)

Labels = Mapping[str, str]
Values = dict[tuple[str, ...], Decimal]


class LogLine(NamedTuple):
    """A line as Loki has it, with the time that its shipper gave it."""

    at: float
    text: str

    @classmethod
    def of(cls, raw: bytes) -> "LogLine":
        text = raw.decode()
        return cls(instant(json.loads(text)["timestamp"]) or 0.0, text)


@dataclass(frozen=True, slots=True)
class _Aggregate:
    function: str
    by: tuple[str, ...]
    range_function: str
    seconds: float | None
    stages: Sequence[Callable[[str, dict[str, str]], bool]]
    unwrap: str | None


def evaluate(query: str, lines: Iterable[LogLine], now: float, organisation: str = ".*") -> Values:
    """The rows of a query at ``now``, by the words of its labels. Fails where it is not of the grammar."""
    lines = list(lines)
    if found := _DIFFERENCE.fullmatch(query):
        first, second = (evaluate(found[part], lines, now, organisation) for part in ("first", "second"))
        return {(): first[()] - second.get((), Decimal(0))} if first else {}
    if found := _COUNT.fullmatch(query):
        inner = evaluate(found["inner"], lines, now, organisation)
        return {(): Decimal(len(inner))} if inner else {}
    return _rows(_parsed(query, organisation), lines, now)


def _parsed(query: str, organisation: str) -> _Aggregate:
    found = _AGGREGATE.fullmatch(query)
    assert found is not None, f"not of the grammar: {query}"
    stream = _STREAM.match(found["lines"])
    assert stream is not None, f"no stream selector: {query}"
    stages: list[Callable[[str, dict[str, str]], bool]] = []
    unwrap, place = None, stream.end()
    while place < len(found["lines"]):
        stage = _STAGE.match(found["lines"], place)
        assert stage is not None, f"no stage at {found['lines'][place : place + 40]!r}: {query}"
        place = stage.end()
        if stage["unwrap"]:
            unwrap = stage["unwrap"]
        stages.append(_stage(stage, organisation))
    by = tuple((found["by"] or "").split(", ")) if found["by"] else ()
    seconds = None if found["time"] == "$__range" else float(found["time"][:-1])
    return _Aggregate(found["function"], by, found["range"], seconds, stages, unwrap)


def _stage(stage: "re.Match[str]", organisation: str) -> Callable[[str, dict[str, str]], bool]:
    if has := stage["has"]:
        return lambda text, _labels: has in text
    if finds := stage["finds"]:
        return lambda text, _labels: re.search(finds, text) is not None
    if stage["json"]:
        return _extract
    if name := stage["unwrap"]:
        return lambda _text, labels: _unwrappable(name, labels)
    value = stage["value"].replace("\\\\", "\\").replace("$org", organisation)
    name, operator = stage["label"], stage["operator"]

    def matches(_text: str, labels: dict[str, str]) -> bool:
        label = labels.get(name, "")
        same = re.fullmatch(value, label) is not None if "~" in operator else label == value
        return same is not operator.startswith("!")

    return matches


def _extract(text: str, labels: dict[str, str]) -> bool:
    fields = json.loads(text, parse_float=str, parse_int=str)
    labels |= {name: value for name, value in fields.items() if isinstance(value, str)}
    return True


def _unwrappable(name: str, labels: dict[str, str]) -> bool:
    try:
        Decimal(labels.get(name, ""))
    except InvalidOperation:
        if labels.get(name):
            labels["__error__"] = "SampleExtractionErr"
            return True
        return False
    return True


def _rows(query: _Aggregate, lines: Iterable[LogLine], now: float) -> Values:
    samples: defaultdict[tuple[str, ...], list[Decimal]] = defaultdict(list)
    for line in lines:
        if line.at > now or (query.seconds is not None and line.at <= now - query.seconds):
            continue
        labels: dict[str, str] = {}
        if all(stage(line.text, labels) for stage in query.stages):
            assert labels.get("__error__", "") == "", "a query that meets an error answers nothing"
            words = tuple(labels.get(name, "") for name in query.by)
            samples[words].append(Decimal(1) if query.unwrap is None else Decimal(labels[query.unwrap]))
    assert (query.range_function == "max") == (query.function == "max")
    return {words: max(some) if query.function == "max" else sum(some, Decimal(0)) for words, some in samples.items()}
