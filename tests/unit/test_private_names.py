"""Private names of a library are used in its adapter module and nowhere else (docs/decisions/0008).

A library may change them in any release. Each adapter module says what it uses, why, and which test notices a change.
"""

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

ROOT = Path(__file__).parents[2]
OURS = {"libs", "services", "deploy", "tests"}
ADAPTERS = {
    "libs/common/bounds.py",  # uvicorn
    "libs/common/db/asyncpg_patches.py",
    "libs/common/kafka/aiokafka_patches.py",
    "libs/common/kafka/faststream_patches.py",
}
NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_field_defaults", "_make"}  # public, whatever they begin with
DOCUMENTED = {"os._exit"}  # in the manual, although it begins with an underscore
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("libs", "services", "deploy")
    for path in (ROOT / folder).rglob("*.py")
)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def touches(source: str) -> Iterator[str]:
    """Private names in the text of a module: on another object, imported, or set from outside."""
    tree = ast.parse(source)
    foreign = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _imported(node, foreign)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not _is_own(node):
            yield f"{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Assign):
            for target in node.targets:
                chain = ast.unparse(target).split(".") if isinstance(target, ast.Attribute) else [""]
                if chain[0] in foreign or len(chain) > 3:
                    yield f"{node.lineno}: {'.'.join(chain)} is set from outside"


def _imported(node: ast.Import | ast.ImportFrom, foreign: set[str]) -> Iterator[str]:
    module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
    for alias in node.names:
        path = [*module.split("."), *alias.name.split(".")] if module else alias.name.split(".")
        if path[0] in OURS:
            continue
        foreign.add(alias.asname or alias.name.split(".")[0])
        if any(map(is_private, path)):
            yield f"{node.lineno}: import of {'.'.join(path)}"


def _is_own(node: ast.Attribute) -> bool:
    of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    return of_self or _is_super(node.value) or node.attr in NAMED_TUPLE or ast.unparse(node) in DOCUMENTED


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def inherited(one: type) -> set[str]:
    """Private names that a class of ours shares with a class of a library from which it is made."""
    parents = [base for base in one.__mro__ if _top(base) not in OURS | {"builtins"} | sys.stdlib_module_names]
    theirs = {name for parent in parents for name in (*vars(parent), *_own_names(parent))}
    return {name for name in _own_names(one) if is_private(name) and name in theirs}


def _top(one: type) -> str:
    return one.__module__.partition(".")[0]


@cache
def _own_names(one: type) -> frozenset[str]:
    """What the text of a class defines, and what it uses of ``self`` and of ``super()``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
    except (OSError, TypeError):  # not written in Python
        return frozenset()
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (_is_super(node.value) or (isinstance(node.value, ast.Name) and node.value.id == "self"))
    }
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return frozenset(used | defined)


@pytest.mark.parametrize("source", [source for source in SOURCES if source not in ADAPTERS])
def test_no_module_touches_a_private_name_of_a_library(source: str) -> None:
    assert list(touches((ROOT / source).read_text())) == []
    if source.endswith("__main__.py"):
        return
    module = importlib.import_module(source.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    assert {one.__name__: names for one in classes if (names := inherited(one))} == {}


BAD = """
from aiokafka import consumer
from aiokafka.record.default_records import _DefaultRecordBatchPy
import faststream._internal.broker
consumer.GroupCoordinator = None
reader._client.close()
self._broker.config.broker_config.builder = None
self._own = row._replace(a=1)
"""


def test_what_touches_one_is_found() -> None:
    assert [touch.partition(":")[0] for touch in touches(BAD)] == ["3", "4", "5", "7", "6"]


def test_what_inherits_one_is_found() -> None:
    class Reader(AIOKafkaConsumer):  # type: ignore[misc] # aiokafka has no types
        def _validate_topics(self, topics: object) -> object:
            self._mine = 1
            return self._client

    assert inherited(Reader) == {"_client", "_validate_topics"}


def test_every_adapter_is_there() -> None:
    assert set(SOURCES) >= ADAPTERS
