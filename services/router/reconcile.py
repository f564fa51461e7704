"""Follows up what was lost: commands that never became a send, and refusals without a decision.

Kafka keeps published records. But a topic may be created anew, its retention may pass while a sender is away, and a
record may be parked. The rows in PostgreSQL say what should have followed. Every replica looks through them in bounded
slices, and ``skip locked`` shares them out. A finished message costs one look.

Rule 1: everything here is idempotent. A sender ignores a command that it has already, and a message is failed under its
row's lock.
Rule 2: no message is pending, and no bridge slot held, for longer than its deadline and the time of one round.
Rule 3: bisection finds a row that fails or is too slow alone. It is logged and tried again when it is due next. The
other rows go on.
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
from libs.common.db.pool import Connection
from libs.common.events.outbound import NewStatus, OutboundRefused
from libs.common.events.topics import OUTBOUND_REFUSED, OUTBOUND_SMS, OUTBOUND_WHATSAPP
from libs.common.ids import AttemptKey
from libs.common.kafka.producer import Record
from libs.common.kafka.records import RawRecord, Received
from libs.common.logging import get_logger
from libs.common.periodic import Task, log_set_aside
from libs.common.sending import conversation_order, refusals, sms_caps
from libs.common.sending.sms_caps import Unsent
from libs.common.thread.conversations import lock_known_against_merge
from libs.common.thread.message_status import UNKNOWN_OUTCOME
from libs.common.thread.messages import LocalFailure, delivery_update, fail_locally, lock_messages
from services.router import reconcile_queries as queries
from services.router.reconcile_plan import (
    HEARD_WITHIN,
    LIFETIME,
    OVERDUE,
    DecideAgain,
    Done,
    Fail,
    Republish,
    StaleAttempt,
    WaitUntil,
    next_step,
    taken_by,
)
from services.router.worker import Deps, on_refusals, update_record

log = get_logger()

SLICE = 500
ROUNDS = 20
"""The most slices in one round."""
PUBLISHED = 1_000
"""The most commands that one round publishes again, but for those of a slice that failed and is tried in parts.

Where more have no send, a sender is behind, and more records do not help it. The others stay due and are not looked at.
"""
LONGEST = timedelta(hours=1)
"""The longest pause between two publications of a command that has no send."""


@dataclass(frozen=True, slots=True)
class Reconciler:
    """``after``: the age at which a command without a send, or a refusal without a decision, counts as lost.

    Each task is one round.
    """

    deps: Deps
    after: timedelta

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks by name. A slow or failing task delays no other."""
        period = self.after / 12
        return {
            "reconcile.unsent": (period, self.find_unsent),
            "reconcile.unheard": (period, self.find_unheard),
            "reconcile.overdue": (period, self.find_overdue),
            "reconcile.stale_attempts": (period, self.follow),
            "reconcile.refusals": (period, self.decide),
        }

    async def find_unsent(self) -> None:
        """Look through the decisions since the last look for commands without a send.

        The other task covers decisions older than a day.
        """
        await self._look_through("unsent", self.after, HEARD_WITHIN + 2 * self.after)

    async def find_unheard(self) -> None:
        """Look through the decisions of the day before for messages without any status."""
        await self._look_through("unheard", HEARD_WITHIN)

    async def find_overdue(self) -> None:
        """Look for sends that wait beyond their deadline because no sender runs."""
        now = self.deps.now()
        async with self.deps.pool.acquire() as db:
            await queries.find_overdue(db, now - OVERDUE, now, SLICE)

    async def _look_through(self, what: queries.Pass, age: timedelta, oldest: timedelta | None = None) -> None:
        for _round in range(ROUNDS):
            now = self.deps.now()
            async with self.deps.pool.acquire() as db, db.transaction():
                since = None if oldest is None else now - oldest
                if not await queries.look_through(db, what, since, now - age, now, lifetime=LIFETIME, limit=SLICE):
                    return

    async def follow(self) -> None:
        """Follow up what is due. Once the round has published all that it may, only what is due to end."""
        room = _Room(PUBLISHED)
        for _round in range(ROUNDS):
            ends = room.left <= 0
            limit = SLICE if ends else min(SLICE, room.left)
            async with self.deps.pool.acquire() as db:
                keys = await queries.take_due(db, self.deps.now(), limit, first=self.after, longest=LONGEST, ends=ends)
            await _in_parts(keys, partial(self._follow, room))
            if len(keys) < limit:
                return

    async def decide(self) -> None:
        """Decide on refusals that have waited for too long."""
        for _round in range(ROUNDS):
            now = self.deps.now()
            async with self.deps.pool.acquire() as db:
                waiting = dict(await refusals.take(db, now - self.after, now, SLICE))

            async def some(
                keys: Sequence[AttemptKey], waiting: Mapping[AttemptKey, dict[str, object]] = waiting
            ) -> None:
                await self._decide(_known(waiting, keys))

            await _in_parts(sorted(waiting), some)
            if len(waiting) < SLICE:
                return

    async def _follow(self, room: "_Room", keys: Sequence[AttemptKey]) -> None:
        async with self.deps.pool.acquire() as db:
            ends = await queries.look(db, keys)
        now = self.deps.now()
        steps = [(stale, next_step(stale, now)) for stale in ends]
        again = [stale for stale, what in steps if isinstance(what, Republish)]
        await self._republish(again)
        room.left -= len(again)
        returned = [_refusal(stale, what, now) for stale, what in steps if isinstance(what, DecideAgain)]
        async with self.deps.pool.acquire() as db:
            await refusals.keep(db, returned, now)  # after a kill they are found there
        await self._decide(returned)
        await self._fail([(stale, what) for stale, what in steps if isinstance(what, Fail)], now)
        over = [(stale, what) for stale, what in steps if isinstance(what, Done)]
        await self._publish_statuses([stale for stale, what in over if what.publish])
        async with self.deps.pool.acquire() as db:
            await queries.postpone(db, [(s.key, what.until) for s, what in steps if isinstance(what, WaitUntil)])
            await queries.forget(db, [stale.key for stale, what in steps if isinstance(what, Done | DecideAgain)])

    async def _republish(self, ends: Sequence[StaleAttempt]) -> None:
        if not ends:
            return
        await self.deps.producer.publish([_command(stale) for stale in ends])
        metrics.RECONCILED.labels(outcome="published").inc(len(ends))
        for stale in ends:
            _log("send.published_again", stale, due=stale.deadline)

    async def _fail(self, ended: Sequence[tuple[StaleAttempt, Fail]], now: datetime) -> None:
        """Fail these messages, release their slots, and publish the failures.

        A message that became a send meanwhile is left to its sender.
        """
        if not ended:
            return
        async with self.deps.pool.acquire() as db, db.transaction():
            done = await queries.take_places(db, [stale for stale, what in ended if what.send == "missing"], now)
            unsettled = [(stale.key, what.reason) for stale, what in ended if what.send == "unsettled"]
            closed = await queries.close(db, unsettled, now)
            unbought = [
                stale
                for stale, what in ended
                if stale.channel == "sms"
                and what.reason != UNKNOWN_OUTCOME
                and (stale.key in done or stale.key in closed)
            ]
            await _give_back_days(db, unbought, closed)
            ours = [(e, what) for e, what in ended if what.send == "settled" or e.key in done or e.key in closed]
            await fail_locally(db, [LocalFailure(*stale.key, what.reason, what.code, now) for stale, what in ours])
            held = [
                (slot, what) for stale, what in ours if what.send != "settled" and (slot := _slot(stale)) is not None
            ]
            kept = [slot for slot, what in held if what.reason == UNKNOWN_OUTCOME]  # the SMS may have arrived
            back = [slot for slot, what in held if what.reason != UNKNOWN_OUTCOME]
            await lock_known_against_merge(db, {(slot.org_id, slot.conversation_id) for slot, _what in held})
            await slot_queries.accept(db, [(slot, now) for slot in kept], self.deps.redis_gate.hold)
            released = await slot_queries.release(db, back)
            await sms_caps.forget_unsent(db, [one for stale in unbought if (one := _answer(stale)) is not None])
            # as a sender does: last, for it waits for rows that a sender may hold behind its days and messages
            await conversation_order.release_blocked(db, {(key[0], one.conversation_id) for key, one in closed.items()})
            freed = [silenced.freed(now) for silenced in await slot_queries.newest_silenced(db, released)]
            await refusals.keep(db, freed, now)
        await self.deps.redis_gate.sync(held=kept, released=back)
        metrics.RECONCILED.labels(outcome="ended").inc(len(ours))
        for stale, what in ours:
            _log("send.failed", stale, reason=what.reason)
        await self._publish_statuses([stale for stale, _what in ours])
        async with self.deps.pool.acquire() as db:
            await queries.forget(db, [stale.key for stale, _what in ours])
        await self._decide(freed)

    async def _publish_statuses(self, ends: Sequence[StaleAttempt]) -> None:
        if not ends:
            return
        async with self.deps.pool.acquire() as db, db.transaction():
            messages = await lock_messages(db, {(stale.org_id, stale.message_id) for stale in ends})
        updates: list[NewStatus] = [update for one in messages.values() if (update := delivery_update(one)) is not None]
        await self.deps.producer.publish([update_record(update) for update in updates])

    async def _decide(self, waiting: Sequence[OutboundRefused]) -> None:
        """Decide on these as if Kafka had brought them. Refusals of unknown intents are deleted."""
        if not waiting:
            return
        records = [Received(refusal, _record(refusal)) for refusal in waiting]
        unknown = {rejected.record for rejected in await on_refusals(records, self.deps)}
        metrics.RECONCILED.labels(outcome="decided").inc(len(waiting))
        nobodys = [r.value for r in records if r.record in unknown]
        async with self.deps.pool.acquire() as db:
            await refusals.forget(db, {refusal.attempt_key for refusal in nobodys})


@dataclass(slots=True)
class _Room:
    """How many commands may still be published in this round."""

    left: int


async def _in_parts(keys: Sequence[AttemptKey], work: Callable[[Sequence[AttemptKey]], Awaitable[None]]) -> None:
    """Do the work on all; where it meets a bug or is too slow, on parts, down to the row that causes it.

    Raises what is transient.
    """
    await run_bisected(keys, work, key=lambda key: key, failed=partial(log_set_aside, "reconcile"))


def _known(waiting: Mapping[AttemptKey, Mapping[str, object]], keys: Sequence[AttemptKey]) -> list[OutboundRefused]:
    """The refusals that this release knows; the others wait for a release that does."""
    found: list[OutboundRefused] = []
    for key in keys:
        with suppress(ValidationError):
            found.append(OutboundRefused.model_validate(waiting[key]))
    if len(found) < len(keys):
        log.error("row.set_aside", task="refusals", reason="unknown_value", records=len(keys) - len(found))
    return found


async def _give_back_days(
    db: Connection, unbought: Sequence[StaleAttempt], closed: Mapping[AttemptKey, queries.Closed]
) -> None:
    """Give back what these SMS take of their organisations' days."""
    claims = {key: one.claimed_at for key, one in closed.items()}
    taken = [taken_by(stale, claims.get(stale.key)) for stale in unbought]
    await sms_caps.give_back(db, [one for one in taken if one is not None])


def _answer(stale: StaleAttempt) -> Unsent | None:
    """The SMS as an answer in its conversation. A bridge is none."""
    if stale.route == "bridge" or stale.conversation_id is None:
        return None
    return Unsent(stale.org_id, stale.conversation_id, stale.message_id, stale.attempt)


def _command(stale: StaleAttempt) -> Record:
    topic = OUTBOUND_SMS if stale.channel == "sms" else OUTBOUND_WHATSAPP
    return Record(topic, str(stale.conversation_id).encode(), stale.command or b"")


def _slot(stale: StaleAttempt) -> Slot | None:
    if not stale.holds or stale.conversation_id is None:
        return None
    return Slot(stale.org_id, stale.conversation_id, stale.message_id)


def _refusal(stale: StaleAttempt, what: DecideAgain, now: datetime) -> OutboundRefused:
    """Raises ValidationError where a later release wrote the reason."""
    at = stale.settled_at or now
    return OutboundRefused.of(stale.key, stale.conversation_id, what.reason, at, what.code)  # type: ignore[arg-type]  # validated by the event


def _record(refusal: OutboundRefused) -> RawRecord:
    """The record that Kafka would have brought; partition and offset are not Kafka's."""
    value = refusal.encode()
    at = int(refusal.at.timestamp() * 1000)
    return RawRecord(OUTBOUND_REFUSED.name, -1, -1, at, refusal.key, value)


def _log(event: str, stale: StaleAttempt, *, reason: str | None = None, due: datetime | None = None) -> None:
    log.warning(
        event,
        org_id=stale.org_id,
        conversation_id=None if stale.conversation_id is None else str(stale.conversation_id),
        intent_id=str(stale.message_id),
        attempt=stale.attempt,
        channel=stale.channel,
        route=stale.route,
        **({} if reason is None else {"reason": reason}),
        **({} if due is None else {"due_at": due.isoformat()}),
    )
