"""The live screen of ``transom watch``: reads logs as they grow, draws, and listens to keys.

Keys come from the terminal itself (``/dev/tty``), because standard input may be the log. Where there is none, the
screen runs without keys, and Ctrl-C ends it. The terminal gets its settings back however the screen ends.
"""

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import monotonic

from rich.console import Console
from rich.live import Live

from deploy.cli.log_input import Lines, Source, follow
from deploy.cli.watch_view import dashboard
from deploy.panels.reading import Reading
from libs.common.clock import unix_now

_DRAWN_SECONDS = 0.5
_READ_SECONDS = 0.3  # between two drawings, while much is to be read


class Screen:
    """Shows ``reading`` until q, Ctrl-C, or the end of a terminal."""

    def __init__(self, console: Console, reading: Reading, org_id: str | None) -> None:
        self._console = console
        self._reading = reading
        self._org_id = org_id
        self._page = 0
        self._pages = 1

    def run(self, names: Sequence[str]) -> None:
        """Read these logs on and on. Raises ConfigurationError where one cannot be read."""
        sources = [(source, Lines()) for source in follow(names)]
        with (
            ExitStack() as closing,
            _keys() as keys,
            Live(console=self._console, screen=True, auto_refresh=False) as live,
        ):
            for source, _ in sources:
                closing.callback(source.close)
            ended = False
            while True:
                until = monotonic() + _READ_SECONDS
                while (more := self._read(sources)) and monotonic() < until:
                    pass
                sources = [(source, lines) for source, lines in sources if not source.over]
                ended = not sources
                self._draw(live, "end of input" if ended else "reading" if more else "")
                if not self._hear(keys, 0.0 if more else _DRAWN_SECONDS):
                    return

    def _read(self, sources: Sequence[tuple[Source, Lines]]) -> bool:
        """Read a piece of each log. Returns whether there was any."""
        found = False
        for source, lines in sources:
            more = source.poll()
            found = found or bool(more)
            for raw in lines.cut(more):
                self._reading.take(raw)
            if source.over:
                self._reading.take(lines.end())
        return found

    def _draw(self, live: Live, state: str) -> None:
        width, height = self._console.size
        screen, self._pages = dashboard(
            self._reading, unix_now(), self._org_id, size=(width, height), page=self._page, state=state
        )
        live.update(screen, refresh=True)

    def _hear(self, keys: int | None, seconds: float) -> bool:
        """Wait for a key, at most so long. Returns whether to go on."""
        ready, _, _ = select.select([] if keys is None else [keys], [], [], seconds)
        if not ready or keys is None:
            return True
        try:
            pressed = os.read(keys, 64)
        except OSError:
            pressed = b""
        if not pressed:  # the terminal is gone
            return False
        return all(self._on_key(key) for key in pressed.decode(errors="replace"))

    def _on_key(self, key: str) -> bool:
        match key:
            case "q" | "Q" | "\x03" | "\x04":
                return False
            case "o" | "\t":
                self._org_id = self._next(1)
            case "O":
                self._org_id = self._next(-1)
            case "a":
                self._org_id = None
            case " ":
                self._page = (self._page + 1) % self._pages
        return True

    def _next(self, step: int) -> str | None:
        """The organisation after the shown one, by name; all come before the first and after the last."""
        every: list[str | None] = [None, *self._reading.figures.organisations]
        place = every.index(self._org_id) if self._org_id in every else 0
        return every[(place + step) % len(every)]


@contextmanager
def _keys() -> Iterator[int | None]:
    """The terminal, which gives each key at once and shows none; None where there is no terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        terminal = None
        if sys.stdin.isatty():
            terminal = os.dup(sys.stdin.fileno())
    if terminal is None:
        yield None
        return
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        yield terminal
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        os.close(terminal)
