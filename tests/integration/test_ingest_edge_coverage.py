"""What the edge tells of itself: since when it serves, what it refused, when Meta last posted."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.common.db.pool import Connection, Pool, open_pool
from libs.common.errors import Transient
from libs.common.sending import coverage_queries as db_cover
from libs.common.sending import resending
from libs.common.sending.coverage import HELD, CaughtUp, Cover, Quiet, Waits, quiet
from libs.common.sending.coverage_queries import cover
from libs.common.service import Service
from services.ingest.edge import PATIENCE_SECONDS
from services.ingest.edge_coverage import STALLED, UNREADY, EdgeCoverage
from services.ingest.tasks import KEPT, purge
from tests.support.ingest import SECRETS, Ingest, now
from tests.support.waiting import eventually_true
from tests.support.webhooks import a_message, as_body, of_messages, sign

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
WAITS = Waits(timedelta(seconds=30), timedelta(seconds=300))


class Ticks:
    """A steady clock that a test puts forward."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", command_seconds=10) as found:
        yield found


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def coverage(ticks: Ticks) -> EdgeCoverage:
    found = EdgeCoverage(ticks)
    found.begin()
    return found


async def instant(db: Connection) -> datetime:
    found: datetime = await db.fetchval("select clock_timestamp()")
    return found


async def stored(pool: Pool) -> Cover:
    async with pool.acquire() as db:
        return await cover(db, "meta", await instant(db) - DAY)


async def rows(pool: Pool, statement: str, *values: Any) -> list[asyncpg.Record]:
    async with pool.acquire() as db:
        return await db.fetch(statement, *values)


async def tells(coverage: EdgeCoverage, pool: Pool, *, cut: bool = False) -> None:
    async with pool.acquire() as db:
        if cut:
            await db.close()
        await coverage.store(db, pool.now.earliest)


async def proven(pool: Pool) -> Quiet | None:
    async with pool.acquire() as db:
        at = await instant(db)
        read = {0: CaughtUp(at, at - DAY)}
        return quiet(await cover(db, "meta", at - DAY), read, 1, WAITS, at)


async def test_a_storm_of_refusals_is_one_row_and_counts_to_its_last(
    coverage: EdgeCoverage, ticks: Ticks, pool: Pool
) -> None:
    for _ in range(30):
        for _ in range(1000):
            ticks.at += 0.001
            coverage.refused("kafka_away")
        await tells(coverage, pool)
    [row] = await rows(pool, "select *, ended_at - began_at as lasted from webhook_refusals")
    assert (row["kind"], row["reason"], row["times"]) == ("refused", "kafka_away", 30_000)
    assert timedelta(seconds=25) < row["lasted"] < timedelta(seconds=31)
    assert (await stored(pool)).refused_at == row["ended_at"]


async def test_what_could_not_be_stored_is_kept_and_dated_when_it_happened(
    coverage: EdgeCoverage, ticks: Ticks, pool: Pool
) -> None:
    await tells(coverage, pool)
    [before] = (await stored(pool)).edges
    coverage.refused("kafka_away")
    with pytest.raises(Transient):  # PostgreSQL is away
        await tells(coverage, pool, cut=True)
    for _ in range(3600):
        ticks.at += 2
        coverage.beat()
    await tells(coverage, pool)
    known = await stored(pool)
    assert known.refused_at is not None
    async with pool.acquire() as db:
        assert timedelta(seconds=7190) < await instant(db) - known.refused_at < timedelta(seconds=7210)
    [edge] = known.edges
    assert edge.since == before.since
    assert edge.until > before.until


async def test_nothing_is_said_of_the_time_in_which_a_post_is_on_its_way_to_kafka(
    coverage: EdgeCoverage, ticks: Ticks, pool: Pool
) -> None:
    ticket = coverage.begin_publish()
    ticks.at += 3
    await tells(coverage, pool)
    async with pool.acquire() as db:
        assert await instant(db) - (await stored(pool)).edges[0].until >= timedelta(seconds=3)
    coverage.end_publish(ticket)
    asked, bound = (await rows(pool, "select clock_timestamp()"))[0][0], pool.now.bound
    await tells(coverage, pool)
    assert (await stored(pool)).edges[0].until >= asked - 2 * bound


async def test_when_a_post_was_last_in_hand_is_told_for_so_far_must_have_been_read(
    coverage: EdgeCoverage, ticks: Ticks, pool: Pool
) -> None:
    async def posted() -> timedelta | None:
        await tells(coverage, pool)
        [edge] = (await stored(pool)).edges
        async with pool.acquire() as db:
            return None if edge.posted_at is None else await instant(db) - edge.posted_at

    assert await posted() is None
    ticket = coverage.begin_publish()
    ticks.at += 5
    coverage.end_publish(ticket)
    ticks.at += 60
    assert 60 * SECOND <= (await posted() or 0 * SECOND) < 65 * SECOND, "not since it was begun"
    coverage.begin_publish()
    ticks.at += 60
    assert (await posted() or 60 * SECOND) < 60 * SECOND, "it may come any moment"


async def test_a_post_that_was_in_hand_for_too_long_counts_as_refused_whatever_came_of_it(
    coverage: EdgeCoverage, ticks: Ticks, pool: Pool
) -> None:
    for lasted in (HELD.total_seconds(), HELD.total_seconds() + 0.1):
        ticket = coverage.begin_publish()
        ticks.at += lasted
        coverage.end_publish(ticket)
    await tells(coverage, pool)
    [row] = await rows(pool, "select kind, reason, times from webhook_refusals")
    assert tuple(row) == ("refused", "slow", 1)
    assert HELD.total_seconds() > PATIENCE_SECONDS, "what waits for Kafka is refused before"


async def test_a_process_that_stood_still_took_nothing_meanwhile(
    coverage: EdgeCoverage, ticks: Ticks, pool: Pool
) -> None:
    coverage.beat()
    ticks.at += STALLED
    coverage.beat()
    assert (await stored(pool)).refused_at is None
    ticks.at += STALLED + 60
    await tells(coverage, pool)  # before anything else of it ran
    [row] = await rows(pool, "select reason, ended_at - began_at as lasted from webhook_refusals")
    assert row["reason"] == "stood_still"
    assert row["lasted"] >= timedelta(seconds=60)


async def test_who_is_not_ready_gets_nothing_from_a_load_balancer(
    coverage: EdgeCoverage, ticks: Ticks, pool: Pool
) -> None:
    coverage.checked(ready=False)
    ticks.at += UNREADY - 1
    coverage.checked(ready=False)
    coverage.checked(ready=True)
    await tells(coverage, pool)
    assert (await stored(pool)).refused_at is None
    for _ in range(10):
        coverage.checked(ready=False)
        ticks.at += 1
    await tells(coverage, pool)
    [row] = await rows(pool, "select reason from webhook_refusals")
    assert row["reason"] == "not_ready"


async def test_an_edge_whose_check_breaks_is_not_ready(database: str, pool: Pool) -> None:
    """``/readyz`` is 503 then, whatever the check raises."""
    service = Service("ingest", host="127.0.0.1", port=0, drain_seconds=5)
    service.serving = True
    checks = 0

    async def ready() -> None:
        nonlocal checks
        checks += 1
        if checks > 1:
            raise ValueError

    async with EdgeCoverage().stored(database, 10, service, ready):
        refused = "select from webhook_refusals where reason = 'not_ready'"
        await eventually_true(lambda: rows(pool, refused), "its time does not count as covered")


async def test_old_rows_are_forgotten(coverage: EdgeCoverage, pool: Pool) -> None:
    coverage.refused("kafka_away")
    coverage.refused("bad_signature", "doubtful")
    await tells(coverage, pool)
    await purge(pool, pool.now)
    assert len((await stored(pool)).edges) == 1
    later = pool.now() + KEPT
    await purge(pool, lambda: later)
    assert (await stored(pool)) == Cover([])


@pytest.mark.proof
async def test_however_much_was_refused_and_restarted_the_question_is_answered_at_once(database: str) -> None:
    async with open_pool(database, application_name="test", command_seconds=60) as pool:
        at = pool.now()
        old = (
            "from (select $1::timestamptz - n * interval '1 s' as at, n from generate_series(3600, 203600) as n) as old"
        )
        for table, row in (
            ("webhook_edges", "gen_random_uuid(), at, at, null, null"),
            (
                "webhook_refusals",
                "gen_random_uuid(), n, (array['refused', 'doubtful'])[1 + n % 2], 'kafka_away', at, at, 1",
            ),
            ("resends", "'meta', 'acme', gen_random_uuid(), 1, at, false"),
        ):
            await rows(pool, f"insert into {table} select {row} {old}", at)
        statements = (
            (db_cover._COVER, ["meta", at - WAITS.view]),
            (db_cover._EDGES, [at - WAITS.view, 1000]),
            (resending._LATELY, ["meta", at - WAITS.view, 1000]),
        )
        for statement, values in statements:
            plan = "\n".join(
                row[0]
                for row in await rows(
                    pool, f"explain (analyze, buffers off, timing off, costs off) {statement}", *values
                )
            )
            read = [int(found) for found in re.findall(r"rows=(\d+)", plan)]
            assert max(read) <= 1, plan
            assert "Removed" not in plan, plan
        later = at + timedelta(days=9)
        await purge(pool, lambda: later)
        assert await rows(pool, "select from webhook_refusals limit 1") == []


# ── As it runs
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def the_edge(ingest: Ingest) -> asyncpg.Record:
    found = await ingest.rows("select * from webhook_edges order by serves_since desc limit 1")
    return found[0] if found else {}  # type: ignore[return-value]


async def test_it_tells_since_when_it_serves_and_when_meta_last_posted(ingest: Ingest) -> None:
    first = await eventually_true(lambda: the_edge(ingest))
    assert (first["left_at"], first["last_post_at"]) == (None, None)
    before = (await ingest.row("select clock_timestamp() as at"))["at"]
    assert await ingest.post(of_messages(a_message(now()))) == 200

    async def took() -> bool:
        last: datetime | None = (await the_edge(ingest))["last_post_at"]
        return last is not None and last >= before

    await eventually_true(took)
    edge = await the_edge(ingest)
    assert (edge["edge_id"], edge["serves_since"]) == (first["edge_id"], first["serves_since"])
    # a process that stands still for seconds, on a busy machine, says so and is another matter
    assert await ingest.rows("select from webhook_refusals where reason not in ('stood_still', 'not_ready')") == []


async def test_what_only_looks_like_metas_is_doubtful_and_what_does_not_is_nothing(ingest: Ingest) -> None:
    body = as_body(of_messages(a_message(now())))
    assert await ingest.post(body, headers={}) == 403
    assert await ingest.post(body, headers={"X-Hub-Signature-256": "sha256=00"}) == 403
    await asyncio.sleep(0)
    assert await ingest.post(b"{}", headers={"X-Hub-Signature-256": sign(b"{}", b"not ours")}) == 403
    assert await ingest.post(b"no json", headers={"X-Hub-Signature-256": sign(b"no json", SECRETS[0])}) == 400
    found = await eventually_true(lambda: ingest.rows("select kind, times from webhook_refusals where times >= 2"))
    assert [tuple(row) for row in found] == [("doubtful", 2)]
