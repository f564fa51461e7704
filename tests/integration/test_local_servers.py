"""The servers of ``deploy/local``: they start, survive their own end, and never take half a thing for a whole one."""

import asyncio
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.local.servers import ServerError, jars
from deploy.local.servers.kafka import KafkaServer
from deploy.local.servers.local_servers import Given, LocalServers
from deploy.local.servers.ports import LOOPBACK, free_port, is_free
from deploy.local.servers.postgres import PostgresServer
from deploy.local.servers.valkey import ValkeyServer
from deploy.local.watchdog import Watchdog, bearers


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    with Watchdog() as one:
        yield one


async def _value(dsn: str, sql: str) -> object:
    db = await asyncpg.connect(dsn, timeout=10)
    try:
        return await db.fetchval(sql)
    finally:
        await db.close()


async def test_all_three_start_together_serve_and_are_gone_afterwards(tmp_path: Path) -> None:
    servers = LocalServers(tmp_path, durable=False)
    addresses = await asyncio.to_thread(servers.start)
    pids = [server.pid for server in (servers.kafka, servers.postgres, servers.valkey) if server]
    assert any(name.startswith("kafka_2.13-4.4.") for name in jars.pins())
    assert str(await _value(addresses.postgres_dsn, "show server_version")).startswith("18")
    with redis.Redis.from_url(addresses.redis_url) as client:
        assert client.info("server")["valkey_version"].startswith("9.")
    # by its token alone a server is known that was started when the run was killed, before the watchdog was told
    assert {process.pid for process in bearers(servers.watchdog.token)} >= set(pids)
    await asyncio.to_thread(servers.stop)
    assert len(pids) == 3
    assert not [pid for pid in pids if pid and psutil.pid_exists(pid)]


async def test_what_was_written_is_there_after_a_stop_and_on_another_port(open_folder: Path) -> None:
    with LocalServers(open_folder) as servers:
        addresses = servers.addresses
        db = await asyncpg.connect(addresses.postgres_dsn)
        await db.execute("create table kept as select 42 as answer")
        await db.close()
        with redis.Redis.from_url(addresses.redis_url) as client:
            client.set("kept", "42")
        await _produce(addresses.kafka_bootstrap, "kept", b"42")
    with LocalServers(open_folder) as servers:
        assert servers.addresses != addresses
        assert await _value(servers.addresses.postgres_dsn, "select answer from kept") == 42
        with redis.Redis.from_url(servers.addresses.redis_url) as client:
            assert client.get("kept") == b"42"
        assert await _first(servers.addresses.kafka_bootstrap, "kept") == b"42"


async def _produce(bootstrap: str, topic: str, value: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=5 * 1024 * 1024) as producer:
        await producer.send_and_wait(topic, value)


async def _first(bootstrap: str, topic: str) -> bytes | None:
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        value: bytes | None = (await consumer.getone()).value
        return value


async def test_the_broker_takes_a_record_of_four_megabytes_but_makes_no_topic_by_itself(own_kafka: KafkaServer) -> None:
    largest = b"x" * (4 * 1024 * 1024 - 1024)
    await _produce(own_kafka.address, "large", largest)
    assert await _first(own_kafka.address, "large") == largest
    admin = AIOKafkaAdminClient(bootstrap_servers=own_kafka.address)
    await admin.start()
    try:
        await admin.describe_topics(["never-made"])
        assert "never-made" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_a_killed_broker_comes_back_with_its_records(own_kafka: KafkaServer) -> None:
    await _produce(own_kafka.address, "kept", b"42")
    await asyncio.to_thread(own_kafka.kill)
    assert is_free(own_kafka.port)
    await asyncio.to_thread(own_kafka.start)
    assert await _first(own_kafka.address, "kept") == b"42"


async def test_a_killed_postgres_comes_back_with_what_it_committed(own_postgres: PostgresServer) -> None:
    db = await asyncpg.connect(own_postgres.address)
    await db.execute("create table kept as select 42 as answer")
    await asyncio.to_thread(own_postgres.kill)
    db.terminate()
    await asyncio.to_thread(own_postgres.start)
    assert await _value(own_postgres.address, "select answer from kept") == 42


async def test_a_paused_postgres_holds_its_sessions_and_answers_when_resumed(own_postgres: PostgresServer) -> None:
    db = await asyncpg.connect(own_postgres.address)
    own_postgres.pause()
    answer = asyncio.create_task(db.fetchval("select 42"))
    assert (await asyncio.wait([answer], timeout=0.3))[1] == {answer}
    own_postgres.resume()
    assert await answer == 42
    await db.close()


def test_a_paused_server_can_be_stopped(own_valkey: ValkeyServer) -> None:
    own_valkey.pause()
    own_valkey.stop()
    assert is_free(own_valkey.port)


def test_half_a_cluster_from_an_interrupted_start_is_made_anew(open_folder: Path, watchdog: Watchdog) -> None:
    (open_folder / "data.new-interrupted").mkdir()
    (open_folder / "data.new-interrupted" / "PG_VERSION").write_text("18\n")
    server = PostgresServer(open_folder, watchdog, durable=False)
    server.start()
    server.stop()
    made = {path.name for path in open_folder.iterdir()} - {"programs"}  # a copy, where its user cannot reach ours
    assert made == {"data", "password", "server.log"}


def test_half_a_format_from_an_interrupted_start_is_made_anew(tmp_path: Path, watchdog: Watchdog) -> None:
    (tmp_path / "data.new-interrupted").mkdir()
    (tmp_path / "data.new-interrupted" / "meta.properties").write_text("version=1\n")
    server = KafkaServer(tmp_path, watchdog)
    server.start()
    server.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "server.log", "server.properties"]


def test_a_server_left_alive_by_an_unclean_end_is_ended_by_the_next_start(
    open_folder: Path, watchdog: Watchdog
) -> None:
    left = PostgresServer(open_folder, watchdog, durable=False)
    left.start()
    again = PostgresServer(open_folder, watchdog, durable=False)
    again.start()
    assert left.pid is not None
    assert again.pid != left.pid
    assert not psutil.pid_exists(left.pid) or psutil.Process(left.pid).status() == psutil.STATUS_ZOMBIE
    again.stop()
    left.kill()


def test_a_stale_record_never_costs_a_stranger_its_life(tmp_path: Path, watchdog: Watchdog) -> None:
    (tmp_path / "process.json").write_text(f'{{"pid": {os.getpid()}, "started": 1.0}}')
    server = ValkeyServer(tmp_path, watchdog, durable=False)
    server.start()  # had it believed the record, this process would be gone
    server.stop()


def test_a_folder_serves_one_run_at_a_time(tmp_path: Path) -> None:
    given = Given("kafka:9092", "postgresql://elsewhere/db", "redis://elsewhere/0")
    with LocalServers(tmp_path, given=given), pytest.raises(ServerError, match=f"in use .*process {os.getpid()}"):
        LocalServers(tmp_path, given=given).start()
    with LocalServers(tmp_path, given=given):
        pass


def test_servers_given_by_address_are_used_and_none_is_started(tmp_path: Path) -> None:
    environ = {
        "TRANSOM_KAFKA_BOOTSTRAP": "kafka:9092",
        "TRANSOM_POSTGRES_DSN": "postgresql://elsewhere/db",
        "TRANSOM_REDIS_URL": "redis://elsewhere/0",
    }
    with LocalServers(tmp_path, given=Given.from_environment(environ)) as servers:
        assert servers.addresses.kafka_bootstrap == "kafka:9092"
        assert (servers.kafka, servers.postgres, servers.valkey) == (None, None, None)


def test_a_taken_port_is_named(tmp_path: Path, own_valkey: ValkeyServer) -> None:
    given = Given(kafka_bootstrap="kafka:9092", postgres_dsn="postgresql://elsewhere/db")
    servers = LocalServers(tmp_path, given=given, port_base=own_valkey.port - 3)
    with pytest.raises(ServerError, match=f"port {own_valkey.port} is taken"):
        servers.start()


def test_a_taken_port_of_the_controller_is_named(tmp_path: Path) -> None:
    given = Given(postgres_dsn="postgresql://elsewhere/db", redis_url="redis://elsewhere/0")
    base = next(base for _ in range(100) if is_free((base := free_port()) + 1))
    with socket.create_server((LOOPBACK, base + 1)), pytest.raises(ServerError, match=f"port {base + 1} is taken"):
        LocalServers(tmp_path, given=given, port_base=base).start()


def test_a_server_that_cannot_start_says_why_in_its_own_words(open_folder: Path, watchdog: Watchdog) -> None:
    server = PostgresServer(open_folder, watchdog, durable=False)
    server.start()
    server.stop()
    (open_folder / "data" / "postgresql.conf").write_text("no_such_setting = on\n")
    with pytest.raises(ServerError, match="no_such_setting"):
        server.start()


@pytest.fixture
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: nobody listens
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_jars_that_cannot_be_had_are_one_line_that_names_the_way_out(tmp_path: Path, no_registry: None) -> None:
    with pytest.raises(ServerError) as refused:
        jars.class_path(tmp_path)
    assert "TRANSOM_KAFKA_BOOTSTRAP=host:port" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_jar_that_is_not_the_pinned_one_is_not_used(
    tmp_path: Path, no_registry: None, own_kafka: KafkaServer
) -> None:
    shutil.copytree(jars.cache_folder(), tmp_path / "jars")  # there since a broker started
    assert jars.class_path(tmp_path / "jars").count(".jar") == len(jars.pins())
    (tmp_path / "jars" / "slf4j-simple-1.7.36.jar").write_bytes(b"another")
    with pytest.raises(ServerError, match="cannot be resolved"):
        jars.class_path(tmp_path / "jars")


def test_interrupting_a_start_leaves_nothing_running(tmp_path: Path) -> None:
    servers = LocalServers(tmp_path, durable=False)

    def interrupt_once_valkey_runs() -> None:  # the two others need a second more
        while not (tmp_path / "valkey" / "process.json").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as apart:
        apart.submit(interrupt_once_valkey_runs)
        with pytest.raises(KeyboardInterrupt):
            servers.start()
    assert bearers(servers.watchdog.token) == []
