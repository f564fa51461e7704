"""``transom migrate``, ``topics``, ``load`` and ``explain`` on real servers."""

import asyncio
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
import yaml
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from libs.common.events.topics import TOPICS
from tests.support.command import COMMAND, complaint, environment, running, transom, unread
from tests.support.databases import drop_database
from tests.support.topics import EVERY_TOPIC

NOWHERE = "127.0.0.1:1"


@pytest_asyncio.fixture
async def empty_database(postgres_dsn: str) -> AsyncIterator[str]:
    """The DSN of a database without any migration."""
    name = f"transom_empty_{uuid4().hex[:12]}"
    db = await asyncpg.connect(postgres_dsn)
    await db.execute(f"create database {name}")
    await db.close()
    yield urlsplit(postgres_dsn)._replace(path=f"/{name}").geturl()
    await drop_database(postgres_dsn, name)


async def test_migrate_applies_everything_once(empty_database: str) -> None:
    env = environment(POSTGRES_DSN=empty_database)
    first, second = transom("migrate", env=env), transom("migrate", env=env)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.startswith("applied 0001_")
    assert second.stdout == "the schema is up to date\n"
    assert first.stdout.endswith(second.stdout)


async def test_a_reader_who_has_seen_enough_ends_no_work_and_is_no_fault(
    empty_database: str, kafka_bootstrap: str, topic_prefix: str, kafka_admin: AIOKafkaAdminClient
) -> None:
    env = environment(
        POSTGRES_DSN=empty_database,
        KAFKA_BOOTSTRAP=kafka_bootstrap,
        TOPIC_PREFIX=topic_prefix,
        JWT_KEYS="a key of thirty-two bytes or more",
    )
    a_token = ("token", "--org", "acme", "--user", "olivia", "--capabilities", "messages.view")
    for words in (["migrate"], ["topics"], ["topics", "--acls"], a_token):
        assert unread(*words, env=env) == (0, "")
    assert transom("migrate", env=env).stdout == "the schema is up to date\n"
    assert {f"{topic_prefix}{topic.name}" for topic in EVERY_TOPIC} <= set(await kafka_admin.list_topics())


async def test_migrate_by_phase_says_what_comes_first(empty_database: str) -> None:
    env = environment(POSTGRES_DSN=empty_database)
    assert "run transom migrate --phase pre" in complaint("migrate", "--phase", "post", env=env)
    before, after = transom("migrate", "--phase", "pre", env=env), transom("migrate", "--phase", "post", env=env)
    assert (before.returncode, after.returncode) == (0, 0)
    assert before.stdout.startswith("applied 0001_")
    assert after.stdout.endswith("the schema is up to date\n")


async def test_topics_are_created_as_the_contract_counts_them_and_then_found(
    kafka_bootstrap: str, topic_prefix: str, kafka_admin: AIOKafkaAdminClient
) -> None:
    env = environment(KAFKA_BOOTSTRAP=kafka_bootstrap, TOPIC_PREFIX=topic_prefix)
    first, second = transom("topics", env=env), transom("topics", env=env)
    assert (first.returncode, second.returncode) == (0, 0)
    names = {f"{topic_prefix}{topic.name}" for topic in EVERY_TOPIC}
    assert {line.removeprefix("created ") for line in first.stdout.splitlines()} == names
    assert {line.removeprefix("exists  ") for line in second.stdout.splitlines()} == names
    found = await kafka_admin.describe_topics(sorted(names))
    assert {topic["topic"]: len(topic["partitions"]) for topic in found} == {
        name: 3 if name.endswith(".dlq") else 12 for name in names
    }


async def test_topics_that_have_fewer_partitions_get_more_and_others_are_left_as_they_are(
    kafka_bootstrap: str, topic_prefix: str, kafka_admin: AIOKafkaAdminClient
) -> None:
    env = environment(KAFKA_BOOTSTRAP=kafka_bootstrap, TOPIC_PREFIX=topic_prefix)
    assert transom("topics", "--partitions", "1", env=env).returncode == 0
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap) as producer:
        await producer.send_and_wait(f"{topic_prefix}webhooks.v1", b"unread", key=b"k")
    told = transom("topics", "--partitions", "2", "--wait", "0", env=env)
    assert (told.returncode, "unread by" in told.stderr, len(told.stderr.splitlines())) == (2, True, 1)
    await kafka_admin.delete_records({TopicPartition(f"{topic_prefix}webhooks.v1", 0): RecordsToDelete(-1)})
    again = transom("topics", "--partitions", "2", env=env)
    assert again.returncode == 0
    grown = {f"{topic_prefix}{topic.name}" for topic in TOPICS}
    assert {line.split()[1].rstrip(":") for line in again.stdout.splitlines() if line.startswith("grown")} == grown
    assert "differs" not in again.stdout  # topics of dead letters keep what they have
    plain = transom("topics", env=env)
    assert f"differs {topic_prefix}webhooks.v1: 2 partitions, declared are 12" in plain.stdout.splitlines()


@pytest.mark.parametrize(
    ("option", "other"),
    [("--user-prefix=garage-", "--acls"), ("--wait=5", "--partitions"), ("--ignore-group=old", "--partitions")],
)
def test_an_option_of_topics_that_would_have_no_effect_is_refused(option: str, other: str) -> None:
    ended = transom("topics", option, env=environment(KAFKA_BOOTSTRAP=NOWHERE))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith(f"Error: {option.partition('=')[0]} goes with {other}\n")


async def test_a_command_that_ctrl_c_interrupts_ends_as_one_that_was_interrupted() -> None:
    reached = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        env = environment(POSTGRES_DSN=f"postgresql://postgres@127.0.0.1:{port}/transom?sslmode=disable")
        async with running(*COMMAND, "migrate", env=env, stderr=PIPE) as process:
            await reached.wait()
            process.send_signal(signal.SIGINT)
            assert (await process.communicate())[1] == b""
            assert process.returncode == 130


@pytest.mark.parametrize(
    ("words", "variable"),
    [
        (["migrate"], "TRANSOM_POSTGRES_DSN"),
        (["explain", str(uuid4())], "TRANSOM_POSTGRES_DSN"),
        (["topics"], "TRANSOM_KAFKA_BOOTSTRAP"),
    ],
    ids=["migrate", "explain", "topics"],
)
def test_a_server_that_is_not_there_is_said_in_one_line(words: list[str], variable: str) -> None:
    env = environment(POSTGRES_DSN=f"postgresql://postgres@{NOWHERE}/transom", KAFKA_BOOTSTRAP=NOWHERE)
    assert variable in complaint(*words, env=env)


def test_an_intent_that_nobody_knows_cannot_be_explained(database: str) -> None:
    unknown = str(uuid4())
    assert unknown in complaint("explain", unknown, env=environment(POSTGRES_DSN=database))


def test_a_word_that_is_no_id_cannot_be_explained(database: str) -> None:
    ended = transom("explain", "yesterday's", env=environment(POSTGRES_DSN=database))
    assert ended.returncode == 2
    assert "yesterday's" in ended.stderr
    assert "Traceback" not in ended.stderr


def a_garage(org_id: str = "acme", **fields: Any) -> dict[str, Any]:
    number = {"phone_number_id": "106400000000001", "waba_id": "206400000000001", "display_number": "+447700900123"}
    customer = {"customer_id": "5f0c1f7e-7c5e-4c0e-9b0a-0d5f6a3b2c1d", "name": "Kim", "phone": "+447700900999"}
    return {"org_id": org_id, "name": "AcmeMotors", "numbers": [number], "customers": [customer]} | fields


def a_file(folder: Path, *orgs: dict[str, Any], **more: Any) -> str:
    path = folder / f"{uuid4().hex}.yaml"
    path.write_text(yaml.safe_dump({"orgs": list(orgs), **more}, sort_keys=False))
    return str(path)


def line_of(file: str, word: str) -> int:
    return next(index for index, text in enumerate(Path(file).read_text().splitlines()) if word in text)


async def test_a_database_without_its_migrations_says_what_to_run(empty_database: str, tmp_path: Path) -> None:
    env = environment(POSTGRES_DSN=empty_database)
    for words in (["load", a_file(tmp_path, a_garage())], ["explain", str(uuid4())]):
        assert "transom migrate" in complaint(*words, env=env)


async def test_what_is_logged_is_no_part_of_a_commands_answer(database: str, tmp_path: Path) -> None:
    db = await asyncpg.connect(database)
    await db.execute("insert into schema_migrations (name, checksum) values ('9999_post_later.sql', 'x')")
    await db.close()
    loaded = transom("load", a_file(tmp_path, a_garage()), env=environment(POSTGRES_DSN=database))
    assert loaded.stdout == "loaded 1 orgs, 1 numbers, 1 customers, 0 templates, 0 prices\n"
    assert "schema.newer" in loaded.stderr


async def contents(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every table that a file can change."""
    db = await asyncpg.connect(dsn)
    try:
        tables = ("orgs", "whatsapp_numbers", "customers", "customer_identities", "consents", "templates", "rate_card")
        return {
            table: [tuple(row) for row in await db.fetch(f"select * from {table} order by 1, 2, 3")] for table in tables
        }
    finally:
        await db.close()


async def test_a_garage_is_loaded_and_loaded_again_as_it_is_now(database: str, tmp_path: Path) -> None:
    env = environment(POSTGRES_DSN=database)
    first = transom("load", a_file(tmp_path, a_garage()), env=env)
    assert first.stdout == "loaded 1 orgs, 1 numbers, 1 customers, 0 templates, 0 prices\n"
    again = transom("load", a_file(tmp_path, a_garage(name="Acme & Sons", sms_number="+447700900001")), env=env)
    assert again.returncode == 0
    found = await contents(database)
    assert [(org[0], org[1], org[2]) for org in found["orgs"]] == [("acme", "Acme & Sons", "+447700900001")]
    assert len(found["whatsapp_numbers"]) == len(found["customers"]) == 1


async def test_a_bad_file_names_line_and_field_and_changes_nothing(database: str, tmp_path: Path) -> None:
    env = environment(POSTGRES_DSN=database)
    assert transom("load", a_file(tmp_path, a_garage()), env=env).returncode == 0
    before = await contents(database)
    bad = a_file(tmp_path, a_garage(name="Changed"), a_garage("other", nmae="Typo", numbers=[], customers=[]))
    line = 1 + line_of(bad, "nmae")
    assert complaint("load", bad, env=env) == f"transom: {bad}:{line}: orgs[1].nmae: no such field is known here"
    assert await contents(database) == before


async def test_a_file_that_claims_what_is_another_s_changes_nothing(database: str, tmp_path: Path) -> None:
    env = environment(POSTGRES_DSN=database)
    assert transom("load", a_file(tmp_path, a_garage()), env=env).returncode == 0
    before = await contents(database)
    told = complaint(
        "load",
        a_file(tmp_path, a_garage("newcomer", customers=[]), a_garage("thief", customers=[], numbers=[])),
        env=env,
    )
    assert "orgs[0].numbers[0]" in told
    assert await contents(database) == before
