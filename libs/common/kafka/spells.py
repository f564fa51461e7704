"""Something that comes again and again, and since when."""

from dataclasses import dataclass

QUIET_SECONDS = 60.0


@dataclass(slots=True)
class Spell:
    """Failures with successes in between: one partition that cannot be read fails now and then, while the others go on.

    Times are those of the event loop. It is over when nothing happened for ``QUIET_SECONDS``.
    """

    cause: str = ""
    _since: float = 0.0
    _last: float | None = None

    def happened(self, at: float, cause: str) -> None:
        """It came once more."""
        if self._last is None or at - self._last > QUIET_SECONDS:
            self._since = at
        self._last, self.cause = at, cause

    def seconds(self, now: float) -> float:
        """How long it has lasted; 0 when it is over."""
        return 0.0 if self._last is None or now - self._last > QUIET_SECONDS else now - self._since
