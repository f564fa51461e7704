"""Notices to staff: a conversation that has been unread for too long, a message that failed.

Rule 1: a notice is a row first and an event on ``inbox.notices.v1`` after the commit. Each unread episode and each
        failed message is one row, so a redelivery, a restart or a second replica tells nothing anew. What a kill leaves
        unpublished is published later, as it stands.
Rule 2: an unread episode begins with the oldest message of the customer that no member has read. It ends when a member
        reads, or when staff answer. A message that comes within it begins none.
Rule 3: before a conversation is told, its head is computed anew behind its lock. So nothing is told that was read or
        answered while the worker was away.
Rule 4: a round looks at some organisations and goes on behind them the next time, and each has the same share of it. So
        a flood in one delays no other for long, and a round costs the same however many conversations wait. A step that
        is too slow for a statement is followed by smaller ones.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import assert_never

from libs.common.bisection import AdaptiveBatchSize
from libs.common.clock import Clock
from libs.common.db.pool import Pool
from libs.common.db.shares import Shares
from libs.common.events.notices import ConversationUnread, DeliveryFailed
from libs.common.events.outbound import DeliveryUpdate
from libs.common.events.topics import INBOX_NOTICES
from libs.common.forgetting import forget_all
from libs.common.inbox_policy import inbox_policy_of
from libs.common.kafka.producer import Producer, Record
from libs.common.logging import get_logger
from libs.common.periodic import Task
from libs.common.retryable import is_statement_timeout
from services.inbox import feed_queries
from services.inbox import notice_queries as queries
from services.inbox.feed import Change
from services.inbox.heads import refresh
from services.inbox.masking import masked_text
from services.inbox.notice_queries import BellNotice, StoredNotice
from services.inbox.windows import WindowRule

log = get_logger()

LOOK_EVERY = timedelta(seconds=5)
FORGET_EVERY = timedelta(minutes=10)
LEFT_AFTER = timedelta(seconds=30)
KEPT_FOR = timedelta(days=30)
ON_A_PAGE = 20
NEWEST = 2**63 - 1
"""Above the number of every notice."""
_ORGANISATIONS = 100
_AT_ONCE = 200
"""Conversations of one step at most, and notices that are published at once."""
_STEPS = 20
"""Steps of one round."""


@dataclass(frozen=True, slots=True)
class Bell:
    """``new``: how many are new, at most ``MOST_NEW``. ``failures``: the member's switch."""

    new: int
    failures: bool
    notices: Sequence[BellNotice]


@dataclass(slots=True)
class Notices:
    """``rule`` is how windows are judged. ``reads`` are the connections for what people read.

    ``_after``: the organisation behind which the next step looks. ``_portion``: how many conversations it takes.
    """

    pool: Pool
    producer: Producer
    now: Clock
    rule: WindowRule
    reads: Shares
    _after: str = field(default="")
    _portion: AdaptiveBatchSize = field(default_factory=lambda: AdaptiveBatchSize(_AT_ONCE))

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {
            "notices.unread": (LOOK_EVERY, self.escalate),
            "notices.left": (LOOK_EVERY, self.publish_left),
            "notices.forget": (FORGET_EVERY, self.forget),
        }

    async def on_failures(self, updates: Collection[DeliveryUpdate]) -> None:
        """Tell of those of these messages that are failed, each once."""
        failed = [update for update in updates if update.status == "failed"]
        if failed:
            async with self.pool.acquire() as db, db.transaction():
                stored = await queries.store_failures(db, failed, self.now())
                await feed_queries.add(db, _changes(stored))
            await self._publish(stored)

    async def escalate(self) -> None:
        """Tell of conversations that have been unread for longer than their organisations' policies say."""
        told = steps = 0

        async def step(size: int) -> int:
            nonlocal told, steps
            steps += 1
            before = self._after
            try:
                told += await self._step(size)
            except Exception as error:
                if size > 1 and is_statement_timeout(error):
                    self._after = before  # a smaller step looks at the same organisations
                raise
            if not self._after:  # all organisations were looked at
                if not told:
                    return 0
                told = 0
            return size if steps < _STEPS else 0

        await self._portion.until_done(step)

    async def publish_left(self) -> None:
        """Publish what was stored and is not known to be published."""
        for _step in range(_STEPS):
            async with self.pool.acquire() as db:
                found = await queries.left(db, self.now() - LEFT_AFTER, _AT_ONCE)
            await self._publish(found)
            if len(found) < _AT_ONCE:
                return

    async def forget(self) -> None:
        """Delete the notices that were told long ago."""
        await forget_all(self.pool, queries.forget, self.now() - KEPT_FOR)

    async def bell(self, org_id: str, user_id: str, *, before: int = NEWEST, limit: int = ON_A_PAGE) -> Bell:
        """What is told to a member, the newest first; ``before`` is the number of the last notice they have.

        A customer who calls themself by their number is masked for everybody: the bell leads to the conversation.
        """
        async with self.reads.of(org_id) as db:
            new, failures = await queries.new_of(db, org_id, user_id)
            told = await queries.bell(db, org_id, user_id, before, limit)
        return Bell(new, failures, [one._replace(customer_name=_name(one)) for one in told])

    async def seen(self, org_id: str, user_id: str, upto: int = NEWEST) -> None:
        """The member has looked at the bell: what is there up to this number is new to them no more."""
        async with self.pool.acquire() as db:
            await queries.seen(db, org_id, user_id, upto)

    async def switch(self, org_id: str, user_id: str, *, failures: bool) -> None:
        """Whether the member is told of failed messages."""
        async with self.pool.acquire() as db:
            await queries.switch(db, org_id, user_id, failures=failures)

    async def _step(self, size: int) -> int:
        """Look at the next organisations, about ``size`` conversations; how many were told."""
        now, organisations = self.now(), min(size, _ORGANISATIONS)
        async with self.pool.acquire() as db:
            found = await queries.organisations_after(db, self._after, organisations)
        self._after = found[-1].org_id if len(found) == organisations else ""
        latest = {one.org_id: now - inbox_policy_of(one.policy).escalate_after for one in found}
        before = {one.org_id: latest[one.org_id] for one in found if one.unread_since <= latest[one.org_id]}
        if not before:
            return 0
        async with self.pool.acquire() as db, db.transaction():
            heads = await refresh(db, await queries.overdue(db, before, max(1, size // len(before))), self.rule)
            due = [
                (head.org_id, head.conversation_id, head.unread_since)
                for head in heads
                if head.unread_since is not None
                and head.escalated_at is None
                and head.unread_since <= before[head.org_id]
            ]
            stored = await queries.escalate(db, due, now)
            await feed_queries.add(db, _changes(stored))
        await self._publish(stored)
        return len(due)

    async def _publish(self, stored: Sequence[StoredNotice]) -> None:
        if not stored:
            return
        await self.producer.publish([_record(notice) for notice in stored])
        async with self.pool.acquire() as db:
            await queries.published(db, stored)
        for notice in stored:
            log.info(
                "notice.published",
                org_id=notice.org_id,
                conversation_id=str(notice.conversation_id),
                reason=notice.type,
                **({} if notice.message_id is None else {"message_id": str(notice.message_id)}),
            )


def _name(notice: BellNotice) -> str | None:
    return None if notice.customer_name is None else masked_text(notice.customer_name, notice.own)


def _changes(stored: Sequence[StoredNotice]) -> list[Change]:
    """What open pages are told: their bell, and the place of these conversations in their lists, are others now."""
    places = sorted({(notice.org_id, notice.conversation_id) for notice in stored})
    return [Change(org_id, conversation_id, None, "conversation") for org_id, conversation_id in places]


def _record(notice: StoredNotice) -> Record:
    fields = {"org_id": notice.org_id, "conversation_id": notice.conversation_id}
    event: ConversationUnread | DeliveryFailed
    match notice.type:
        case "conversation.unread.v1":
            event = ConversationUnread.model_validate(fields | {"since": notice.since})
        case "delivery.failed.v1":
            more = {"message_id": notice.message_id, "reason": notice.reason, "provider_code": notice.provider_code}
            event = DeliveryFailed.model_validate(fields | more)
        case _:
            assert_never(notice.type)
    return Record(INBOX_NOTICES, str(notice.conversation_id).encode(), event.encode())
