"""How far a run has come: a bar on a terminal, else a line now and then. Both go to standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol, TextIO

from libs.common.clock import steady

SAY_EVERY = 10.0


class Progress(Protocol):
    """Told after each batch: how many records were read so far, how many of them were published, and up to when."""

    def __call__(self, read: int, published: int, at_ms: int) -> None: ...


@contextmanager
def shown(total: int, out: TextIO = sys.stderr) -> Iterator[Progress]:
    """The progress of a run over ``total`` offsets."""
    if not out.isatty():
        yield Lines(total, out)
        return
    from rich.console import Console  # noqa: PLC0415 -- only a terminal needs it
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(file=out), transient=True) as bar:
        task = bar.add_task("reads", total=total)

        def tell(read: int, published: int, at_ms: int) -> None:
            bar.update(task, completed=read, description=f"{published} fed through, {written(at_ms)}")

        yield tell


class Lines:
    """A line whenever ``every`` seconds have passed since the last one."""

    def __init__(self, total: int, out: TextIO, every: float = SAY_EVERY) -> None:
        self._total, self._out, self._every, self._said = total, out, every, steady()

    def __call__(self, read: int, published: int, at_ms: int) -> None:
        if steady() - self._said >= self._every:
            self._said = steady()
            self._out.write(f"{read} of {self._total} read, {published} fed through, up to {written(at_ms)}\n")
            self._out.flush()


def written(at_ms: int) -> str:
    """The time of a record (ms since 1970), as ``--from`` takes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
