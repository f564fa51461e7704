"""Runs what stands in runbooks, as an operator would, on the servers of the run.

Rule 1: ``sql`` runs as the owner of the tables, statement by statement, in a transaction that is rolled back. Outside
        "What to do" it is a read-only one. What proves a state finds a row of ``runbook_rows``.
Rule 2: ``sh`` runs line by line: our command in this process, curl as the request that it makes, grep as a filter.
        kubectl and docker compose are checked by the names that they use (``runbook_checks``); as the first of a
        pipeline they give log lines.
"""

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import asyncpg
import httpx
from click.testing import CliRunner

from deploy.cli.command import main
from libs.common.db.pool import Connection
from tests.support.command import environment, transom
from tests.support.runbook_checks import shell_lines, stages
from tests.support.runbooks import DO, PLACEHOLDERS, PROVES, Block, filled

_COMMENT = re.compile(r"--[^\n]*")
_TRANSACTION = re.compile(r"(begin|commit|rollback)\b.*", re.IGNORECASE)
_NEVER_ENDS = frozenset({"run", "up"})
_FINDS_TROUBLE = frozenset({"doctor"})
"""Commands whose exit code says how bad it is, and that end their process."""
_HOW_BAD = (0, 3, 4)
A_LOG = "\n".join(
    json.dumps({"timestamp": "2026-11-26T20:00:00.000Z", "level": level, "service": service, "version": "1"} | fields)
    for level, service, fields in (
        ("info", "router", {"event": "intent.decided", "org_id": "acme", "route": "session", "reason": "window_open"}),
        ("error", "router", {"event": "consumer.stopped", "topic": "outbound.intents.v1", "partition": 0}),
    )
)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where runbooks are tried: a database with rows, brokers with our topics, a running service."""

    dsn: str
    settings: Mapping[str, str] = field(hash=False)
    """The environment of ``transom``, by full names."""
    url: str


async def run_sql(block: Block, dsn: str) -> list[str]:
    """What went wrong, a line each."""
    wrong: list[str] = []
    db: Connection = await asyncpg.connect(dsn, timeout=10, command_timeout=20)
    try:
        work = db.transaction(readonly=block.section != DO)
        await work.start()
        for statement in statements(filled(block.text)):
            try:
                found = await db.fetch(statement)
            except asyncpg.PostgresError as error:
                wrong.append(f"{block.name}: {type(error).__name__}: {error}")
                break
            if not found and block.section == PROVES:
                wrong.append(f"{block.name}: it finds nothing among the rows of every trouble")
        await work.rollback()
    finally:
        await db.close()
    return wrong


def statements(text: str) -> list[str]:
    """The statements of a block, without those that begin and end a transaction. No string here holds a semicolon."""
    parts = [part.strip() for part in _COMMENT.sub("", text).split(";")]
    return [part for part in parts if part and not _TRANSACTION.fullmatch(part)]


async def run_shell(block: Block, ground: Ground) -> list[str]:
    """What went wrong, a line each. The lines run one after the other, also after one that failed."""
    filled_in = filled(block.text, {**PLACEHOLDERS, "URL": ground.url})
    return [
        f"{block.name}: {line}: {trouble}"
        for line in shell_lines(filled_in)
        if (trouble := await _run_line(line, ground)) is not None
    ]


async def _run_line(line: str, ground: Ground) -> str | None:
    output = ""
    for stage in stages(line):
        match stage:
            case ["transom", *words]:
                ended = await asyncio.to_thread(_transom, words, output, ground)
                if isinstance(ended, Failed):
                    return ended.why
                output = ended
            case ["curl", *words]:
                async with httpx.AsyncClient() as client:
                    answer = await client.get(next(word for word in words if "://" in word))
                if answer.status_code != 200:
                    return f"{answer.status_code}: {answer.text[:200]}"
                output = answer.text
            case ["grep", *words]:
                pattern = words[-1]
                output = "\n".join(one for one in output.splitlines() if re.search(pattern, one))
                if not output:
                    return f"{pattern} is in no line of it"
            case _:
                output = A_LOG
    return None


@dataclass(frozen=True, slots=True)
class Failed:
    why: str


def _transom(words: list[str], given: str, ground: Ground) -> str | Failed:
    """Its output. A command that never ends is not begun; ``runbook_checks`` has parsed its words."""
    if words and words[0] in _NEVER_ENDS:
        return ""
    if words and words[0] in _FINDS_TROUBLE:
        return _looked(tuple(words), ground)
    result = CliRunner().invoke(main, words, input=given, env=dict(ground.settings))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return Failed(f"{type(result.exception).__name__}: {result.exception}")
    if result.exit_code != 0:
        return Failed(f"exit code {result.exit_code}: {result.output[-400:]}")
    print(result.output, file=sys.stdout)  # noqa: T201 -- what a failing test shows
    return result.output


@cache
def _looked(words: tuple[str, ...], ground: Ground) -> str | Failed:
    """What a process of its own finds; the same look of another page finds the same."""
    ended = transom(*words, env=environment() | dict(ground.settings))
    if ended.returncode not in _HOW_BAD:
        return Failed(f"exit code {ended.returncode}: {(ended.stdout + ended.stderr)[-400:]}")
    return ended.stdout
