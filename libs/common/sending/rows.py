"""The row of one send, its claim, its end, its events, and the pauses that it waits for. Pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple
from uuid import UUID

from libs.common.events.outbound import Channel, NewStatus, OutboundRefused, SmsCommand, WhatsappCommand
from libs.common.faults import AccountScope
from libs.common.ids import SendKey
from libs.common.phone import canonical
from libs.common.providers import PROVIDERS, Provider
from libs.common.sanitize import sanitize
from libs.common.sending.outcomes import Accepted, PreparedT, Refused, Rerouted

State = Literal["pending", "claimed", "unknown", "accepted", "rerouted", "failed"]
PauseKind = Literal["throttle", "silence", "fault"]
PauseProof = Literal["answer", "status"]
PauseKey = tuple[str, AccountScope]
"""account, scope. ``account`` as ``at_account`` gives it."""
RUN = 8
"""At most so many rows of one conversation are claimed together. Their calls follow each other."""
EVERY_ACCOUNT = "*"
"""Instead of a sender: the pause holds for all senders of the account."""


def at_account(sender: str, provider: Provider | None, account: str | None) -> str:
    """A sender as pauses name it: one number may send by several accounts, and a pause is of one of them.

    ``account`` is None for Meta, whose numbers are the accounts.
    """
    return sender if account is None else f"{sender}@{provider}:{account}"


def sender_of(paused: str) -> str:
    """The sender of a pause: as ``sends`` has it, or ``EVERY_ACCOUNT``."""
    return paused.partition("@")[0]


def provider_of(paused: str, default: Provider) -> Provider:
    """The provider of a pause."""
    named = paused.partition("@")[2].partition(":")[0]
    return next((provider for provider in PROVIDERS if provider == named), default)


def names_of(paused: str, default: Provider, org_id: str | None) -> dict[str, str]:
    """The fields of a log line that say whose pause it is. A sender of SMS is a phone number, so it is not named.

    ``org_id``: of a row that the pause holds up, where one is known.
    """
    provider = provider_of(paused, default)
    whose = {"dependency": str(provider)} | ({} if org_id is None else {"org_id": org_id})
    if provider == "meta":
        return whose | {"phone_number_id": paused}
    sender, _, account = paused.partition("@")
    every = ", every sender" if sender == EVERY_ACCOUNT else ""
    return whose | {"detail": f"account {account.partition(':')[2]}{every}"}


_COLUMNS = {"org_id", "message_id", "attempt", "conversation_id"}
"""The fields of a command that a row has as columns. The stored command is without them."""


class Pause(NamedTuple):
    """An account that must rest. It stays after ``until`` until a call succeeds: meanwhile only a few probes pass.

    ``kind`` says how few, ``proof`` what ends a fault, ``since`` from when on calls can prove it.
    """

    account: str
    scope: AccountScope
    until: datetime
    tries: int
    reason: str
    kind: PauseKind
    proof: PauseProof
    since: datetime


class NewSend(NamedTuple):
    """A command that becomes a row.

    ``account``: the unit that a provider throttles, a phone_number_id or the org's own SMS number. ``template``: a
    pause of scope ``templates`` holds for it. ``not_before``: it is not sent sooner, and its conversation waits for it.
    """

    org_id: str
    message_id: UUID
    attempt: int
    conversation_id: UUID
    sequence: int
    account: str
    command: dict[str, Any]
    expires_at: datetime | None
    template: bool = False
    not_before: datetime | None = None

    @classmethod
    def of(
        cls,
        command: WhatsappCommand | SmsCommand,
        account: str,
        *,
        template: bool = False,
        not_before: datetime | None = None,
    ) -> "NewSend":
        return cls(
            org_id=command.org_id,
            message_id=command.message_id,
            attempt=command.attempt,
            conversation_id=command.conversation_id,
            sequence=command.sequence,
            account=account,
            command=sanitize(command.model_dump(mode="json", exclude=_COLUMNS, exclude_none=True)),
            expires_at=command.expires_at,
            template=template,
            not_before=not_before,
        )

    @property
    def key(self) -> SendKey:
        return self.org_id, self.message_id, self.attempt

    def row(self, conversation_id: UUID, now: datetime, deadline: datetime) -> "SendRow":
        """The row that it becomes in this conversation. ``deadline``: of a command that names none."""
        return SendRow(
            *(self.org_id, self.message_id, self.attempt, conversation_id, self.account, self.command, "pending"),
            due_at=now if self.not_before is None else max(now, self.not_before),
            expires_at=self.expires_at or deadline,
            created_at=now,
            template=self.template,
        )


class SendRow(NamedTuple):
    """One row of ``sends``, as read or as it shall be written; the columns are explained in the schema.

    A named tuple, because every send makes three of them: ``_replace`` costs a third of ``dataclasses.replace``.
    """

    org_id: str
    message_id: UUID
    attempt: int
    conversation_id: UUID
    account: str
    command: Mapping[str, Any]
    state: State
    due_at: datetime
    expires_at: datetime
    created_at: datetime
    provider: Provider | None = None
    provider_account: str | None = None
    template: bool = False
    blocks_order_until: datetime | None = None
    tries: int = 0
    resends: int = 0
    claim_id: UUID | None = None
    claimed_at: datetime | None = None
    lease_until: datetime | None = None
    unknown_since: datetime | None = None
    outcome: Mapping[str, Any] | None = None
    link_hash: bytes | None = None
    text_hash: bytes | None = None
    settled_at: datetime | None = None
    published: bool = False

    @property
    def named_line(self) -> str | None:
        """The line of the number that the intent itself named; None when it named none."""
        to = self.command.get("to")
        return canonical(to) if self.command.get("named") and isinstance(to, str) else None

    @property
    def whole_command(self) -> dict[str, Any]:
        """The command as it came, with the fields that the row has as columns; fields without a value are left out."""
        return {**self.command, **{name: getattr(self, name) for name in _COLUMNS}}

    @property
    def key(self) -> SendKey:
        return self.org_id, self.message_id, self.attempt

    @property
    def paused_as(self) -> str:
        """The sender's name in pauses, at the account that took its latest claim."""
        return at_account(self.account, self.provider, self.provider_account)

    @property
    def every_sender(self) -> str:
        """The name in pauses of all senders of that account."""
        return at_account(EVERY_ACCOUNT, self.provider, self.provider_account)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that is due, of a scope that is not paused.

    ``behind``: how many older rows of its conversation hold it back. ``over``: the pauses that are over and have not
    been proved to be, of which ``alone`` are tried out by one call at a time.
    """

    row: SendRow
    sequence: int = 0
    behind: int = 0
    over: frozenset[PauseKey] = frozenset()
    alone: frozenset[PauseKey] = frozenset()


@dataclass(frozen=True, slots=True)
class Claim(Generic[PreparedT]):
    """A row whose lease this process holds. ``prepared`` comes from the adapter's gate.

    ``probes`` are the pauses whose end this call tries out. ``after`` is the claim of the same conversation whose call
    must end first. ``last``: after this call none is made. ``asks``: the call is made only if the provider answers a
    question first.
    """

    row: SendRow
    prepared: PreparedT
    probes: frozenset[PauseKey] = frozenset()
    after: SendKey | None = None
    last: bool = False
    asks: bool = False


Result = tuple[Accepted, ...] | Rerouted | Refused
"""How a send ended: accepted under these ids, back to the router, or failed."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A row before and after. It is written only where the row still stands as ``before``: same state, same claim.

    ``final`` says how the send ended, when it did.
    """

    before: SendRow
    after: SendRow
    final: Result | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """A row that ends in this transaction, and how.

    ``row.link_hash`` and ``row.text_hash`` are those of its latest send.
    """

    row: SendRow
    final: Result


class StatusLine(NamedTuple):
    """What the log says of a provider's status: ``known`` where its message had got as far before.

    A status that comes late, behind a higher one, is told as what it is. ``route`` is told of a bridge alone.
    """

    org_id: str
    conversation_id: UUID | None
    message_id: UUID
    channel: Channel | None
    status: str
    reason: str | None
    provider_code: str | None
    outcome: Literal["moved", "known"]
    route: Literal["bridge"] | None = None


@dataclass(slots=True)
class PendingEvents:
    """The events of one row that are published once its transaction is committed.

    ``message_ids`` are the messages whose newest status is published again if the first publishing is lost; the message
    itself counts always. ``told``: what statuses that came early had to say.
    """

    updates: list[NewStatus] = field(default_factory=list)
    refusals: list[OutboundRefused] = field(default_factory=list)
    message_ids: set[UUID] = field(default_factory=set)
    told: list[StatusLine] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.updates or self.refusals)


class UnansweredCall(NamedTuple):
    """A call of a send, its first or, after a resend, its last."""

    account: str
    org_id: str
    message_id: UUID
    attempt: int
    resends: int
