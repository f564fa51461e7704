"""Park and release: texts that could not go wait, and go when the window is open.

Rule 1: a release is a new intent. The message that failed keeps its end, and the text counts as sent from then on: no
        later release carries it. Two replicas, two people or a redelivery release once, because the texts are locked
        and their state is asked behind the lock.
Rule 2: the texts and the intent that carries them are stored in one transaction, the intent is published after it, and
        then forgotten. What a kill leaves in between is published by ``publish_left``, under the same id.
Rule 3: where Kafka does not take the intent of a person, the texts wait again and the person is told. The next release
        of them has the same id, so that it is the same message if the first one arrived after all.
Rule 4: by policy (``send``) texts go while the window is open and nobody of the staff holds the conversation. That is
        asked when the customer writes, when something of theirs changes without an event (``touched``), when a text
        fails and when one is kept, each time after what happened is committed: the later of two sees the other.
        What fails into a window that was open already waits for the next message: what refused it would refuse it again
        (a marked address, a margin of the router), and each release would be one more failed message. Whether the
        customer has written is told by what its decision knew: their clock is not ours, and webhooks come late.
Rule 5: a person's release holds the AI like any free-form message that staff send here. A release by policy holds
        nothing.
Rule 6: nothing is offered or sent after its expiry, nor what the portal has shown, nor what the customer has read.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from libs.common.clock import Clock
from libs.common.db.pool import Connection, Pool
from libs.common.db.shares import Shares
from libs.common.directory.holds import Said
from libs.common.errors import Transient
from libs.common.events.content import IntentContent
from libs.common.events.intents import LIFE, Actor, Intent
from libs.common.forgetting import forget_all
from libs.common.ids import MessageKey
from libs.common.inbox_policy import inbox_policy_of
from libs.common.kafka.producer import Producer, Record
from libs.common.logging import get_logger
from libs.common.periodic import Task
from libs.common.sanitize import sanitize
from libs.common.thread.conversations import lock_known_against_merge
from services.inbox import feed_queries
from services.inbox import parked_queries as queries
from services.inbox.conversations import CONTACT
from services.inbox.feed import Change
from services.inbox.heads import refresh
from services.inbox.masking import shown_content
from services.inbox.message_queries import thread
from services.inbox.outbox import hold_record, intent_record, staff
from services.inbox.parked_queries import ConversationKey, FailedMessage, NewParked, Opening, ParkedRow
from services.inbox.parking import KEPT_FOR, Parcel, ParkedText, parcels, waits
from services.inbox.people import Person
from services.inbox.problems import not_found
from services.inbox.sending import Sending
from services.inbox.windows import WindowRule

log = get_logger()

LEFT_AFTER = timedelta(seconds=30)
"""A release that is older and not known to be published was left by a process that is gone, or by an outage."""
PUBLISH_EVERY = timedelta(seconds=5)
FORGET_EVERY = timedelta(minutes=10)
KEPT_AFTER = timedelta(days=7)
"""How long what became of a text is kept after its expiry: a request that is repeated is answered alike."""
_AT_ONCE = 500
_ROUNDS = 20
_CONTENT: TypeAdapter[IntentContent] = TypeAdapter(IntentContent)

Refusal = Literal["unknown", "dropped", "expired", "arrived", "too_many", "differs", "erased"]
"""Why nothing was done: there is no such text, or it was dropped, or its time is over, or the customer has it already,
or as many wait as may, or the id is that of another text, or the customer was erased.
"""


class NotPublished(Transient):
    """Kafka did not take the intent of a release, and its texts wait again: the person may try again."""


@dataclass(frozen=True, slots=True)
class ParkedTexts:
    """``rule`` is how windows are judged. ``sending``: a person's release is a message that they send.

    ``reads`` are the connections for what people read.
    """

    pool: Pool
    producer: Producer
    now: Clock
    rule: WindowRule
    sending: Sending
    reads: Shares

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {
            "parked.releases": (PUBLISH_EVERY, self.publish_left),
            "parked.forget": (FORGET_EVERY, self.forget),
        }

    async def waiting(self, asked: Collection[ConversationKey]) -> dict[ConversationKey, list[ParkedText]]:
        """What waits in these conversations, the oldest first, by the standing conversation."""
        async with self.pool.acquire() as db:
            return await queries.waiting(db, asked, self.now())

    async def shown_to(self, person: Person, conversation_id: UUID) -> list[ParkedText]:
        """What waits in a conversation as a person may see it, the oldest first. Raises Problem (404)."""
        now = self.now()
        async with self.reads.of(person.org_id) as db:
            of = await thread(db, person.org_id, conversation_id, now)
            if of is None:
                raise not_found()
            found = await queries.waiting(db, [(person.org_id, of.conversation_id)], now)
        own = [number for number in (of.phone, of.wa_id) if number]
        contact = person.may(CONTACT)
        return [
            text._replace(content=shown_content(text.content, contact=contact, own=own, target=None))
            for some in found.values()
            for text in some
        ]

    async def on_failures(self, keys: Collection[MessageKey]) -> None:
        """Park those of these messages that failed because WhatsApp was closed, and send what may be sent."""
        now = self.now()
        async with self.pool.acquire() as db, db.transaction():
            found = await queries.failed(db, keys)
            new = [_of_failure(one, now) for one in found if waits(one.ended)]
            await lock_known_against_merge(db, {(text.org_id, text.conversation_id) for text in new})
            parked = await queries.park(db, [text for text in new if text.expires_at > now])
            await _tell(db, {(text.org_id, text.conversation_id) for text in new if text.message_id in parked})
        known: dict[ConversationKey, datetime | None] = {}
        for one in found:
            if waits(one.ended):
                place, at = (one.org_id, one.conversation_id), one.customer_at
                before = known.get(place, at)
                known[place] = None if at is None or before is None else min(at, before)
        await self.send_open(known.keys(), known)

    async def send_open(
        self, keys: Collection[ConversationKey], after: Mapping[ConversationKey, datetime | None] | None = None
    ) -> None:
        """Send by policy what waits in these conversations, where the window is open.

        ``after``: where the customer has written since then. Raises Transient where Kafka does not take it:
        ``publish_left`` does it later.
        """
        if not keys:
            return
        async with self.pool.acquire() as db, db.transaction():
            now = self.now()
            opened = [one for one in await queries.openings(db, keys, now, after or {}) if self._may_send(one, now)]
            texts = await queries.waiting(db, [one.key for one in opened], now, locked=True)
            released = [parcel for some in texts.values() for parcel in parcels(some) if _is_known(parcel)]
            records = await _store(db, released, now)
        await self._publish(released, records)

    async def keep(
        self, org_id: str, user_id: str, conversation_id: UUID, message_id: UUID, content: Mapping[str, Any]
    ) -> Refusal | None:
        """Park a text of staff outright, once under its id; nothing is attempted now, unless the window is open."""
        now = self.now()
        text = NewParked(
            org_id=org_id,
            conversation_id=conversation_id,
            message_id=message_id,
            kind="kept",
            actor="staff",
            user_id=user_id,
            content=sanitize(dict(content)),
            reason=None,
            written_at=now,
            parked_at=now,
            expires_at=now + KEPT_FOR,
        )
        async with self.pool.acquire() as db, db.transaction():
            place = await queries.lock_conversation(db, org_id, conversation_id)
            if place is None:
                return "unknown"
            if await queries.is_erased(db, org_id, place):
                return "erased"
            if await queries.park(db, [text]):
                await _tell(db, {(org_id, place)})
            else:
                known = await queries.lock_ones(db, org_id, place, [message_id], now)
                if not known:
                    return "too_many"
                if known[0].text.content != text.content:
                    return "differs"
        await self.send_open({(org_id, place)})
        return None

    async def drop(self, org_id: str, conversation_id: UUID, message_ids: Collection[UUID]) -> Refusal | UUID | None:
        """Nobody is offered these texts any more. Where one has been sent, the intent that carries it is returned."""
        async with self.pool.acquire() as db, db.transaction():
            rows = await self._lock(db, org_id, conversation_id, message_ids)
            if len(rows) < len(set(message_ids)):
                return "unknown"
            for row in rows:
                if row.state == "sent" or row.released:
                    return row.text.intent_id
            await queries.settle(db, [(org_id, row.text.message_id) for row in rows], "dropped")
            places = {row.text.place for row in rows}
            await _tell(db, places)
        async with self.pool.acquire() as db, db.transaction():  # apart: the worker locks heads before texts
            await refresh(db, places, self.rule)
        return None

    async def send(
        self,
        person: Person,
        conversation_id: UUID,
        message_ids: Collection[UUID],
        content: Mapping[str, Any] | None = None,
    ) -> Refusal | list[UUID]:
        """Send these now, for a person; the intents that carry them, in their order.

        ``content`` replaces that of the one message that they make: they are of one ``Parcel``. What was sent before is
        not sent again: its intent is returned. Raises NotPublished where Kafka does not take it; they wait again then.
        """
        org_id, content = person.org_id, sanitize(None if content is None else dict(content))
        async with self.pool.acquire() as db, db.transaction():
            now = self.now()
            rows = await self._lock(db, org_id, conversation_id, message_ids)
            if len(rows) < len(set(message_ids)):
                return "unknown"
            late = [row for row in rows if row.released and row.state == "waiting"]
            await queries.settle(db, [(org_id, row.text.message_id) for row in late], "sent")
            sent = list(dict.fromkeys(row.text.intent_id for row in rows if row.state == "sent" or row.released))
            released = [
                parcel._replace(actor="staff", user_id=person.user_id)
                for parcel in parcels(row.text for row in rows if row.still_waits)
                if _is_known(parcel)
            ]
            if not released:
                return [one for one in sent if one is not None] or _refusal(rows, now)
            if content is not None:
                (one,) = released
                released = [one._replace(content=dict(content))]
            held = await self._taken_over(db, person, released)
            records = [*await _store(db, released, now), hold_record(held.stands)]
        try:
            await self._publish(released, records)
        except Transient:
            async with self.pool.acquire() as db, db.transaction():
                await queries.lock_conversation(db, org_id, conversation_id)  # a merge locks holds before texts
                back = await queries.take_back(db, [(org_id, parcel.intent_id) for parcel in released])
                if back:
                    await self.sending.not_released(db, held)
                await _tell(db, {(org_id, parcel.conversation_id) for parcel in released})
            if back:
                raise NotPublished("kafka did not take the release") from None
        async with self.pool.acquire() as db:
            await self.sending.released(db, held)
        return [parcel.intent_id for parcel in released]

    async def publish_left(self) -> None:
        """Publish the releases that were stored and are not known to be published."""
        for _round in range(_ROUNDS):
            async with self.pool.acquire() as db:
                left = await queries.unpublished(db, self.now() - LEFT_AFTER, _AT_ONCE)
            await self.producer.publish([intent_record(one.conversation_id, one.intent.encode()) for one in left])
            async with self.pool.acquire() as db:
                await queries.published(db, [(one.org_id, one.intent_id) for one in left])
            for one in left:
                _log(one.org_id, one.conversation_id, one.intent_id)
            if len(left) < _AT_ONCE:
                return

    async def forget(self) -> None:
        """Delete the texts whose time has long been over."""
        await forget_all(self.pool, queries.purge, self.now() - KEPT_AFTER)

    def _may_send(self, opening: Opening, now: datetime) -> bool:
        by_itself = inbox_policy_of(opening.policy).release == "send"
        is_open = opening.window.under(self.rule).is_open(now)
        return by_itself and is_open and not opening.held and not opening.consent_off

    async def _lock(
        self, db: Connection, org_id: str, conversation_id: UUID, message_ids: Collection[UUID]
    ) -> list[ParkedRow]:
        place = await queries.lock_conversation(db, org_id, conversation_id)
        return [] if place is None else await queries.lock_ones(db, org_id, place, message_ids, self.now())

    async def _taken_over(self, db: Connection, person: Person, released: Sequence[Parcel]) -> Said:
        """What stands of the conversation from now on, and whether it was free before all of it."""
        said = [
            await self.sending.keep_release(db, person, one.conversation_id, one.intent_id, one.content)
            for one in released
        ]
        return Said(said[-1].stands, said[0].was_free)

    async def _publish(self, released: Sequence[Parcel], records: Sequence[Record]) -> None:
        if not released:
            return
        await self.producer.publish(records)
        async with self.pool.acquire() as db:
            await queries.published(db, [(parcel.org_id, parcel.intent_id) for parcel in released])
        for parcel in released:
            _log(parcel.org_id, parcel.conversation_id, parcel.intent_id)


async def _store(db: Connection, released: Sequence[Parcel], now: datetime) -> list[Record]:
    """Store the releases; the records that publish them after the commit."""
    intents = {parcel.intent_id: _intent(parcel, now) for parcel in released}
    await queries.release(db, released, intents, now)
    await _tell(db, {(parcel.org_id, parcel.conversation_id) for parcel in released})
    return [intent_record(parcel.conversation_id, intents[parcel.intent_id].encode()) for parcel in released]


async def _tell(db: Connection, keys: Collection[ConversationKey]) -> None:
    """Who has one of these conversations open sees what waits in it as it is now. Call it last in a transaction."""
    await feed_queries.add(db, [Change(org_id, place, None, "conversation") for org_id, place in sorted(keys)])


def _is_known(parcel: Parcel) -> bool:
    """Whether this release can send it. What a later one has parked waits for that one."""
    with suppress(ValidationError):
        _CONTENT.validate_python(parcel.content)
        return True
    log.error(
        "row.set_aside",
        task="parked",
        reason="unknown_value",
        org_id=parcel.org_id,
        conversation_id=str(parcel.conversation_id),
        message_id=str(parcel.message_ids[0]),
    )
    return False


def _intent(parcel: Parcel, now: datetime) -> str:
    """The intent of a release. It has the one capability that its route needs."""
    of_staff = parcel.actor == "staff"
    return (
        Intent.model_validate(
            {
                "intent_id": parcel.intent_id,
                "org_id": parcel.org_id,
                "conversation_id": parcel.conversation_id,
                "actor": staff(parcel.user_id) if of_staff else Actor(kind=parcel.actor, user_id=parcel.user_id),
                "content": parcel.content,
                "created_at": now,
                "expires_at": parcel.expires_at if parcel.expires_at < now + LIFE else None,
            }
        )
        .encode()
        .decode()
    )


def _of_failure(message: FailedMessage, now: datetime) -> NewParked:
    return NewParked(
        org_id=message.org_id,
        conversation_id=message.conversation_id,
        message_id=message.message_id,
        kind="failed",
        actor="staff" if message.actor == "staff" else "ai",
        user_id=message.user_id,
        content=message.content,
        reason=message.reason,
        written_at=message.received_at,
        parked_at=now,
        expires_at=message.expires_at or message.received_at + KEPT_FOR,
    )


def _refusal(rows: Sequence[ParkedRow], now: datetime) -> Refusal:
    if any(row.state == "dropped" for row in rows):
        return "dropped"
    return "expired" if all(row.text.expires_at <= now for row in rows) else "arrived"


def _log(org_id: str, conversation_id: UUID, intent_id: UUID) -> None:
    log.info("parked.released", org_id=org_id, conversation_id=str(conversation_id), intent_id=str(intent_id))
