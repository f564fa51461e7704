"""Types that the sandbox's modules share. No I/O."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
"""A JSON object of a shape that only its reader knows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A provider's answer to a request: an HTTP status and a JSON body."""

    status: int
    body: Json
    code: int | None = None
    """The provider's error code, when it is an error."""
    subject: str | None = None
    """The wamid or the message sid, when something was sent."""
    page: bool = False
    """It is not JSON, but the HTML error page of a proxy."""
