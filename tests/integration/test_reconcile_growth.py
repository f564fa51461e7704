"""Whatever stands in the tables, the reconciler's work is that of what got lost.

Judged by what its statements read, never by time.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from services.router import reconcile_queries as queries
from services.router.reconcile import ROUNDS, SLICE
from services.router.reconcile_plan import LIFETIME
from tests.support.reconciling import reconcile
from tests.support.router import DAY, NOW, Garage, Router, stored

AFTER = timedelta(seconds=60)
SLACK = 1.2
GROWING = frozenset({"decisions", "messages", "sends", "stale_attempts", "refusals"})

_FINISHED = """
with ids as materialized (
    select gen_random_uuid() as id, n, $3::timestamptz - n * interval '10 milliseconds' as at
        from generate_series($4::int, $5::int) n
), decided as (
    insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, record, command,
        decided_at)
    select $1, id, 1, $2, 'session', 'whatsapp', 'window_open', '{}', '{"phone_number_id": "1"}', at from ids
), told as (
    insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, sequence, status,
        seq, occurred_at, received_at)
    select $1, id, $2, 'out', 'whatsapp', 'text', '{}', n, 'delivered', 2, at, at from ids
)
insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence, account, command, state,
    due_at, expires_at, settled_at, published,
                   created_at)
select $1, id, 1, 'whatsapp', 'meta', $2, n, '1', '{}', $6, at, at + interval '3 days',
    case when $6 <> 'pending' then at end, $6 <> 'pending', at from ids
"""


async def finished(router: Router, garage: Garage, number: int, *, state: str = "accepted") -> None:
    """So many messages that were sent and delivered in the last hours, or whose rows wait."""
    for first in range(1, number + 1, 10_000):
        last = min(first + 9_999, number)
        values = (garage.org_id, garage.conversation_id, NOW - timedelta(minutes=2), first, last, state)
        await router.rows(_FINISHED, *values)


async def reads(router: Router, statement: str, *values: Any) -> float:
    """How many rows of growing tables the statement takes from them or from their indexes; nothing of it stays."""
    async with router.pool.acquire() as db:
        undone = db.transaction()
        await undone.start()
        [plan] = await db.fetchval(f"explain (analyze, format json) {statement}", *values)
        await undone.rollback()
    nodes, found = [plan["Plan"]], 0.0
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if node.get("Relation Name") in GROWING and node["Node Type"] != "ModifyTable":
            assert node["Node Type"] != "Seq Scan", node
            found += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return found


@pytest.mark.parametrize("number", [3_000, pytest.param(100_000, marks=[pytest.mark.proof, pytest.mark.timeout(240)])])
async def test_what_is_finished_costs_one_look_and_what_waits_costs_none(router: Router, number: int) -> None:
    garage = await stored(router, Garage())
    await finished(router, garage, number)
    lost = [garage.intent() for _ in range(3)]
    await router.decide(*lost)
    now = NOW + AFTER
    past = NOW - DAY
    [first_slice] = await router.rows(queries._NEXT, past, now, SLICE)
    upto = first_slice["max"]
    asked = (past, upto, LIFETIME, now)
    assert await reads(router, queries._NEXT, past, now, SLICE) <= SLICE * SLACK
    assert await reads(router, queries._FIND["unsent"], *asked) <= 3 * SLICE * SLACK
    assert await reads(router, queries._FIND["unheard"], *asked) <= 3 * SLICE * SLACK

    told: list[dict[str, Any]] = []
    for _ in range(number // (ROUNDS * SLICE) + 1):
        await reconcile(router, now)
        told += (await router.published.new())["outbound.whatsapp.v1"]
    assert sorted(one["message_id"] for one in told) == sorted(intent["intent_id"] for intent in lost)

    [looked] = await router.rows("select upto from reconcile_progress where pass = 'unsent'")
    assert await reads(router, queries._NEXT, looked["upto"], now, SLICE) <= len(lost)
    assert await reads(router, queries._FIND["unsent"], looked["upto"], now, LIFETIME, now) <= len(lost)

    await finished(router, garage, number, state="pending")
    await router.rows(
        "insert into stale_attempts (org_id, message_id, attempt, deadline, due_at)"
        " select org_id, message_id, attempt, expires_at, expires_at from sends where state = 'pending'"
    )
    assert await reads(router, queries._FIND_OVERDUE, now, now, SLICE) == 0
    for ends in (True, False):
        assert await reads(router, queries._TAKE, now, SLICE, AFTER, AFTER, ends) <= len(lost)
    key = [garage.org_id], [UUID(lost[0]["intent_id"])], [1]
    assert await reads(router, queries._LOOK, *key) <= 4
