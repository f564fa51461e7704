"""``outbound.intents.v1``: the messages that an AI agent or staff want sent.

A record without a readable type, intent id and org id is a dead letter. Any other fault is answered to its producer: it
becomes a ``BadIntent`` and is decided as rejected. So it ends in a terminal state like every other intent.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from libs.common.errors import Undecodable
from libs.common.events.base import Event, Part, event_type, faults, misfit, no_type, read_json_object, without_nulls
from libs.common.events.content import MAX_ID, OUT_KINDS, IntentContent, TemplateFields
from libs.common.events.fields import EARLIEST, MAX_USER_ID, ConsentPurpose, OrgId
from libs.common.nesting import DEEPEST, text_is_deeper
from libs.common.sanitize import sanitize

ActorKind = Literal["ai", "staff", "system"]
LIFE = timedelta(days=7)
_ACTOR_KINDS: dict[str, ActorKind] = {"ai": "ai", "staff": "staff", "system": "system"}


LINK_WANTED = "portal.link_wanted"
"""The capability of a system intent that asks for a bridge because the customer wants a fresh link."""


class Actor(Part):
    """The author of an intent."""

    kind: ActorKind
    user_id: Annotated[str, Field(max_length=MAX_USER_ID)] | None = None
    capabilities: Annotated[list[Annotated[str, Field(max_length=MAX_USER_ID)]], Field(max_length=200)] = Field(
        default_factory=list
    )


class FirstContact(Part):
    """A customer by phone number, when no conversation is known yet."""

    phone_number_id: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    phone: Annotated[str, Field(min_length=1, max_length=MAX_ID)]


class Intent(Event):
    """One message to be sent. ``intent_id`` is the idempotency key: the same id again is the same message.

    ``reply_to`` is the ``message_id`` of the message in the thread that this one quotes.
    """

    TYPE: ClassVar[str] = "outbound.intent.v1"

    type: Literal["outbound.intent.v1"] = "outbound.intent.v1"
    intent_id: UUID
    org_id: OrgId
    conversation_id: UUID | None = None
    to: FirstContact | None = None
    actor: Actor
    content: IntentContent
    channel: Literal["auto", "whatsapp", "sms", "portal"] = "auto"
    fallback_template: TemplateFields | None = None
    reply_to: UUID | None = None
    purpose: ConsentPurpose | None = None
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_address(self) -> "Intent":
        if (self.conversation_id is None) == (self.to is None):
            raise ValueError("exactly one of conversation_id and to is needed")
        return self

    def bounded(self, now: datetime) -> "Intent":
        """The same intent, expiring at most ``LIFE`` after its creation, so that no row waits for ever.

        A producer's clock may be wrong: an intent from the future counts as created now. Nothing expired before
        ``EARLIEST``, for UTC does not have the first hours of some zones' calendar.
        """
        if self.expires_at is None:
            return self
        latest = min(self.created_at, now) + LIFE
        if EARLIEST <= self.expires_at <= latest:
            return self
        nearest = max(min(self.expires_at, latest), EARLIEST)
        return self.model_copy(update={"expires_at": nearest.astimezone(UTC)})


@dataclass(frozen=True, slots=True)
class BadIntent:
    """An intent with a fault, which is answered by a rejection, or one of which nothing is kept.

    ``reason`` is the reason of the decision. ``detail`` names fields, never values.
    """

    intent_id: UUID
    org_id: str
    reason: Literal["invalid_intent", "unsupported_content", "customer_erased"]
    detail: str
    conversation_id: UUID | None
    created_at: datetime | None
    actor_kind: ActorKind | None
    user_id: str | None

    def bounded(self, _now: datetime) -> "BadIntent":
        """The same as for an ``Intent``; it has no row that waits."""
        return self


class _Envelope(Part):
    type: Literal["outbound.intent.v1"]
    intent_id: UUID
    org_id: OrgId


def decode_intent(value: bytes | None) -> Intent | BadIntent:
    """The intent in a record's value. Raises Undecodable when no producer can be answered."""
    try:
        intent = without_nulls(Intent.model_validate_json, value)
    except ValidationError as error:
        return _bad(_object(value), error, _not_utf8(value or b""))
    if "type" not in intent.model_fields_set:
        raise no_type()
    return intent


def _object(value: bytes | None) -> dict[str, Any]:
    """As ``read_json_object``, but lone surrogates are replaced.

    JSON allows half an emoji, which cannot be stored or sent. Its producer still gets an answer.
    """
    try:
        return read_json_object(value)
    except Undecodable as strictly:
        if text_is_deeper(value or b"", DEEPEST):
            raise strictly from None
        try:
            found = sanitize(json.loads(value or b"", parse_constant=_no_json))
        except ValueError:
            raise strictly from None
        if not isinstance(found, dict):
            raise strictly from None
        return found


def _no_json(constant: str) -> None:
    raise ValueError(constant)


def _not_utf8(value: bytes) -> str | None:
    """What is wrong with the bytes of a value that is JSON in another encoding than UTF-8; None where nothing is."""
    encoding = json.detect_encoding(value)
    if encoding == "utf-8-sig":
        return "value: a byte order mark stands before the JSON"
    return None if encoding == "utf-8" else f"value: it is {encoding[:6].upper()}, and UTF-8 is expected"


def _bad(found: dict[str, Any], error: ValidationError, not_utf8: str | None) -> BadIntent:
    event_type(found)
    try:
        envelope = _Envelope.model_validate(found)
    except ValidationError as worse:
        raise misfit(worse) from None
    content, actor = found.get("content"), found.get("actor")
    kind = content.get("kind") if isinstance(content, dict) else None
    author = actor if isinstance(actor, dict) else {}
    return BadIntent(
        intent_id=envelope.intent_id,
        org_id=envelope.org_id,
        reason="unsupported_content" if isinstance(kind, str) and kind not in OUT_KINDS else "invalid_intent",
        detail=not_utf8 or faults(error),
        conversation_id=_uuid(found.get("conversation_id")),
        created_at=_instant(found.get("created_at")),
        actor_kind=_ACTOR_KINDS.get(str(author.get("kind"))),
        user_id=user_id if isinstance(user_id := author.get("user_id"), str) and len(user_id) <= MAX_USER_ID else None,
    )


def _uuid(raw: object) -> UUID | None:
    try:
        return UUID(raw) if isinstance(raw, str) else None
    except ValueError:
        return None


def _instant(raw: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(raw) if isinstance(raw, str) else None
        return None if found is None else found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # no time, or one that UTC does not have
        return None
