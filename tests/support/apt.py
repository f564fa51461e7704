"""Debian's packages for tests, by apt.

Rule 1: one process at a time, whatever it wants: apt refuses a second run and does not wait for the first.
Rule 2: the lists of packages are fetched where a command fails without them. Whoever comes next finds them there.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 600
_PATIENT = ("-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3")


@contextmanager
def alone() -> Iterator[None]:
    """No other process of this user is in such a block. The system releases the lock when the process ends."""
    with (Path(tempfile.gettempdir()) / f"transom-apt-{os.geteuid()}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(package: str) -> bool:
    """Install it, inside ``alone``. Whether it is there."""
    return _with_lists("install", "-y", "--no-install-recommends", package)


def download(package: str, folder: Path) -> bool:
    """Fetch its file into the folder, inside ``alone``; apt may do so as a user of its own."""
    return _with_lists("download", package, cwd=folder)


def _with_lists(*words: str, cwd: Path | None = None) -> bool:
    return _apt(*words, cwd=cwd) or (_apt("update", cwd=cwd) and _apt(*words, cwd=cwd))


def _apt(*words: str, cwd: Path | None) -> bool:
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", *_PATIENT, *words]
    ended = subprocess.run(command, cwd=cwd, env=quiet, capture_output=True, timeout=_SECONDS, check=False)
    return ended.returncode == 0
