"""The words the sandbox's modules share. No I/O."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""A JSON object of a shape that only its reader knows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider says to a request: an HTTP status and a JSON body."""

    status: int
    body: Json
    code: int | None = None
    """The provider's error code, when it is an error."""
    subject: str | None = None
    """The wamid or the message sid, when something was sent."""
    page: bool = False
    """It is no JSON, but the error page of something on the way."""
