"""The classes of errors, and what the batch consumer does about each.

    TransomError
    ├── Transient            the same batch again, later: a server is away, a deadlock, a lost connection
    └── Permanent            this record never: dead-letter it with the reason, go on with the others
        └── Undecodable      … because its shape is not the topic's: a field, a type, a version
            └── Unreadable   … because it is no UTF-8, no JSON or no object

Any other exception is a bug. Its record is isolated by halving the batch, retried a few times, then dead-lettered. It
raises an alert.

Only unreadable records and bugs ``stop`` a partition when many come in a row: they are signs of a broken topic or a
broken release. A record that was read and refused says nothing about others, so any number of them may come.

A message handed to these classes goes to logs and dead-letter headers, so it never carries a value from a payload.
"""

from typing import ClassVar


class TransomError(Exception):
    """An error that Transom has a policy for."""


class Transient(TransomError):  # noqa: N818 -- as in: raise Transient("kafka is away")
    """An expected failure that passes. Nothing was committed: retry after a back-off."""


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
    """The record does not fit its topic: an unknown type, a field missing or wrong."""


class Unreadable(Undecodable):
    """The record is not UTF-8, not JSON, or no object."""

    stops = True


class ConfigurationError(TransomError):
    """A setting is missing or wrong, or a server cannot be reached at start. One line: which, and how to mend it."""


class KafkaUnusable(ConfigurationError):  # noqa: N818 -- see Transient
    """The brokers cannot be reached at start, or a topic is missing there."""


class KafkaAway(ConfigurationError):  # noqa: N818 -- see Transient
    """No broker answers at start. Nothing is known to be wrong with the settings."""
