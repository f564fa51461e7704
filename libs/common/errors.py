"""What can go wrong, and what the batch consumer does about it.

    TransomError
    ├── Transient            the same batch again, later: a server is away, a deadlock, a lost connection
    └── Permanent            this record never: dead-letter it with the reason, go on with its neighbours
        └── Undecodable      … because its bytes or its shape cannot be read

Anything else that is raised is a bug: isolated by halving the batch, retried a little, then dead-lettered, and it pages someone.
A message handed to these classes goes to logs and dead-letter headers, so it never carries a value from a payload.
"""


class TransomError(Exception):
    """Something that Transom knows how to treat."""


class Transient(TransomError):  # noqa: N818 -- reads as what it is: raise Transient("kafka is away")
    """Expected trouble that time mends. Nothing was committed; do the same again after a back-off."""


class Permanent(TransomError):  # noqa: N818 -- see Transient
    """This record can never be handled.

    ``reason`` is a static code (snake_case) for the dead letter's header, ``detail`` says where and why in words.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Undecodable(Permanent):
    """The record is not what its topic promises: not UTF-8, not JSON, no readable type, a field missing or wrong."""


class ConfigurationError(TransomError):
    """A setting is missing or wrong, or a server cannot be reached at start. One line: which, and how to mend it."""
