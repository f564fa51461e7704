"""The metrics that libs/common/metrics.py declares, by every name that Prometheus scrapes, and their labels."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from libs.common import metrics

_OF_A_TARGET = frozenset({"job", "instance", "service", "namespace", "pod"})
"""Labels that Prometheus adds as it scrapes."""
_WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SELECTOR = re.compile(r"(\w+)?\s*\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPED = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"")


@cache
def exposed() -> Mapping[str, frozenset[str]]:
    """Every name in the text that Prometheus reads, with its labels: ``…_total``, ``…_bucket``, ``…_sum``, ``…_count``.

    Of counters also ``…_created``. Names are those of the metrics themselves; labels stand in the module's text alone.
    """
    labels = _labels()
    found: dict[str, frozenset[str]] = {}
    for variable, metric in vars(metrics).items():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            mine = labels[variable]
            match family.type:
                case "counter":
                    found |= {f"{family.name}_total": mine, f"{family.name}_created": mine}
                case "histogram":
                    found |= {f"{family.name}_sum": mine, f"{family.name}_count": mine}
                    found[f"{family.name}_bucket"] = mine | {"le"}
                case _:
                    found[family.name] = mine
    return found


def _labels() -> Mapping[str, frozenset[str]]:
    module = ast.parse(Path(metrics.__file__).read_text())
    return {
        target.id: frozenset(
            word.value
            for argument in statement.value.args
            if isinstance(argument, ast.List)
            for word in argument.elts
            if isinstance(word, ast.Constant) and isinstance(word.value, str)
        )
        for statement in module.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def named_in(expression: str) -> list[str]:
    """The metrics that an expression of PromQL names, known or not."""
    return [word for word in _WORD.findall(_QUOTED.sub('""', expression)) if word.startswith("transom")]


def unknown_in(expression: str) -> list[str]:
    """What an expression of PromQL names and Transom does not expose: metrics, and labels of a metric."""
    bare, named = _QUOTED.sub('""', expression), named_in(expression)
    wrong = [f"metric {word}" for word in named if word not in exposed()]
    every = frozenset().union(*(exposed().get(word, frozenset()) for word in named)) | _OF_A_TARGET
    for selector in _SELECTOR.finditer(expression):
        mine = exposed().get(selector[1] or "", every) | _OF_A_TARGET
        wrong += [f"label {label} of {selector[1]}" for label in _MATCHER.findall(selector[2]) if label not in mine]
    for group in _GROUPED.findall(bare):
        wrong += [f"label {label}" for label in _WORD.findall(group) if label not in every]
    return wrong
