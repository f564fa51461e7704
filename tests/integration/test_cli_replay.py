"""``transom replay --dlq``: what died of an unknown number lives once the number is known."""

import asyncio
import gzip
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner
from pydantic import SecretStr

from deploy.cli.command import main
from deploy.cli.replay.queries import rows_of
from deploy.cli.replay.reading import reading
from deploy.cli.replay.run import Run
from deploy.cli.replay.selection import Selection
from deploy.cli.replay.subjects import Subjects
from libs.common.db.pool import open_pool
from libs.common.errors import ConfigurationError
from libs.common.events.directory import NumberUpserted
from libs.common.events.topics import DIRECTORY_CHANGES, INBOUND_MESSAGES, INBOX_NOTICES, OUTBOUND_DECISIONS, WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.topics import administered
from libs.common.settings import PostgresSettings
from tests.support import world
from tests.support.command import environment, transom
from tests.support.ingest import ORG, Ingest, now
from tests.support.logs import LogLines
from tests.support.texts import a_twilio_sms, post_twilio
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually
from tests.support.webhooks import WABA, a_contact, a_message, a_value, a_webhook, of_messages

LATE, OTHER = "106400000000055", "106400000000066"


@pytest.fixture
def connection(kafka_bootstrap: str, topics: OwnTopics) -> KafkaConnection:
    return KafkaConnection(kafka_bootstrap, topic_prefix=topics.prefix)


async def told_number(ingest: Ingest, number: str, log_lines: LogLines) -> None:
    """The directory learns a number."""
    before = len(log_lines.of("directory.applied"))
    change = NumberUpserted(org_id=ORG, at=now(), phone_number_id=number, waba_id=WABA, display_number="+447700900155")
    await ingest.publish_changes(change)
    await eventually(lambda: len(log_lines.of("directory.applied")) > before)


async def replayed(connection: KafkaConnection, selection: Selection, **how: Any) -> list[str]:
    """What a run says that counts no effects."""
    return await Run(connection, selection, **how).go()


async def first_line(connection: KafkaConnection, *, dry: bool = False, limit: int | None = None, **which: Any) -> str:
    """What a run says first."""
    return (await replayed(connection, Selection(WEBHOOKS, **which), dry=dry, limit=limit))[0].partition(": ")[2]


async def test_letters_of_a_number_are_fed_through_once_in_their_order_and_judged_by_the_providers_time(
    ingest: Ingest, connection: KafkaConnection, log_lines: LogLines
) -> None:
    began = now() - timedelta(days=2)
    messages = [a_message(began + timedelta(minutes=n), f"Message {n}") for n in range(5)]
    for message in messages:
        assert await ingest.post(of_messages(message, number=LATE)) == 200
    assert await ingest.post(of_messages(a_message(now()), number=OTHER)) == 200
    assert await ingest.post(a_webhook(a_value(x=1), field="tomorrow")) == 200
    assert sorted(await ingest.reasons(WEBHOOKS, 7)) == ["unknown_field", *["unknown_number"] * 6]
    await told_number(ingest, LATE, log_lines)

    selected: dict[str, Any] = {"reason": "unknown_number", "number": LATE}
    assert await first_line(connection, dry=True, **selected) == "7 letters read, 5 would be fed through again"
    assert await first_line(connection, **selected) == "7 letters read, 5 fed through again"
    published = await ingest.published.events(INBOUND_MESSAGES, 5)
    assert [one["content"]["text"] for one in published] == [f"Message {n}" for n in range(5)]
    assert {one["window"]["open"] for one in published} == {False}
    received = {one["received_at"] for one in published}
    assert await first_line(connection, **selected) == "0 letters read, 0 fed through again"

    # a wider selection does not know what a narrower one did: the same again changes nothing
    assert await first_line(connection, reason="unknown_number") == "7 letters read, 6 fed through again"
    assert (await ingest.reasons(WEBHOOKS, 8))[7:] == ["unknown_number"]
    again = await ingest.published.events(INBOUND_MESSAGES, 10)
    assert {one["message_id"] for one in again} == {one["message_id"] for one in published}
    assert {one["received_at"] for one in again} == received
    assert len(await ingest.rows("select * from messages")) == 5
    # … and a narrower one knows what a wider one did: what is left is what died again
    assert await first_line(connection, reason="unknown_number", number=OTHER) == "1 letters read, 1 fed through again"


async def test_an_sms_to_a_number_that_is_told_later_is_fed_through(
    ingest: Ingest, connection: KafkaConnection, log_lines: LogLines
) -> None:
    called = "+447700900777"
    assert await post_twilio(ingest.http, ingest.url, a_twilio_sms("Hello?", To=called)) == 200
    assert await post_twilio(ingest.http, ingest.url, a_twilio_sms("Hello?", To="+447700900778")) == 200
    assert await ingest.reasons(WEBHOOKS, 2) == ["unknown_number"] * 2
    async with ingest.pool.acquire() as db:
        await world.an_org(db, "late", LATE, waba=WABA, sms_number=called, portal_host=None)
    assert await first_line(connection, number=called) == "2 letters read, 1 fed through again"
    (one,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert (one["org_id"], one["content"]["text"]) == ("late", "Hello?")


async def test_a_limit_leaves_the_rest_to_the_next_run(
    ingest: Ingest, connection: KafkaConnection, log_lines: LogLines
) -> None:
    people = [f"4477009{n:05}" for n in range(7)]
    value = a_value(
        number=LATE,
        contacts=[a_contact(person) for person in people],
        messages=[a_message(now(), **{"from": person}) for person in people],
    )
    assert await ingest.post(a_webhook(value)) == 200
    await ingest.reasons(WEBHOOKS, 7)
    await told_number(ingest, LATE, log_lines)
    runs = [await first_line(connection, reason="unknown_number", limit=3) for _ in range(4)]
    assert [run.partition(", ")[2] for run in runs] == [f"{n} fed through again" for n in (3, 3, 1, 0)]
    assert len({one["customer_id"] for one in await ingest.published.events(INBOUND_MESSAGES, 7)}) == 7


async def test_a_large_letter_comes_back_as_it_was_and_one_without_its_value_stays(
    topics: OwnTopics, connection: KafkaConnection, ingest: Ingest
) -> None:
    headers = (("reason", b"unknown_org"), ("detail", b""), ("source_offset", b"7"))
    packed = (("trace", b"abc"), *headers, ("value_encoding", b"gzip"))
    packed_value = gzip.compress(b'{"type": "org.credit.v1"}')
    larger_than_a_record = gzip.compress(b" " * 5_000_000)
    async with Producer(connection) as producer:
        await producer.publish(
            [
                Record(DIRECTORY_CHANGES.dlq, b"acme", larger_than_a_record, packed),
                Record(DIRECTORY_CHANGES.dlq, b"acme", packed_value, packed),
                Record(DIRECTORY_CHANGES.dlq, b"acme", b"", (*headers, ("left_out", b"value"))),
                Record(DIRECTORY_CHANGES.dlq, b"acme", b"somebody else's", ()),
            ]
        )
    lines = await replayed(connection, Selection(DIRECTORY_CHANGES, "unknown_org"))
    assert [line for line in lines if "of the time" not in line] == [
        "directory.changes.v1.dlq: 4 letters read, 1 fed through again",
        "  1 unknown_org, of type org.credit.v1",
        "  1 left where they are: no letter of ours",
        "  2 cannot be fed through again: their value is too large, or was too large to be kept",
        "  outside Transom these get the records once more: platform",
    ]
    letters = await ingest.published.records(DIRECTORY_CHANGES.dlq, 5)
    died_again = letters[-1]
    assert died_again.value == b'{"type": "org.credit.v1"}'
    told = dict(died_again.headers)
    assert (told["trace"], told["replayed_reason"], told["reason"]) == (b"abc", b"unknown_org", b"bad_fields")
    assert told["replayed_from"].endswith(b".dlq 0 1")
    again = await replayed(connection, Selection(DIRECTORY_CHANGES, "bad_fields"))
    assert again[0].endswith("5 letters read, 1 fed through again")
    last = (await ingest.published.records(DIRECTORY_CHANGES.dlq, 6))[-1]
    assert [name for name, _ in last.headers if name.startswith(("replayed", "trace"))] == [
        "trace",
        "replayed_from",
        "replayed_run",
        "replayed_reason",
    ]


async def test_a_record_with_letters_of_two_services_is_fed_through_once(
    topics: OwnTopics, connection: KafkaConnection
) -> None:
    """Ingest and the inbox both read the directory. Each of them writes a letter of what it cannot read.

    A topic that was created anew counts from 0 again, so the letter of another record may name the same place.
    """
    await topics.create([DIRECTORY_CHANGES, DIRECTORY_CHANGES.dlq])
    name = connection.name(DIRECTORY_CHANGES.name).encode()
    of_two = [(service, partition, at) for partition, at in ((0, 8), (0, 9), (1, 8)) for service in ("ingest", "inbox")]
    letters = [(*place, b'{"type": "org.credit.v1"}') for place in of_two]
    letters.append(("ingest", 0, 8, b'{"type": "org.upserted.v1"}'))
    async with Producer(connection) as producer:
        await producer.publish(
            [
                Record(
                    DIRECTORY_CHANGES.dlq,
                    b"acme",
                    value,
                    (
                        ("reason", b"bad_fields"),
                        ("detail", b""),
                        ("source_topic", name),
                        ("source_partition", b"%d" % partition),
                        ("source_offset", b"%d" % at),
                        ("service", service.encode()),
                    ),
                )
                for service, partition, at, value in letters
            ]
        )
    lines = await replayed(connection, Selection(DIRECTORY_CHANGES, "bad_fields"))
    assert lines[0] == "directory.changes.v1.dlq: 7 letters read, 4 fed through again"
    assert "  3 left where they are: another letter of the same record" in lines


async def test_a_run_whose_letters_die_again_ends_before_it_stops_a_partition(
    ingest: Ingest, connection: KafkaConnection, database: str, log_lines: LogLines
) -> None:
    headers = (("reason", b"not_json"), ("detail", b""))
    async with Producer(connection) as producer:
        await producer.publish([Record(DIRECTORY_CHANGES.dlq, b"k", b"torn", headers) for _ in range(220)])
    run = Run(connection, Selection(DIRECTORY_CHANGES), postgres=PostgresSettings(postgres_dsn=SecretStr(database)))
    told = await run.go()
    assert "  50 died again: not_json" in told
    assert "  ended early, for too many died again: mend the cause first, or their partition stops" in told
    assert log_lines.of("consumer.stopped") == []
    run = Run(connection, run.selection, postgres=run.postgres, dry=True)
    assert (await run.go())[0].endswith("220 letters read, 220 would be fed through again")


async def test_nothing_is_published_where_nobody_reads(
    topics: OwnTopics, connection: KafkaConnection, database: str
) -> None:
    await topics.create([OUTBOUND_DECISIONS, OUTBOUND_DECISIONS.dlq])
    async with Producer(connection) as producer:
        await producer.publish([Record(OUTBOUND_DECISIONS, b"k", b"{}")])
    run = Run(
        connection,
        Selection(OUTBOUND_DECISIONS, dlq=False),
        postgres=PostgresSettings(postgres_dsn=SecretStr(database)),
    )
    with pytest.raises(ConfigurationError, match="start `transom run inbox`, then repeat"):
        await run.go()
    assert run.lines() == [
        "outbound.decisions.v1: 1 records read, 0 fed through again",
        "  interrupted: repeat the command, which is safe",
    ]
    dry = await replayed(connection, run.selection, dry=True)
    assert dry[0] == "outbound.decisions.v1: 1 records read, 1 would be fed through again"


async def test_the_command_says_what_it_did_and_what_it_cannot_do(
    kafka_bootstrap: str, topics: OwnTopics, topic_prefix: str
) -> None:
    await topics.create()
    env = environment(KAFKA_BOOTSTRAP=kafka_bootstrap, TOPIC_PREFIX=topics.prefix)
    run = CliRunner()
    assert "no topic is called nobody" in run.invoke(main, ["replay", "--dlq", "nobody"]).stderr
    assert run.invoke(main, ["replay"]).exit_code == 2
    done = await asyncio.to_thread(transom, "replay", "--dlq", "--reason", "unknown_number", env=env)
    assert (done.returncode, done.stdout) == (0, "webhooks.v1.dlq: 0 letters read, 0 fed through again\n")
    with pytest.raises(ConfigurationError, match="does not exist"):
        await first_line(KafkaConnection(kafka_bootstrap, topic_prefix=f"{topic_prefix}none."))
    with pytest.raises(ConfigurationError, match="cannot be administered"):
        await first_line(KafkaConnection("127.0.0.1:1"))


async def test_a_key_that_no_table_can_have_has_no_row(database: str) -> None:
    """Letters hold what could not be stored."""
    subjects = Subjects.of(
        [
            {"type": "org.credit.v1", "org_id": "a\0"},
            {"type": "number.upserted.v1", "org_id": "a\0", "phone_number_id": "1\0"},
            {"phone_number_id": "1", "item": {"id": "wamid.\0", "from": "44\0"}},
            {"waba_id": "2", "item": {"message_template_name": "\0", "message_template_language": "en"}},
        ]
    )
    async with open_pool(database, application_name="test") as pool, pool.acquire() as db:
        assert await rows_of(db, subjects) == {}


async def test_records_of_several_partitions_go_in_the_order_of_their_time_and_what_does_not_fit_is_named(
    topics: OwnTopics, connection: KafkaConnection, kafka_bootstrap: str
) -> None:
    """A producer outside compresses what is then too large for a record."""
    await topics.create([INBOX_NOTICES, INBOX_NOTICES.dlq], partitions=2)
    name, began = connection.name(INBOX_NOTICES.name), int(now().timestamp() * 1000) - 60_000
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_bootstrap, compression_type="gzip", max_request_size=9**8
    ) as out:
        for partition, at in ((0, 1), (1, 2), (1, 3), (0, 4), (1, 5)):
            await out.send_and_wait(name, b"%d" % at, key=b"k", partition=partition, timestamp_ms=began + at)
        await out.send_and_wait(name, b" " * 5_000_000, key=b"k", partition=1, timestamp_ms=began + 6)
    selection = Selection(INBOX_NOTICES, dlq=False)
    async with administered(connection) as admin, reading(connection, admin, selection) as source:
        read = [record.value async for batch in source.batches() for record in batch]
    assert [value for value in read if value is not None and len(value) == 1] == [b"1", b"2", b"3", b"4", b"5"]
    since = datetime.fromtimestamp((began + 2) / 1000, UTC)
    some = Selection(INBOX_NOTICES, dlq=False, began=since, until=since + timedelta(milliseconds=3))
    told = await replayed(connection, some, dry=True)
    assert told[0] == "inbox.notices.v1: 3 records read, 3 would be fed through again"
    assert told[3:5] == ["  partition 0: 1, offsets 1 to 1", "  partition 1: 2, offsets 0 to 1"]
    told = await replayed(connection, selection)
    assert told[0] == "inbox.notices.v1: 6 records read, 5 fed through again"
    assert "  they stand at (partition/offset) 1/3" in told
    told = await replayed(connection, selection, limit=2)
    assert told[0] == "inbox.notices.v1: 2 records read, 2 fed through again"
    assert any(line.startswith("  the limit was reached; go on with --from 20") for line in told)
