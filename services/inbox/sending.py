"""What staff ask for: messages, the wish for a bridge, to take a conversation over and to give it back.

Rule 1: API and pages send by ``Sending.send`` alone. It publishes an intent like everybody's, and the router decides.
Rule 2: an id is one message. The same Idempotency-Key of a person is the same id; with another body it is refused. A
        wish whose intent is on the topic is not published again, and holds nothing again.
Rule 3: what was asked for, its line in the audit log and the hold are committed first, then all is published together.
        Where Kafka does not take it, nothing was sent: the hold is taken back unless the conversation was held before,
        and the same key may be used again.
Rule 4: a free-form message holds the AI, in the conversation that it goes to. Templates, reactions and the wish for a
        bridge hold nothing.
Rule 5: what stands of a hold and is not known to be published is published by a task of one replica.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid4

import orjson

from libs.common.clock import Clock
from libs.common.db.locks import try_alone
from libs.common.db.pool import Connection, Pool
from libs.common.directory import holds
from libs.common.directory.holds import Hold, Said
from libs.common.directory.organisations import AuditLine, add_lines
from libs.common.errors import Transient
from libs.common.events.base import fields_or_text
from libs.common.events.content import IntentContent, OutBridge, OutReaction, OutTemplate, TemplateFields
from libs.common.events.fields import ConsentPurpose
from libs.common.events.intents import FirstContact, Intent
from libs.common.forgetting import forget_all
from libs.common.ids import keyed_intent_id
from libs.common.inbox_policy import inbox_policy_of
from libs.common.kafka.producer import Producer
from libs.common.logging import get_logger
from libs.common.phone import normalise
from libs.common.sanitize import sanitize
from libs.common.template_parameters import faults
from services.inbox import sending_queries as queries
from services.inbox.outbox import hold_record, record_of, staff
from services.inbox.people import Person
from services.inbox.problems import FieldFault, Problem, away, invalid, not_found, refuse_beyond_limits, value_fault
from services.inbox.sending_queries import Note, Noted, Place

log = get_logger()

MOST_SENDS, PERIOD = 60, timedelta(minutes=1)
"""What one person may ask for."""
KEPT = timedelta(days=8)
"""How long a key is known: an intent lives for seven days."""
PUBLISH_EVERY = timedelta(seconds=5)
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """A message that a person wants sent, to exactly one of ``conversation_id`` and ``to``."""

    content: IntentContent
    conversation_id: UUID | None = None
    to: FirstContact | None = None
    channel: Literal["auto", "whatsapp", "sms", "portal"] = "auto"
    fallback_template: TemplateFields | None = None
    reply_to: UUID | None = None
    purpose: ConsentPurpose | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def holds(self) -> bool:
        """Whether it takes the conversation over."""
        return not isinstance(self.content, OutTemplate | OutBridge | OutReaction)

    def hash(self) -> bytes:
        """What two wishes under one id have in common when they are the same."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        written = orjson.dumps(parts, default=fields_or_text, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
        return sha256(written).digest()


class Sent(NamedTuple):
    """The intent of a wish. ``conversation_id`` is the present one, None of a first contact."""

    intent_id: UUID
    conversation_id: UUID | None


class _Kept(NamedTuple):
    """What is committed of a wish before anything is published."""

    content: IntentContent
    hold: Said | None


@dataclass(frozen=True, slots=True)
class Sending:
    """One for a process."""

    pool: Pool
    producer: Producer
    now: Clock

    async def send(self, person: Person, wish: Wish, key: UUID | str | None = None) -> Sent:
        """Send it once. ``key`` is an id of the person's own choice, or an Idempotency-Key.

        Raises Problem: 404 where a conversation, a number or a quoted message is not the organisation's, 422 where Meta
        would not take the content or the values of a template that is known, no SMS can carry what is to go by SMS,
        the customer's number is none or the id was used for something else, 429 over the limit, 503 where Kafka is
        away.
        """
        refuse_beyond_limits(wish.content, wish.channel)
        intent_id = uuid4() if key is None else key
        if isinstance(intent_id, str):
            intent_id = keyed_intent_id(person.org_id, person.user_id, intent_id)
        now = self.now()
        async with self.pool.acquire() as db, db.transaction():
            place = await self._place(db, person, wish)
            if isinstance(key, UUID) and await queries.came_in(db, person.org_id, key):
                raise invalid(FieldFault("intent_id", "it is the id of a message of the customer"))
            note = Note(person.org_id, intent_id, person.user_id, wish.hash(), now)
            if await self._is_done(db, note, "intent_id" if isinstance(key, UUID) else "Idempotency-Key"):
                return Sent(intent_id, place.conversation_id)
            await _refuse_values(db, person.org_id, wish, place)
            kept = await self._keep(db, person, wish, place, note)
        intent = Intent(
            intent_id=intent_id,
            org_id=person.org_id,
            conversation_id=place.conversation_id,
            to=wish.to,
            actor=staff(person.user_id),
            content=kept.content,
            channel=wish.channel,
            fallback_template=wish.fallback_template,
            reply_to=wish.reply_to,
            purpose=wish.purpose,
            created_at=wish.created_at or now,
            expires_at=wish.expires_at,
        )
        await self._publish(intent, kept.hold)
        return Sent(intent_id, place.conversation_id)

    async def hold(self, person: Person, conversation_id: UUID) -> None:
        """The person takes the conversation over for as long as the policy says. Raises Problem (404)."""
        async with self.pool.acquire() as db, db.transaction():
            place = await queries.conversation(db, person.org_id, conversation_id)
            if place is None:
                raise not_found()
            said = await self._hold(db, person, place)
        await self._tell(said.stands)

    async def release(self, person: Person, conversation_id: UUID) -> None:
        """The AI may answer again in the conversation. Raises Problem (404)."""
        word = Hold(person.org_id, conversation_id, person.user_id, self.now(), None)
        async with self.pool.acquire() as db, db.transaction():
            said = await holds.say(db, word)
        if said is None:
            raise not_found()
        await self._tell(said.stands)

    async def keep_release(
        self, db: Connection, person: Person, conversation_id: UUID, intent_id: UUID, content: Mapping[str, Any]
    ) -> Said:
        """What is committed beside the release of parked texts that a person asks for.

        It counts as a message of theirs, is written down as one, and takes the conversation over. The caller publishes
        what stands then, with the intent (``hold_record``), and says ``released`` or ``not_released``. Raises Problem
        (404, 429).
        """
        place = await queries.conversation(db, person.org_id, conversation_id)
        if place is None:
            raise not_found()
        now = self.now()
        body = sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).digest()
        note = Note(person.org_id, intent_id, person.user_id, body, now)
        _refuse_too_many(await queries.note(db, note, PERIOD, MOST_SENDS), now)
        await _write_down(db, note, place, str(content["kind"]))
        return await self._hold(db, person, place)

    async def released(self, db: Connection, held: Said) -> None:
        """Kafka has what ``keep_release`` returned."""
        await holds.mark_published(db, [held.stands])

    async def not_released(self, db: Connection, held: Said) -> None:
        """Nothing came of it: the AI may answer again, where it might before."""
        if held.was_free:
            await holds.take_back(db, held.stands)

    async def publish_left(self) -> None:
        """Publish what stands of holds and is not known to be published. One replica does it at a time."""
        async with self.pool.acquire() as db, db.transaction():
            if not await try_alone(db, "holds.publish"):
                return
            left = await holds.unpublished(db, _AT_ONCE)
            await self.producer.publish([hold_record(one) for one in left])
            await holds.mark_published(db, left)

    async def forget(self) -> None:
        """Delete the keys that nobody uses any more."""
        await forget_all(self.pool, queries.forget, self.now() - KEPT)

    async def _place(self, db: Connection, person: Person, wish: Wish) -> Place:
        place = None
        if wish.conversation_id is not None:
            place = await queries.conversation(db, person.org_id, wish.conversation_id)
        elif wish.to is not None:
            if normalise(wish.to.phone) is None:
                raise invalid(FieldFault("to.phone", "this is no phone number: write it with its country code"))
            place = await queries.number(db, person.org_id, sanitize(wish.to.phone_number_id))
        if place is None:
            raise not_found()
        if wish.reply_to is not None and (
            place.conversation_id is None
            or not await queries.is_in(db, person.org_id, place.conversation_id, wish.reply_to)
        ):
            raise not_found()
        return place

    async def _is_done(self, db: Connection, note: Note, field: str) -> bool:
        """Whether the intent of this id is on the topic. Else it is noted.

        Raises Problem where the id was used for something else, or the person asks for too much.
        """
        for _ in range(2):  # somebody may note the same id meanwhile
            before = await queries.before(db, note.org_id, note.intent_id)
            if before is not None:
                if before.body_hash != note.body_hash:
                    raise invalid(FieldFault(field, "it was used for another message"))
                return before.published
            noted = await queries.note(db, note, PERIOD, MOST_SENDS)
            if noted.stored:
                return False
            _refuse_too_many(noted, note.at)
        raise Transient("the same key is used at this moment")

    async def _keep(self, db: Connection, person: Person, wish: Wish, place: Place, note: Note) -> _Kept:
        """Name the message of a reaction to Meta, write down who sends for whom, take the conversation over."""
        content = wish.content
        if isinstance(content, OutReaction) and place.conversation_id is not None:
            content = await _named_to_meta(db, person.org_id, place.conversation_id, content)
        await _write_down(db, note, place, content.kind)
        taken = wish.holds and place.conversation_id is not None
        return _Kept(content, await self._hold(db, person, place) if taken else None)

    async def _hold(self, db: Connection, person: Person, place: Place) -> Said:
        assert place.conversation_id is not None  # noqa: S101 -- narrows the type
        now = self.now()
        until = now + inbox_policy_of(place.policy).hold
        said = await holds.say(db, Hold(person.org_id, place.conversation_id, person.user_id, now, until))
        if said is None:
            raise Transient("the conversation was merged meanwhile")
        return said

    async def _publish(self, intent: Intent, held: Said | None) -> None:
        records = [record_of(intent)]
        if held is not None:
            records.append(hold_record(held.stands))
        try:
            await self.producer.publish(records)
        except Transient:
            if held is not None and held.was_free:
                async with self.pool.acquire() as db:
                    await holds.take_back(db, held.stands)
            raise away("Kafka") from None
        async with self.pool.acquire() as db:
            await queries.published(db, intent.org_id, intent.intent_id)
            if held is not None:
                await holds.mark_published(db, [held.stands])
        log.info(
            "intent.published",
            org_id=intent.org_id,
            conversation_id=None if intent.conversation_id is None else str(intent.conversation_id),
            intent_id=str(intent.intent_id),
            kind=intent.content.kind,
        )

    async def _tell(self, stands: Hold) -> None:
        """Publish what stands now, else the task does: the router asks PostgreSQL, so it holds already."""
        try:
            await self.producer.publish([hold_record(stands)])
        except Transient:
            return
        async with self.pool.acquire() as db:
            await holds.mark_published(db, [stands])


def _refuse_too_many(noted: Noted, now: datetime) -> None:
    if noted.too_many and noted.oldest is not None:
        wait = max(1, math.ceil((noted.oldest + PERIOD - now).total_seconds()))
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"one person sends at most {MOST_SENDS} messages a minute",
            headers={"Retry-After": str(wait)},
        )


async def _refuse_values(db: Connection, org_id: str, wish: Wish, place: Place) -> None:
    """Raise Problem (422) where the router would not send a template of the wish for its values."""
    named = {"content": wish.content, "fallback_template": wish.fallback_template}
    found: list[FieldFault] = []
    for field, template in named.items():
        if isinstance(template, TemplateFields) and place.phone_number_id is not None:
            name, language = sanitize(template.name), sanitize(template.language)
            asked = await queries.asked(db, org_id, place.phone_number_id, name, language)
            given = template.parameters, template.header, template.buttons
            found += [] if asked is None else [value_fault(field, fault) for fault in faults(asked, *given)]
    if found:
        raise invalid(*found)


async def _write_down(db: Connection, note: Note, place: Place, kind: str) -> None:
    """Who sends for whom, in the audit log."""
    detail = {
        "user_id": note.user_id,
        "intent_id": str(note.intent_id),
        "conversation_id": None if place.conversation_id is None else str(place.conversation_id),
        "kind": kind,
    }
    key = f"send:{note.org_id}:{note.intent_id}"
    await add_lines(db, [AuditLine(note.org_id, place.customer_id, "send", detail, note.at, key)])


async def _named_to_meta(db: Connection, org_id: str, conversation_id: UUID, reaction: OutReaction) -> OutReaction:
    """A reaction names its message by our id, which the API shows. Meta knows another."""
    try:
        message_id = UUID(reaction.message_id)
    except ValueError:
        return reaction
    found = await queries.meta_id(db, org_id, conversation_id, message_id)
    if found is None:
        raise invalid(FieldFault("content.message_id", "no message of this conversation that WhatsApp knows"))
    return reaction.model_copy(update={"message_id": found})
