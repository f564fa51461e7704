"""``transom doctor`` at broken servers: each fault is a real server's, and each has its finding."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote, urlsplit

import asyncpg
import pytest
import redis
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.cli.doctor import queries
from deploy.cli.doctor.findings import Report
from deploy.local.servers.ports import LOOPBACK, free_port
from deploy.local.servers.valkey import ValkeyServer
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_REFUSED, OUTBOUND_SMS, WEBHOOKS, Topic
from tests.support.doctor import PLANTED, Doctor, codes, finding
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually_true

OF_BRIDGE = (DELIVERY_UPDATES, OUTBOUND_REFUSED, OUTBOUND_SMS, OUTBOUND_SMS.dlq, WEBHOOKS)


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    return Doctor(monkeypatch)


def settings_of(topic: Topic, **others: str) -> dict[str, str]:
    return {
        "retention.ms": str(int(topic.retention.total_seconds() * 1000)),
        "max.message.bytes": str(topic.max_record_bytes),
        **{name.replace("_", "."): value for name, value in others.items()},
    }


async def topics_are_there(admin: AIOKafkaAdminClient, made: Sequence[NewTopic]) -> None:
    """The broker's own view of what exists follows its controller's by some milliseconds."""
    wanted = {one.name: one.num_partitions for one in made}

    async def seen() -> bool:
        found = {one["topic"]: one["partitions"] for one in await admin.describe_topics()}
        return all(sum(part["leader"] >= 0 for part in found.get(name, ())) == count for name, count in wanted.items())

    await eventually_true(seen, "the topics are there")


async def kafka_of_bridge(
    doctor: Doctor, admin: AIOKafkaAdminClient, topics: OwnTopics, bootstrap: str, *new: NewTopic
) -> Report:
    """The findings of the bridge's Kafka, with these topics in place of the declared ones of their names."""
    by_name = {
        topic.name: NewTopic(topic.name, topic.partitions, 1, topic_configs=settings_of(topic)) for topic in OF_BRIDGE
    } | {one.name: one for one in new}
    for one in by_name.values():
        one.name = f"{topics.prefix}{one.name}"
    made = [one for one in by_name.values() if one.num_partitions > 0]
    answer = await admin.create_topics(made)
    assert not any(code for _, code, *_ in answer.topic_errors)
    await topics_are_there(admin, made)
    doctor.services = ("sms-bridge",)
    doctor.set(KAFKA_BOOTSTRAP=bootstrap, TOPIC_PREFIX=topics.prefix)
    return await doctor.look_at("kafka")


@asynccontextmanager
async def advertising(host: str, bootstrap: str) -> AsyncIterator[int]:
    """The port of a way to this broker, on which it advertises another host."""
    real, _, upstream = bootstrap.rpartition(":")

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.read(4):
            answer = await reader.readexactly(int.from_bytes(size))
            changed = answer.replace(_named(real), _named(host))
            writer.write(len(changed).to_bytes(4) + changed)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection(real, int(upstream))
        await asyncio.gather(forward(reader, to_broker), forward(from_broker, writer), return_exceptions=True)

    async with await asyncio.start_server(connected, LOOPBACK, 0) as server:
        yield int(server.sockets[0].getsockname()[1])


def _named(host: str) -> bytes:
    """As a string of Kafka's protocol."""
    return len(host).to_bytes(2) + host.encode()


async def test_a_kafka_as_declared_is_good(
    doctor: Doctor, kafka_admin: AIOKafkaAdminClient, topics: OwnTopics, kafka_bootstrap: str
) -> None:
    report = await kafka_of_bridge(doctor, kafka_admin, topics, kafka_bootstrap)
    assert codes(report) <= {"kafka_good", "rights_unseen"}
    assert report.exit_code == 0
    dead = f"{LOOPBACK}:{free_port()}"
    doctor.set(KAFKA_BOOTSTRAP=f"{dead},{kafka_bootstrap}")
    report = await doctor.look_at("kafka")
    assert finding(report, "kafka_bootstrap_away").subject == dead
    assert report.severity == "warning"
    async with advertising("nowhere.invalid", kafka_bootstrap) as port:
        doctor.set(KAFKA_BOOTSTRAP=f"{LOOPBACK}:{port}")
        report = await doctor.look_at("kafka")
    assert "its name does not resolve" in finding(report, "kafka_broker_unreachable").problem
    assert codes(report) == {"kafka_broker_unreachable"}


async def test_a_kafka_whose_topics_are_not_as_declared_names_each_difference(
    doctor: Doctor, kafka_admin: AIOKafkaAdminClient, topics: OwnTopics, kafka_bootstrap: str
) -> None:
    broken = (
        NewTopic(OUTBOUND_SMS.name, 0, 1),  # is not created
        NewTopic(
            DELIVERY_UPDATES.name, 3, 1, topic_configs=settings_of(DELIVERY_UPDATES, retention_ms=str(2 * 86_400_000))
        ),
        NewTopic(
            OUTBOUND_REFUSED.name,
            12,
            1,
            topic_configs=settings_of(OUTBOUND_REFUSED, retention_ms="3600000", cleanup_policy="compact,delete")
            | {"max.message.bytes": "1000000", "retention.bytes": "50000000"},
        ),
    )
    report = await kafka_of_bridge(doctor, kafka_admin, topics, kafka_bootstrap, *broken)
    of_refused = f"{topics.prefix}{OUTBOUND_REFUSED.name}"
    of_updates = f"{topics.prefix}{DELIVERY_UPDATES.name}"
    expected = {
        "topic_missing": (f"{topics.prefix}{OUTBOUND_SMS.name}", "error"),
        "partitions_few": (of_updates, "warning"),
        "partitions_unequal": ("topics", "warning"),
        "retention_short": (of_updates, "warning"),
        "retention_too_short": (of_refused, "error"),
        "retention_by_size": (of_refused, "warning"),
        "cleanup_compacts": (of_refused, "error"),
        "record_size_low": (of_refused, "error"),
    }
    for code, (subject, severity) in expected.items():
        assert (finding(report, code).subject, finding(report, code).severity) == (subject, severity)
    assert codes(report) <= {*expected, "rights_unseen"}
    assert report.exit_code == 4
    assert f"{topics.prefix}{OUTBOUND_SMS.name}" not in await kafka_admin.list_topics()  # to ask creates nothing


async def test_a_server_that_is_not_there_is_unreachable(doctor: Doctor) -> None:
    nowhere = f"{LOOPBACK}:{free_port()}"
    doctor.set(
        KAFKA_BOOTSTRAP=f"{nowhere},no-such-host.invalid:9092",
        POSTGRES_DSN=f"postgresql://transom:{quote(PLANTED, safe='')}@{nowhere}/transom",
        REDIS_URL=f"redis://:{quote(PLANTED, safe='')}@{nowhere}/0",
    )
    kafka = await doctor.look_at("kafka")
    assert {one.subject for one in kafka.findings} == {nowhere, "no-such-host.invalid:9092"}
    assert codes(kafka) == {"kafka_unreachable"}
    assert codes(await doctor.look_at("postgres")) == {"postgres_unreachable"}
    assert codes(await doctor.look_at("redis")) == {"redis_unreachable"}


async def test_tls_to_a_listener_without_it_names_the_protocol_and_asks_nobody_to_start_the_broker(
    doctor: Doctor, kafka_bootstrap: str
) -> None:
    doctor.set(KAFKA_BOOTSTRAP=kafka_bootstrap, KAFKA_SECURITY_PROTOCOL="SSL")
    [found] = (await doctor.look_at("kafka")).findings
    assert (found.code, found.subject) == ("kafka_refused", kafka_bootstrap)
    assert "gets TLS and takes none" in found.problem
    assert "TRANSOM_KAFKA_SECURITY_PROTOCOL" in found.remedy


BROKEN = (
    (
        "delete from schema_migrations where name like '0001%'",
        "insert into schema_migrations select * from kept",
        "migrations_pending",
        "error",
    ),
    (
        "update schema_migrations set checksum = 'other'",
        "update schema_migrations m set checksum = k.checksum from kept k where k.name = m.name",
        "migration_changed",
        "error",
    ),
    (
        "insert into schema_migrations values ('9998_pre_later.sql', 'x')",
        "delete from schema_migrations where name like '9998%'",
        "schema_newer",
        "info",
    ),
    (
        "insert into schema_migrations values ('9999_post_later.sql', 'x')",
        "delete from schema_migrations where name like '9999%'",
        "schema_newer_after",
        "warning",
    ),
    (
        "alter table sms_list_outages rename to sms_list_outages_kept",
        "alter table sms_list_outages_kept rename to sms_list_outages",
        "table_missing",
        "error",
    ),
    (
        "drop index orgs_portal_host_once",
        "create unique index orgs_portal_host_once on orgs (portal_host)",
        "index_missing",
        "error",
    ),
    (
        "revoke delete on sends from current_user",
        "grant delete on sends to current_user",
        "table_right_missing",
        "error",
    ),
    (
        "revoke usage on sequence message_sequence from current_user",
        "grant usage on sequence message_sequence to current_user",
        "table_right_missing",
        "error",
    ),
    (
        "revoke select on rate_card from current_user",
        "grant select on rate_card to current_user",
        "table_right_missing",
        "error",
    ),
    (
        "alter table orgs force row level security",
        "alter table orgs no force row level security",
        "rows_hidden",
        "error",
    ),
    (
        "revoke update (used_at) on portal_links from transom_portal",
        "grant update (used_at) on portal_links to transom_portal",
        "portal_right_missing",
        "error",
    ),
    (
        "revoke select on portal_threads from transom_portal",
        "grant select on portal_threads to transom_portal",
        "portal_right_missing",
        "error",
    ),
    (
        "alter database {} set default_transaction_read_only = on",
        "alter database {} reset default_transaction_read_only",
        "postgres_read_only",
        "error",
    ),
    (
        "alter database {} set synchronous_commit = off",
        "alter database {} reset synchronous_commit",
        "postgres_commit_async",
        "error",
    ),
    (
        "alter database {} set search_path = odd",
        "alter database {} reset search_path",
        "schema_elsewhere",
        "error",
    ),
    (
        "alter database {} connection limit 3",
        "alter database {} connection limit -1",
        "connections_used_up",
        "error",
    ),
)
"""What breaks a database, what mends it, and its finding with the severity."""


async def test_an_index_whose_building_failed_is_found(doctor: Doctor, database: str) -> None:
    """PostgreSQL keeps the name of an index that could not be built, and enforces nothing by it."""
    db = await asyncpg.connect(database)
    doctor.set(POSTGRES_DSN=database)
    try:
        await db.execute("drop index orgs_portal_host_once")
        await db.execute("create table twice as select 1 as number from generate_series(1, 2)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await db.execute("create unique index concurrently orgs_portal_host_once on twice (number)")
        report = await doctor.look_at("postgres")
    finally:
        await db.close()
    assert finding(report, "index_missing").subject == "orgs_portal_host_once"


async def test_a_broken_database_names_its_fault(doctor: Doctor, database: str) -> None:
    """One database, broken in one way after the other."""
    db = await asyncpg.connect(database)
    name = urlsplit(database).path.lstrip("/")
    # the run's server does not wait for the disk, and says so; other roles' sessions it does not show
    others = {"postgres_fsync_off", "postgres_pages_partial", "transactions_unseen", "connections_few", "postgres_good"}
    doctor.set(POSTGRES_DSN=database)
    try:
        await db.execute("create table kept as select * from schema_migrations")
        for breaks, mends, code, severity in BROKEN:
            await db.execute(breaks.format(name))
            report = await doctor.look_at("postgres")
            assert codes(report) - others == {code}, breaks
            assert finding(report, code).severity == severity
            await db.execute(mends.format(name))
        assert codes(await doctor.look_at("postgres")) <= others
    finally:
        await db.close()


async def test_the_edges_own_role_needs_its_two_tables_and_nothing_of_the_directory(
    doctor: Doctor, database: str
) -> None:
    """The portal's role stands for it here, which may not read the directory either."""
    doctor.services = ("ingest-edge",)
    nowhere = f"http://{LOOPBACK}:{free_port()}"
    doctor.set(POSTGRES_DSN=f"{database}?role=transom_portal", GRAPH_BASE_URL=nowhere, TWILIO_BASE_URL=nowhere)
    db = await asyncpg.connect(database)
    await db.execute("revoke all on schema_migrations from transom_portal")
    lacks = [one for one in (await doctor.look_at("postgres")).findings if one.code == "table_right_missing"]
    assert {one.subject for one in lacks} == {"webhook_edges, webhook_refusals"}
    await db.execute("grant select, insert, update on webhook_edges, webhook_refusals to transom_portal")
    await db.close()
    report = await doctor.look_at_all("postgres", "graph", "sms")
    assert "schema_unseen" in codes(report)
    assert not codes(report) & {"table_right_missing", "graph_directory_unseen", "sms_directory_unseen"}


async def test_a_postgres_that_ends_the_connection_amid_the_look_is_no_fault_of_doctor(
    doctor: Doctor, database: str, postgres_dsn: str
) -> None:
    doctor.set(POSTGRES_DSN=database)
    holder, ender = await asyncpg.connect(database), await asyncpg.connect(postgres_dsn)
    end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where wait_event = 'relation' and datname = $1"
    try:
        async with holder.transaction():
            await holder.execute("lock table schema_migrations in access exclusive mode")
            looking = asyncio.create_task(doctor.look_at("postgres"))
            await eventually_true(lambda: ender.fetchval(end, urlsplit(database).path.lstrip("/")))
        found = codes(await looking)
    finally:
        await holder.close()
        await ender.close()
    assert "postgres_silent" in found
    assert "postgres_failed" not in found


async def test_a_transaction_that_runs_for_long_is_found(database: str) -> None:
    first, second = await asyncpg.connect(database), await asyncpg.connect(database)
    try:
        await first.execute("begin; select 1")
        found = await queries.old_transactions(second, 0.0)
        assert [row["pid"] for row in found] == [first.get_server_pid()]
        assert await queries.prepared_transactions(second, 0.0) == 0
    finally:
        await first.close()
        await second.close()


@pytest.fixture
def own_redis(own_valkey: ValkeyServer) -> "redis.Redis":
    return redis.Redis.from_url(own_valkey.address)


async def test_a_broken_redis_names_its_fault(
    doctor: Doctor, own_valkey: ValkeyServer, own_redis: "redis.Redis"
) -> None:
    """One server, broken in one way after the other."""
    at = urlsplit(own_valkey.address)
    where = f"{at.hostname}:{at.port}"
    doctor.set(REDIS_URL=own_valkey.address)
    assert codes(await doctor.look_at("redis")) == {"redis_good", "redis_not_persistent"}

    own_redis.config_set("maxmemory", "100mb")
    own_redis.config_set("maxmemory-policy", "allkeys-lru")
    assert finding(await doctor.look_at("redis"), "redis_evicts").severity == "warning"

    own_redis.config_set("maxmemory-policy", "noeviction")
    own_redis.config_set("maxmemory", "1mb")
    assert finding(await doctor.look_at("redis"), "redis_full").severity == "error"
    own_redis.config_set("maxmemory", "0")
    own_redis.config_set("min-replicas-to-write", 1)
    assert "Of 1 replicas" in finding(await doctor.look_at("redis"), "redis_replicas_missing").problem
    own_redis.config_set("min-replicas-to-write", 0)

    own_redis.acl_setuser("narrow", enabled=True, passwords=[f"+{PLANTED}"], keys=["other:*"], categories=["+@all"])
    doctor.set(REDIS_URL=f"redis://narrow:{quote(PLANTED, safe='')}@{where}/0")
    refused = finding(await doctor.look_at("redis"), "redis_right_missing")
    assert "SET, EVAL" in refused.problem

    own_redis.acl_setuser("blind", enabled=True, passwords=[f"+{PLANTED}"], commands=["+time", "+client", "+select"])
    doctor.set(REDIS_URL=f"redis://blind:{quote(PLANTED, safe='')}@{where}/0")
    assert {one.subject for one in (await doctor.look_at("redis")).findings} == {"INFO", "ACL"}

    doctor.set(REDIS_URL=f"redis://:{quote(PLANTED, safe='')}@{where}/0")
    assert codes(await doctor.look_at("redis")) == {"redis_refused"}

    own_redis.replicaof(LOOPBACK, str(free_port()))
    doctor.set(REDIS_URL=own_valkey.address)
    assert finding(await doctor.look_at("redis"), "redis_read_only").severity == "error"
