"""What can go wrong, and what the batch consumer does about it.

    TransomError
    ├── Transient            the same batch again, later: a server is away, a deadlock, a lost connection
    └── Permanent            this record never: dead-letter it with the reason, go on with its neighbours
        └── Undecodable      … because its shape is not what the topic promises: a field, a type, a version
            └── Unreadable   … because nobody could read it: no text, no JSON, no object

Anything else that is raised is a bug: isolated by halving the batch, retried a little, then dead-lettered, and it pages someone.

Only what nobody could read and bugs of ours ``stop`` a partition when they come many times in a row: they speak of a broken topic or a broken
release. Anything that was read and refused speaks of itself alone, and may come as often as it likes.

A message handed to these classes goes to logs and dead-letter headers, so it never carries a value from a payload.
"""

from typing import ClassVar


class TransomError(Exception):
    """Something that Transom knows how to treat."""


class Transient(TransomError):  # noqa: N818 -- reads as what it is: raise Transient("kafka is away")
    """Expected trouble that time mends. Nothing was committed; do the same again after a back-off."""


class Permanent(TransomError):  # noqa: N818 -- see Transient
    """This record can never be handled.

    ``reason`` is a static code (snake_case) for the dead letter's header, ``detail`` says where and why in words.
    """

    stops: ClassVar[bool] = False
    """Whether many of them in a row stop their partition."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Undecodable(Permanent):
    """The record is not what its topic promises: an unknown type, a field missing or wrong."""


class Unreadable(Undecodable):
    """Nobody could read the record: not UTF-8, not JSON, no object."""

    stops = True


class ConfigurationError(TransomError):
    """A setting is missing or wrong, or a server cannot be reached at start. One line: which, and how to mend it."""
