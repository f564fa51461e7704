"""A small process that outlives its parent only to end the processes that the parent started.

Law 1: a pipe connects the two. The system closes it however the parent ends, and the watchdog reads the end of file.
Law 2: a process is identified by its pid *and* its start time, never by its name, because pids are used again.
Law 3: a process that was started but not registered when the parent died is found by a token in its environment. It
       has none before it is the program that it becomes, so after a kill the search takes all of ``SWEEP_SECONDS``.
Law 4: every process is asked to end first, then killed with its children. ``ASK_SECONDS``, ``KILL_SECONDS`` and
       ``SWEEP_SECONDS`` follow each other, eight seconds in all.
Law 5: the scratch folders of a killed run are removed last. A run that ends in order removes its folders itself.

This file runs as a script of its own, because the watchdog must start at once. So it imports nothing of the project.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

TOKEN = "TRANSOM_WATCHDOG_TOKEN"  # noqa: S105 - the name of a variable, not a secret
ASK_SECONDS = 4.0
KILL_SECONDS = 2.0
SWEEP_SECONDS = 2.0
_STARTED_TOLERANCE = 1.0  # seconds; the boot time that psutil adds may be off by a clock adjustment
_PRIVATE_FILE, _PRIVATE_UMASK = 0o600, 0o077
_POLL = 0.05
_LOOK_AGAIN = 0.5  # a process may have started another before it was killed


@dataclass(frozen=True, slots=True)
class Watched:
    """A process to end. ``started`` is psutil's, in seconds since the epoch; ``stop_signal`` asks it to end."""

    pid: int
    started: float
    stop_signal: int = signal.SIGTERM

    @classmethod
    def of(cls, pid: int, stop_signal: int = signal.SIGTERM) -> Self:
        """The process that has ``pid`` now. Raises psutil.NoSuchProcess when there is none."""
        return cls(pid, psutil.Process(pid).create_time(), stop_signal)

    def process(self) -> psutil.Process | None:
        """The living process, or None when it is gone or its pid belongs to another by now."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= _STARTED_TOLERANCE
        except psutil.NoSuchProcess:
            return None
        return process if same and not _gone(process) else None


def _gone(process: psutil.Process) -> bool:
    """A zombie counts as gone: it holds nothing any more, and not every container has an init that reaps it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def tree(process: psutil.Process) -> list[psutil.Process]:
    """The process and all below it, itself first: a killed parent raises no new children."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return [process]


def send(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)


def end(watched: Iterable[Watched], ask_seconds: float = ASK_SECONDS) -> None:
    """Ask every process to end, wait ``ask_seconds`` for all of them together, then kill them with their children.

    Returns when none is left, or ``KILL_SECONDS`` after the kill. A paused process is continued, or it would not get
    the signal.
    """
    roots = [(process, one.stop_signal) for one in watched if (process := one.process()) is not None]
    members = [member for process, _ in roots for member in tree(process)]
    for process, stop_signal in roots:
        send([process], stop_signal)
    send(members, signal.SIGCONT)
    if ask_seconds > 0:
        _wait_gone([process for process, _ in roots], ask_seconds)
    members += [member for process, _ in roots for member in tree(process) if member not in members]
    left = [member for member in members if not _gone(member)]  # children that their parent did not end are among them
    send(left, signal.SIGKILL)
    _wait_gone(left, KILL_SECONDS)


def _wait_gone(processes: Sequence[psutil.Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not all(map(_gone, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def bearers(token: str) -> list[psutil.Process]:
    """All living processes with ``token`` in their environment, except this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(TOKEN) == token and not _gone(process):
                found.append(process)
    return found


class Watchdog:
    """The parent's end of the pipe. One per run; thread-safe.

    ``close`` (or the parent's death) ends whatever was spawned here and not ended before.
    """

    def __init__(self) -> None:
        self.token = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-P", str(Path(__file__).resolve()), self.token],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the terminal's process group, and this must outlive it
            cwd="/",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def spawn(
        self,
        argv: Sequence[str],
        *,
        output: Path,
        stop_signal: int = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
        base: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process that cannot outlive this run. Its output is appended to the private file ``output``.

        ``env`` is added to ``base``, by default the environment of this process. The process has a session of its own:
        Ctrl-C does not reach it, and the caller decides when it ends.
        """
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _PRIVATE_FILE), "ab") as log:
            process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**(os.environ if base is None else base), **(env or {}), TOKEN: self.token},
                cwd=cwd,
                start_new_session=True,
                umask=_PRIVATE_UMASK,
            )
        with contextlib.suppress(psutil.NoSuchProcess):  # gone already: the spawner finds out from its exit code
            self.watch(Watched.of(process.pid, stop_signal))
        return process

    def watch(self, watched: Watched) -> None:
        """End with this run a process that was started elsewhere."""
        self._write({"watch": asdict(watched)})

    def forget(self, pid: int) -> None:
        self._write({"forget": pid})

    def scratch(self, folder: Path) -> None:
        """Remove the folder if this run is killed. It must have been made for this run alone."""
        self._write({"scratch": str(folder.absolute())})

    def close(self) -> None:
        """End every process that is still watched, then the watchdog; returns when that is done."""
        with self._lock:
            if self._process.stdin is not None and not self._process.stdin.closed:
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.write(b'{"orderly": true}\n')
                    self._process.stdin.close()
        self._process.wait()

    def _write(self, line: Mapping[str, object]) -> None:
        with self._lock:
            if self._process.stdin is None or self._process.stdin.closed:
                raise RuntimeError("the watchdog is closed")
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()


def main(token: str, lines: Iterable[str]) -> None:
    """Run the watchdog: collect the registrations until the pipe closes, then end every process among them."""
    scratch: list[str] = []
    orderly = False
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, Watched] = {}
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):  # the parent died in the middle of a line
            match json.loads(line):
                case {"watch": dict(fields)}:
                    watched[fields["pid"]] = Watched(**fields)
                case {"forget": int(pid)}:
                    watched.pop(pid, None)
                case {"scratch": str(folder)}:
                    scratch.append(folder)
                case {"orderly": True}:
                    orderly = True
    end(watched.values())
    deadline = time.monotonic() + SWEEP_SECONDS
    while ((left := bearers(token)) or not orderly) and (seconds := deadline - time.monotonic()) > 0:
        send(left, signal.SIGKILL)
        if _wait_gone(left, min(seconds, _LOOK_AGAIN)):
            time.sleep(min(seconds, _LOOK_AGAIN))
    for folder in [] if orderly else scratch:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin)
