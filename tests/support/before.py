"""The code of the commit before this one, as a folder: what runs beside ours while a release is rolled out.

``TRANSOM_TEST_BEFORE`` names another commit, for example the one that is in production. Without it the one before HEAD
counts. Until the first release the baseline of the schema is edited in place. A commit with another baseline cannot
share a database with this one: then HEAD itself runs as the code before, and the run says so at its end.
"""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from libs.common.db.schema import MIGRATIONS
from tests.support.sandbox import ROOT

VARIABLE = "TRANSOM_TEST_BEFORE"
BEFORE = "HEAD~1"
HEAD = "HEAD"
NOTE = "code before"
"""Name of the property by which a test's report carries what the run says at its end."""
NO_CLONE = "this folder is no clone of its own: it has no commit before it"


class NothingBeforeError(Exception):
    """There is no earlier code here; the words say why, and what would mend it."""


def commit_before() -> str:
    """Which commit to take."""
    return os.environ.get(VARIABLE) or BEFORE


def take(folder: Path) -> tuple[Path, str | None]:
    """Unpack the code before into ``folder``. Returns its root, and what the run must say at its end.

    Raises NothingBeforeError.
    """
    for commit, note in (
        (commit_before(), None),
        (HEAD, f"{commit_before()} has another baseline of the schema: HEAD itself ran as the code before"),
    ):
        root = folder / commit.replace("/", "_")
        root.mkdir()
        unpack(root, commit)
        if _baseline(root) == _baseline(ROOT):
            return root, note
    raise NothingBeforeError("the baseline of the schema was edited and is not committed: commit it")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    for note in sorted({str(value) for report in reports for name, value in report.user_properties if name == NOTE}):
        terminalreporter.write_line(f"{NOTE}: {note}")


def _baseline(root: Path) -> tuple[str, bytes]:
    """Name and content of the first migration."""
    first = min((root / MIGRATIONS.relative_to(ROOT)).glob("*.sql"))
    return first.name, first.read_bytes()


def unpack(folder: Path, commit: str, clone: Path = ROOT) -> None:
    """Write the tree of ``commit`` into ``folder``. Raises NothingBeforeError."""
    try:
        if Path(_git(clone, "rev-parse", "--show-toplevel")).resolve() != clone.resolve():
            raise NothingBeforeError(NO_CLONE)
        archive = folder / "tree.zip"
        _git(clone, "archive", "--format=zip", f"--output={archive}", f"{commit}^{{commit}}")
    except FileNotFoundError:
        raise NothingBeforeError("git is not installed, which knows the commit before") from None
    except subprocess.CalledProcessError as error:
        raise NothingBeforeError(_why(clone, commit, error.stderr)) from None
    with zipfile.ZipFile(archive) as tree:
        tree.extractall(folder)
    archive.unlink()


def _why(clone: Path, commit: str, words: str) -> str:
    if "not a git repository" in words:
        return NO_CLONE
    if "not a valid object name" not in words:
        return f"git does not name the commit before: {words.splitlines()[0]}"
    if _git(clone, "rev-parse", "--is-shallow-repository") == "true":
        return f"this clone is shallow and does not hold {commit}: git fetch --deepen=1 brings the commit before"
    return f"this clone does not hold {commit}: HEAD is its first commit, or {VARIABLE} names none that is here"


def _git(clone: Path, *words: str) -> str:
    command = ["git", "-C", str(clone), *words]
    plain = os.environ | {"LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, check=True, text=True, env=plain).stdout.strip()
