"""What services have logged into the files of a folder, read on as the files grow.

A run of end-to-end tests logs a hundred thousand lines and asks for them after each test. So each line is held against
the schema once, and a private word is looked for once in each line.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.support.logs import validated


class ServiceLogs:
    """The files ``NAME.log`` of a folder. A last line that is still being written counts when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._lines: dict[Path, list[dict[str, Any]]] = {}
        self._searched: dict[Path, int] = {}
        self._words: set[str] = set()
        self._found: set[str] = set()

    def lines(self, name: str = "*") -> list[dict[str, Any]]:
        """Every line of the services that match, in the order of their names, each held against the schema."""
        found: list[dict[str, Any]] = []
        for log in sorted(self._folder.glob(f"{name}.log")):
            new = _whole_lines(log, self._read.get(log, 0))
            self._lines.setdefault(log, []).extend(validated(new))
            self._read[log] = self._read.get(log, 0) + len(new)
            found += self._lines[log]
        return found

    def holding(self, words: Collection[str]) -> list[str]:
        """Those of the words that stand in a line of any service, or did when they were asked for before."""
        fresh = set(words) - self._words
        for log in self._folder.glob("*.log"):
            before = self._searched.get(log, 0)
            new = _whole_lines(log, before)
            self._found |= _words_in(new, self._words) | _words_in(_whole_lines(log, 0) if fresh else b"", fresh)
            self._searched[log] = before + len(new)
        self._words |= fresh
        return sorted(self._found.intersection(words))


def _words_in(text: bytes, words: Collection[str]) -> set[str]:
    return {word for word in words if word.encode() in text}


def _whole_lines(log: Path, start: int) -> bytes:
    """What stands in a log from there on, without a last line that is still being written."""
    with log.open("rb") as file:
        file.seek(start)
        head, newline, _ = file.read().rpartition(b"\n")
        return head + newline
