"""Customers with a thread each, some of whom turn out to be one, while messages wait to be sent."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from libs.common.db.pool import Connection
from libs.common.directory.merge import Merge, merge_customers
from libs.common.providers import WHATSAPP_BY_META
from libs.common.sending import conversation_order
from libs.common.sending import queries as sends
from libs.common.sending.rows import NewSend
from tests.support import world
from tests.support.ingest import ORG, now
from tests.support.webhooks import NUMBER

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@dataclass
class Threads:
    """Customers with a thread each, and what became of whom. ``account`` is of this example alone."""

    db: Connection
    account: str = field(default_factory=lambda: uuid4().hex)
    customers: list[UUID] = field(default_factory=list)
    conversations: list[UUID] = field(default_factory=list)
    became: dict[int, int] = field(default_factory=dict)
    waits: dict[UUID, tuple[int, int]] = field(default_factory=dict)
    """Message → its thread as it was written, and its sequence; what is sent is out of it."""
    written: dict[UUID, int] = field(default_factory=dict)

    def now_is(self, thread: int) -> int:
        while thread in self.became:
            thread = self.became[thread]
        return thread

    async def opened(self, count: int) -> None:
        for _ in range(count):
            customer, conversation = uuid4(), uuid4()
            await world.a_customer(self.db, ORG, customer, None)
            await world.a_conversation(self.db, ORG, conversation, customer, NUMBER)
            self.customers.append(customer)
            self.conversations.append(conversation)

    async def is_written(self, thread: int, *, from_before: bool) -> None:
        """A decided, pending message. ``from_before``: decided by a router that does not know the merge yet."""
        looked_for = "select exists (select from conversation_merges where loser = $1 and looks < 3)"
        late = from_before and await self.db.fetchval(looked_for, self.conversations[thread])
        into = self.conversations[thread if late else self.now_is(thread)]
        message_id = uuid4()
        sequence = await self.db.fetchval(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content,"
            " status, occurred_at, received_at)"
            " values ($1, $2, $3, 'out', 'whatsapp', 'text', '{}', 'pending', now(), now()) returning sequence",
            *(ORG, message_id, into),
        )
        await self.db.execute(
            "insert into decisions (org_id, intent_id, attempt, conversation_id, route, reason, record, decided_at)"
            " values ($1, $2, 1, $3, 'session', 'window_open', '{}', now())",
            *(ORG, message_id, into),
        )
        command: dict[str, Any] = {}
        row = NewSend(ORG, message_id, 1, into, sequence, self.account, command, None)
        await sends.store(self.db, "whatsapp", [row], now(), now() + DAY)
        self.waits[message_id] = (thread, sequence)
        self.written[message_id] = thread

    async def become_one(self, one: int, other: int) -> None:
        loser, winner = self.now_is(one), self.now_is(other)
        if loser != winner:
            async with self.db.transaction():
                await merge_customers(self.db, [Merge(ORG, self.customers[loser], self.customers[winner])])
            self.became[loser] = winner

    def first(self) -> dict[int, UUID]:
        """Of each thread as it is now the message that is next."""
        order = sorted(self.waits, key=lambda message: self.waits[message][1], reverse=True)
        return {self.now_is(self.waits[message][0]): message for message in order}

    async def may_go(self) -> list[Any]:
        found = await sends.candidates(self.db, WHATSAPP_BY_META, {self.account: 100}, now() + MINUTE, MINUTE)
        return [one.row for one in found if not one.behind]

    async def are_sent(self) -> bool:
        """Send what may go; it is the next of its thread. Whether anything went."""
        rows = await self.may_go()
        nexts = self.first()
        for row in rows:
            assert nexts[self.now_is(self.waits[row.message_id][0])] == row.message_id
        stand = await sends.write(self.db, [(row, row._replace(state="accepted", settled_at=now())) for row in rows])
        await conversation_order.release_blocked(
            self.db, {(ORG, conversation_id) for conversation_id in stand.values()}
        )
        for row in rows:
            del self.waits[row.message_id]
        return bool(rows)
