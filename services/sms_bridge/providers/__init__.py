"""What an SMS provider is to the bridge: one contract, one module per provider.

Law 1: ``send`` is one HTTP request and never a second one; no provider's send is idempotent. Every outcome is a value,
        nothing is raised.
Law 2: ``Unknown`` is said whenever the provider may have taken the message. ``RetryLater`` and ``Refused`` only when it
        certainly has not.
Law 3: ``listed`` is the evidence: what the provider itself has on record. It says all of it or raises Transient; half a
        list proves nothing. What it cannot read of a record it leaves open: that record may be anybody's.
Law 4: a record is no acceptance yet: providers keep records of what they refused, too. It is read with its status and
        error.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from libs.common.errors import Transient
from libs.common.sending.outcomes import Refused, RetryLater, SendOutcome


@dataclass(frozen=True, slots=True)
class OutgoingSms:
    """One SMS. ``sender`` and ``to`` in E.164; the provider drops it when it could not be delivered within ``validity``.

    ``reference`` comes back with every status, whatever became of the answer.
    """

    sender: str
    to: str
    text: str
    validity: timedelta
    reference: str


@dataclass(frozen=True, slots=True)
class RecordedStatus:
    """What became of a message that was taken: as our status, None while it is on its way or nobody knows.

    ``code`` is that of a failure.
    """

    status: str | None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ListedSms:
    """A message that the provider has on record. A bridge's text holds its code: it is compared and forgotten.

    ``provider_id``, ``text`` and the numbers are as the record shows them: masked, changed, or None where it shows
    none. ``refusal``: what the provider said when it refused to take the message; None where it took it, and ``fate``
    says what became of it since.
    """

    provider_id: str | None
    text: str | None = field(repr=False)
    created_at: datetime
    sender: str | None = field(default=None, repr=False)
    to: str | None = field(default=None, repr=False)
    refusal: Refused | RetryLater | None = None
    status: RecordedStatus = RecordedStatus(None)


class ListUnavailable(Transient):
    """The provider's list cannot be read now. What it leaves out afterwards proves nothing until it has settled."""


class SmsProvider(Protocol):
    """A way to send SMS."""

    @property
    def account(self) -> str:
        """What scopes this provider's message ids, as its status callbacks name it."""

    async def send(self, sms: OutgoingSms) -> SendOutcome:
        """Send once and say what became of it."""

    async def list_sent(self, *, sender: str, to: str, since: datetime) -> Sequence[ListedSms]:
        """Everything on record from ``sender`` to ``to`` since then, sent, not yet, or refused, and perhaps a little before, newest first.

        Raises Transient, ``ListUnavailable`` where the list itself is away.
        """

    async def list_obscured(self, *, sender: str, to: Collection[str], since: datetime) -> Sequence[ListedSms]:
        """What ``listed`` may not find: records of ``sender`` since then whose recipient is shown as none of ``to``, and may be one. Raises as that."""

    async def recorded_status(self, provider_id: str) -> RecordedStatus:
        """What the provider has on record of a message that it took. Raises Transient."""

    def refusal(self, code: str | None) -> Refused | RetryLater | None:
        """What a message that failed with this code was answered, if it was refused when it was to be created; None: it was taken."""
