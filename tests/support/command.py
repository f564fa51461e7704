"""The ``transom`` command as an operator runs it: a process with no ``TRANSOM_*`` variables but the given ones."""

import asyncio
import os
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.child_guard import ends_with_us
from tests.support.sandbox import ROOT

PATIENCE_SECONDS = 90.0
COMMAND = (sys.executable, "-m", "deploy.cli")


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without its ``TRANSOM_*``; ``settings`` without their prefix."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("TRANSOM_")}
    return mine | {f"TRANSOM_{name}": value for name, value in settings.items()}


def transom(*words: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(
        [*COMMAND, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


def unread(*words: str, env: Mapping[str, str]) -> tuple[int, str]:
    """Run it into a pipe whose reader has gone; its exit code, and what it says on stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [*COMMAND, *words],
            cwd=ROOT,
            env=env,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    finally:
        os.close(writer)
    return ended.returncode, ended.stderr


@asynccontextmanager
async def running(*command: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Any command from the project's folder; it is killed at the end, or when this process ends."""
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, **options)
    ends_with_us(process.pid)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def command_of(code: Path) -> list[str]:
    """The command of that folder's code, wherever that code has it."""
    project = tomllib.loads((code / "pyproject.toml").read_text())["project"]
    module, name = project["scripts"]["transom"].split(":")
    return [sys.executable, "-c", f"from {module} import {name}; {name}()"]


async def transom_of(code: Path, *words: str, env: Mapping[str, str]) -> None:
    """Run the command of that folder's code to its good end."""
    process = await asyncio.create_subprocess_exec(*command_of(code), *words, cwd=code, env=env)
    assert await process.wait() == 0


def complaint(*words: str, env: Mapping[str, str]) -> str:
    """Run it where it cannot work: exit code 2, and one line on stderr, which is returned."""
    ended = transom(*words, env=env)
    assert ended.returncode == 2, ended
    (line,) = ended.stderr.splitlines()
    return line
