"""What statuses of providers come to: for the messages, for others, and for whom to tell. No I/O; ``libs.common.db.statuses`` brings it about.

Meta's 131047 on a free-form send is no failure of the message but a refusal: it is stored on the conversation (``refused_at``) and told
to the router, which decides again. A bridge that fails after its acceptance has used its conversation's day all the same, and the original keeps
its reason; what became of the SMS is told of the bridge message itself.

A failure that lies with the recipient marks the address; an SMS that arrived is a sign of life from it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from libs.common.db.messages import LockedMessage, told
from libs.common.directory.marks import Sign
from libs.common.directory.recipients import Unreached
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused
from libs.common.faults import RecipientFault
from libs.common.ladder import Failed, Reached, Rung, advance
from libs.common.providers import twilio

RE_ENGAGEMENT = "131047"
Provider = Literal["meta", "sms"]


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
    """Whose status it is: the message that it feeds, and the row of ``sends`` that it is about."""

    org_id: str
    message_id: UUID
    send_id: UUID
    attempt: int


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
    unreached: list[Unreached] = field(default_factory=list)
    signs: list[Sign] = field(default_factory=list)

    def take(self, message: LockedMessage, conversation_id: UUID, match: Match, status: ProviderStatus) -> None:
        if status.status == "failed" and status.code == RE_ENGAGEMENT and message.kind != "template":
            self.refused.append((match.org_id, conversation_id, status.at))
            if message.state.status in {"pending", "sent"} and message.state.attempt == match.attempt:
                self.effects.refusals.append(_window_refusal(match, conversation_id, status))
            return
        before = message.state
        _apply(message, match, status)
        update = told(message)
        if update is not None:
            self.effects.updates.append(update)
        if status.status == "failed" and _ended_by_provider(message, match) and message.state.seq > before.seq:
            self._blame(message, conversation_id, match, status)
        if status.provider == "sms" and status.status in {"delivered", "read"} and message.sent_to is not None:
            self.signs.append(Sign(match.org_id, "sms", message.sent_to, status.at))

    def _blame(self, message: LockedMessage, conversation_id: UUID, match: Match, status: ProviderStatus) -> None:
        """Remember what lies with the recipient of this send."""
        fault = twilio.fault_of(status.code) if status.provider == "sms" else None
        if isinstance(fault, RecipientFault) and status.code is not None and message.sent_to is not None:
            self.unreached.append(
                Unreached(
                    match.org_id, conversation_id, "sms", message.sent_to, fault, status.code, "status", status.at
                )
            )


def _ended_by_provider(message: LockedMessage, match: Match) -> bool:
    state = message.state
    return state.attempt == match.attempt and state.status == "failed" and state.reason == "provider_refused"


def _apply(message: LockedMessage, match: Match, status: ProviderStatus) -> None:
    if status.status == "failed":
        message.state = advance(message.state, Failed(match.attempt, "provider_refused", status.code, status.at))
    elif status.status in get_args(Rung):
        message.state = advance(message.state, Reached(match.attempt, status.status, status.at))  # type: ignore[arg-type]  # narrowed by get_args


def _window_refusal(match: Match, conversation_id: UUID, status: ProviderStatus) -> OutboundRefused:
    return OutboundRefused(
        intent_id=match.send_id,
        attempt=match.attempt,
        org_id=match.org_id,
        conversation_id=conversation_id,
        reason="window_closed",
        provider_code=RE_ENGAGEMENT,
        at=status.at,
    )
