"""What was read of logs so far: how many lines of each kind, from when to when, and the figures.

A line that is more than a day ahead of the present counts without a time: the clock that it was written by is wrong,
and what is told of the last hour would follow it. No I/O, no clock: the caller gives one.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from deploy.panels.figures import Figures, Limits
from deploy.panels.line import Kind, Line, read_line
from deploy.panels.panel import DAY_SECONDS, Panel


class Reading:
    """Takes lines in any order. ``events``: those that the schema knows. ``now``: the present (seconds)."""

    def __init__(
        self,
        panels: Sequence[Panel],
        events: Collection[str],
        now: Callable[[], float],
        limits: Limits | None = None,
    ) -> None:
        self.figures = Figures(panels, limits)
        self.lines: Counter[Kind] = Counter()
        self.first: float | None = None
        self.last: float | None = None
        self._events = frozenset(events)
        self._now = now

    def take(self, raw: bytes) -> None:
        """Read one line, without or with its end."""
        if (line := self.read(raw)) is not None:
            self.add(line)

    def read(self, raw: bytes) -> Line | None:
        """What stands in these bytes; None where they are blank."""
        return read_line(raw, self._events)

    def add(self, line: Line) -> None:
        """Count a line that ``read`` has read."""
        self.lines[line.kind] += 1
        if not line.fields:
            return
        if line.at is not None and line.at > self._now() + DAY_SECONDS:
            line = replace(line, at=None)
        if line.at is not None:
            self.first = line.at if self.first is None else min(self.first, line.at)
            self.last = line.at if self.last is None else max(self.last, line.at)
        self.figures.add(line)
