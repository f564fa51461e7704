"""Reads logs from files and from a pipe: to their end, or on and on as they grow.

A file that is followed may be rotated (another file has its name) or truncated: then it is read from the start of what
has its name now. A last line without an end counts when it is whole, or when its file is over. Compressed files (gzip)
are read once.
"""

import gzip
import heapq
import os
import select
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO, Protocol

from deploy.panels.line import LONGEST, Line
from libs.common.errors import ConfigurationError

STDIN = "-"
_CHUNK = 256 * 1024
_GZIP = b"\x1f\x8b"


class Source(Protocol):
    """Where lines come from. ``over``: nothing comes any more."""

    over: bool

    def poll(self) -> bytes:
        """More bytes; none where there are none yet."""

    def close(self) -> None:
        """Read no more."""


class Lines:
    """Cuts bytes into lines. Of a line that is too long the beginning is passed on, as soon as that is known."""

    def __init__(self) -> None:
        self._rest = b""
        self._left_out = False  # until the next line begins

    def cut(self, more: bytes) -> list[bytes]:
        """The lines that are whole now."""
        if self._left_out:
            _, ended, more = more.partition(b"\n")
            if not ended:
                return []
            self._left_out = False
        *whole, self._rest = (self._rest + more).split(b"\n")
        if len(self._rest) > LONGEST:
            whole.append(self.end())
            self._left_out = True
        return whole

    def end(self) -> bytes:
        """What is left of a last line."""
        rest, self._rest = self._rest, b""
        return rest


def open_log(name: str) -> IO[bytes]:
    """A log to be read. Raises ConfigurationError where that is not possible."""
    if name == STDIN:
        return sys.stdin.buffer
    try:
        file = Path(name).open("rb")  # noqa: SIM115 -- read while the command runs
        head = b"" if not file.seekable() else file.read(len(_GZIP))
    except OSError as error:
        raise ConfigurationError(f"cannot read {name}: {error.strerror}") from error
    if not file.seekable():
        return file
    file.seek(0)
    return gzip.open(file, "rb") if head == _GZIP else file  # type: ignore[return-value]  # reads bytes as well


def to_the_end(names: Sequence[str], read: Callable[[bytes], Line | None]) -> Iterator[Line]:
    """Every line of these logs, by the time of the lines as far as each log is in order.

    Raises ConfigurationError before the first line where one of them cannot be read.
    """
    logs = [(name, open_log(name)) for name in names]
    return (line for _, line in heapq.merge(*(_timed(name, log, read) for name, log in logs), key=lambda one: one[0]))


def _timed(name: str, log: IO[bytes], read: Callable[[bytes], Line | None]) -> Iterator[tuple[float, Line]]:
    """The lines with their times; a line without one has that of the line before it."""
    at = 0.0
    for raw in _lines_of(name, log):
        if (line := read(raw)) is not None:
            at = at if line.at is None else line.at
            yield at, line


def _lines_of(name: str, log: IO[bytes]) -> Iterator[bytes]:
    lines = Lines()
    with log:
        while more := _piece(name, log):
            yield from lines.cut(more)
    yield lines.end()


def _piece(name: str, log: IO[bytes]) -> bytes:
    try:
        return log.read1(_CHUNK) if isinstance(log, BufferedReader | gzip.GzipFile) else log.read(_CHUNK)
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigurationError(f"cannot read {name} to its end: {error}") from error


class FollowedFile:
    """A file that grows."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self._name = name
        self._file: IO[bytes] | None = file
        self._compressed = isinstance(self._file, gzip.GzipFile)
        self.over = False

    def poll(self) -> bytes:
        """What has been written since the last call. A line break follows the end of a file that was replaced."""
        if self.over:
            return b""
        if self._file is not None and (more := _piece(self._name, self._file)):
            return more
        if self._compressed:
            self.over = True
            return b""
        return self._look_again()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _look_again(self) -> bytes:
        """At the end of the file: whether another one has its name, or it has become shorter."""
        try:
            now = Path(self._name).stat()
        except OSError:
            return b""  # between the two steps of a rotation; what was open is read on
        if self._file is not None:
            ours = os.fstat(self._file.fileno())
            if (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino) and now.st_size >= self._file.tell():
                return b""
            self._file.close()
            self._file = None
        try:
            self._file = open_log(self._name)
        except ConfigurationError:
            return b""
        return b"\n"


class FollowedPipe:
    """A pipe, or a terminal."""

    def __init__(self, log: IO[bytes]) -> None:
        self._log = log  # or its file would be closed
        self._file = log.fileno()
        self.over = False

    def poll(self) -> bytes:
        """What has come since the last call."""
        if self.over:
            return b""
        ready, _, _ = select.select([self._file], [], [], 0)
        if not ready:
            return b""
        more = os.read(self._file, _CHUNK)
        self.over = not more
        return more

    def close(self) -> None:
        self._log.close()


def follow(names: Iterable[str]) -> list[Source]:
    """A source for each log. Raises ConfigurationError where one cannot be read."""
    logs = [(name, open_log(name)) for name in names]
    return [FollowedFile(name, log) if log.seekable() and name != STDIN else FollowedPipe(log) for name, log in logs]
