"""A full batch waits for room to claim while the process works its claims off, and no other batch waits."""

import asyncio

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.outbound import WhatsappCommand
from libs.common.kafka.producer import Producer
from libs.common.sending import dispatching
from libs.common.sending.turns import Turns
from tests.support.sending import Garage, Line, a_sender, accept, kim
from tests.support.waiting import eventually

FULL = 4
AN_HOUR = 3_600.0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Four commands are a full batch, and room comes while a call runs. How many rows was asked for, each time."""
    asked: list[int] = []

    def room_comes(turns: Turns, rows: dict[str, int], at: float) -> bool:
        asked.append(sum(rows.values()))
        return bool(turns.with_claims(rows))

    monkeypatch.setattr(dispatching, "_FULL", FULL)
    monkeypatch.setattr(dispatching, "_ROOM_SECONDS", AN_HOUR)
    monkeypatch.setattr(Turns, "room_comes", room_comes)
    return asked


async def hanging(garage: Garage, sandbox: SandboxClient, line: Line) -> WhatsappCommand:
    """A command whose call hangs until the sandbox's faults end."""
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "slow", seconds=60, calls=1)
    await accept(line, command)
    return command


async def some(garage: Garage, sandbox: SandboxClient, number: int) -> list[WhatsappCommand]:
    return [await garage.command(await kim(garage, sandbox)) for _ in range(number)]


async def test_a_full_batch_is_stored_once_earlier_claims_are_recorded_and_a_smaller_one_at_once(
    garage: Garage, producer: Producer, sandbox: SandboxClient, asked: list[int]
) -> None:
    garage.now.go_on()
    few, many = await some(garage, sandbox, FULL - 1), await some(garage, sandbox, FULL)
    async with a_sender(garage, producer, sandbox.url) as line, line:
        first = await hanging(garage, sandbox, line)
        waiting = asyncio.create_task(accept(line, *many))
        await eventually(lambda: asked == [FULL])
        await accept(line, *few)
        assert len(await garage.fetch("select from sends")) == 1 + len(few)
        assert not waiting.done()
        await sandbox.clear_faults()
        await waiting
        assert asked == [FULL] * len(asked)
        await eventually(lambda: line.calls_running == 0)
    assert set(await garage.states(first, *few, *many)) == {"accepted"}


async def test_a_full_batch_waits_only_so_long(
    garage: Garage, producer: Producer, sandbox: SandboxClient, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatching, "_ROOM_SECONDS", 0.1)
    garage.now.go_on()
    many = await some(garage, sandbox, FULL)
    async with a_sender(garage, producer, sandbox.url) as line, line:
        first = await hanging(garage, sandbox, line)
        await accept(line, *many)
        assert asked == [FULL]
        assert await garage.states(first) == ["claimed"]  # its call hangs still
        assert len(await garage.fetch("select from sends")) == 1 + FULL
        await sandbox.clear_faults()


async def test_a_batch_that_waits_for_room_is_stored_at_a_stop_and_not_called(
    garage: Garage, producer: Producer, sandbox: SandboxClient, asked: list[int]
) -> None:
    garage.now.go_on()
    many = await some(garage, sandbox, FULL)
    async with a_sender(garage, producer, sandbox.url) as line:
        await line.__aenter__()
        first = await hanging(garage, sandbox, line)
        waiting = asyncio.create_task(accept(line, *many))
        await eventually(lambda: asked == [FULL])
        leaving = asyncio.create_task(line.__aexit__())
        await waiting
        assert await garage.states(first, *many) == ["claimed"] + ["pending"] * FULL
        await sandbox.clear_faults()
        await leaving
    assert await garage.states(first, *many) == ["accepted"] + ["pending"] * FULL
