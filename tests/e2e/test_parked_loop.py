"""The whole loop of texts that found the window closed: they wait, the customer writes, they arrive once."""

import asyncio
from uuid import UUID

import pytest
import pytest_asyncio

from tests.support.garages import LATE, Customer, a_garage
from tests.support.inbox import KEY
from tests.support.system import System

INBOXES = ("inbox", "inbox-2")


@pytest_asyncio.fixture
async def with_inboxes(system: System) -> System:
    """The system with two processes of the inbox, beside each other."""
    for name in INBOXES:
        system.add("inbox", name)
    await system.start(*INBOXES, JWT_KEYS=KEY)
    return system


async def two_texts_wait(kim: Customer) -> None:
    """The AI's text became a bridge SMS, and the one of staff after it stayed silent."""
    system = kim.system
    assert await system.fails(await kim.is_sent("The clutch is done.")) == "window_expired_bridge_sent"
    text = await kim.is_sent("The flywheel is worn.", actor="staff")
    assert await system.fails(text) == "window_expired_bridge_already_sent"

    async def both() -> bool:
        return bool(await _waiting(kim) == 2)

    await system.until(both, "both wait")


async def _waiting(kim: Customer) -> int:
    found: int = await kim.system.value(
        "select count(*) from parked_messages where conversation_id = $1 and state = 'waiting'",
        UUID(kim.conversation_id),
    )
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "killed",
    [
        pytest.param(INBOXES[:1], id="one"),
        pytest.param((), id="none", marks=pytest.mark.proof),
        pytest.param(INBOXES, id="both", marks=pytest.mark.proof),
    ],
)
async def test_what_waits_arrives_once_as_one_message_whichever_inbox_is_killed(
    with_inboxes: System, killed: tuple[str, ...]
) -> None:
    system = with_inboxes
    garage = await a_garage(system, policy={"release": "send"})
    kim = await garage.customer_who_wrote(LATE)
    await two_texts_wait(kim)
    await kim.writes("Here I am again")
    await asyncio.gather(*(system.services[name].kill() for name in killed))
    await system.start(*killed, JWT_KEYS=KEY)

    async def arrived() -> bool:
        return bool(await kim.whatsapps())

    await system.until(arrived, "the texts arrive")
    await kim.writes("Are you there?")  # the window is open, and nothing waits any more
    await system.quiet()
    (message,) = await kim.whatsapps()
    assert message["body"]["text"]["body"] == "The clutch is done.\n\nThe flywheel is worn."
    assert len(await kim.texts()) == 1
    assert await _waiting(kim) == 0
