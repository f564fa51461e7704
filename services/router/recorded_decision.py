"""A decision as it stands recorded: its row, its message, and the events that publish it. Pure.

Rule 1: nothing is published that is not recorded. A redelivered intent publishes the same again.
Rule 2: the router publishes the statuses that it sets itself: of silent and rejected intents, and of messages that only
the portal shows. Where the message has moved on meanwhile, its newest status is published instead.
"""

from datetime import datetime
from typing import Literal, NamedTuple, assert_never
from uuid import UUID

from libs.common.events.intents import BadIntent, Intent
from libs.common.events.outbound import Channel, DeliveryUpdate, OutboundDecision, Route, WindowState
from libs.common.ids import AttemptKey, MessageKey
from libs.common.sanitize import sanitize
from libs.common.thread.message_status import Status
from services.router.commands import command_of, utc
from services.router.decide import Bridge, Decision, Rejected, Session, Silent, Template, closed_by
from services.router.facts import Attempt, Facts
from services.router.record import pack, stored


class RecordedDecision(NamedTuple):
    """One attempt's decision and its message, as ``decisions`` and ``messages`` hold them.

    ``record``, ``command`` and ``content`` are JSON.

    ``message_channel``: where the thread shows the message. ``seq`` and ``status_at`` are of its present ``status``.
    ``failure`` and ``provider_code`` are set while that is ``failed``. Where the message's id belongs to another
    message, ``seq`` is None.
    """

    org_id: str
    intent_id: UUID
    attempt: int
    conversation_id: UUID | None
    route: Route
    channel: Channel | None
    reason: str
    window_state: WindowState | None
    slot_holder: UUID | None
    record: str
    command: str | None
    decided_at: datetime
    message_channel: Channel | None
    kind: str | None
    actor: str | None
    user_id: str | None
    sequence: int | None
    content: str | None
    occurred_at: datetime | None
    status: Status | None
    seq: int | None
    failure: str | None
    provider_code: str | None
    status_at: datetime | None

    @property
    def key(self) -> MessageKey:
        return self.org_id, self.intent_id

    @property
    def attempt_key(self) -> AttemptKey:
        return self.org_id, self.intent_id, self.attempt

    def decision_event(self) -> OutboundDecision:
        """The event that publishes the decision."""
        return OutboundDecision(
            intent_id=self.intent_id,
            attempt=self.attempt,
            org_id=self.org_id,
            conversation_id=self.conversation_id,
            route=self.route,
            channel=self.channel,
            reason=self.reason,
            window=self.window_state,
            decided_at=self.decided_at,
        )

    def delivery_update(self) -> DeliveryUpdate | None:
        """The event that publishes the message's status; None while that is pending."""
        if self.status is None or self.status == "pending" or self.seq is None or self.status_at is None:
            return None
        return DeliveryUpdate(
            message_id=self.intent_id,
            org_id=self.org_id,
            conversation_id=self.conversation_id,
            channel=self.message_channel,
            seq=self.seq,
            status=self.status,
            reason=self.failure,
            provider_code=self.provider_code,
            at=self.status_at,
        )


def record_of(attempt: Attempt, decision: Decision, now: datetime) -> RecordedDecision:
    """What is recorded of a decision.

    ``attempt.facts.conversation_id`` is set where the message belongs into a thread.
    """
    intent, facts = attempt.intent, attempt.facts
    status, failure = _status(decision, facts, now)
    kind: str
    actor: str | None
    content = command = None
    if isinstance(intent, Intent):
        kind, actor, user_id = intent.content.kind, intent.actor.kind, intent.actor.user_id
        content = intent.content.__pydantic_serializer__.to_json(intent.content, exclude_none=True)
        command = command_of(attempt, intent, decision, now)
    else:
        kind, actor, user_id = "invalid", intent.actor_kind, intent.user_id
    return RecordedDecision(
        org_id=intent.org_id,
        intent_id=intent.intent_id,
        attempt=attempt.number,
        conversation_id=facts.conversation_id,
        route=decision.route,
        channel=decision.channel,
        reason=decision.reason,
        window_state=facts.window_state(now),
        slot_holder=decision.slot_holder if isinstance(decision, Silent) else None,
        record=pack(intent, facts, now, attempt.refused),
        command=None if command is None else stored(command.encode()),
        decided_at=now,
        message_channel=_message_channel(intent, decision),
        kind=kind,
        actor=actor,
        user_id=None if user_id is None else sanitize(user_id),
        sequence=attempt.sequence,
        content=None if content is None else stored(content),
        occurred_at=utc(intent.created_at or now),
        status=status,
        seq=0 if status == "pending" else 1,
        failure=failure,
        provider_code=None,
        status_at=None if status == "pending" else now,
    )


def _status(decision: Decision, facts: Facts, now: datetime) -> tuple[Literal["pending", "sent", "failed"], str | None]:
    """The message's status and the reason of a failure."""
    match decision:
        case Session(channel="portal"):
            return "sent", None  # the portal shows it; there is nothing to send
        case Session() | Template() | Bridge():
            return "pending", None
        case Silent(reason="intent_expired" | "whatsapp_consent_off") | Rejected():
            return "failed", decision.reason
        case Silent():
            return "failed", f"{closed_by(facts, now)}_{decision.reason}"
        case _:
            assert_never(decision)


def _message_channel(intent: Intent | BadIntent, decision: Decision) -> Channel:
    """Where the thread shows the message.

    A bridge is a message of its own; the one that it stands in for was meant for WhatsApp.
    """
    match decision:
        case Session():
            return decision.channel
        case Silent() | Rejected() if isinstance(intent, Intent) and intent.channel in ("sms", "portal"):
            return intent.channel
        case _:
            return "whatsapp"
