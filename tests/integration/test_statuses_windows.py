"""What Meta's statuses say of a conversation's window, on a real PostgreSQL: refusals, and arrivals after all."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from libs.common.db.pool import Pool
from libs.common.thread.conversations import refuse_windows
from tests.support.statuses import (
    CONVERSATION,
    NUMBER,
    T0,
    a_message,
    a_status,
    an_id,
    receive,
    store,
    value,
)


async def test_metas_131047_is_a_refusal_and_closes_the_window(status_pool: Pool) -> None:
    message_id = await a_message(status_pool)
    await store(status_pool, an_id(message_id))
    effects = await receive(status_pool, a_status("failed", after=3, code="131047"))
    assert effects.updates == []
    assert [(r.intent_id, r.attempt, r.reason, r.provider_code) for r in effects.refusals] == [
        (message_id, 1, "window_closed", "131047")
    ]
    assert await value(status_pool, "select last_refused_at from conversations") == T0 + timedelta(seconds=3)
    assert await value(status_pool, "select status from messages where message_id = $1", message_id) == "pending"


@pytest.mark.parametrize(("attempt", "counts_from"), [(1, 0), (2, 15)])
async def test_a_late_131047_counts_from_the_message_that_the_send_answered(
    status_pool: Pool, attempt: int, counts_from: int
) -> None:
    message_id = await a_message(status_pool, attempt=attempt)
    facts = {"last_customer_at": T0.isoformat()} | ({"first_refused_at": T0.isoformat()} if attempt > 1 else {})
    async with status_pool.acquire() as db:
        await db.execute(
            """insert into decisions (org_id, intent_id, attempt, route, reason, record, decided_at)
               values ('acme', $1, $2, 'session', 'window_open', $3, $4)""",
            message_id,
            attempt,
            {"facts": facts},
            T0,
        )  # fmt: skip -- one statement
    await store(status_pool, an_id(message_id, attempt=attempt))
    await receive(
        status_pool, a_status("failed", after=-2, code="131047")
    )  # the customer's message lies ahead of our clock
    assert await value(status_pool, "select last_refused_at from conversations") == T0 + timedelta(seconds=counts_from)


async def a_send(status_pool: Pool, message_id: UUID, called_at: datetime, *, template: bool) -> None:
    async with status_pool.acquire() as db:
        await db.execute(
            """insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence, account,
                template, command, state, due_at, expires_at, claimed_at, settled_at, created_at)
               values ('acme', $1, 1, 'whatsapp', 'meta', $2, 1, $3, $4, $5, 'accepted', $6, $6, $6, $6, $6)""",
            message_id,
            CONVERSATION,
            NUMBER,
            template,
            {"route": "template" if template else "session"},
            called_at,
        )  # fmt: skip -- one statement


@pytest.mark.parametrize(
    ("kind", "refused", "left"),
    [
        ("text", [0], (None, None)),
        ("text", [-1, 0], (None, None)),
        ("text", [0, 1], (None, 1)),
        ("template", [0], (0, 0)),
    ],
)
@pytest.mark.parametrize("arrival", ["delivered", "read"])
async def test_the_arrival_of_a_message_that_was_decided_again_disproves_what_was_refused_until_its_send(
    status_pool: Pool, kind: str, refused: list[int], left: tuple[int | None, int | None], arrival: str
) -> None:
    message_id = await a_message(status_pool, kind=kind, attempt=2)
    await a_send(status_pool, message_id, T0, template=kind == "template")
    await store(status_pool, an_id(message_id))
    async with status_pool.acquire() as db:
        await refuse_windows(db, [("acme", CONVERSATION, T0 + timedelta(seconds=at)) for at in refused])
    await receive(status_pool, a_status(arrival, after=2))
    times = await value(status_pool, "select array[first_refused_at, last_refused_at] from conversations")
    assert times == [None if at is None else T0 + timedelta(seconds=at) for at in left]


async def test_metas_word_on_the_window_reaches_a_conversation_that_was_merged_meanwhile(status_pool: Pool) -> None:
    message_id, merged = await a_message(status_pool), uuid4()
    await store(status_pool, an_id(message_id))
    async with status_pool.acquire() as db:
        await db.execute("insert into conversation_aliases values ($1, 'acme', $2)", merged, CONVERSATION)
        await db.execute("update messages set conversation_id = $1 where message_id = $2", merged, message_id)
    (refusal,) = (await receive(status_pool, a_status("failed", after=5, code="131047"))).refusals
    assert refusal.conversation_id == CONVERSATION
    assert await value(status_pool, "select last_refused_at from conversations") == T0 + timedelta(seconds=5)
