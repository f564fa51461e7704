"""What a handler's runner gets in the place of a batch that was not read."""

from typing import Self


class Skipped(bytes):
    """An empty value that says why a whole batch is missing, and which offsets it had."""

    reason: str
    first: int
    last: int

    @classmethod
    def of(cls, reason: str, first: int, last: int) -> Self:
        """``reason``: ``batch_too_large`` or ``batch_unreadable``."""
        skipped = cls()
        skipped.reason, skipped.first, skipped.last = reason, first, last
        return skipped

    @property
    def detail(self) -> str:
        """In words."""
        what = "inflate beyond what is read" if self.reason == "batch_too_large" else "cannot be inflated"
        return f"offsets {self.first} to {self.last} are one compressed batch, which was skipped: they {what}"
