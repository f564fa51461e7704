"""Servers that fall silent, go and come back, under load. Nothing is lost, and no conversation gets a second bridge."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient

from deploy.local.portal_visitor import PortalError, PortalVisitor
from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.local_servers import start_all
from deploy.local.servers.postgres import PostgresServer
from deploy.local.servers.server import Server
from deploy.local.servers.valkey import ValkeyServer
from libs.common.db.migrate import migrate
from tests.e2e.conftest import SHORT
from tests.support.garages import LATE, a_garage
from tests.support.load import under_load
from tests.support.sandbox import CALM
from tests.support.scraped import scraped_from
from tests.support.servers import RunServers
from tests.support.system import SERVICES, Servers, System
from tests.support.topics import OwnTopics

pytestmark = pytest.mark.timeout(600)
"""Servers of their own start here, and everything starts twice: what a busy machine needs for that is no fault."""


@dataclass(frozen=True, slots=True)
class Hurt:
    """A system whose servers are its own."""

    system: System
    kafka: KafkaServer
    postgres: PostgresServer
    valkey: ValkeyServer


@pytest_asyncio.fixture(scope="module")
async def own_system(run_servers: RunServers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hurt]:
    folder: Path = tmp_path_factory.mktemp("own-system")
    watchdog = run_servers.watchdog
    kafka = KafkaServer(folder / "kafka", watchdog)
    postgres = PostgresServer(folder / "postgres", watchdog, durable=False)
    valkey = ValkeyServer(folder / "valkey", watchdog, durable=False)
    servers: list[Server] = [kafka, postgres, valkey]
    async with AsyncExitStack() as ending:
        for server in servers:
            ending.callback(server.remove)
            ending.callback(server.kill)
        await asyncio.to_thread(start_all, servers)
        await migrate(postgres.address)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        try:
            await OwnTopics(admin, "").create()
        finally:
            await admin.close()
        logs = folder / "logs"
        logs.mkdir()
        addresses = Servers(kafka.address, "", postgres.address, valkey.address)
        system = await ending.enter_async_context(System(addresses, watchdog, logs, **SHORT))
        yield Hurt(system, kafka, postgres, valkey)


@pytest_asyncio.fixture
async def hurt(own_system: Hurt) -> AsyncIterator[Hurt]:
    """All servers run; afterwards nothing private stands in the logs."""
    for server in (own_system.kafka, own_system.postgres, own_system.valkey):
        await asyncio.to_thread(server.start)
    await own_system.system.mend()
    yield own_system
    assert not own_system.system.leaks()
    assert [line for line in own_system.system.lines() if line["event"] == "task.failed"] == []


async def test_without_redis_routing_goes_on_and_a_conversation_gets_one_bridge(hurt: Hurt) -> None:
    system, garage = hurt.system, await a_garage(hurt.system)
    closed, open_ = await garage.customer_who_wrote(LATE), await garage.customer_who_wrote()
    await asyncio.to_thread(hurt.valkey.stop)
    await asyncio.gather(*(system.services[name].kill() for name in ("router", "sms-bridge")))
    await system.start("router", "sms-bridge")
    first, second, session = [await who.is_sent() for who in (closed, closed, open_)]
    assert await system.way(first) == ("bridge", "sms", "window_expired")
    assert await system.way(second) == ("silent", None, "bridge_already_sent")
    await system.reaches(session, "read")
    assert await system.fails(first) == "window_expired_bridge_sent"

    await asyncio.to_thread(hurt.valkey.start)
    third = await closed.is_sent()
    assert await system.way(third) == ("silent", None, "bridge_already_sent")
    await system.quiet()
    assert len(await closed.texts()) == 1


async def test_without_kafka_a_portal_is_ready_and_shows_the_conversation_also_one_that_starts_then(hurt: Hurt) -> None:
    system, portal = hurt.system, hurt.system.add("portal", "portal")
    await system.start("portal")
    garage = await a_garage(system, portal_host=f"localhost:{portal.port}")
    kim = await garage.customer_who_wrote(LATE)
    assert await system.fails(await kim.is_sent("The brakes are done.")) == "window_expired_bridge_sent"
    (sms,) = await kim.texts()
    async with PortalVisitor() as visitor:
        await visitor.opens(f"http://{sms.split()[-1]}")
        await asyncio.to_thread(hurt.kafka.kill)
        with pytest.raises(PortalError, match="answers 503 to a form"):
            await visitor.writes("Can I come at six?")
        await portal.ready()  # else a load balancer takes reading away
        assert "The brakes are done." in await visitor.page()
        assert await portal.stop() == 0
        await system.start("portal")
        assert "The brakes are done." in await visitor.page()

        await asyncio.to_thread(hurt.kafka.start)
        await visitor.writes("Can I come at seven?")
    wrote = (await system.published.one("inbound.messages.v1", org_id=garage.org_id, channel="portal")).event
    assert wrote["content"]["text"] == "Can I come at seven?"


async def test_a_broker_that_restarts_under_load_loses_nothing(hurt: Hurt) -> None:
    load = await under_load(await a_garage(hurt.system), open_=6, closed=6)
    async with load.until_it_fell():
        await asyncio.to_thread(hurt.kafka.restart)
    await load.settles()


async def test_a_broker_that_is_killed_under_load_loses_nothing(hurt: Hurt) -> None:
    load = await under_load(await a_garage(hurt.system), open_=6, closed=6)
    async with load.until_it_fell():
        await asyncio.to_thread(hurt.kafka.kill)
        await asyncio.to_thread(hurt.kafka.start)
    await load.settles()


async def test_a_database_that_restarts_under_load_loses_nothing(hurt: Hurt) -> None:
    load = await under_load(await a_garage(hurt.system), open_=6, closed=6)
    async with load.until_it_fell():
        await asyncio.to_thread(hurt.postgres.restart)
    await load.settles()


async def test_while_the_database_is_silent_webhooks_are_taken_and_afterwards_all_is_done(hurt: Hurt) -> None:
    system, garage = hurt.system, await a_garage(hurt.system)
    kim, lee = await garage.customer_who_wrote(), garage.customer()
    await system.quiet()
    await asyncio.to_thread(hurt.postgres.pause)
    try:
        # what it had asked before the pause has come to its metric by then
        await system.until(lambda: unready(system, "whatsapp-sender"), "the sender says that it cannot work")
        measured = await sends_due(system)
        intent_id = await kim.is_sent()
        sent_at = time.time()
        wrote = await system.sandbox.customer_writes(garage.phone_number_id, lee.phone, text="Hello?")

        async def taken() -> bool:
            posted = await system.sandbox.webhooks()
            return any(
                item["subject"] == wrote["wamid"] for hook in posted if hook["delivered"] for item in hook["items"]
            )

        await system.until(taken, "ingest takes a webhook without its database")
        await system.until(lambda: unready(system, "router"), "the router says that it cannot work")
        await system.services["ingest"].ready()
        assert await kim.whatsapps() == []
        # the alerts' metrics do not read as healthy: they grow old
        assert await undecided_since(system) <= sent_at
        assert await sends_due(system) == measured
    finally:
        await asyncio.to_thread(hurt.postgres.resume)
    await system.reaches(intent_id, "read")
    await system.published.one("inbound.messages.v1", provider_id=wrote["wamid"])
    await system.quiet()
    assert len(await kim.whatsapps()) == 1


@pytest.mark.proof
@pytest.mark.parametrize(
    "silent", [["kafka"], ["postgres"], ["kafka", "postgres", "valkey"]], ids=["kafka", "postgres", "all"]
)
async def test_a_stop_while_servers_are_silent_fits_its_budget_and_loses_nothing(hurt: Hurt, silent: list[str]) -> None:
    """An exit code of 0 says that every step had its time and nothing was cut short."""
    system = hurt.system
    servers: list[KafkaServer | PostgresServer | ValkeyServer] = [getattr(hurt, name) for name in silent]
    for name in SERVICES:
        await system.services[name].stop()
    await system.start(*SERVICES, DRAIN_SECONDS="16")
    load = await under_load(await a_garage(system), open_=6, closed=6)
    async with load.until_it_fell():
        for server in servers:
            await asyncio.to_thread(server.pause)
        try:
            codes = await asyncio.gather(*(system.services[name].stop() for name in SERVICES))
        finally:
            for server in servers:
                await asyncio.to_thread(server.resume)
    assert codes == [0] * len(SERVICES)
    await system.start(*(name for name in SERVICES if name != "whatsapp-sender"))
    await system.delivered()
    await system.start("whatsapp-sender")
    await load.settles()


@pytest.mark.proof
async def test_an_answer_that_is_lost_while_the_edge_cannot_reach_kafka_leads_to_no_second_message(hurt: Hurt) -> None:
    system, garage = hurt.system, await a_garage(hurt.system)
    kim = await garage.customer_who_wrote()
    await system.quiet()
    await system.services["whatsapp-sender"].stop()
    await system.start("whatsapp-sender", SEND_SETTLING_SECONDS="600")
    await system.sandbox.configure(pace=1)  # Meta tries again when we say so
    await system.sandbox.hold_webhooks()
    await system.sandbox.fault("meta", "drop_answer", to=kim.phone, calls=1)
    intent_id = await kim.is_sent()
    await system.until(
        lambda: system.value("select state = 'unknown' from sends where message_id = $1::uuid", intent_id),
        "the answer is lost",
    )
    await asyncio.to_thread(hurt.kafka.kill)
    await system.sandbox.release_webhooks()

    async def refused() -> bool:
        last = (await system.sandbox.webhooks())[-1]
        return [attempt["status"] for attempt in last["attempts"]] == [503]

    await system.until(refused, "the edge answers 503")
    await asyncio.to_thread(hurt.kafka.start)
    least = (
        "select min(extract(epoch from caught_up_at - since)) > 8 from progress"
        " where since > now() - interval '1 minute'"
    )
    await system.until(lambda: system.value(least), "ingest has read everything for longer than the grace")
    await system.sandbox.retry_webhooks()
    await system.sandbox.configure(pace=CALM["pace"])  # soon again where the edge is busy
    await system.reaches(intent_id, "read")
    await system.quiet()
    assert len(await kim.whatsapps()) == 1
    assert await system.value("select sum(times) from webhook_refusals where kind = 'refused'") > 0


async def undecided_since(system: System) -> float:
    name = "transom_kafka_caught_up_timestamp_seconds"
    return await scraped_from(system.services["router"].url, name, topic="outbound.intents.v1")


async def sends_due(system: System) -> float:
    return await scraped_from(
        system.services["whatsapp-sender"].url, "transom_sends_due_timestamp_seconds", channel="whatsapp"
    )


async def unready(system: System, name: str) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{system.services[name].url}/readyz") as answer:
        return answer.status == 503
