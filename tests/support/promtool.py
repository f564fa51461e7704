"""promtool, which checks rules of Prometheus: found, or unpacked from Debian's package, once per machine.

Rule 1: what runs is the given program (``TRANSOM_TEST_PROMTOOL``), the PATH's, or that of Debian's ``prometheus``. The
        package is fetched with apt and unpacked, and never installed: it would start a server on the machine.
Rule 2: where there is none, and none can be fetched, its tests are skipped and the end of the run says so loudly.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import apt

PROMTOOL = "TRANSOM_TEST_PROMTOOL"
MISSING = "no promtool"
_UNPACK_SECONDS = 60
_UNPACKED = "usr/bin/promtool"


def folder() -> Path:
    """Where it is unpacked: of each user of the machine a folder of their own."""
    return Path(tempfile.gettempdir()) / f"transom-promtool-{os.geteuid()}"


def find_promtool(environ: Mapping[str, str], unpacked: Path) -> Path | None:
    """The given program, else one of the PATH, else the one that was unpacked before."""
    if given := environ.get(PROMTOOL):
        return Path(given)
    if found := shutil.which("promtool", path=environ.get("PATH")):
        return Path(found)
    ours = unpacked / _UNPACKED
    return ours if ours.exists() and ours.stat().st_uid == os.geteuid() else None


def provide_promtool() -> Path | None:
    """Find it, or unpack Debian's package where apt is there. One process at a time."""
    with apt.alone():
        found = find_promtool(os.environ, folder())
        if found is None and shutil.which("apt-get") and shutil.which("dpkg-deb"):
            _unpack(folder())
            found = find_promtool(os.environ, folder())
    return found


def _unpack(into: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="transom-promtool-") as fetched:
        Path(fetched).chmod(0o755)  # apt fetches as a user of its own
        apt.download("prometheus", Path(fetched))
        for package in Path(fetched).glob("prometheus_*.deb"):
            whole = Path(fetched) / "whole"
            subprocess.run(["dpkg-deb", "--extract", package, whole], timeout=_UNPACK_SECONDS, check=True)
            into.mkdir(mode=0o700, exist_ok=True)
            (into / _UNPACKED).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(whole / _UNPACKED, into / _UNPACKED)


def run_promtool(promtool: Path, *words: str, cwd: Path | None = None) -> str:
    """Run it. Returns nothing where it was content, else all that it said."""
    ended = subprocess.run([promtool, *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Provide it before the first test, outside any test's time limit."""
    wanted = any("promtool" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly and (found := provide_promtool()) is not None:
        os.environ[PROMTOOL] = str(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tried."""
    skipped = [one for one in terminalreporter.stats.get("skipped", []) if MISSING in str(one.longrepr)]
    if skipped:
        terminalreporter.section("TESTS OF THE ALERTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(
            f"{len(skipped)} tests of the alerts need promtool, and there is none: install it"
            f" (Debian: apt install prometheus), or name one with {PROMTOOL}."
        )


@pytest.fixture(scope="session")
def promtool() -> Path:
    found = find_promtool(os.environ, folder())
    if found is None:
        pytest.skip(MISSING)
    return found
