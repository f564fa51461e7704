"""The sweeper's tasks: a row that fails is set aside alone, and two replicas tell nothing twice."""

from datetime import timedelta

from deploy.local.sandbox.client import SandboxClient
from libs.common.kafka.producer import Producer
from tests.support.logs import LogLines
from tests.support.published import Published
from tests.support.sandbox import NUMBER_ID
from tests.support.sending import Garage, Line, a_sender, accept, kim


async def test_news_is_told_once_however_many_replicas_look(
    garage: Garage, producer: Producer, sandbox: SandboxClient, published: Published
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(30)]
    await sandbox.fault("meta", "fail", code=131051)
    async with a_sender(garage, producer, sandbox.url) as line, a_sender(garage, producer, sandbox.url) as replica:
        await accept(line, *commands)
        await line.claim_once()
        await garage.execute("update sends set published = false, publishing_until = null")
        before = len(await published.updates())
        for sender in (line, replica):
            await sender.sweep_once()
        assert len(await published.updates()) == before + 30
    assert {row["published"] for row in await garage.fetch("select published from sends")} == {True}


async def test_a_row_that_cannot_be_told_is_set_aside_alone(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published, log_lines: LogLines
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(5)]
    await sandbox.fault("meta", "fail", code=131051)
    await accept(line, *commands)
    await line.claim_once()
    before = len(await published.updates())
    await garage.execute("update sends set published = false, publishing_until = null")
    await garage.execute(
        "update sends set outcome = outcome || '{\"refusals\": [{}]}' where message_id = $1", commands[2].message_id
    )
    await line.sweep_once()
    assert len(await published.updates()) == before + 4
    [aside] = log_lines.of("row.set_aside")
    assert (aside["level"], aside["message_id"], aside["task"]) == ("error", str(commands[2].message_id), "publish")


async def test_a_row_whose_end_fails_holds_up_no_other(
    line: Line, garage: Garage, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    commands = [await garage.command(await kim(garage, sandbox), expires_in=timedelta(seconds=1)) for _ in range(5)]
    await accept(line, *commands)
    await garage.execute(
        "insert into pauses (channel, provider, account, scope, until_at, reason)"
        " values ('whatsapp', 'meta', $1, 'all', $2, '130429')",
        NUMBER_ID,
        garage.now() + timedelta(hours=1),
    )
    await garage.execute(
        f"alter table messages add constraint odd"
        f" check (status <> 'failed' or message_id <> '{commands[2].message_id}')"
    )
    garage.now.forward(timedelta(seconds=2))
    await line.sweep_once()
    states = await garage.states(*commands)
    assert states == ["failed", "failed", "pending", "failed", "failed"]
    [aside] = log_lines.of("row.set_aside")
    assert (aside["message_id"], aside["task"]) == (str(commands[2].message_id), "overdue")


async def test_a_row_whose_claim_fails_holds_up_no_other(
    line: Line, garage: Garage, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    commands = [await garage.command(await kim(garage, sandbox)) for _ in range(5)]
    await accept(line, *commands)
    await garage.execute(
        f"alter table sends add constraint odd check (state <> 'claimed' or message_id <> '{commands[2].message_id}')"
    )
    await line.claim_once()
    assert await garage.states(*commands) == ["accepted", "accepted", "pending", "accepted", "accepted"]
    [aside] = log_lines.of("row.set_aside")
    assert (aside["level"], aside["message_id"], aside["task"]) == ("error", str(commands[2].message_id), "claim")
    assert (await garage.row(commands[2]))["due_at"] > garage.now()
