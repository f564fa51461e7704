"""Answers of Meta's are lost while its webhooks are not taken: nobody gets a message twice, and what was really lost
goes once more.
"""

import asyncio

import asyncpg
import pytest

from libs.common.sending.resend_rounds import FEW
from tests.support.garages import Customer, a_garage
from tests.support.sandbox import CALM
from tests.support.system import System

GRACE = 7
SHORT_GRACE = {"SEND_TIMEOUT_SECONDS": "5", "SEND_LEASE_SECONDS": "6", "SEND_GRACE_SECONDS": str(GRACE)}


async def patient(system: System, settling: int) -> None:
    """The sender waits so many seconds for Meta after an outage."""
    await system.services["whatsapp-sender"].stop()
    await system.start("whatsapp-sender", **SHORT_GRACE, SEND_SETTLING_SECONDS=str(settling))


async def unknown(system: System, intents: list[str]) -> None:
    """The calls of these were made, and nobody knows what came of them."""
    count = "select count(*) from sends where message_id = any($1::uuid[]) and state = 'unknown'"

    async def all_unknown() -> bool:
        return bool(await system.value(count, intents) == len(intents))

    await system.until(all_unknown, "the answers are lost")


async def read_for_longer_than_the_grace(system: System) -> None:
    """Ingest has had nothing left to read for so long that a sender which looked at nothing else would send again."""
    least = "select min(extract(epoch from caught_up_at - since)) from progress"

    async def long() -> bool:
        return float(await system.value(least) or 0) > GRACE + 1

    await system.until(long, "ingest has read everything for longer than the grace")


async def test_while_ingest_is_killed_an_answer_is_lost_and_nobody_gets_it_twice(system: System) -> None:
    garage = await a_garage(system)
    kim, lee = await asyncio.gather(*(garage.customer_who_wrote() for _ in range(2)))
    await system.quiet()
    await patient(system, settling=600)
    await system.sandbox.configure(pace=1)  # Meta tries again when we say so
    await system.services["ingest"].kill()
    await system.sandbox.fault("meta", "drop_answer", to=kim.phone, calls=1)
    await system.sandbox.fault("meta", "reset", to=lee.phone, calls=1)
    intents = [await kim.is_sent("The first."), await lee.is_sent("The second.")]
    await unknown(system, intents)
    await system.start("ingest")
    await read_for_longer_than_the_grace(system)
    assert await system.sandbox.retry_webhooks() > 0
    await system.sandbox.configure(pace=CALM["pace"])  # soon again where the edge is busy
    await system.reaches(intents[0], "read")
    assert await lee.whatsapps() == []
    await patient(system, settling=1)
    await system.reaches(intents[1], "read")
    await system.quiet()
    assert len(await kim.whatsapps()) == 1, "accepted by the first call"
    assert len(await lee.whatsapps()) == 1, "by the second: it was really lost"
    assert [await system.value("select resends from sends where message_id = $1::uuid", i) for i in intents] == [0, 1]


async def settled(system: System, intent: str) -> None:
    """Meta has answered."""

    async def is_so() -> bool:
        return bool(await system.value("select state from sends where message_id = $1::uuid", intent) == "accepted")

    await system.until(is_so, "Meta answers")


@pytest.mark.proof
@pytest.mark.timeout(300)
async def test_where_meta_tries_longer_than_we_wait_a_few_go_twice_and_not_all(system: System) -> None:
    garages = [await a_garage(system) for _ in range(FEW)]
    known = [[await garage.customer_who_wrote() for _ in range(5)] for garage in garages]
    await system.quiet()
    await patient(system, settling=20)  # so long the first round has the word
    await system.sandbox.configure(pace=1)
    await system.services["ingest"].kill()
    customers: list[Customer] = []
    intents: list[str] = []
    for *four, other in known:  # others are answered between them: neither a number nor Meta counts as silent
        for customer in four:
            await system.sandbox.fault("meta", "drop_answer", to=customer.phone, calls=1)
        told = [await customer.is_sent() for customer in four]
        await unknown(system, told)
        await settled(system, await other.is_sent())
        customers, intents = customers + four, intents + told
    await system.start("ingest")

    async def some_went_again() -> bool:
        twice = "select count(*) from sends where message_id = any($1::uuid[]) and resends = 1 and state = 'accepted'"
        return bool(await system.value(twice, intents))

    await system.until(some_went_again, "silence is taken for a refusal")
    assert await system.sandbox.retry_webhooks() > 0
    await system.sandbox.configure(pace=CALM["pace"])
    for intent in intents:
        await system.reaches(intent, "read")
    await system.quiet()
    got = [len(await customer.whatsapps()) for customer in customers]
    assert sum(got) - len(customers) <= FEW
    assert min(got) == 1


@pytest.mark.proof
async def test_while_the_worker_cannot_store_what_the_edge_takes_silence_proves_nothing(system: System) -> None:
    garage = await a_garage(system)
    kim = await garage.customer_who_wrote()
    await system.quiet()
    await patient(system, settling=1)
    await system.sandbox.fault("meta", "drop_answer", to=kim.phone, calls=1)
    db = await asyncpg.connect(system.servers.postgres_dsn)
    try:
        async with db.transaction():
            await db.execute("lock table early_statuses in share mode")  # it can be read, and nothing is stored in it
            intent = await kim.is_sent()
            await unknown(system, [intent])
            waited = "select extract(epoch from now() - claimed_at) from sends where message_id = $1::uuid"

            async def long() -> bool:
                return float(await system.value(waited, intent)) > 2 * GRACE

            await system.until(long, "two graces pass")
            assert await system.value("select state from sends where message_id = $1::uuid", intent) == "unknown"
    finally:
        await db.close()
    await system.reaches(intent, "read")
    await system.quiet()
    assert len(await kim.whatsapps()) == 1
