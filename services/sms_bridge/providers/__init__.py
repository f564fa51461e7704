"""The contract between the bridge and an SMS provider. Each provider is one module of this package.

Law 1: ``send`` is one HTTP request and never a second one, because no provider's send is idempotent. Every outcome is a
        value; nothing is raised.
Law 2: ``Unknown`` is returned whenever the provider may have taken the message. ``RetryLater`` and ``Refused`` are
        returned only when it certainly has not.
Law 3: where a provider has a list (``SmsLookup``), it is the evidence of a call. It is read to its end, or Transient is
        raised: half a list proves nothing. What cannot be read of a record is left open, because that record may be of
        any send.
Law 4: a record alone is no acceptance. Providers also keep records of what they refused, so a record is read with its
        status and error.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from libs.common.errors import Transient
from libs.common.phone import same_line, spellings
from libs.common.providers.accounts import AccountKey
from libs.common.providers.cost import Cost
from libs.common.sending.outcomes import Refused, RetryLater, SendOutcome


@dataclass(frozen=True, slots=True)
class OutgoingSms:
    """One SMS. ``sender`` and ``to`` are in E.164; ``reference`` comes back with every status of it.

    ``messaging_service``: Twilio's, where the account has one.

    The provider drops the SMS when it cannot be delivered within ``validity``.
    """

    sender: str
    to: str
    text: str
    validity: timedelta
    reference: str
    messaging_service: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedStatus:
    """The status of a message that was taken, as ours, and the code of a failure.

    ``status`` is None while the message is on its way, and where the provider does not know. ``cost``: None while the
    provider has not said what the message costs.
    """

    status: str | None
    code: str | None = None
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class ListedSms:
    """A record in the provider's list. The text of a bridge holds its code: it is compared and not kept.

    ``provider_id``, ``text`` and the numbers are as the record shows them: masked, changed, or None where it shows
    none. ``refusal``: the outcome of a creation that was refused. None: the message was taken and has ``status``.
    """

    provider_id: str | None
    text: str | None = field(repr=False)
    created_at: datetime
    sender: str | None = field(default=None, repr=False)
    to: str | None = field(default=None, repr=False)
    refusal: Refused | RetryLater | None = None
    status: RecordedStatus = RecordedStatus(None)


@dataclass(frozen=True, slots=True)
class ReceivedSms:
    """A customer's SMS in the provider's list.

    ``form``: the fields of its callback but the links of its files. ``masked``: the record does not show who wrote.
    """

    provider_id: str
    at: datetime
    form: Mapping[str, str] = field(repr=False)
    has_files: bool = False
    masked: bool = False


class ListUnavailable(Transient):
    """The provider's list cannot be read now. What is missing in it afterwards proves nothing until it has settled."""


class SmsLookup(Protocol):
    """What a provider shows of the SMS that it took."""

    async def list_sent(self, *, sender: str, to: str, since: datetime) -> Sequence[ListedSms]:
        """Every record from ``sender`` to ``to`` since then, newest first, also of what is queued or was refused.

        May include records of shortly before. Raises Transient, and ``ListUnavailable`` where the list itself is away.
        """

    async def list_obscured(self, *, sender: str, to: Collection[str], since: datetime) -> Sequence[ListedSms]:
        """Records of ``sender`` since then whose recipient is shown as none of ``to``, and may be one of them.

        ``list_sent`` may miss these. Raises as it does.
        """

    async def recorded_status(self, provider_id: str) -> RecordedStatus:
        """The status on record of a message that the provider took. Raises Transient."""

    async def list_received(self, *, to: str, since: datetime) -> Sequence[ReceivedSms]:
        """Every SMS of customers to this number that the provider has wholly received since then, newest first.

        Raises as ``list_sent`` does.
        """

    async def callback_of(self, sms: ReceivedSms, received_at: datetime) -> tuple[bytes, bytes]:
        """Key and value of the record of ``webhooks.v1`` that the edge would have made. Raises Transient."""


class SmsProvider(Protocol):
    """One account at a provider: a way to send SMS."""

    @property
    def key(self) -> AccountKey:
        """The provider and the account, as claims, ids and pauses are stored with them and callbacks name them."""

    @property
    def lookup(self) -> SmsLookup | None:
        """Where a call whose answer was lost is looked for. None: nowhere, so only its callbacks settle it."""

    async def send(self, sms: OutgoingSms) -> SendOutcome:
        """Send once."""

    async def answers(self) -> bool:
        """Whether the provider answers a read of the account, which can send nothing. A refusal is an answer."""

    def refusal(self, code: str | None) -> Refused | RetryLater | None:
        """The outcome of a creation that failed with this code. None: the code is of a message that was taken."""


def shows_number(shown: str | None, number: str) -> bool:
    """Whether a record with ``shown`` is certainly of ``number``. A record without a number is of the one asked for.

    Providers write some lines as they are dialled elsewhere: Mexico's 1, Argentina's 9, Brazil's ninth digit.
    """
    return not shown or shown == number or same_line(shown, number)


def may_show_number(shown: str | None, number: str) -> bool:
    """Whether a record with ``shown`` may be of ``number``: it is, or it is masked and the visible digits agree."""
    if shows_number(shown, number):
        return True
    if not shown or ":" in shown:  # an address of another channel
        return False
    bare = shown.removeprefix("+")
    visible = next((at for at, char in enumerate(bare) if not char.isdigit()), len(bare))
    if visible == len(bare) or not number.removeprefix("+").isdigit():
        return False
    return any(spelling.removeprefix("+").startswith(bare[:visible]) for spelling in spellings(number))
