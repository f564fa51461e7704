"""What a send costs PostgreSQL: rows written, updates within their page, bytes of its log. Counted, never timed.

One connection does all the work, so that what it wrote is counted and nothing else.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from libs.common.db.pool import open_pool
from libs.common.kafka.producer import Producer
from tests.support.sending import TIMINGS, Garage, a_sender, accept, kim

SENDS = 40
_ROWS = """
select relname, n_tup_ins as inserted, n_tup_upd as updated, n_tup_hot_upd as within_page, n_tup_del as deleted
  from pg_stat_user_tables where relname in ('sends', 'send_claims', 'provider_ids', 'messages')
"""
_BYTES = "select wal_bytes from pg_stat_get_backend_wal(pg_backend_pid())"


@pytest_asyncio.fixture
async def garage(database: str) -> AsyncIterator[Garage]:
    async with open_pool(database, application_name="test", size=1, command_seconds=10) as pool:
        found = Garage(pool)
        await found.set_up()
        yield found


async def written(garage: Garage) -> tuple[dict[str, dict[str, int]], int]:
    """The rows that were written so far, by table, and the bytes of the log."""
    await garage.execute("select pg_stat_force_next_flush()")
    rows: dict[str, dict[str, Any]] = {row["relname"]: dict(row) for row in await garage.fetch(_ROWS)}
    return {name: {k: v for k, v in row.items() if k != "relname"} for name, row in rows.items()}, int(
        (await garage.fetch(_BYTES))[0]["wal_bytes"]
    )


async def test_a_send_is_written_once_claimed_within_its_page_and_settled(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(SENDS)]
    async with a_sender(garage, producer, sandbox.url, concurrency=8 * SENDS) as line:
        rows_before, bytes_before = await written(garage)
        await accept(line, *commands)
        assert await line.claim_once() == SENDS
        rows, log = await written(garage)
    assert set(await garage.states(*commands)) == {"accepted"}

    def count(table: str) -> dict[str, int]:
        return {what: rows[table][what] - rows_before[table][what] for what in rows[table]}

    of_sends = count("sends")
    assert (of_sends["inserted"], of_sends["updated"], of_sends["deleted"]) == (SENDS, 2 * SENDS, 0)
    assert of_sends["within_page"] >= SENDS * 0.9  # the claims: no index names a column that they write
    assert count("send_claims") == {"inserted": 1, "updated": 0, "within_page": 0, "deleted": 1}
    assert count("provider_ids") == {"inserted": SENDS, "updated": 0, "within_page": 0, "deleted": 0}
    assert count("messages")["updated"] == 0  # an accepted message is pending until its status comes
    assert (log - bytes_before) / SENDS < 3_000  # about 1,900, where full pages are not written


async def test_a_send_that_waits_for_nothing_is_stored_as_claimed_and_written_once_more(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(SENDS)]

    async def all_ended() -> bool:
        return len(await garage.fetch("select from sends where settled_at is not null")) == SENDS

    async with a_sender(garage, producer, sandbox.url, concurrency=8 * SENDS) as line:
        rows_before, bytes_before = await written(garage)
        async with line:
            await accept(line, *commands)
            await sandbox.until(all_ended, 30.0)
            rows, log = await written(garage)  # by the one connection, before it is closed
    assert set(await garage.states(*commands)) == {"accepted"}
    assert rows["sends"]["inserted"] - rows_before["sends"]["inserted"] == SENDS
    assert rows["sends"]["updated"] - rows_before["sends"]["updated"] == SENDS
    assert rows["send_claims"]["inserted"] - rows_before["send_claims"]["inserted"] == 1
    assert (log - bytes_before) / SENDS < 2_300  # about 1,650, where full pages are not written


async def test_a_claim_whose_sends_have_all_ended_is_forgotten_with_its_lease(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    async with a_sender(garage, producer, sandbox.url) as line:
        await accept(line, command)
        await line.claim_once()
        await garage.execute(  # as where two transactions ended the last sends of a claim at the same time
            "insert into send_claims (claim_id, channel, lease_until, accounts, org_ids, message_ids, attempts)"
            " select claim_id, channel, lease_until, array[account], array[org_id], array[message_id], array[attempt]"
            "   from sends"
        )
        await line.sweep_once()
        assert len(await garage.fetch("select from send_claims")) == 1
        garage.now.forward(TIMINGS.lease)
        await line.sweep_once()
    assert await garage.fetch("select from send_claims") == []
    assert await garage.states(command) == ["accepted"]
