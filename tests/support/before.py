"""The code of the commit before this one, as a folder: what runs beside ours while a release is rolled out.

``TRANSOM_TEST_BEFORE`` names another commit, for example the one that is in production. Without it the one before HEAD counts.
"""

import os
import subprocess
import zipfile
from pathlib import Path

from tests.support.sandbox import ROOT

VARIABLE = "TRANSOM_TEST_BEFORE"
BEFORE = "HEAD~1"
NO_CLONE = "this folder is no clone of its own: it has no commit before it"


class NothingBeforeError(Exception):
    """There is no earlier code here; the words say why, and what would mend it."""


def commit_before() -> str:
    """Which commit to take."""
    return os.environ.get(VARIABLE) or BEFORE


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
        return f"git does not tell the commit before: {words.splitlines()[0]}"
    if _git(clone, "rev-parse", "--is-shallow-repository") == "true":
        return f"this clone is shallow and does not hold {commit}: git fetch --deepen=1 brings the commit before"
    return f"this clone does not hold {commit}: HEAD is its first commit, or {VARIABLE} names none that is here"


def _git(clone: Path, *words: str) -> str:
    command = ["git", "-C", str(clone), *words]
    plain = os.environ | {"LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, check=True, text=True, env=plain).stdout.strip()
