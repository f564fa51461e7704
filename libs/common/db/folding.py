"""What statuses of providers come to: for the messages, for others, and for whom to tell. No I/O; ``libs.common.db.statuses`` brings it about.

Meta's 131047 on a free-form send is no failure of the message but a refusal: it is stored on the conversation (``refused_at``) and told
to the router, which decides again. A bridge that fails after its acceptance gives its slot back; the original keeps its reason.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from libs.common.db.messages import LockedMessage, told
from libs.common.db.recipients import FAULT_OF_CODE, RecipientMark
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused
from libs.common.ladder import Failed, Reached, Rung, advance
from libs.common.slots import Slot

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
    """What to publish after the commit, and the bridge slots given back, to be brought in line in Redis (``RedisSlots.align(lost=…)``)."""

    updates: list[DeliveryUpdate] = field(default_factory=list)
    refusals: list[OutboundRefused] = field(default_factory=list)
    freed: list[Slot] = field(default_factory=list)


@dataclass(slots=True)
class Folded:
    """What a batch of statuses comes to."""

    effects: Effects = field(default_factory=Effects)
    refused: list[tuple[str, UUID, datetime]] = field(default_factory=list)
    marks: list[RecipientMark] = field(default_factory=list)

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
        if status.status == "failed" and _ended_by_provider(message, match):
            if message.notification_type == "bridge":  # also on a repeat: the first time may not have been told
                self.effects.freed.append(Slot(match.org_id, conversation_id, match.send_id))
            if message.state.seq > before.seq:
                self._mark(message, conversation_id, match, status)

    def _mark(self, message: LockedMessage, conversation_id: UUID, match: Match, status: ProviderStatus) -> None:
        fault = FAULT_OF_CODE.get(status.code or "") if status.provider == "sms" else None
        if fault is not None and status.code is not None and message.sent_to is not None:
            mark = RecipientMark(match.org_id, conversation_id, message.sent_to, fault, status.code, status.at)
            self.marks.append(mark)


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
