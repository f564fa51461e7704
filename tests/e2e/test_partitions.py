"""Partitions are added between two halves of a day by the procedure of docs/architecture/partitions.md, on the whole
system.
"""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.conftest import PARTITIONS, SHORT, Place
from tests.support.command import environment, transom
from tests.support.garages import a_garage
from tests.support.load import under_load
from tests.support.servers import RunServers
from tests.support.system import SERVICES, System

MANY = 2 * PARTITIONS + 1
STOPPING_ORDER = ("whatsapp-sender", "sms-bridge", "router", "ingest")


@pytest.mark.proof
@pytest.mark.timeout(300)
async def test_a_day_goes_on_after_partitions_were_added_and_every_conversation_keeps_its_order(
    a_place: Place, run_servers: RunServers, tmp_path: Path
) -> None:
    servers = await a_place("growing")
    env = environment(KAFKA_BOOTSTRAP=servers.kafka_bootstrap, TOPIC_PREFIX=servers.topic_prefix)
    async with System(servers, run_servers.watchdog, tmp_path, **SHORT) as system:
        load = await under_load(await a_garage(system), open_=6, closed=3)
        async with load.until_it_fell():
            refused = await asyncio.to_thread(transom, "topics", "--partitions", str(MANY), "--wait", "0", env=env)
            assert (refused.returncode, "no partitions were added" in refused.stderr) == (2, True)

        async def all_are_seen() -> bool:
            return len(await system.ends(f"{servers.topic_prefix}webhooks.v1")) == MANY

        not_run = [  # the inbox
            part
            for topic in ("inbound.messages.v1", "delivery.updates.v1", "outbound.decisions.v1", "directory.changes.v1")
            for part in ("--ignore-group", f"{servers.topic_prefix}inbox.{topic}")
        ]
        adding = asyncio.create_task(asyncio.to_thread(transom, "topics", "--partitions", str(MANY), *not_run, env=env))
        await system.quiet()
        for name in STOPPING_ORDER:
            assert await system.services[name].stop() == 0
        added = await adding
        assert (added.returncode, added.stderr) == (0, "")
        assert "beware" not in added.stdout
        await system.until(all_are_seen, "whoever follows the topics sees every partition")

        await system.start(*SERVICES)
        async with load.until_it_fell():
            pass
        await load.settles()
        places: dict[bytes | None, set[int]] = {}
        for record in system.published.all("outbound.decisions.v1"):
            places.setdefault(record.key, set()).add(record.partition)
        assert any(len(partitions) > 1 for partitions in places.values())  # else nothing was shown

        async def all_told() -> bool:
            return bool(await system.value("select count(*) from progress where topic = 'webhooks.v1'") == MANY)

        await system.until(all_told, "ingest tells of every partition how far it has come")
