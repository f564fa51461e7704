"""What an SMS provider is to the bridge: one contract, one module per provider.

Law 1: ``send`` is one HTTP request and never a second one; no provider's send is idempotent. Every outcome is a value, nothing is raised.
Law 2: ``Unknown`` is said whenever the provider may have taken the message. ``NotSent`` and ``Refused`` only when it certainly has not.
Law 3: ``listed`` is the evidence: what the provider itself has on record. It says all of it or raises Transient; half a list proves nothing.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from libs.common.db.recipients import RecipientFault


@dataclass(frozen=True, slots=True)
class OutgoingSms:
    """One SMS. ``sender`` and ``to`` in E.164; the provider drops it when it could not be delivered within ``validity``."""

    sender: str
    to: str
    text: str
    validity: timedelta


@dataclass(frozen=True, slots=True)
class Taken:
    """The provider has the message. ``segments`` is None where it does not say."""

    provider_id: str
    segments: int | None


@dataclass(frozen=True, slots=True)
class NotSent:
    """Not sent, and no fault of this message: later. ``sender_rests``: nothing else will go from this number for now either."""

    code: str | None
    after: timedelta | None = None
    sender_rests: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not sent, and it never will be. ``fault`` is set when that lies with the recipient."""

    code: str | None
    fault: RecipientFault | None = None


@dataclass(frozen=True, slots=True)
class Unclear:
    """It may have been sent, or not: no answer, or one that does not say."""

    code: str | None = None


Answer = Taken | NotSent | Rejected | Unclear


@dataclass(frozen=True, slots=True)
class Listed:
    """A message that the provider has on record."""

    provider_id: str
    text_hash: bytes
    segments: int | None
    created_at: datetime


class SmsProvider(Protocol):
    """A way to send SMS."""

    @property
    def account(self) -> str:
        """What scopes this provider's message ids, as its status callbacks name it."""

    async def send(self, sms: OutgoingSms) -> Answer:
        """Send once and say what became of it."""

    async def listed(self, *, sender: str, to: str, since: datetime) -> Sequence[Listed]:
        """Everything sent from ``sender`` to ``to`` since then, newest first, and perhaps a little before. Raises Transient."""


def text_hash(text: str) -> bytes:
    """The digest by which a text is found again in a provider's list; the text itself is kept nowhere with its code."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
