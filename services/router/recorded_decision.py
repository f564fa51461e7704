"""A decision as it stands recorded: its row, its message, and the events that publish it. Pure.

Rule 1: nothing is published that is not recorded. A redelivered intent publishes the same again.
Rule 2: the router publishes the statuses that it sets itself: of silent and rejected intents, and of messages that only
the portal shows. Where the message has moved on meanwhile, its newest status is published instead.
Rule 3: a decision's record holds intent, facts and instant in one versioned JSON object:
``{"v": 1, "intent": {…} | "bad": {…}, "facts": {…}, "now": "…"}``, and ``"refused"`` where it follows a refusal at a
later gate.
Rule 4: of an intent for a customer who was erased neither its words nor its address are recorded.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, assert_never
from uuid import UUID

import orjson
from pydantic import ValidationError

from libs.common.errors import Permanent
from libs.common.events.base import Part, misfit
from libs.common.events.content import ERASED, IntentContent, OutText
from libs.common.events.fields import EARLIEST
from libs.common.events.intents import BadIntent, Intent
from libs.common.events.outbound import (
    Channel,
    NewStatus,
    OutboundDecision,
    OutboundRefused,
    Route,
)
from libs.common.ids import AttemptKey, MessageKey
from libs.common.sanitize import sanitize
from libs.common.thread.failure_reasons import failure_reason
from libs.common.thread.message_status import Status
from services.router.commands import command_of, given, utc
from services.router.decide import (
    Bridge,
    Decision,
    Rejected,
    Session,
    Silent,
    Template,
    unusable_fallback,
    used_up,
    wrong_fields,
)
from services.router.facts import Attempt, Facts, facts_from_json, facts_to_json

VERSION = 1
_MOST_DETAIL = 200  # characters
_FALLBACK = '"fallback_template"'
_CAPPED = "spend_cap_reached"


class RecordedDecision(NamedTuple):
    """One attempt's decision and its message, as ``decisions`` and ``messages`` hold them.

    ``record``, ``command``, ``content`` and ``window_state`` are JSON.

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
    window_state: str | None
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
    reply_to: str | None
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

    @property
    def detail(self) -> str | None:
        """``detail_of`` this decision, which is read from the record. One without any costs no reading."""
        plain = self.route not in ("bridge", "silent") or _FALLBACK not in self.record
        if plain and self.route != "rejected" and self.reason != _CAPPED:
            return None
        return detail_of(self.route, self.reason, orjson.loads(self.record))

    def decision_event(self, detail: str | None) -> bytes:
        """The value of the event that publishes the decision, with its ``detail``."""
        return OutboundDecision.encode_fields(
            {
                "intent_id": self.intent_id,
                "attempt": self.attempt,
                "org_id": self.org_id,
                "conversation_id": self.conversation_id,
                "route": self.route,
                "channel": self.channel,
                "reason": self.reason,
                "window": None if self.window_state is None else orjson.Fragment(self.window_state),
                "decided_at": self.decided_at,
                **({} if detail is None else {"detail": detail}),
            }
        )

    def delivery_update(self) -> NewStatus | None:
        """The event that publishes the message's status; None while that is pending."""
        if self.status is None or self.status == "pending" or self.seq is None or self.status_at is None:
            return None
        return NewStatus(
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
    """The rows of a decision.

    ``attempt.facts.conversation_id`` is set where the message belongs into a thread.
    """
    intent, facts = attempt.intent, attempt.facts
    if facts.erased and isinstance(intent, Intent):
        intent = _nothing_of(intent)
    status, failure = _status(decision, facts, now)
    window = facts.window_state(now)
    kind: str
    actor: str | None
    content = command = reply_to = None
    if isinstance(intent, Intent):
        kind, actor, user_id = intent.content.kind, intent.actor.kind, intent.actor.user_id
        content = _content(intent.content)
        command = command_of(attempt, intent, decision, now)
        if intent.reply_to is not None and not facts.reply_unknown:
            reply_to = str(intent.reply_to)
    else:
        kind, actor, user_id = "invalid", intent.actor_kind, intent.user_id
    if facts.erased:
        kind, content = ERASED["kind"], orjson.dumps(ERASED).decode()
    return RecordedDecision(
        org_id=intent.org_id,
        intent_id=intent.intent_id,
        attempt=attempt.number,
        conversation_id=facts.conversation_id,
        route=decision.route,
        channel=decision.channel,
        reason=decision.reason,
        window_state=None if window is None else orjson.dumps(window, option=orjson.OPT_UTC_Z).decode(),
        slot_holder=decision.slot_holder if isinstance(decision, Silent) else None,
        record=pack(intent, facts, now, attempt.refused),
        command=None if command is None else stored(command.decode()),
        decided_at=now,
        message_channel=_message_channel(intent, decision),
        kind=kind,
        actor=actor,
        user_id=None if user_id is None else sanitize(user_id),
        sequence=attempt.sequence,
        content=None if content is None else stored(content),
        reply_to=reply_to,
        occurred_at=_occurred(intent.created_at, now),
        status=status,
        seq=0 if status == "pending" else 1,
        failure=failure,
        provider_code=None,
        status_at=None if status == "pending" else now,
    )


def _nothing_of(intent: Intent) -> BadIntent:
    """What is kept of an intent for a customer who was erased."""
    return BadIntent(
        intent_id=intent.intent_id,
        org_id=intent.org_id,
        reason="customer_erased",
        detail="erased",
        conversation_id=intent.conversation_id,
        created_at=intent.created_at,
        actor_kind=intent.actor.kind,
        user_id=intent.actor.user_id,
    )


def _occurred(created_at: datetime | None, now: datetime) -> datetime:
    """When the thread says that the message was written.

    Before 1970 is a clock that was never set, and not every zone can show the ends of the calendar.
    """
    return utc(created_at) if created_at is not None and EARLIEST <= created_at <= now else now


def _content(content: IntentContent) -> str:
    """The content without fields that are null. A text has none, and is written in half the time."""
    return content.encode().decode() if isinstance(content, OutText) else content.model_dump_json(exclude_none=True)


def _status(decision: Decision, facts: Facts, now: datetime) -> tuple[Literal["pending", "sent", "failed"], str | None]:
    """The message's status and the reason of a failure."""
    match decision:
        case Session(channel="portal"):
            return "sent", None  # the portal shows it; there is nothing to send
        case Session() | Template() | Bridge():
            return "pending", None
        case Silent():
            return "failed", failure_reason(decision.reason, facts.closed_by(now))
        case Rejected():
            return "failed", decision.reason
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


def stored(json: str) -> str:
    """The same JSON as PostgreSQL can store it: U+0000 becomes U+FFFD.

    Neither orjson nor pydantic lets a lone surrogate in.
    """
    return orjson.dumps(sanitize(orjson.loads(json))).decode() if "\\u0000" in json else json


def pack(
    intent: Intent | BadIntent, facts: Facts, now: datetime, refused: OutboundRefused | Mapping[str, Any] | None = None
) -> str:
    """The record as text for a json column. A BadIntent is kept without what made it bad, which may be anything."""
    if isinstance(intent, Intent):
        parts = {"actor": given(intent.actor), "content": given(intent.content)}
        found: dict[str, Any] = {"v": VERSION, "intent": given(intent) | parts}
    else:
        found = {"v": VERSION, "bad": asdict(intent)}
    found |= {"facts": facts_to_json(facts), "now": now}
    if refused is not None:
        found["refused"] = orjson.Fragment(refused.encode()) if isinstance(refused, OutboundRefused) else refused
    return stored(orjson.dumps(found, default=_given_or_text, option=orjson.OPT_UTC_Z).decode())


def _given_or_text(value: Any) -> Any:
    return given(value) if isinstance(value, Part) else str(value)


def intent_of(record: Mapping[str, Any]) -> Intent | BadIntent:
    """The intent that a record was made for.

    Raises Permanent when a later release wrote it, in a version or in words that are not known here.
    """
    if record["v"] != VERSION:
        raise Permanent("unknown_version", "the decision's record is of another version")
    if "intent" in record:
        try:
            return Intent.model_validate_json(orjson.dumps(record["intent"]))
        except ValidationError as error:
            raise misfit(error, "the decision's record: ") from None
    bad = record["bad"]
    conversation_id, created_at = bad["conversation_id"], bad["created_at"]
    return BadIntent(
        **bad
        | {
            "intent_id": UUID(bad["intent_id"]),
            "conversation_id": conversation_id and UUID(conversation_id),
            "created_at": created_at and datetime.fromisoformat(created_at),
        }
    )


def detail_of(route: str, reason: str, record: Mapping[str, Any]) -> str | None:
    """Which fields of a rejected intent are wrong, or of the fallback that could not be sent; never their values.

    Of a silent one also which cap on SMS is used up. ``record`` as ``unpack`` takes it.
    """
    try:
        intent, facts, now = unpack(record)
    except Permanent:  # a later release recorded it
        return None
    found = None
    if route == "rejected":
        found = wrong_fields(intent, facts, reason)
    elif route in ("bridge", "silent"):
        found = unusable_fallback(intent, facts, now)
        if reason == _CAPPED:
            found = "; ".join(filter(None, (used_up(intent, facts), found))) or None
    return None if found is None else found[:_MOST_DETAIL]


def unpack(record: Mapping[str, Any]) -> tuple[Intent | BadIntent, Facts, datetime]:
    """The arguments of ``decide``. Calling it again must give the decision that is stored beside the record."""
    return intent_of(record), facts_from_json(record["facts"]), datetime.fromisoformat(record["now"]).astimezone(UTC)
