"""What statuses of providers come to: for the messages, for others, and for whom to tell. No I/O; ``libs.common.thread.statuses`` brings it about.

A failure says whose fault it is (``libs.common.providers``). What another way or another try may mend is no end of the message but a refusal, told to
the router, which decides again; what concerns others is kept for them: the window by the time of the send, the address, the template, the
account. What reached the customer ended well, whatever was said before.

A bridge that fails after its acceptance has used its conversation's day all the same, and the original keeps its reason; what became of the SMS
is told of the bridge message itself.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

from libs.common.accounts.rows import EVERY_ACCOUNT, Key
from libs.common.directory.reports import (
    MarkChannel,
    MarketingStopped,
    SentTemplate,
    SignOfLife,
    TemplateFailure,
    Unreached,
)
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused, RefusalReason
from libs.common.faults import (
    AccountFault,
    AccountScope,
    RecipientFault,
    TemplateGone,
    TemplateNeedsSync,
    TransientFault,
    WindowClosed,
    stops_marketing,
    way_on,
)
from libs.common.providers import meta, twilio
from libs.common.thread.message_status import DeliveryStatus, Failed, Reached, advance
from libs.common.thread.messages import LockedMessage, told
from libs.common.thread.pricing import Pricing, pricing_of

Provider = Literal["meta", "sms"]
_UNSETTLED = frozenset({"pending", "sent"})
_ARRIVED = frozenset({"delivered", "read"})


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One status as a provider told it, its name already in ladder terms; other names are kept out of the ladder.

    ``account`` scopes ``provider_id``: phone_number_id at Meta, the account sid at Twilio. ``at`` is the provider's clock.
    """

    provider: Provider
    account: str
    provider_id: str
    status: str
    at: datetime
    code: str | None = None
    callback: str | None = None
    item: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> tuple[str, str, str]:
        return self.provider, self.account, self.provider_id


@dataclass(frozen=True, slots=True)
class Match:
    """Whose status it is: the message that it feeds, and the row of ``sends`` that it is about, with what was sent.

    ``account``: what throttles together (phone_number_id, the org's SMS number). ``called_at``: when the send was claimed for its call.
    """

    org_id: str
    message_id: UUID
    send_id: UUID
    attempt: int
    account: str | None = None
    called_at: datetime | None = None
    route: str | None = None
    to: str | None = None
    recipient: str | None = None
    template: str | None = None
    language: str | None = None

    @property
    def send(self) -> Key:
        return self.org_id, self.send_id, self.attempt

    @property
    def address(self) -> str | None:
        """Where it went: Meta takes the number where both stand."""
        return self.to or self.recipient


class AccountTrouble(NamedTuple):
    """An account that was not in order when a message was called, as a late status says."""

    provider: Provider
    account: str
    scope: AccountScope
    called_at: datetime
    code: str


@dataclass(slots=True)
class Effects:
    """What to publish after the commit."""

    updates: list[DeliveryUpdate] = field(default_factory=list)
    refusals: list[OutboundRefused] = field(default_factory=list)


@dataclass(slots=True)
class Folded:
    """What a batch of statuses comes to."""

    effects: Effects = field(default_factory=Effects)
    refused: list[tuple[str, UUID, datetime]] = field(default_factory=list)
    """Conversations whose free-form sends, made at that time, Meta refused because the window was closed."""
    unreached: list[Unreached] = field(default_factory=list)
    signs: list[SignOfLife] = field(default_factory=list)
    gone: list[TemplateFailure] = field(default_factory=list)
    stale: list[TemplateFailure] = field(default_factory=list)
    troubles: dict[tuple[Provider, str, AccountScope], AccountTrouble] = field(default_factory=dict)
    """Of each account that of the latest call."""
    pricing: list[Pricing] = field(default_factory=list)
    stopped: list[MarketingStopped] = field(default_factory=list)
    proofs: dict[Provider, set[Key]] = field(default_factory=dict)
    """Sends that came out of an account that is in order."""

    def take(self, message: LockedMessage, conversation_id: UUID, match: Match, status: ProviderStatus) -> None:
        self._keep(conversation_id, match, status)
        if status.status == "failed":
            refer = self._refer if status.provider == "meta" else self._refer_sms
            if refer(message, conversation_id, match, status):
                return
        before = message.state
        _apply(message, match, status)
        update = told(message)
        if update is not None:
            self.effects.updates.append(update)
        if status.status == "failed":
            if _ended_by_provider(message, match) and message.state.seq > before.seq:
                self._blame(conversation_id, match, status)
        else:
            self.proofs.setdefault(status.provider, set()).add(match.send)
        if status.status in _ARRIVED and match.address is not None:
            channel: MarkChannel = "whatsapp" if status.provider == "meta" else "sms"
            self.signs.append(SignOfLife(match.org_id, channel, match.address, status.at))

    def _keep(self, conversation_id: UUID, match: Match, status: ProviderStatus) -> None:
        """What is true whatever becomes of the message: its price, and that the customer has stopped marketing."""
        if status.provider != "meta":
            return
        price = pricing_of(
            status.item,
            org_id=match.org_id,
            message_id=match.message_id,
            provider_id=status.provider_id,
            attempt=match.attempt,
            at=status.at,
        )
        if price is not None:
            self.pricing.append(price)
        if status.status == "failed" and stops_marketing(meta.fault_of(status.code)):
            self.stopped.append(MarketingStopped(match.org_id, conversation_id, status.at))

    def conclude(self, messages: dict[tuple[str, UUID], LockedMessage]) -> None:
        """After the last status: who reached the customer after all is not decided again."""
        self.effects.refusals = [
            refusal
            for refusal in self.effects.refusals
            if messages[refusal.org_id, refusal.intent_id].state.status not in _ARRIVED
        ]

    def _trouble(self, trouble: AccountTrouble) -> None:
        known = self.troubles.setdefault(trouble[:3], trouble)
        self.troubles[trouble[:3]] = max(known, trouble)

    def _refer(self, message: LockedMessage, conversation_id: UUID, match: Match, status: ProviderStatus) -> bool:
        """Keep what the failure says about others; whether the message goes to the router instead of ending here."""
        fault = meta.fault_of(status.code)
        code = status.code or ""
        called_at = match.called_at or status.at
        used = None
        if match.route == "template" and match.account and match.template and match.language:
            used = SentTemplate(match.org_id, match.account, match.template, match.language)
        match fault:
            case _ if not _waits(message, match):
                pass
            case WindowClosed() if match.route != "template":
                self.refused.append((match.org_id, conversation_id, called_at))
            case AccountFault(scope) if match.account is not None:
                self._trouble(AccountTrouble("meta", match.account, scope, called_at, code))
            case TemplateGone(now_is) if used is not None:
                self.gone.append((used, now_is, max(status.at, called_at)))
            case TemplateNeedsSync() if used is not None:
                self.stale.append((used, code, max(status.at, called_at)))
            case RecipientFault() if match.address is not None:
                self.unreached.append(
                    Unreached(
                        match.org_id, conversation_id, "whatsapp", match.address, fault, code, "status", status.at
                    )
                )
            case _:
                pass
        reason = way_on(fault, template=match.route == "template")
        if reason is None:
            return False
        self._refuse(message, conversation_id, match, status, reason)
        return True

    def _refer_sms(self, message: LockedMessage, conversation_id: UUID, match: Match, status: ProviderStatus) -> bool:
        """The same of an SMS. A bridge that was taken has used its day, so only plain text is decided again: when the account is well, or once more."""
        fault = twilio.fault_of(status.code)
        if isinstance(fault, AccountFault) and match.account is not None and _waits(message, match):
            account = match.account if twilio.is_of_sender(status.code) else EVERY_ACCOUNT
            called_at = match.called_at or status.at
            self._trouble(AccountTrouble("sms", account, fault.scope, called_at, status.code or ""))
        if match.route == "bridge" or not isinstance(fault, AccountFault | TransientFault):
            return False
        reason: RefusalReason = "account" if isinstance(fault, AccountFault) else "transient"
        self._refuse(message, conversation_id, match, status, reason)
        return True

    def _refuse(
        self, message: LockedMessage, conversation_id: UUID, match: Match, status: ProviderStatus, reason: RefusalReason
    ) -> None:
        """Tell the router, if the message still waits for this attempt."""
        if _waits(message, match):
            self.effects.refusals.append(
                OutboundRefused(
                    intent_id=match.send_id,
                    attempt=match.attempt,
                    org_id=match.org_id,
                    conversation_id=conversation_id,
                    reason=reason,
                    provider_code=status.code,
                    at=status.at,
                )
            )

    def _blame(self, conversation_id: UUID, match: Match, status: ProviderStatus) -> None:
        """Remember what lies with the recipient of this SMS."""
        fault = twilio.fault_of(status.code) if status.provider == "sms" else None
        if isinstance(fault, RecipientFault) and status.code is not None and match.to is not None:
            self.unreached.append(
                Unreached(match.org_id, conversation_id, "sms", match.to, fault, status.code, "status", status.at)
            )


def _waits(message: LockedMessage, match: Match) -> bool:
    """Whether the message waits for this attempt. Else a failure is told again or too late: what it said of others may be mended."""
    return message.state.status in _UNSETTLED and message.state.attempt == match.attempt


def _ended_by_provider(message: LockedMessage, match: Match) -> bool:
    state = message.state
    return state.attempt == match.attempt and state.status == "failed" and state.reason == "provider_refused"


def _apply(message: LockedMessage, match: Match, status: ProviderStatus) -> None:
    if status.status == "failed":
        message.state = advance(message.state, Failed(match.attempt, "provider_refused", status.code, status.at))
    elif status.status in get_args(DeliveryStatus):
        message.state = advance(message.state, Reached(match.attempt, status.status, status.at))  # type: ignore[arg-type]  # narrowed by get_args
