"""Follows up what stands decided and was lost on the way: commands that never became a send, refusals that nobody decided on.

Kafka keeps what was published, but a topic may be made anew, its retention may pass while a sender is away, and a record may be parked. PostgreSQL
says what ought to have followed. Every replica looks, slices are bounded, rows are shared by ``skip locked``. What is finished costs one look.

Rule 1: whatever is done here can be done twice: a command that its sender has is no news to it, and who ends a message holds its row.
Rule 2: no message is pending, and no bridge slot held, for longer than its deadline and the time of a round.
Rule 3: a row on which this fails, or that is too slow alone, is found in parts, told, and tried again when its next turn comes; its neighbours go on.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pydantic import ValidationError

from libs.common import metrics
from libs.common.bisection import run_bisected
from libs.common.bridge import queries as slot_queries
from libs.common.bridge.slot import Slot
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused
from libs.common.events.topics import OUTBOUND_REFUSED, OUTBOUND_SMS, OUTBOUND_WHATSAPP
from libs.common.kafka.producer import Record
from libs.common.kafka.records import RawRecord, Received
from libs.common.logging import get_logger
from libs.common.periodic import Task
from libs.common.sending import queries as sends
from libs.common.thread import refusals
from libs.common.thread.message_status import UNKNOWN_OUTCOME
from libs.common.thread.messages import LocalFailure, delivery_update, fail_locally, lock_messages
from services.router import reconcile_queries as queries
from services.router.loose_ends import (
    HEARD_WITHIN,
    LIFETIME,
    OVERDUE,
    Again,
    End,
    Key,
    LooseEnd,
    Over,
    Refuse,
    Wait,
    course,
)
from services.router.worker import Deps, on_refusals, update_record

log = get_logger()

AT_ONCE = 500
ROUNDS = 20
"""So many slices in one round at most."""
PUBLISHED = 1_000
"""So many commands are published again in one round at most: where very many have no send, a sender is behind, and more to read is no help."""
LONGEST = timedelta(hours=1)
"""A command that finds no sender is published again this often at least."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """``after``: so long after its decision a command without a send counts as lost, and a refusal that nobody decided on. Each task is one round."""

    deps: Deps
    after: timedelta

    @property
    def tasks(self) -> Mapping[str, Task]:
        """By name. A task that is slow or fails holds up no other."""
        period = self.after / 12
        return {
            "reconcile.unsent": (period, self.find_unsent),
            "reconcile.unheard": (period, self.find_unheard),
            "reconcile.overdue": (period, self.find_overdue),
            "reconcile.loose_ends": (period, self.follow),
            "reconcile.refusals": (period, self.decide),
        }

    async def round(self) -> None:
        """All of it, one after the other."""
        for _period, task in self.tasks.values():
            await task()

    async def find_unsent(self) -> None:
        """Look through the decisions since the last look for commands without a send. Those that are older than a day are the other task's."""
        await self._look_through("unsent", self.after, HEARD_WITHIN + 2 * self.after)

    async def find_unheard(self) -> None:
        """Look through the decisions of the day before for messages of which nothing was heard."""
        await self._look_through("unheard", HEARD_WITHIN)

    async def find_overdue(self) -> None:
        """Look for sends that wait beyond their deadline, because no sender is at work."""
        now = self.deps.now()
        async with self.deps.pool.acquire() as db:
            await queries.find_overdue(db, now - OVERDUE, now, AT_ONCE)

    async def _look_through(self, what: queries.Pass, age: timedelta, oldest: timedelta | None = None) -> None:
        for _round in range(ROUNDS):
            now = self.deps.now()
            async with self.deps.pool.acquire() as db, db.transaction():
                since = None if oldest is None else now - oldest
                if not await queries.look_through(db, what, since, now - age, now, lifetime=LIFETIME, limit=AT_ONCE):
                    return

    async def follow(self) -> None:
        """Do what is to be done about every loose end that is due."""
        room = _Room(PUBLISHED)
        for _round in range(ROUNDS):
            async with self.deps.pool.acquire() as db:
                keys = await queries.take_due(db, self.deps.now(), AT_ONCE, first=self.after, longest=LONGEST)
            await _in_parts(keys, partial(self._follow, room))
            if len(keys) < AT_ONCE:
                return

    async def decide(self) -> None:
        """Decide on refusals that have waited for too long."""
        for _round in range(ROUNDS):
            now = self.deps.now()
            async with self.deps.pool.acquire() as db:
                waiting = dict(await refusals.take(db, now - self.after, now, AT_ONCE))

            async def some(keys: Sequence[Key], waiting: Mapping[Key, dict[str, object]] = waiting) -> None:
                await self._decide(_readable(waiting, keys))

            await _in_parts(sorted(waiting), some)
            if len(waiting) < AT_ONCE:
                return

    async def _follow(self, room: "_Room", keys: Sequence[Key]) -> None:
        async with self.deps.pool.acquire() as db:
            ends = await queries.look(db, keys)
        now = self.deps.now()
        courses = [(end, course(end, now)) for end in ends]
        again = [end for end, what in courses if isinstance(what, Again)]
        now_again, later = again[: room.left], again[room.left :]
        await self._again(now_again)
        room.left -= len(now_again)
        returned = [_refusal(end, what, now) for end, what in courses if isinstance(what, Refuse)]
        async with self.deps.pool.acquire() as db:
            await refusals.keep(db, returned, now)  # killed before all is told, it is found there
        await self._decide(returned)
        await self._end([(end, what) for end, what in courses if isinstance(what, End)], now)
        over = [(end, what) for end, what in courses if isinstance(what, Over)]
        await self._tell([end for end, what in over if what.tell])
        async with self.deps.pool.acquire() as db:
            waits = [(end.key, what.until) for end, what in courses if isinstance(what, Wait)]
            await queries.put_off(db, waits + [(end.key, min(now + self.after, end.deadline)) for end in later])
            await queries.forget(db, [end.key for end, what in courses if isinstance(what, Over | Refuse)])

    async def _again(self, ends: Sequence[LooseEnd]) -> None:
        """Publish the commands as they stand."""
        if not ends:
            return
        await self.deps.producer.publish([_command(end) for end in ends])
        metrics.RECONCILED.labels(outcome="published").inc(len(ends))
        for end in ends:
            _say("send.published_again", end, due=end.deadline)

    async def _end(self, ended: Sequence[tuple[LooseEnd, End]], now: datetime) -> None:
        """End these messages, give back what they hold, and tell it; what became a send meanwhile is left to its sender."""
        if not ended:
            return
        async with self.deps.pool.acquire() as db, db.transaction():
            done = await queries.take_places(db, [end for end, what in ended if what.send == "missing"], now)
            unsettled = [(end.key, what.reason) for end, what in ended if what.send == "unsettled"]
            closed = await queries.close(db, unsettled, now)
            await sends.release_blocked(db, {(key[0], conversation_id) for key, conversation_id in closed.items()})
            ours = [(e, what) for e, what in ended if what.send == "settled" or e.key in done or e.key in closed]
            await fail_locally(db, [LocalFailure(*end.key, what.reason, what.code, now) for end, what in ours])
            held = [(slot, what) for end, what in ours if what.send != "settled" and (slot := _slot(end)) is not None]
            kept = [slot for slot, what in held if what.reason == UNKNOWN_OUTCOME]  # it may have arrived
            back = [slot for slot, what in held if what.reason != UNKNOWN_OUTCOME]
            await slot_queries.accept(db, [(slot, now) for slot in kept], self.deps.redis_gate.hold)
            released = await slot_queries.release(db, back)
            freed = [silenced.freed(now) for silenced in await slot_queries.newest_silenced(db, released)]
            await refusals.keep(db, freed, now)
        await self.deps.redis_gate.sync(held=kept, released=back)
        metrics.RECONCILED.labels(outcome="ended").inc(len(ours))
        for end, what in ours:
            _say("send.failed", end, reason=what.reason)
        await self._tell([end for end, _what in ours])
        async with self.deps.pool.acquire() as db:
            await queries.forget(db, [end.key for end, _what in ours])
        await self._decide(freed)

    async def _tell(self, ends: Sequence[LooseEnd]) -> None:
        """Tell the latest rung of these messages."""
        if not ends:
            return
        async with self.deps.pool.acquire() as db, db.transaction():
            messages = await lock_messages(db, {(end.org_id, end.message_id) for end in ends})
        updates: list[DeliveryUpdate] = [
            update for one in messages.values() if (update := delivery_update(one)) is not None
        ]
        await self.deps.producer.publish([update_record(update) for update in updates])

    async def _decide(self, waiting: Sequence[OutboundRefused]) -> None:
        """As if they had come by Kafka. What nobody knows is forgotten."""
        if not waiting:
            return
        records = [Received(refusal, _record(refusal)) for refusal in waiting]
        unknown = {rejected.record for rejected in await on_refusals(records, self.deps)}
        metrics.RECONCILED.labels(outcome="decided").inc(len(waiting))
        strangers = [r.value for r in records if r.record in unknown]
        async with self.deps.pool.acquire() as db:
            await refusals.forget(db, {(r.org_id, r.intent_id, r.attempt) for r in strangers})


@dataclass(slots=True)
class _Room:
    """How many commands may still be published in this round."""

    left: int


async def _in_parts(keys: Sequence[Key], work: Callable[[Sequence[Key]], Awaitable[None]]) -> None:
    """Do the work on all; where it meets a bug or is too slow, on parts, down to the row that causes it. Raises what is transient."""
    await run_bisected(keys, work, key=lambda key: key, failed=_set_aside)


def _set_aside(key: Key, error: Exception) -> None:
    org_id, message_id, attempt = key
    log.error(
        "row.set_aside",
        task="reconcile",
        org_id=org_id,
        message_id=str(message_id),
        attempt=attempt,
        exc_info=error,
    )


def _readable(waiting: Mapping[Key, Mapping[str, object]], keys: Sequence[Key]) -> list[OutboundRefused]:
    """Those that this version reads; the others wait for one that does."""
    found: list[OutboundRefused] = []
    for key in keys:
        with suppress(ValidationError):
            found.append(OutboundRefused.model_validate(waiting[key]))
    if len(found) < len(keys):
        log.error("row.set_aside", task="refusals", reason="unknown_value", records=len(keys) - len(found))
    return found


def _command(end: LooseEnd) -> Record:
    topic = OUTBOUND_SMS if end.channel == "sms" else OUTBOUND_WHATSAPP
    return Record(topic, str(end.conversation_id).encode(), end.command or b"")


def _slot(end: LooseEnd) -> Slot | None:
    if not end.holds or end.conversation_id is None:
        return None
    return Slot(end.org_id, end.conversation_id, end.message_id)


def _refusal(end: LooseEnd, what: Refuse, now: datetime) -> OutboundRefused:
    """Raises ValidationError where a later release wrote the reason."""
    at = end.settled_at or now
    return OutboundRefused.of(end.key, end.conversation_id, what.reason, at, what.code)  # type: ignore[arg-type]  # validated by the event


def _record(refusal: OutboundRefused) -> RawRecord:
    """What would have come; partition and offset are none of Kafka's."""
    value = refusal.encode()
    at = int(refusal.at.timestamp() * 1000)
    return RawRecord(OUTBOUND_REFUSED.name, -1, -1, at, str(refusal.conversation_id).encode(), value)


def _say(event: str, end: LooseEnd, *, reason: str | None = None, due: datetime | None = None) -> None:
    log.warning(
        event,
        org_id=end.org_id,
        conversation_id=None if end.conversation_id is None else str(end.conversation_id),
        intent_id=str(end.message_id),
        attempt=end.attempt,
        channel=end.channel,
        route=end.route,
        **({} if reason is None else {"reason": reason}),
        **({} if due is None else {"due_at": due.isoformat()}),
    )
