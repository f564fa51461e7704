"""Heads of conversations, computed from their threads.

Rule 1: whether a window is open is the answer of ``libs.common.window``. The head keeps what that answer needs beside
        the clock: when the customer wrote, and whether something closed the window before its time.
Rule 2: a head says what its thread says. Only what the newest messages do not tell stays as it was.
"""

from collections.abc import Collection
from uuid import UUID

from libs.common.bisection import AdaptiveBatchSize
from libs.common.db.pool import Connection, Pool
from services.inbox.head_queries import (
    NEWEST,
    Head,
    Thread,
    conversations_after,
    lock,
    read_threads,
    write_heads,
)
from services.inbox.read_queries import read_what_was_old
from services.inbox.windows import WindowFacts, WindowRule
from services.inbox.word_queries import write_customers

_SLICE = 500
_FIRST = UUID(int=0)
_LATE = 60_000 << 80
"""A minute, as the difference of two ids: a conversation may be committed so much later than it got its id."""


def head_of(thread: Thread, rule: WindowRule) -> Head:
    """The head of a thread."""
    facts = WindowFacts(
        thread.last_customer_at, thread.identity_changed_at, thread.first_refused_at, thread.last_refused_at
    )
    inbound, inbound_at = thread.inbound_sequence, thread.inbound_at
    if inbound is None and thread.read >= NEWEST and not thread.erased:
        inbound, inbound_at = thread.inbound_before, thread.inbound_at_before
    return Head(
        org_id=thread.org_id,
        conversation_id=thread.conversation_id,
        phone_number_id=thread.phone_number_id,
        last_sequence=thread.last_sequence or 0,
        last_message_id=thread.last_message_id,
        last_at=thread.last_at or thread.last_customer_at or thread.created_at,
        channel=thread.last_inbound_channel or thread.last_channel or "whatsapp",
        inbound_sequence=inbound,
        inbound_at=inbound_at,
        unanswered_since=thread.unanswered_since,
        failed_sequence=thread.failed_sequence,
        last_customer_at=thread.last_customer_at,
        closed_early=facts.under(rule).closed_early_at is not None,
        unread_since=thread.unread_since,
        escalated_at=thread.escalated_at if _is_of_this_episode(thread) else None,
    )


def _is_of_this_episode(thread: Thread) -> bool:
    """Whether what was told of the thread was told of the messages that are unread now.

    One episode may end and the next one begin between two looks.
    """
    if thread.unread_since is None or thread.escalated_at is None:
        return False
    return thread.unread_since <= thread.escalated_at


async def refresh(db: Connection, touched: Collection[tuple[str, UUID]], rule: WindowRule) -> list[Head]:
    """Compute the heads of these (organisation, conversation) anew, in the transaction of the caller.

    Their rows stay locked until its end. Ids of merged conversations lead to the one that stands; unknown ids to none.
    """
    await lock(db, touched)
    heads = [head_of(thread, rule) for thread in await read_threads(db, touched)]
    await write_heads(db, heads)
    return heads


class Backfill:
    """Makes the heads of conversations that were there before the inbox was, and the words of their customers.

    So it does of those whose customer wrote while the worker was away, for longer than topics keep what was published.
    After every start it walks over all of them, by id. From then on it looks at the newest, whose ids begin with their
    time: a conversation that was parted from another one has messages of which nothing was published.

    A member may have come before the first heads were made: what was a week old then is read, as it is for members who
    come later.
    """

    def __init__(self, pool: Pool, rule: WindowRule) -> None:
        self._pool, self._rule = pool, rule
        self._after = _FIRST
        self._is_first = True
        self._organisations: set[str] = set()

    async def step(self) -> None:
        """Look through the next conversations."""
        await AdaptiveBatchSize(_SLICE).until_done(self._look)
        self._is_first = False
        self._after = UUID(int=max(0, self._after.int - _LATE))
        for org_id in sorted(self._organisations):
            async with self._pool.acquire() as db:
                await read_what_was_old(db, org_id)
            self._organisations.discard(org_id)

    async def _look(self, size: int) -> int:
        async with self._pool.acquire() as db, db.transaction():
            found = await conversations_after(db, self._after, size)
            behind = [(org_id, id_) for id_, org_id, is_behind in found if is_behind]
            await refresh(db, behind, self._rule)
            await write_customers(db, behind)
        if self._is_first:
            self._organisations |= {org_id for org_id, _ in behind}
        if found:
            self._after = found[-1][0]
        return len(found)
