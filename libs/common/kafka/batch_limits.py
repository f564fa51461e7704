"""How large the batches of each topic may be, by what the brokers refused. Pure: callers pass the time.

Rule 1: a refusal halves the batches of its topic, and of no other one.
Rule 2: they double again every ``DOUBLES_AFTER`` seconds. A limit that still stands costs one more refusal then, and a
        refused batch is published again in smaller ones.
"""

DOUBLES_AFTER = 600.0


class BatchLimits:
    """The sizes of batches in bytes. ``most``: that of a topic without a limit."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[str, tuple[int, float]] = {}

    def of(self, topic: str, now: float) -> int | None:
        """The size from which on a batch takes no further record; None where nothing limits it.

        ``now`` in seconds of any monotonic clock.
        """
        if topic not in self._found:
            return None
        size, since = self._found[topic]
        doubled = size << int((now - since) // DOUBLES_AFTER)
        if doubled < self._most:
            return doubled
        del self._found[topic]
        return None

    def refuse(self, topic: str, size: int, now: float) -> None:
        """The brokers refused a batch of several records with this size."""
        self._found[topic] = max(min(self.of(topic, now) or self._most, size) // 2, 1), now
