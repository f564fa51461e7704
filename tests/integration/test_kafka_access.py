"""``transom topics --acls``, applied to a real broker: who may write and read what, and nobody else."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from libs.common.clock import utc_now
from libs.common.events.access import PRINCIPALS, Principal
from libs.common.events.topics import OUTBOUND_DECISIONS, OUTBOUND_INTENTS, TOPICS
from libs.common.kafka.consumer import BatchConsumer
from libs.common.kafka.groups import committed
from libs.common.kafka.partition_growth import PartitionAdmin, own_groups
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received
from libs.common.kafka.topics import declare
from libs.common.kafka.topology import Subscription
from tests.support.command import environment, transom
from tests.support.doctor import Doctor, codes, finding
from tests.support.secured_kafka import ADMIN, PASSWORD, SecuredKafka, apply, connection
from tests.support.servers import RunServers
from tests.support.topics import EVERY_TOPIC
from tests.support.waiting import DEADLINE_SECONDS, eventually

PREFIX = "p."


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, run_servers: RunServers) -> Iterator[str]:
    server = SecuredKafka(tmp_path_factory.mktemp("kafka"), run_servers.watchdog)
    server.start()
    try:
        yield server.address
    finally:
        server.stop()


@pytest_asyncio.fixture(scope="module")
async def secured(broker: str) -> AsyncIterator[str]:
    """The broker with the topics, and with what the command printed."""
    printed = transom("topics", "--acls", env=environment(KAFKA_BOOTSTRAP=broker, TOPIC_PREFIX=PREFIX))
    assert (printed.returncode, printed.stderr) == (0, "")
    admin = AIOKafkaAdminClient(**connection(broker, ADMIN).client_options())
    await admin.start()
    try:
        for command in printed.stdout.splitlines():
            await apply(admin, command)
        # the operator is who creates topics
        declared = await declare(connection(broker, "transom-operator", PREFIX), partitions=1)
        assert len(declared.created) == len(EVERY_TOPIC)
    finally:
        await admin.close()
    yield broker


async def may_write(bootstrap: str, user: str, *, idempotent: bool = True) -> set[str]:
    """Where this user's records are taken."""
    producer = AIOKafkaProducer(
        **connection(bootstrap, user).client_options(), acks="all", enable_idempotence=idempotent
    )
    await producer.start()
    taken: set[str] = set()
    try:
        for topic in EVERY_TOPIC:
            try:
                await producer.send_and_wait(f"{PREFIX}{topic.name}", b"{}", partition=0)
                taken.add(topic.name)
            except TopicAuthorizationFailedError:
                continue
    finally:
        await producer.stop()
    return taken


async def may_read(bootstrap: str, user: str, group: str | None) -> set[str]:
    """What is read by this user in this group; without one, what may be read at all."""
    found: set[str] = set()
    for topic in EVERY_TOPIC:
        place = TopicPartition(f"{PREFIX}{topic.name}", 0)
        options = connection(bootstrap, user).client_options()
        consumer = AIOKafkaConsumer(**options, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False)
        try:
            await consumer.start()
            consumer.assign([place])
            await consumer._client.force_metadata_update()
            if place.topic in consumer._client.cluster.unauthorized_topics:
                continue  # not even seen, and aiokafka would ask for ever
            async with asyncio.timeout(DEADLINE_SECONDS):
                await consumer.seek_to_beginning(place)
                await consumer.getone(place)
                if group is not None:
                    await consumer.commit({place: 1})
            found.add(topic.name)
        except (TopicAuthorizationFailedError, GroupAuthorizationFailedError):
            pass
        finally:
            await consumer.stop()
    return found


@asynccontextmanager
async def a_record_everywhere(bootstrap: str) -> AsyncIterator[None]:
    assert await may_write(bootstrap, ADMIN) == {topic.name for topic in EVERY_TOPIC}
    yield


async def test_doctor_asks_what_a_user_may_do_and_tries_nothing(secured: str, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = Doctor(monkeypatch)
    doctor.set(
        KAFKA_BOOTSTRAP=secured,
        TOPIC_PREFIX=PREFIX,
        KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT",
        KAFKA_SASL_MECHANISM="PLAIN",
        KAFKA_SASL_USERNAME="transom-router",
        KAFKA_SASL_PASSWORD=PASSWORD,
    )
    doctor.planted.add(PASSWORD)
    doctor.services = ("router",)
    mine = await doctor.look_at("kafka")
    # its topics have one partition here, and a service's user may not see their settings
    assert codes(mine) <= {"partitions_few", "topic_settings_unseen", "rights_unseen"}
    assert "topic_settings_unseen" in codes(mine)

    doctor.services = ("whatsapp-sender",)
    other = await doctor.look_at("kafka")
    refused = [one for one in other.findings if one.code == "topic_right_missing"]
    assert {one.severity for one in refused} == {"error"}
    assert {word for one in refused for word in ("write", "read", "describe") if f"may not {word}" in one.problem} == {
        "write",
        "read",
        "describe",
    }
    assert finding(other, "group_right_missing").subject == f"{PREFIX}whatsapp-sender.outbound.whatsapp.v1"

    for role in ("ingest-edge", "ingest-worker"):
        doctor.set(KAFKA_SASL_USERNAME=f"transom-{role}")
        doctor.services = (role,)
        assert not {"topic_right_missing", "group_right_missing"} & codes(await doctor.look_at("kafka"))

    doctor.set(KAFKA_SASL_PASSWORD="planted-wrong-password")
    doctor.planted.add("planted-wrong-password")
    assert codes(await doctor.look_at("kafka")) == {"kafka_refused"}
    doctor.set(KAFKA_SECURITY_PROTOCOL="PLAINTEXT")
    doctor.unset("KAFKA_SASL_USERNAME")
    assert codes(await doctor.look_at("kafka")) == {"kafka_refused"}


@pytest.mark.parametrize("principal", PRINCIPALS, ids=lambda one: one.name)
@pytest.mark.proof
async def test_a_user_writes_and_reads_what_is_declared_and_nothing_else(secured: str, principal: Principal) -> None:
    user = f"transom-{principal.name}"
    writes = {topic.name for topic in principal.may_write}
    assert await may_write(secured, user, idempotent=bool(writes)) == writes
    async with a_record_everywhere(secured):
        group = (
            f"{PREFIX}replay.x" if principal.name == "operator" else f"{PREFIX}{principal.group or principal.name}.x"
        )
        assert await may_read(secured, user, group) == {topic.name for topic in (*principal.reads, *principal.follows)}
        if principal.counts and writes:
            async with Producer(connection(secured, user, PREFIX)) as producer:
                assert [await producer.partitions(topic) > 0 for topic in principal.counts] == [True]


@pytest.mark.proof
async def test_the_operator_sees_how_far_every_group_has_read_and_adds_partitions(secured: str) -> None:
    name, outsiders = f"{PREFIX}{OUTBOUND_DECISIONS.name}", f"{PREFIX}agent-1"
    async with (
        a_record_everywhere(secured),
        PartitionAdmin.at(connection(secured, "transom-operator", PREFIX)) as brokers,
    ):
        async with AIOKafkaConsumer(
            **connection(secured, "transom-agent").client_options(), group_id=outsiders, enable_auto_commit=False
        ) as agent:
            agent.assign([TopicPartition(name, 0)])
            await agent.commit({TopicPartition(name, 0): 0})
        few = await brokers.fewer_than(2)
        assert few.keys() == {f"{PREFIX}{topic.name}" for topic in TOPICS}
        behind = {one.group: one.service for one in (await brokers.state(few)).unread}
        assert behind.keys() >= {*own_groups(connection(secured, "transom-operator", PREFIX)), outsiders}
        assert behind[outsiders] is None
        await brokers.add(name, 2)
        assert name not in await brokers.fewer_than(2)


@pytest.mark.proof
async def test_the_scaler_sees_how_far_a_service_is_behind_and_nothing_of_an_outsider(secured: str) -> None:
    """What KEDA asks: the partitions of a topic, their ends, and the offsets of a group."""
    place = TopicPartition(f"{PREFIX}{OUTBOUND_INTENTS.name}", 0)
    options = connection(secured, "transom-scaler").client_options()
    async with AIOKafkaConsumer(**options, group_id=None) as asking:
        assert place in await asking.end_offsets([place])
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        await committed(admin, f"{PREFIX}router.{OUTBOUND_INTENTS.name}")  # is not refused
        with pytest.raises(GroupAuthorizationFailedError):
            await committed(admin, f"{PREFIX}agent-1")
    finally:
        await admin.close()


@pytest.mark.proof
async def test_a_service_reads_and_commits_in_the_group_that_it_makes_for_a_topic(secured: str) -> None:
    """Each subscription has a group of its own, by the name of its topic."""
    seen: list[bytes | None] = []

    async def handle(batch: Sequence[Received[bytes | None]]) -> None:
        seen.extend(received.value for received in batch)

    as_router = connection(secured, "transom-router", PREFIX)
    assert OUTBOUND_INTENTS.name in await may_write(secured, ADMIN)
    async with (
        Producer(as_router) as producer,
        BatchConsumer(
            as_router,
            group="router",
            service="router",
            subscriptions=[Subscription(OUTBOUND_INTENTS, lambda record: record.value, handle)],
            producer=producer,
            now=utc_now,
        ),
    ):
        await eventually(lambda: seen)
    admin = AIOKafkaAdminClient(**connection(secured, ADMIN).client_options())
    await admin.start()
    offsets = await committed(admin, f"{PREFIX}router.{OUTBOUND_INTENTS.name}")
    await admin.close()
    assert sum(offsets.values()) == len(seen)


@pytest.mark.proof
async def test_a_user_that_nobody_declared_writes_and_reads_nothing(secured: str) -> None:
    assert await may_write(secured, "transom-nobody", idempotent=False) == set()
    async with a_record_everywhere(secured):
        assert await may_read(secured, "transom-nobody", None) == set()


@pytest.mark.proof
async def test_nobody_reads_in_the_group_of_a_service_but_the_service(secured: str) -> None:
    async with a_record_everywhere(secured):
        assert await may_read(secured, "transom-platform", f"{PREFIX}ingest.webhooks.v1") == set()


@pytest.mark.proof
async def test_who_has_no_password_is_nobody(secured: str) -> None:
    wrong = connection(secured, "transom-ingest").client_options() | {"sasl_plain_password": "guess"}
    producer = AIOKafkaProducer(**wrong)
    with pytest.raises(KafkaError):
        await producer.start()
    await producer.stop()


def test_every_topic_has_a_writer_and_its_commands_have_one_alone() -> None:
    writers = {
        topic.name: [p.name for p in PRINCIPALS if topic in p.writes and p.name != "operator"] for topic in TOPICS
    }
    assert all(writers.values())
    assert {name for name, who in writers.items() if who == ["router"]} == {
        "outbound.decisions.v1",
        "outbound.whatsapp.v1",
        "outbound.sms.v1",
    }
    assert writers["webhooks.v1"] == ["ingest", "ingest-edge", "sms-bridge"]


def test_the_page_says_what_is_declared() -> None:
    """docs/architecture/threats.md has a row per principal: its name, what it writes, what it reads."""
    page = (Path(__file__).parents[2] / "docs/architecture/threats.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `transom-")
    ]
    told = {row[0].strip("`"): (names(row[1]), names(row[2])) for row in rows}
    declared = {
        f"transom-{p.name}": ({t.name for t in p.writes}, {t.name for t in (*p.reads, *p.follows)}) for p in PRINCIPALS
    }
    assert told == declared


def names(cell: str) -> set[str]:
    every = {topic.name for topic in TOPICS}
    if cell == "every topic":
        return every
    if cell == "every `.dlq`":
        return {f"{name}.dlq" for name in every}
    if cell == "every topic and every `.dlq`":
        return every | {f"{name}.dlq" for name in every}
    return {name.strip(" `") for name in cell.split(",") if name.strip(" `")}
