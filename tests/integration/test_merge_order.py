"""Threads that become one while their messages wait to be sent: whatever happens in between, it is one thread, complete, in order, once."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from libs.common.db import sends
from libs.common.db.pool import Connection, Pool, open_pool
from libs.common.directory.merge import Merge, merge_customers
from libs.common.send_rows import NewSend
from tests.support.examples import examples
from tests.support.ingest import ORG, now, tell_org
from tests.support.merges import a_slice, all_moved
from tests.support.webhooks import NUMBER

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await tell_org(db)
        yield pool


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
            await self.db.execute(
                "insert into customers (customer_id, org_id, origin) values ($1, $2, 'inbound')", customer, ORG
            )
            await self.db.execute(
                "insert into conversations (conversation_id, org_id, customer_id, phone_number_id) values ($1, $2, $3, $4)",
                *(conversation, ORG, customer, NUMBER),
            )
            self.customers.append(customer)
            self.conversations.append(conversation)

    async def is_written(self, thread: int, *, from_before: bool) -> None:
        """A message is decided and waits; ``from_before``: by a router that does not know yet what the thread has become.

        No router takes until the last look for such messages.
        """
        looked_for = "select exists (select from conversation_merges where loser = $1 and looks < 3)"
        late = from_before and await self.db.fetchval(looked_for, self.conversations[thread])
        into = self.conversations[thread if late else self.now_is(thread)]
        message_id = uuid4()
        sequence = await self.db.fetchval(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status, occurred_at, received_at)"
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
        await sends.store(self.db, "meta", [row], now(), now() + DAY)
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
        found = await sends.candidates(self.db, "meta", {self.account: 100}, now() + MINUTE, MINUTE)
        return [one.row for one in found if not one.held]

    async def are_sent(self) -> bool:
        """Send what may go; it is the next of its thread. Whether anything went."""
        rows = await self.may_go()
        nexts = self.first()
        for row in rows:
            assert nexts[self.now_is(self.waits[row.message_id][0])] == row.message_id
        stand = await sends.write(self.db, [(row, replace(row, state="accepted", settled_at=now())) for row in rows])
        await sends.free(self.db, {(ORG, conversation_id) for conversation_id in stand.values()})
        for row in rows:
            del self.waits[row.message_id]
        return bool(rows)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("written"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("one"), st.integers(0, 3), st.integers(0, 3)),
        st.tuples(st.just("slice"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("sent"), st.just(0), st.just(0)),
        st.tuples(st.just("kept behind"), st.just(0), st.just(0)),
    ),
    min_size=4,
    max_size=30,
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@example(
    steps=[
        *[("written", 0, False)] * 3,
        ("written", 1, False),
        ("kept behind", 0, 0),
        ("one", 0, 1),
        ("slice", 1, 0),
        ("sent", 0, 0),
        ("one", 1, 2),
        ("written", 0, True),
        ("sent", 0, 0),
    ]
)  # a chain, in the middle of which the first of three that wait behind each other goes
async def test_merged_threads_are_one_complete_in_order_and_once(pool: Pool, steps: list[tuple[str, int, int]]) -> None:
    async with pool.acquire() as db:
        threads = Threads(db)
        await threads.opened(4)
        for what, one, other in steps:
            match what:
                case "written":
                    await threads.is_written(one, from_before=bool(other))
                case "one":
                    await threads.become_one(one, other)
                case "slice":
                    await a_slice(db, one)
                case "sent":
                    await threads.are_sent()
                case _:
                    await sends.keep_behind(db, "meta", threads.account, now() + MINUTE, MINUTE)
        await all_moved(db, 3)
        while await threads.are_sent():
            pass
        assert threads.waits == {}
        expected = {
            message: threads.conversations[threads.now_is(thread)] for message, thread in threads.written.items()
        }
        for query in (
            "select message_id, conversation_id from messages where conversation_id = any($1::uuid[])",
            "select message_id, conversation_id from sends where account = $2",
            "select intent_id, conversation_id from decisions where conversation_id = any($1::uuid[])",
        ):
            values = [threads.conversations] if "$1" in query else [threads.account]
            rows = await db.fetch(query.replace("$2", "$1"), *values)
            assert sorted(map(tuple, rows), key=str) == sorted(expected.items(), key=str)


async def test_what_waits_on_both_sides_of_a_merge_goes_in_one_order_before_a_row_of_it_is_moved(pool: Pool) -> None:
    async with pool.acquire() as db:
        threads = Threads(db)
        await threads.opened(3)
        for thread in (0, 1, 2, 0, 1):
            await threads.is_written(thread, from_before=False)
        assert len(await threads.may_go()) == 3  # three people
        await threads.become_one(0, 1)
        await threads.become_one(2, 1)
        order = sorted(threads.waits, key=lambda message: threads.waits[message][1])
        await threads.is_written(1, from_before=False)
        for message in order:
            assert [row.message_id for row in await threads.may_go()] == [message]
            await threads.are_sent()
        assert len(await threads.may_go()) == 1
