"""The tasks of the senders and a row that is too slow alone: it is set aside, all others go on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from libs.common.db.pool import open_pool
from libs.common.events.outbound import WhatsappCommand
from libs.common.kafka.producer import Producer
from tests.support.logs import LogLines
from tests.support.sending import Garage, Line, a_sender, accept, kim

SECONDS = 1.0

_SLOW = """
create table slow (message_id uuid primary key);
create function take_time() returns trigger language plpgsql as $$
begin
    if exists (select from slow where message_id = new.message_id) then perform pg_sleep(20); end if;
    return new;
end $$;
create trigger takes_time before update on {table} for each row when ({when}) execute function take_time();
"""


@pytest_asyncio.fixture
async def hasty(garage: Garage, producer: Producer, sandbox: SandboxClient, database: str) -> AsyncIterator[Line]:
    """A sender whose statements may take less than a second."""
    async with open_pool(database, application_name="transom-test", command_seconds=SECONDS) as pool:
        hurried = Garage(pool, now=garage.now, number=garage.number)
        async with a_sender(hurried, producer, sandbox.url) as line:
            yield line


async def slow_for(garage: Garage, *messages: UUID, table: str, when: str) -> None:
    async with garage.pool.acquire() as db:
        await db.execute(_SLOW.format(table=table, when=when))
        await db.executemany("insert into slow values ($1)", [(message,) for message in messages])


async def until(line: Line, holds: Callable[[], Awaitable[bool]], what: str, *, claiming: bool = True) -> None:
    """Claim and sweep until it holds."""
    try:
        async with asyncio.timeout(60):
            while not await holds():
                with suppress(
                    asyncpg.QueryCanceledError
                ):  # as the engine's loops, which go on; any statement may be slow
                    if claiming:
                        await line.claim_once()
                    await line.sweep_once()
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"did not come true: {what}") from None


SLOWNESS = {
    "claim": ("sends", "new.state = 'claimed'", "accepted", "pending"),
    "record": ("sends", "new.state = 'accepted'", "accepted", "claimed"),
    "overdue": ("messages", "new.status = 'failed'", "failed", "pending"),
}
"""By task where a row is slow, how the others end, and how it stands then."""


async def others_go_on(task: str, line: Line, garage: Garage, sandbox: SandboxClient) -> WhatsappCommand:
    """Of six rows one is too slow for a task; the others end. Returns the one."""
    table, when, end, stands = SLOWNESS[task]
    commands = [await garage.command(await kim(garage, sandbox), expires_in=timedelta(hours=1)) for _ in range(6)]
    await slow_for(garage, commands[2].message_id, table=table, when=when)
    await accept(line, *commands)
    if task == "overdue":
        garage.now.forward(timedelta(hours=2))
    wanted = [end if command is not commands[2] else stands for command in commands]

    async def stand() -> bool:
        return await garage.states(*commands) == wanted

    await until(line, stand, "the others end", claiming=task != "overdue")
    return commands[2]


async def test_a_row_whose_claim_is_too_slow_holds_up_no_other(
    hasty: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await others_go_on("claim", hasty, garage, sandbox)
    assert len(await sandbox.messages()) == 5


@pytest.mark.proof
@pytest.mark.parametrize("task", list(SLOWNESS))
async def test_a_row_that_is_too_slow_alone_is_set_aside_and_loud(
    hasty: Line, garage: Garage, sandbox: SandboxClient, log_lines: LogLines, task: str
) -> None:
    slow = await others_go_on(task, hasty, garage, sandbox)

    async def told() -> bool:
        return bool(log_lines.of("row.set_aside"))

    await until(hasty, told, "it is set aside", claiming=task != "overdue")
    [line] = log_lines.of("row.set_aside")
    assert (line["level"], line["message_id"], line["task"]) == ("error", str(slow.message_id), task)
    assert line["exception"][0]["type"] == "asyncpg.exceptions.QueryCanceledError"


@pytest.mark.proof
async def test_while_the_database_is_slow_for_everybody_no_row_is_set_aside(
    hasty: Line, garage: Garage, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(8)]
    await slow_for(garage, *(c.message_id for c in commands), table="sends", when="new.state = 'claimed'")
    await accept(hasty, *commands)
    for _ in range(2):
        with pytest.raises(asyncpg.QueryCanceledError):
            await hasty.claim_once()
    await garage.execute("delete from slow")

    async def all_went() -> bool:
        return await garage.states(*commands) == ["accepted"] * 8

    await until(hasty, all_went, "all of them go")
    assert log_lines.of("row.set_aside") == []
