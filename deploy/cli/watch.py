"""``transom watch``: the figures of the logs, live in a terminal or once at the end of the input.

Where standard output is a terminal that can draw, the screen is drawn anew twice a second while the logs grow. Else one
plain snapshot is printed when the input ends, so that it can be piped.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from deploy.cli.interrupts import interrupt_on_signals
from deploy.cli.log_input import STDIN, to_the_end
from deploy.cli.saying import write_no_more
from deploy.cli.watch_view import snapshot
from deploy.panels.definition import PANELS
from deploy.panels.reading import Reading
from libs.common.clock import unix_now
from libs.common.errors import ConfigurationError

_SCHEMA = Path(__file__).parents[2] / "libs/common/log_schema.json"
_PLAIN_WIDTH = 120


def watch(names: Sequence[str], org_id: str | None) -> None:
    """Show the figures of these logs. Raises ConfigurationError where one cannot be read."""
    names = names or (STDIN,)
    if names.count(STDIN) > 1:
        raise ConfigurationError("- stands for standard input: name it once")
    if STDIN in names and (sys.stdin is None or sys.stdin.isatty()):
        raise ConfigurationError("there is no log: name files, or pipe lines in (docker compose logs | transom watch)")
    if sys.stdout is None:
        raise ConfigurationError("there is no standard output to show the figures on")
    reading = Reading(PANELS, known_events(), unix_now)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a text file
    console = Console(highlight=False)
    try:
        if console.is_terminal and not console.is_dumb_terminal:
            from deploy.cli.watch_screen import Screen  # noqa: PLC0415 -- needs a terminal

            interrupt_on_signals()  # the terminal gets its settings back
            Screen(console, reading, org_id).run(names)
        else:
            with suppress(KeyboardInterrupt):  # a pipe may have no end; then Ctrl-C is it
                for line in to_the_end(names, reading.read):
                    reading.add(line)
            plain = Console(highlight=False, width=_PLAIN_WIDTH, color_system=None)
            _print(plain, reading, org_id)
    except SystemExit:  # Rich's, where who read us has seen enough
        return
    except KeyboardInterrupt:  # ends the screen, as other signals do
        with suppress(BrokenPipeError):
            sys.stdout.flush()


def _print(console: Console, reading: Reading, org_id: str | None) -> None:
    try:
        snapshot(console, reading, min(reading.last or 0.0, unix_now()), org_id)
    except OSError as error:
        write_no_more()
        raise ConfigurationError(f"cannot write the figures: {error.strerror}") from error


def known_events() -> frozenset[str]:
    """The events of the schema of log lines."""
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return frozenset(one["const"] for one in schema["properties"]["event"]["oneOf"])
