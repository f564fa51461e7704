"""What a handler sees of Kafka."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, Self, TypeVar

from libs.common.errors import Unreadable

T = TypeVar("T")

Headers = tuple[tuple[str, bytes | None], ...]


class RawRecord(NamedTuple):
    """A record in Kafka. ``topic`` is the declared name, without the prefix.

    ``timestamp_ms`` is its producer's, or the brokers' (``Topic.from_outside``).
    A header key that is not UTF-8 carries the stray bytes as lone surrogates; ``check_headers`` refuses it.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    def lag_ms(self, now_ms: int) -> int:
        """How long ago it was produced, never negative (that clock is not ours)."""
        return max(0, now_ms - self.timestamp_ms)


class Received(NamedTuple, Generic[T]):
    value: T
    record: RawRecord


class Reject(NamedTuple):
    """A record that a handler cannot handle, though its batch went through: dead-letter it, its neighbours are done.

    ``reason`` is a static code, ``detail`` says why in words; neither holds anything of the payload. ``stops`` as in
    ``Permanent``.
    """

    record: RawRecord
    reason: str
    detail: str = ""
    stops: bool = False


class Skipped(bytes):
    """The value of a record that stands for a whole batch that was not read: why, and which offsets it had.

    It is empty.
    """

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
        what = "inflate beyond what is read" if self.reason == "batch_too_large" else "cannot be inflated"
        return f"offsets {self.first} to {self.last} are one compressed batch, which was skipped: they {what}"


Decode = Callable[[RawRecord], T]
Handle = Callable[[Sequence[Received[T]]], Awaitable[Sequence[Reject] | None]]


def check_headers(record: RawRecord) -> None:
    """Raise Unreadable (``bad_header``) when a header's key or value is not UTF-8."""
    for number, (key, value) in enumerate(record.headers, 1):
        try:
            key.encode()
        except UnicodeEncodeError:
            raise Unreadable("bad_header", f"the key of header {number} is not UTF-8") from None
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            raise Unreadable("bad_header", f"the value of header {number} is not UTF-8") from None
