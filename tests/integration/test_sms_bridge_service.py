"""The SMS bridge as a process of its own: commands from Kafka, a kill between claim and result, an end in order."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from deploy.local.servers.ports import free_port
from libs.common.events.outbound import SmsCommand
from libs.common.events.topics import OUTBOUND_SMS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer, Record
from tests.support.child_guard import ends_with_us
from tests.support.logs import validated
from tests.support.sandbox import CUSTOMER, TWILIO_SID, TWILIO_TOKEN, HookInbox
from tests.support.sms_world import SmsWorld, an_sms_world
from tests.support.topic_records import PATIENCE_SECONDS
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PATIENT = {
    f"TRANSOM_SEND_{part}_SECONDS": value for part, value in {"TIMEOUT": "5", "LEASE": "6", "GRACE": "7"}.items()
}
"""A claim lasts until the test has looked."""


class BridgeProcess:
    """The SMS bridge with the settings of this test."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli", "run", "sms-bridge"],
                cwd=ROOT,
                env=environment | {"TRANSOM_HTTP_HOST": "127.0.0.1", "TRANSOM_HTTP_PORT": str(self.port)},
                stdout=output,
                stderr=output,
            )
        ends_with_us(self._process.pid)

    async def ready(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient() as http:
            while True:
                assert self._process.poll() is None, self._log.read_text()
                try:
                    if (await http.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def ends(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=30)


@contextmanager
def running(environment: dict[str, str], log: Path) -> Iterator[BridgeProcess]:
    process = BridgeProcess(environment, log)
    try:
        yield process
    finally:
        process.kill()


@pytest_asyncio.fixture
async def world(
    database: str, patient_redis_url: str, kafka_of_senders: KafkaConnection, sandbox: SandboxClient
) -> AsyncIterator[SmsWorld]:
    """The state around the process; its own line stays unused."""
    async with an_sms_world(
        dsn=database, redis_url=patient_redis_url, kafka=kafka_of_senders, twilio_url=sandbox.url, public_url=None
    ) as made:
        yield made


@pytest.fixture
def environment(
    database: str, redis_url: str, kafka_of_senders: KafkaConnection, sandbox: SandboxClient, hook_inbox: HookInbox
) -> dict[str, str]:
    settings = {
        "KAFKA_BOOTSTRAP": kafka_of_senders.bootstrap,
        "TOPIC_PREFIX": kafka_of_senders.topic_prefix,
        "POSTGRES_DSN": database,
        "REDIS_URL": redis_url,
        "TWILIO_BASE_URL": sandbox.url,
        "TWILIO_ACCOUNT_SID": TWILIO_SID,
        "TWILIO_AUTH_TOKENS": f"{TWILIO_TOKEN},an-older-one",
        "PUBLIC_URL": hook_inbox.url,
        "PORTAL_LINK_KEYS": "a-key" * 8,
        "SEND_TIMEOUT_SECONDS": "2",
        "SEND_LEASE_SECONDS": "3",
        "SEND_GRACE_SECONDS": "4",
        "SMS_GRACE_SECONDS": "7",
    }
    return dict(os.environ) | {f"TRANSOM_{name}": value for name, value in settings.items()}


async def publish(kafka: KafkaConnection, *values: bytes) -> None:
    async with Producer(kafka) as producer:
        await producer.publish([Record(OUTBOUND_SMS, b"key", value) for value in values])


async def settled(world: SmsWorld, command: SmsCommand, sandbox: SandboxClient) -> str:
    """The state in which the send ended, once its events were published."""

    async def published() -> bool:
        row = await world.row(
            "select state from sends where message_id = $1 and settled_at is not null and published", command.message_id
        )
        return row is not None

    await sandbox.until(published, 40)
    return str((await world.send_row(command))["state"])


async def test_a_command_becomes_an_sms_and_bad_neighbours_become_dead_letters(
    world: SmsWorld,
    kafka_of_senders: KafkaConnection,
    sandbox: SandboxClient,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    command = await world.decided()
    with running(environment, log) as bridge:
        await bridge.ready()
        await publish(kafka_of_senders, b"not json", b"{}", command.encode(), b"\xff", command.encode())
        assert await settled(world, command, sandbox) == "accepted"
        await eventually(lambda: log.read_bytes().count(b'"record.dead_lettered"') == 3, "the others are dead letters")
        assert bridge.ends() == 0
    assert len(await sandbox.sms()) == 1
    updates, refusals = await world.published()
    assert [(u.message_id, u.reason) for u in updates] == [(command.message_id, "window_expired_bridge_sent")]
    assert refusals == []
    lines = validated(log.read_bytes())
    assert len([line for line in lines if line["event"] == "record.dead_lettered"]) == 3
    assert lines[-1]["event"] == "service.drained"
    assert CUSTOMER not in log.read_text()


@pytest.mark.parametrize("went", [True, False])
async def test_a_kill_between_claim_and_result_costs_no_second_sms(
    world: SmsWorld,
    kafka_of_senders: KafkaConnection,
    sandbox: SandboxClient,
    environment: dict[str, str],
    tmp_path: Path,
    *,
    went: bool,
) -> None:
    await sandbox.fault("twilio", "stall", sent=went, seconds=60, calls=1)
    command = await world.decided()
    with running(environment | PATIENT, tmp_path / "first") as bridge:
        await bridge.ready()
        await publish(kafka_of_senders, command.encode())

        async def claimed() -> bool:
            claim = "select count(*) from sends where message_id = $1 and state = 'claimed'"
            return bool(await world.value(claim, command.message_id))

        await sandbox.until(claimed, 20)
        if went:
            await sandbox.until(sandbox.sms, 20)
        bridge.kill()
    await sandbox.clear_faults()  # the kill may have come before the call
    with running(environment, tmp_path / "second") as bridge:
        await bridge.ready()
        assert await settled(world, command, sandbox) == "accepted"
        assert bridge.ends() == 0
    assert len(await sandbox.sms()) == 1
    assert (await world.send_row(command))["resends"] == (0 if went else 1)


async def test_a_throttled_message_waits_and_goes(
    world: SmsWorld,
    kafka_of_senders: KafkaConnection,
    sandbox: SandboxClient,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    await sandbox.fault("twilio", "throttle", to=CUSTOMER, calls=1)
    command = await world.decided()
    with running(environment, tmp_path / "log") as bridge:
        await bridge.ready()
        await publish(kafka_of_senders, command.encode())
        assert await settled(world, command, sandbox) == "accepted"
        assert bridge.ends() == 0
    assert len(await sandbox.sms()) == 1
    assert "send.deferred" in {line["event"] for line in validated((tmp_path / "log").read_bytes())}
