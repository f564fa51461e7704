"""The messages of a conversation as staff see them: who wrote them, what became of them, and why.

Rule 1: what a person may not see is masked here. No id of a provider is shown: messages name each other by our own ids.
Rule 2: a message that did not arrive says why, in the reader's language (``services.inbox.reasons``).
Rule 3: an SMS always has a cost, whose amount is None where no price is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.db.shares import Shares
from libs.common.ids import bridge_message_id
from libs.common.pages.entries import N_
from libs.common.pages.languages import Language, zone_of
from libs.common.sms_reach import parts_of
from libs.common.thread.failure_reasons import BRIDGE_ALREADY_SENT
from services.inbox import message_queries as queries
from services.inbox.clocks import Clock
from services.inbox.context import filled
from services.inbox.conversations import CONTACT
from services.inbox.cursors import Cursors
from services.inbox.masking import masked_number, masked_text, shown_content
from services.inbox.message_queries import NEWEST, MessageRow, ThreadFacts
from services.inbox.people import Person
from services.inbox.problems import FieldFault, invalid, not_found
from services.inbox.reasons import ASKED, READ_LATER, Explanation, Failure, explain, waiting

PHONE_APP = N_("Phone app")
"""The author of what staff wrote in the WhatsApp Business app: who of them, nobody tells."""
STAFF = N_("Staff")
"""The author of what another system sent for staff, where it did not say for whom."""

AuthorKind = Literal["customer", "ai", "staff", "system"]


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote it. ``user_id`` and ``name`` are of staff. On the phone app there is no id, and the name says so."""

    kind: AuthorKind
    user_id: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Times:
    """When each status was reached, by the provider's clock."""

    sent: datetime | None
    delivered: datetime | None
    read: datetime | None
    failed: datetime | None


@dataclass(frozen=True, slots=True)
class Cost:
    """``estimated``: by the rate card; the provider has not named its price. ``segments`` are of an SMS."""

    amount: Decimal | None
    currency: str | None
    estimated: bool
    segments: int | None


@dataclass(frozen=True, slots=True)
class Parked:
    """A failed message that waits for the window, or waited. ``intent_id``: of the message that carries it now."""

    state: Literal["waiting", "sent", "dropped"]
    intent_id: UUID | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message. ``content`` is masked.

    ``sent_content``: the template that went out in its place, because the window was closed. ``reply_to`` is what it
    answers in the thread, or is a reaction on; ``bridge_for`` what a bridge SMS stands for.
    ``reason_text`` also says why a message waits. ``is_echo``: staff wrote it in the WhatsApp Business app.
    """

    message_id: UUID
    sequence: int
    direction: Literal["in", "out"]
    channel: str
    author: Author
    is_echo: bool
    content: Mapping[str, Any]
    sent_content: Mapping[str, Any] | None
    status: str
    reason: str | None
    reason_text: str | None
    provider_code: str | None
    at: datetime
    times: Times
    notification_type: str | None
    ai_generated: bool
    bridge_for: UUID | None
    reply_to: UUID | None
    cost: Cost | None
    parked: Parked | None


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Newest first. ``next``: the cursor of older ones."""

    items: Sequence[Message]
    next: str | None


class Messages:
    """The read model of threads."""

    def __init__(self, reads: Shares, cursors: Cursors) -> None:
        self._reads = reads
        self._cursors = cursors

    async def page(
        self, person: Person, conversation_id: UUID, language: Language, *, limit: int = 50, cursor: str | None = None
    ) -> MessagePage:
        """A page of a thread. Raises Problem (404, 422)."""
        async with self._reads.of(person.org_id) as db:
            return await self.read_page(db, person, conversation_id, language, limit=limit, cursor=cursor)

    async def read_page(
        self,
        db: Connection,
        person: Person,
        conversation_id: UUID,
        language: Language,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> MessagePage:
        """The same on a connection that the caller has."""
        of = await self._thread(db, person, conversation_id)
        scope = (person.org_id, "messages", str(of.conversation_id))
        below = NEWEST
        if cursor is not None:
            try:
                (below,) = self._cursors.read(scope, cursor)
            except ValueError as error:
                raise invalid(FieldFault("cursor", str(error))) from None
        rows = await queries.page(db, person.org_id, of, below, limit + 1)
        more, rows = len(rows) > limit, rows[:limit]
        following = self._cursors.write(scope, [rows[-1].sequence]) if more else None
        return MessagePage(await self._shown(db, person, of, rows, language), following)

    async def these(
        self, person: Person, conversation_id: UUID, message_ids: Sequence[UUID], language: Language
    ) -> Sequence[Message]:
        """These messages of a conversation, newest first. Raises Problem (404) for an unknown conversation."""
        async with self._reads.of(person.org_id) as db:
            of = await self._thread(db, person, conversation_id)
            rows = await queries.these(db, person.org_id, of, message_ids)
            return await self._shown(db, person, of, rows, language)

    async def _thread(self, db: Connection, person: Person, conversation_id: UUID) -> ThreadFacts:
        of = await queries.thread(db, person.org_id, conversation_id, self._reads.pool.now())
        if of is None:
            raise not_found()
        return of

    async def _shown(
        self, db: Connection, person: Person, of: ThreadFacts, rows: Sequence[MessageRow], language: Language
    ) -> list[Message]:
        holders = {
            row.message_id: bridge_message_id(row.slot_holder)
            for row in rows
            if row.slot_holder is not None and (row.reason or "").endswith(BRIDGE_ALREADY_SENT)
        }
        asked = await queries.asked_at(db, person.org_id, sorted(set(holders.values())))
        shower = _Shower(person, of, language, self._reads.pool.now())
        return [shower.message(row, asked.get(holders.get(row.message_id, row.message_id))) for row in rows]


class _Shower:
    """Makes the shown messages of one thread for one person."""

    def __init__(self, person: Person, of: ThreadFacts, language: Language, now: datetime) -> None:
        self._contact = person.may(CONTACT)
        self._of = of
        self._language = language
        self._own = [number for number in (of.phone, of.wa_id) if number]
        self._clock = Clock(now, zone_of(of.display_number or of.sms_number), language)
        phone = of.phone or (None if of.wa_id is None else f"+{of.wa_id}")
        name = of.name if of.name is None or self._contact else masked_text(of.name, self._own)
        self._name = name or (phone if self._contact else masked_number(phone))

    def message(self, row: MessageRow, asked_at: datetime | None) -> Message:
        is_bridge = row.notification_type == "bridge"
        return Message(
            message_id=row.message_id,
            sequence=row.sequence,
            direction="in" if row.direction == "in" else "out",
            channel=row.channel,
            author=self._author(row),
            is_echo=row.is_echo,
            content=self._content(row, row.content, None if row.sent is not None else row.body),
            sent_content=None if row.sent is None else self._content(row, row.sent, row.body),
            status=row.status,
            reason=row.reason if row.status == "failed" else None,
            reason_text=self._reason_text(row, asked_at),
            provider_code=row.provider_code if row.status == "failed" else None,
            at=row.occurred_at,
            times=Times(row.sent_at, row.delivered_at, row.read_at, row.failed_at),
            notification_type=row.notification_type,
            ai_generated=row.ai_generated,
            bridge_for=row.parent_id if is_bridge else None,
            reply_to=_reply_to(row),
            cost=_cost(row),
            parked=None if row.parked is None else Parked(row.parked, row.released_by),
        )

    def _author(self, row: MessageRow) -> Author:
        if row.direction == "in":
            return Author("customer", None, None)
        if row.is_echo:
            return Author("staff", None, self._language.words.gettext(PHONE_APP))
        if row.actor == "staff":
            return Author("staff", row.user_id, row.user_name)
        return Author("ai" if row.actor == "ai" else "system", None, None)

    def _content(self, row: MessageRow, content: Mapping[str, Any], body: str | None) -> Mapping[str, Any]:
        if content.get("kind") == "template" and body is not None:
            content = {**content, "text": filled(content, body)}
        return shown_content(content, contact=self._contact, own=self._own, target=row.named_message)

    def _reason_text(self, row: MessageRow, asked_at: datetime | None) -> str | None:
        words = self._language.words
        if row.status == "failed" and row.kind == "bridge" and (row.reason or "").endswith("bridge_sent"):
            return Explanation((ASKED,), {"name": self._name} if self._name else {}).text(words)
        if row.status == "failed" and row.direction == "out":
            return explain(self._failure(row, asked_at)).text(words)
        if row.status == "read" and row.failed_at is not None and row.read_at is not None:
            return Explanation((READ_LATER,), {"read_at": self._clock.time(row.read_at)}).text(words)
        if row.status == "pending" and row.channel == "whatsapp" and self._of.rests is not None:
            scope, kind, reason = self._of.rests.split(" ", 2)
            return waiting(kind, reason).text(words) if scope == "all" or row.kind == "template" else None
        return None

    def _failure(self, row: MessageRow, asked_at: datetime | None) -> Failure:
        template = row.sent or (row.content if row.kind == "template" else {})
        until = self._of.slot_until if row.slot_holder == self._of.slot_holder else None
        return Failure(
            row.reason,
            row.provider_code,
            channel=row.channel,
            name=self._name,
            org=self._of.org_name,
            user=self._of.held_by,
            template=_text(template.get("name")),
            language=_text(template.get("language")),
            template_state=row.template_state,
            asked_at=None if asked_at is None else self._clock.time(asked_at),
            next_at=None if until is None else self._clock.with_day(until),
            failed_at=None if row.failed_at is None else self._clock.time(row.failed_at),
        )


def _reply_to(row: MessageRow) -> UUID | None:
    if row.direction == "in" or row.kind == "reaction":
        return row.named_message
    try:
        return None if row.replied_message is None else UUID(row.replied_message)
    except ValueError:
        return None


def _cost(row: MessageRow) -> Cost | None:
    """What it costs. Of an SMS that is not bought yet: what it would."""
    if row.estimated is not None:
        segments = row.segments if row.channel == "sms" else None
        return Cost(row.price, row.currency, row.estimated, segments)
    if row.channel != "sms":
        return None
    amount, _, currency = (row.estimate or "").partition(" ")
    text = row.content.get("text")
    try:
        price = Decimal(amount) if amount else None
    except InvalidOperation:
        price = None
    segments = parts_of(text) if isinstance(text, str) and text else 1
    return Cost(price, currency or None, estimated=True, segments=segments)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
