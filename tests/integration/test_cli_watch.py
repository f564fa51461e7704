"""``transom watch``: one snapshot where nobody looks at a terminal, else a screen that listens to keys."""

import gzip
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path
from time import monotonic

import pytest

from deploy.cli.log_input import FollowedFile, Lines, open_log, to_the_end
from deploy.panels.line import read_line
from libs.common.clock import unix_now
from tests.support.command import PATIENCE_SECONDS, environment
from tests.support.panel_lines import EVENTS, written
from tests.support.sandbox import ROOT

TRANSOM = (sys.executable, "-m", "deploy.cli")
ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?]*[a-zA-Z]|[=>])")


def decided(org_id: str = "acme", at: float | None = None) -> bytes:
    when = unix_now() if at is None else at
    return written("intent.decided", at=when, org_id=org_id, route="session", reason="window_open", outcome="decided")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    file = tmp_path / "router.log"
    file.write_bytes(b"\n".join([decided(), decided(), decided("bolt"), b"psql: ready", decided()[:50], b""]))
    return file


def watch(*words: str, into: bytes | None = None, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*TRANSOM, "watch", *words],
        cwd=ROOT,
        env=environment() | variables,
        input=into,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_a_snapshot_is_printed_at_the_end_of_files_and_pipes(log: Path) -> None:
    packed = log.with_name("router.log.1.gz")
    packed.write_bytes(gzip.compress(log.read_bytes()))
    ended = watch(str(log), str(packed), "-", into=b"router-1  | " + decided() + b"\n", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, b"")
    out = ended.stdout.decode("ascii")
    assert out.startswith("7 lines of Transom, 2 not ours, 2 torn\nall organisations, ")
    assert re.search(r"session +window_open +7 +7 *\n", out)
    alone = watch("--org", "bolt", into=log.read_bytes()).stdout.decode()
    assert re.search(r"organisation bolt, .*session +window_open +1 +1 *\n", alone, re.DOTALL)
    assert "Dead letters" not in alone


def test_a_snapshot_of_nothing_names_no_time() -> None:
    assert watch(into=b"").stdout.decode().startswith("0 lines of Transom\nall organisations\n\n")


def test_a_reader_who_has_seen_enough_is_no_fault(log: Path) -> None:
    with subprocess.Popen([*TRANSOM, "watch", str(log)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.close()
        assert run.wait(timeout=PATIENCE_SECONDS) == 0


def test_what_cannot_be_read_is_said_in_one_line(log: Path) -> None:
    torn = log.with_name("torn.gz")
    torn.write_bytes(gzip.compress(log.read_bytes() * 100)[:-30])
    for words, said in (
        (["nowhere.log"], "cannot read nowhere.log: No such file or directory"),
        ([str(log.parent)], f"cannot read {log.parent}: Is a directory"),
        ([str(torn)], f"cannot read {torn} to its end: "),
        (["-", "-"], "- stands for standard input: name it once"),
    ):
        ended = watch(*words, into=b"")
        assert (ended.returncode, ended.stdout) == (2, b"")
        assert ended.stderr.decode().startswith(f"transom: {said}")
        assert ended.stderr.count(b"\n") == 1


def test_who_has_seen_enough_closes_the_pipe_and_nothing_is_complained_of(log: Path) -> None:
    log.write_bytes(b"\n".join(decided(f"org-{n}") for n in range(2_000)))
    command = f"{' '.join(TRANSOM)} watch {log} | head -n 1"
    ended = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=environment(), capture_output=True, timeout=PATIENCE_SECONDS, check=True
    )
    assert (ended.stdout, ended.stderr) == (b"2,000 lines of Transom\n", b"")


class Terminal:
    """``transom watch`` in a terminal of its own."""

    def __init__(self, screen: int, process: "subprocess.Popen[bytes]") -> None:
        self._screen, self.process = screen, process
        self._seen = b""

    def press(self, keys: bytes) -> None:
        """Forget what was drawn so far, and press these."""
        self._seen = b""
        os.write(self._screen, keys)

    def until(self, pattern: str) -> str:
        """What is drawn until this stands there."""
        ends = monotonic() + PATIENCE_SECONDS
        while monotonic() < ends:
            text = ESCAPES.sub(b"", self._seen).decode(errors="replace")
            if re.search(pattern, text):
                return text
            if select.select([self._screen], [], [], 1)[0]:
                self._seen += os.read(self._screen, 65536)
        last = ESCAPES.sub(b"", self._seen[-4_000:]).decode(errors="replace")
        raise AssertionError(f"{pattern} is not drawn; exit code {self.process.poll()}, the last of it: {last}")

    def end(self) -> int:
        """Its exit code. What it still draws is read, because a write into a full terminal waits for that."""
        ends = monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and monotonic() < ends:
            if select.select([self._screen], [], [], 0.05)[0]:
                os.read(self._screen, 65536)
        return self.process.wait(0)

    def resize(self, columns: int, rows: int) -> None:
        self._seen = b""
        ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def a_terminal(*words: str, columns: int = 80, rows: int = 24, **variables: str) -> Iterator[Terminal]:
    screen, inside = pty.openpty()
    ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(inside)
    # A worker of pytest-xdist has COLUMNS and LINES, and rich believes them before it asks the terminal.
    own = {name: value for name, value in environment().items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [*TRANSOM, "watch", *words],
        cwd=ROOT,
        env=own | {"TERM": "xterm-256color"} | variables,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    terminal = Terminal(screen, process)
    try:
        yield terminal
        assert terminal.end() == 0
        assert termios.tcgetattr(inside) == before
    finally:
        process.kill()
        process.wait()
        os.close(screen)
        os.close(inside)


def test_the_screen_follows_a_log_that_is_rotated_and_listens_to_keys(log: Path) -> None:
    with a_terminal(str(log), columns=60, rows=14) as terminal:
        assert "\x1b" not in terminal.until(r"window_open +3")
        terminal.until(r"page 1 of 2: space")
        terminal.press(b" ")
        terminal.until(r"Errors")
        terminal.press(b" o")
        terminal.until(r"transom watch +acme[^$]*window_open +2 ")
        terminal.press(b"o")
        terminal.until(r"transom watch +bolt[^$]*window_open +1 ")
        terminal.press(b"a")
        log.rename(log.with_name("router.log.1"))
        log.write_bytes(decided() + b"\n")
        terminal.until(r"all organisations[^$]*window_open +4 ")
        terminal.resize(200, 60)
        terminal.until(r"Spend[^$]*Errors")
        terminal.press(b"q")


@pytest.fixture
def hangups() -> Iterator[None]:
    """SIGHUP as a terminal's programs get it, also where the tests themselves run under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_screen_and_gives_the_terminal_back(log: Path, number: int) -> None:
    with a_terminal(str(log), columns=30, rows=6) as terminal:
        terminal.until(r"transom watch")
        terminal.process.send_signal(number)


def test_a_terminal_that_cannot_draw_gets_the_snapshot(log: Path) -> None:
    with a_terminal(str(log), TERM="dumb") as terminal:
        terminal.until(r"session +window_open +3 +3")


def test_nobody_waits_for_lines_that_a_terminal_would_have_to_type() -> None:
    screen, inside = pty.openpty()
    try:
        ended = subprocess.run(
            [*TRANSOM, "watch"], cwd=ROOT, env=environment(), stdin=inside, capture_output=True, timeout=60, check=False
        )
    finally:
        os.close(screen)
        os.close(inside)
    assert (ended.returncode, ended.stderr.startswith(b"transom: there is no log: name files")) == (2, True)


def polled(source: FollowedFile, lines: Lines) -> list[bytes]:
    """Whole lines that are there now."""
    found: list[bytes] = []
    while more := source.poll():
        found += [line for line in lines.cut(more) if line]
    return found


def test_a_file_is_followed_over_truncation_and_rotation_and_a_torn_end(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    file.write_bytes(b"one\ntw")
    source, lines = FollowedFile(str(file), open_log(str(file))), Lines()
    assert polled(source, lines) == [b"one"]
    with file.open("ab") as more:
        more.write(b"o\nhal")
    assert polled(source, lines) == [b"two"]
    file.write_bytes(b"")
    assert polled(source, lines) == [b"hal"]
    file.write_bytes(b"x\n")
    assert polled(source, lines) == [b"x"]
    file.rename(tmp_path / "x.log.1")
    assert polled(source, lines) == []
    with (tmp_path / "x.log.1").open("ab") as late:
        late.write(b"late\n")
    assert polled(source, lines) == [b"late"]
    file.write_bytes(b"of the next\n")
    assert polled(source, lines) == [b"of the next"]
    source.close()


def test_lines_of_several_logs_come_by_their_time(tmp_path: Path) -> None:
    for name, times in (("a", (1.0, 5.0)), ("b", (2.0, 4.0)), ("c", (3.0,))):
        (tmp_path / name).write_bytes(b"\n".join(decided(at=time) for time in times))
    read = to_the_end([str(tmp_path / name) for name in "abc"], lambda raw: read_line(raw, EVENTS))
    assert [line.at for line in read] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_line_that_is_too_long_is_one_line() -> None:
    lines = Lines()
    cut = [line for piece in (b"one\n", *[b"x" * 300_000] * 9, b"x\ntwo", b"\n") for line in lines.cut(piece)]
    assert [line[:3] for line in cut] == [b"one", b"xxx", b"two"]
    assert lines.end() == b""


def test_a_closed_input_or_output_is_said_in_one_line(log: Path) -> None:
    for end, said in (
        ("<&-", b"there is no log: name files"),
        (f"{log} >&-", b"there is no standard output"),
        (f"{log} >/dev/full", b"cannot write the figures: No space left on device"),
    ):
        ended = subprocess.run(
            ["sh", "-c", f"{' '.join(TRANSOM)} watch {end}"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert (ended.returncode, ended.stderr.startswith(b"transom: " + said)) == (2, True), ended.stderr
        assert ended.stderr.count(b"\n") == 1
