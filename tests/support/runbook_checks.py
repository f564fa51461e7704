"""What is wrong with a runbook, as far as its text shows: its shape, and every name that it writes.

Rule 1: a word in backticks is an alert, a metric, a setting, a log event, a field of a log line, a command, a file, or
        a word that stands in the sources. Anything else does not exist.
Rule 2: on a line about panels a title in quotes is one of a board.
Rule 3: a line of a log is one that a call in the sources may write: its level, and its fields.
Rule 4: each problem names page and line.
"""

import ast
import json
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import click
import jsonschema
import yaml

from deploy.cli.command import main
from deploy.panels.definition import PANELS
from tests.support.metric_names import exposed, unknown_in
from tests.support.runbooks import FOLDER, LANGUAGES, ROOT, SECTIONS, Block, Page, filled, unknown_placeholders

RULES = ROOT / "deploy" / "alerts" / "transom.rules.yaml"
PROBES = ("/livez", "/readyz", "/metrics")
FILTERS = frozenset({"grep"})
"""What the output of a command may be piped into, beside our own commands."""
_CODE = re.compile(r"`([^`]+)`")
_SETTING = re.compile(r"\bTRANSOM_[A-Z0-9_]+\b")
_ALERT = re.compile(r"\bTransom[A-Z]\w+\b")
_ASSIGNED = re.compile(r"([a-z_]+)=(\S+)")
_PANELS, _TITLE = re.compile(r"\bpanels?\b", re.IGNORECASE), re.compile(r"\"([^\"]+)\"")
_LINK = re.compile(r"\]\(([^)#]+)")
_LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@cache
def log_schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "libs/common/log_schema.json").read_text())
    return found


@cache
def events() -> frozenset[str]:
    return frozenset(one["const"] for one in log_schema()["properties"]["event"]["oneOf"])


@cache
def written() -> Mapping[str, list[tuple[str | None, frozenset[str | None]]]]:
    """The calls that write each event: level and names of fields. None: any, for the call does not show them."""
    found: dict[str, list[tuple[str | None, frozenset[str | None]]]] = defaultdict(list)
    sources = (file.read_text() for top in ("libs", "services") for file in (ROOT / top).rglob("*.py"))
    for source in (source for source in sources if "log." in source or "_log(" in source):
        for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
            match call:
                case ast.Call(func=ast.Attribute(attr=name), args=[ast.Constant(value=str(event)), *_]) if (
                    name in _LEVELS
                ):
                    found[event].append((_LEVELS[name], frozenset(field.arg for field in call.keywords)))
                case ast.Call(args=[ast.Constant(value=str(event)), *_]) if event in events():
                    found[event].append((None, frozenset({None})))
    return found


@cache
def settings() -> frozenset[str]:
    return frozenset(_SETTING.findall((ROOT / "deploy/env.example").read_text()))


@cache
def alerts() -> Mapping[str, Mapping[str, Any]]:
    """The rules by their name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@cache
def panels() -> frozenset[str]:
    """The titles of the boards' panels."""
    return frozenset(panel.title for panel in PANELS)


@cache
def words() -> frozenset[str]:
    """Every word of the sources that services and commands are made of."""
    files = [
        file
        for top in ("libs", "services", "deploy")
        for ending in ("py", "sql", "json", "yaml")
        for file in (ROOT / top).rglob(f"*.{ending}")
    ]
    return frozenset(word for file in files for word in _WORD.findall(file.read_text()))


@cache
def files() -> frozenset[str]:
    tops = ("libs", "services", "deploy", "docs", "examples", "tests")
    return frozenset(str(file.relative_to(ROOT)) for top in tops for file in (ROOT / top).rglob("*.*"))


def problems(page: Page) -> list[str]:
    """Everything that is wrong with the page, a line each."""
    return [*_shape(page), *_names(page), *(line for block in page.blocks for line in block_problems(block))]


def _shape(page: Page) -> Iterator[str]:
    if not page.title:
        yield f"{page.name}:1: it has no title"
    if page.sections != SECTIONS:
        yield f"{page.name}:1: its sections are {list(page.sections)} and not {list(SECTIONS)}"
    heads = [line for line in page.prose.values() if line.startswith(("**Alert**: ", "**When**: "))]
    if len(heads) != 1:
        yield f"{page.name}:1: one line begins with **Alert**: or **When**:, not {len(heads)}"
    if not any(block.section == SECTIONS[1] for block in page.blocks):
        yield f"{page.name}:1: nothing proves the state"
    for name in page.alerts:
        if (rule := alerts().get(name)) is None:
            yield f"{page.name}:1: there is no alert {name}"
        elif rule["annotations"].get("runbook") != f"docs/runbooks/{page.name}":
            yield f"{page.name}:1: {name} leads to {rule['annotations'].get('runbook')}"


def _names(page: Page) -> Iterator[str]:
    for number, line in page.prose.items():
        if _PANELS.search(line):
            unknown = [title for title in _TITLE.findall(line) if title not in panels()]
            yield from (f"{page.name}:{number}: no panel {title}" for title in unknown)
        for link in _LINK.findall(line):
            if "://" not in link and not (FOLDER / link).exists():
                yield f"{page.name}:{number}: no file {link}"
    own = frozenset(word for block in page.blocks for word in _WORD.findall(block.text))
    for number, line in page.prose.items():
        for code in _CODE.findall(line):
            for wrong in unknown_code(code, own):
                yield f"{page.name}:{number}: {wrong}"


def unknown_code(code: str, own: frozenset[str] = frozenset()) -> list[str]:
    """What a piece of inline code names that does not exist. ``own``: what the page's own blocks name, as a column."""
    if unknown := unknown_placeholders(code):
        return [f"no placeholder ${name}" for name in unknown]
    if code.startswith("transom "):
        return [] if (trouble := command_problem(shlex.split(filled(code))[1:])) is None else [trouble]
    if "transom_" in code and (wrong := unknown_in(code)):
        return wrong
    wrong = [f"no setting {name}" for name in _SETTING.findall(code) if name not in settings()]
    wrong += [f"no alert {name}" for name in _ALERT.findall(code) if name not in alerts()]
    return wrong or ([] if code in {*events(), *exposed(), *settings(), *PROBES} else _unknown_words(code, own))


def _unknown_words(code: str, own: frozenset[str]) -> list[str]:
    """A file, ``field=value`` of a log line, or words of the sources."""
    if "/" in code or code.endswith((".py", ".md", ".yaml", ".sql")):
        return [] if any(f"/{file}".endswith(f"/{code}") for file in files()) else [f"no file {code}"]
    if assigned := _ASSIGNED.findall(code):
        return [f"no field {name}" for name, _ in assigned if name not in log_schema()["properties"]]
    return [f"nothing is called {word}" for word in _WORD.findall(filled(code)) if word not in words() | own]


def block_problems(block: Block) -> list[str]:
    """What is wrong with a fenced block before it runs."""
    wrong = [f"no placeholder ${name}" for name in unknown_placeholders(block.text)]
    if block.language not in LANGUAGES:
        wrong.append(f"a block is {', '.join(sorted(LANGUAGES))}, not {block.language or 'without a language'}")
    match block.language:
        case "promql":
            wrong += unknown_in(block.text)
        case "json":
            wrong += [trouble for line in block.text.splitlines() for trouble in log_line_problems(line)]
        case "sh":
            wrong += [trouble for line in shell_lines(block.text) for trouble in shell_problems(line)]
    return [f"{block.name}: {one}" for one in wrong]


def log_line_problems(line: str) -> list[str]:
    """A line of a log, or some of its fields: event, fields and values are those of the schema."""
    try:
        fields = json.loads(filled(line))
    except json.JSONDecodeError as error:
        return [f"no JSON: {error}"]
    partial = {name: value for name, value in log_schema().items() if name != "required"}
    found = jsonschema.Draft202012Validator(partial).iter_errors(fields)
    wrong = [f"{'.'.join(map(str, error.path)) or 'log line'}: {error.message[:120]}" for error in found]
    if (calls := written().get(fields.pop("event", ""))) and not wrong:
        level, own = fields.pop("level", None), fields.keys() - {"service"}
        if not any(level in (None, at) or at is None for at, _names in calls):
            wrong.append(f"no call writes it as {level}")
        elif not any(own <= names or None in names for _at, names in calls):
            wrong.append(f"no call writes it with {', '.join(sorted(own))}")
    return wrong


def shell_lines(text: str) -> list[str]:
    """The commands of a block. A backslash continues a line; what begins with # is a comment."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def stages(line: str) -> list[list[str]]:
    """The words of each command of a pipeline, with placeholders filled."""
    lexer = shlex.shlex(filled(line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if word == "|":
            found.append([])
        else:
            found[-1].append(word)
    return found


def shell_problems(line: str) -> list[str]:
    wrong: list[str] = []
    for number, stage in enumerate(stages(line)):
        match stage:
            case ["transom", *rest]:
                trouble = command_problem(rest)
            case ["curl", *rest]:
                trouble = curl_problem(rest)
            case ["kubectl", *rest]:
                trouble = kubectl_problem(rest)
            case ["docker", "compose", *rest]:
                trouble = compose_problem(rest)
            case [filter_, *_] if number and filter_ in FILTERS:
                trouble = None
            case _:
                trouble = f"{' '.join(stage)!r} is no transom, curl, kubectl or docker compose"
        wrong += [] if trouble is None else [trouble]
    return wrong


def command_problem(arguments: list[str]) -> str | None:
    """Why the ``transom`` command would not take these words, or None. Nothing is run."""
    command: click.Command = main
    info = "transom"
    rest = list(arguments)
    try:
        while isinstance(command, click.Group):
            if not rest or (inner := command.get_command(click.Context(command), rest[0])) is None:
                return f"no command {info} {rest[0] if rest else ''}".rstrip()
            command, info, rest = inner, f"{info} {rest[0]}", rest[1:]
        if rest:  # a command alone is named and not called
            command.make_context(info, rest)
    except click.exceptions.Exit:
        return None
    except click.ClickException as error:
        return f"{info}: {error.format_message()}"
    return None


def curl_problem(arguments: list[str]) -> str | None:
    """``curl [-s] URL`` of a probe, or of the metrics."""
    addresses = [word for word in arguments if "://" in word]
    options = [word for word in arguments if word not in addresses]
    if len(addresses) != 1 or [one for one in options if one not in ("-s", "-sS", "-f", "-fsS")]:
        return "curl takes -s and one address here"
    path = "/" + addresses[0].split("://", 1)[1].partition("/")[2]
    return None if path in PROBES else f"no address {path}: {', '.join(PROBES)}"


@cache
def workloads() -> frozenset[str]:
    """What stands in deploy/k8s, as kubectl names it: deployment/router."""
    found = [
        one
        for file in sorted((ROOT / "deploy/k8s").rglob("*.yaml"))
        for one in yaml.safe_load_all(file.read_text())
        if isinstance(one, dict) and "kind" in one and "name" in one.get("metadata", {})
    ]
    return frozenset(f"{one['kind'].lower()}/{one['metadata']['name']}" for one in found)


@cache
def compose_services() -> frozenset[str]:
    file = ROOT / "deploy/compose.yaml"
    return frozenset(yaml.safe_load(file.read_text())["services"]) if file.exists() else frozenset()


def kubectl_problem(arguments: list[str]) -> str | None:
    """It cannot run here. Every ``kind/name`` that it names must stand in deploy/k8s."""
    named = [word for word in arguments if re.fullmatch(r"[a-z]+/[a-z0-9-]+", word)]
    if not named:
        return "kubectl names what it works on as kind/name here"
    unknown = [word for word in named if word not in workloads()]
    return f"deploy/k8s has no {', '.join(unknown)}" if unknown else None


def compose_problem(arguments: list[str]) -> str | None:
    """It cannot run here. Every service that it names must stand in the Compose file."""
    if arguments[:2] != ["-f", "deploy/compose.yaml"]:
        return "docker compose finds its file by -f deploy/compose.yaml"
    after = [word for word in arguments[2:] if not word.startswith("-")]
    if not after or after[0] not in ("logs", "restart", "stop", "start", "up", "ps"):
        return f"docker compose {' '.join(after[:1])} is none of logs, ps, restart, start, stop, up"
    unknown = [word for word in after[1:] if word not in compose_services()]
    return f"deploy/compose.yaml has no service {', '.join(unknown)}" if unknown else None
