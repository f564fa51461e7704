"""``transom replay`` over a whole past: every topic once more, and nothing of it happens again."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from deploy.cli.replay.selection import Selection
from libs.common.clock import utc_now
from libs.common.events.topics import (
    DIRECTORY_CHANGES,
    INBOX_NOTICES,
    OUTBOUND_DECISIONS,
    PORTAL_MESSAGES,
    TOPICS,
    WEBHOOKS,
    Topic,
)
from libs.common.kafka.partition_growth import PartitionAdmin
from tests.e2e.conftest import SHORT, Place
from tests.support.command import COMMAND, environment, running
from tests.support.garages import LATE, Customer, a_garage
from tests.support.inbox import KEY
from tests.support.replays import connection, live, replayed
from tests.support.servers import RunServers
from tests.support.system import DAY, System
from tests.support.topic_records import TopicRecord

_CLOCKS = (
    "progress",
    "webhook_edges",
    "reconcile_progress",
    "template_syncs",
    "templates",
    "send_claims",
    "missed_sms_looks",
)
"""Tables that change with time, whatever is replayed: copies of templates are read from Meta again and again."""
_STREAMS = ("inbox_feeds", "inbox_changes", "touched_customers", "parked_records", "customer_words")
"""Tables that tell of each record anew, and repeat no effect; what the search finds of customers may be late."""
_DIRECTORY = ("orgs", "whatsapp_numbers", "customers", "customer_identities", "consents", "conversations", "audit_log")
_DIGEST = """
select coalesce(md5(string_agg(r::text, '|' order by r::text)), '') as digest, count(*)
  from (select to_jsonb(t) - array['price_due_at', 'synced_at', 'due_at'] as r from {} t) t
"""
_TO_BE_PRICED = """
select count(*) from charges c join messages m using (org_id, message_id)
 where c.channel = 'whatsapp' and c.price_due_at is not null and m.status in ('delivered', 'read')
"""


@pytest_asyncio.fixture(scope="module")
async def shared_past(
    a_place: Place, run_servers: RunServers, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    """A system on which something of everything has happened."""
    folder = tmp_path_factory.mktemp("replay")
    async with System(await a_place("replay"), run_servers.watchdog, folder, **SHORT) as system:
        system.add("inbox", "inbox")
        await system.start("inbox", JWT_KEYS=KEY)
        await _happened(system)
        yield system
        bugs = {"task.failed", "service.failed", "consumer.stopped"}
        assert [line for line in system.lines() if line["event"] in bugs] == []
        assert not system.leaks()


@pytest_asyncio.fixture
async def past(shared_past: System) -> System:
    """The same at rest: what the test before did is over."""
    await at_rest(shared_past)
    return shared_past


async def _happened(system: System) -> None:
    """Sessions, bridges, silence, refusals, SMS both ways, STOP, the portal, holds, and changes of the directory."""
    garage = await a_garage(system)
    kim, lee = await garage.customer_who_wrote(), await garage.customer_who_wrote(LATE)
    await system.sandbox.configure(day_seconds=DAY / 2)
    max_ = await garage.customer_who_wrote(DAY * 0.75)
    intents = [
        kim.intent("The first."),
        lee.intent("The second."),
        lee.intent("The third."),
        max_.intent("The fourth."),  # Meta says that the window is closed, and the router decides again
        kim.first_contact(),
        kim.intent("The fifth.", channel="sms"),
    ]
    await system.intend(*intents)
    await system.quiet()
    for text in ("Yes, at ten please.", "STOP"):
        system.private.add("Yes, at ten please.")
        await system.sandbox.customer_texts(lee.phone, garage.sms_number, text)
    await _portal(lee, intents[2]["intent_id"])
    await _directory(kim)
    webhook = system.published.all(WEBHOOKS.name, phone_number_id=garage.phone_number_id)[0]
    await system.say(WEBHOOKS.name, {**webhook.event, "phone_number_id": "106999999999999"}, key="nobody")
    await system.published.one(WEBHOOKS.dlq.name)
    await system.published.one(INBOX_NOTICES.name)
    await system.quiet()


async def _portal(customer: Customer, message_id: str) -> None:
    """The customer writes and reads in the portal, and asks for a link."""
    common = {"org_id": customer.garage.org_id, "conversation_id": customer.conversation_id, "at": _now()}
    events: list[dict[str, Any]] = [
        {"type": "portal.message.v1", "session": "s-1", "client_id": "f-1", "text": "In the portal."},
        {"type": "portal.read.v1", "message_ids": [message_id]},
        {"type": "portal.signed_in.v1"},
        {"type": "portal.link_wanted.v1"},
    ]
    customer.system.private.add("In the portal.")
    for event in events:
        await customer.system.say(PORTAL_MESSAGES.name, event | common, key=customer.conversation_id)


async def _directory(customer: Customer) -> None:
    """The platform names a customer twice, moves a number away and back, and staff hold a conversation for a while."""
    garage, org_id = customer.garage, customer.garage.org_id
    number = {"phone_number_id": "106400000000777", "waba_id": garage.waba_id, "display_number": "+447700900777"}
    listed = {"type": "customer.upserted.v1", "customer_id": str(uuid4()), "phone": "+447700900778"}
    customer.system.private |= {"447700900778", "447700900777"}
    held = {"conversation_id": customer.conversation_id, "user_id": "u-7", "until": _now()}
    events: list[dict[str, Any]] = [
        {"type": "number.upserted.v1", **number},
        {"type": "number.removed.v1", "phone_number_id": number["phone_number_id"]},
        {"type": "number.upserted.v1", **number},
        listed | {"name": "Pat"},
        listed | {"name": "Patricia"},
        {"type": "consent.changed.v1", "customer_id": listed["customer_id"], "category": "sms", "allowed": False},
        {"type": "org.credit.v1", "exhausted": True},
        {"type": "org.credit.v1", "exhausted": False},
        {"type": "conversation.held.v1", **held},
        {"type": "conversation.released.v1", **held},
    ]
    for event in events:
        await customer.system.say(DIRECTORY_CHANGES.name, event | {"org_id": org_id, "at": _now()}, key=org_id)


def _now() -> str:
    return utc_now().isoformat()


def env_of(system: System) -> Mapping[str, str]:
    servers = system.servers
    return environment(
        KAFKA_BOOTSTRAP=servers.kafka_bootstrap, TOPIC_PREFIX=servers.topic_prefix, POSTGRES_DSN=servers.postgres_dsn
    )


async def all_read(system: System) -> None:
    """Return when the inbox, too, has read everything, which may be new to the others."""
    async with PartitionAdmin.at(connection(system)) as brokers:

        async def read() -> bool:
            await system.quiet()
            topics = {f"{system.servers.topic_prefix}{topic.name}": 2 for topic in TOPICS}
            return not (await brokers.state(topics)).unread

        await system.until(read, "everything is read")


async def at_rest(system: System) -> None:
    """The same, and prices change no more."""
    await all_read(system)
    await system.rows("update charges set price_due_at = now() where channel = 'whatsapp' and price_due_at is not null")

    async def priced() -> bool:
        return bool(await system.value(_TO_BE_PRICED) == 0)

    await system.until(priced, "what was delivered has its price")


async def everything(system: System) -> dict[str, Any]:
    """Every table but those of clocks and streams, every call to a provider, every notice that tells something new."""
    await at_rest(system)
    tables = await system.rows("select tablename from pg_tables where schemaname = 'public' order by tablename")
    found = await digests(system, *(table for (table,) in tables if table not in (*_CLOCKS, *_STREAMS)))
    found["whatsapp"] = [sent["wamid"] for sent in await system.sandbox.messages()]
    found["sms"] = [sent["sid"] for sent in await system.sandbox.sms()]
    found["notices"] = {str(one.event) for one in system.published.all(INBOX_NOTICES.name)}
    return found


async def digests(system: System, *tables: str) -> dict[str, Any]:
    """By table, what stands in it."""
    return {table: tuple(row) for table in tables for row in await system.rows(_DIGEST.format(table))}


async def ends(system: System, topic: Topic) -> int:
    return sum((await system.ends(f"{system.servers.topic_prefix}{topic.name}")).values())


async def test_every_topic_is_replayed_and_nothing_happens_again(past: System) -> None:
    before = await everything(past)
    assert len(before["whatsapp"]) >= 3
    assert len(before["sms"]) >= 2
    for topic in TOPICS:
        lay = len(originals(past, topic))
        assert lay, topic.name
        told = await replayed(past, live(topic))
        assert f"{lay} fed through again" in told, told
        before_this = "" if "died again" in told else ": all of it had its effect before"
        assert topic == INBOX_NOTICES or f"  nothing changed{before_this}\n" in f"{told}\n", told
    after = await everything(past)
    assert {name: (before[name], after[name]) for name in before if before[name] != after[name]} == {}


async def test_a_replay_names_its_records_keeps_their_order_and_leaves_copies_of_an_earlier_one(past: System) -> None:
    topic = OUTBOUND_DECISIONS
    key = originals(past, topic)[0].key or b""
    mine = [one for one in originals(past, topic) if one.key == key]
    seen = len(past.published.all(topic.name))
    first = await replayed(past, live(topic, key=key.decode()))
    assert f"{len(mine)} fed through again" in first
    assert "outside Transom these get the records once more: agent, staff" in first
    await past.published.one(topic.name, times=seen + len(mine))
    copies = past.published.all(topic.name)[seen:]
    assert [(one.key, one.value) for one in copies] == [(one.key, one.value) for one in mine]
    name = f"{past.servers.topic_prefix}{topic.name}"
    assert [one.headers["replayed_from"] for one in copies] == [f"{name} {one.partition} {one.offset}" for one in mine]
    again = await replayed(past, live(topic, key=key.decode()))
    assert f"{len(mine)} fed through again" in again
    assert "left where they are: copies that an earlier replay made" in again


async def test_a_dry_run_says_what_would_go_by_time_and_reason_and_writes_nothing(past: System) -> None:
    before = {topic: await ends(past, topic) for each in TOPICS for topic in (each, each.dlq)}
    topic, hour = OUTBOUND_DECISIONS, utc_now() - timedelta(hours=1)
    first = originals(past, topic)[0]
    told = await replayed(past, live(topic, began=hour), dry=True)
    assert f"{len(originals(past, topic))} would be fed through again" in told
    assert f"partition {first.partition}: " in told
    reason = first.event["reason"]
    told = await replayed(past, live(topic, reason=reason), dry=True)
    assert f" {reason}, of type outbound.decision.v1" in told
    told = await replayed(past, live(topic, reason="no_such"), dry=True)
    assert "0 would be fed through again" in told
    assert f"left where they are: {reason}" in told
    assert "none has the reason no_such: is it one of those above?" in told
    told = await replayed(past, live(WEBHOOKS, until=hour), dry=True)
    assert told == f"{WEBHOOKS.name}: 0 records read, 0 would be fed through again"
    assert "unknown_number, of type webhook.meta.v1" in await replayed(past, Selection(WEBHOOKS), dry=True)
    assert {topic: await ends(past, topic) for topic in before} == before


async def test_a_letter_that_dies_again_is_told(past: System) -> None:
    told = await replayed(past, Selection(WEBHOOKS, key="nobody"))
    assert "fed through again" in told
    assert "  nothing changed\n" in told
    assert "died again: unknown_number" in told


async def test_what_is_new_is_counted_by_table(past: System) -> None:
    """Rows of a restored database are missing, and a replay brings them."""
    org_id = originals(past, DIRECTORY_CHANGES)[0].event["org_id"]
    listed = originals(past, DIRECTORY_CHANGES, name="Patricia")[0].event["customer_id"]
    before = await digests(past, "customers", "consents")
    await past.rows("delete from consents where org_id = $1 and customer_id = $2::uuid", org_id, listed)
    await past.rows(
        "update customers set name = 'Pat', upserted_at = '2020-01-01' where org_id = $1 and customer_id = $2::uuid",
        org_id,
        listed,
    )
    told = await replayed(past, live(DIRECTORY_CHANGES))
    assert "  1 new in consents" in told
    assert "  1 changed in customers" in told
    await at_rest(past)
    assert await digests(past, "customers", "consents") == before


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.proof)])
async def test_a_replay_that_is_stopped_is_repeated_and_two_run_at_once(past: System, number: signal.Signals) -> None:
    org_id = originals(past, DIRECTORY_CHANGES)[0].event["org_id"]
    customers = [
        {"type": "customer.upserted.v1", "org_id": org_id, "at": _now(), "customer_id": str(uuid4()), "name": f"N {n}"}
        for n in range(600)
    ]
    await past.say(DIRECTORY_CHANGES.name, *customers, key=org_id)
    await at_rest(past)
    before = await digests(past, *_DIRECTORY)
    lay, seen = len(originals(past, DIRECTORY_CHANGES)), await ends(past, DIRECTORY_CHANGES)
    copies = number_of_copies(past, DIRECTORY_CHANGES)

    async def some() -> bool:  # services write to this topic as well
        return copies < number_of_copies(past, DIRECTORY_CHANGES)

    command = (*COMMAND, "replay", "--topic", DIRECTORY_CHANGES.name, "--from", "1h")
    pipe = asyncio.subprocess.PIPE
    db = await asyncpg.connect(past.servers.postgres_dsn)
    try:
        async with db.transaction():
            await db.execute("lock table customers in exclusive mode")  # the next batch waits until one is handled
            async with running(*command, env=env_of(past), stdout=pipe, stderr=pipe) as process:
                await past.until(some, "the first batch is published")
                process.send_signal(number)
                said, trouble = await process.communicate()
    finally:
        await db.close()
    assert await ends(past, DIRECTORY_CHANGES) < seen + lay
    assert process.returncode == (130 if number == signal.SIGINT else -number), trouble[-2000:]
    assert (b"interrupted: repeat the command" in said) == (number == signal.SIGINT)
    for told in await asyncio.gather(*(replayed(past, live(DIRECTORY_CHANGES)) for _ in range(2))):
        assert f"{lay} fed through again" in told
        assert "nothing changed" in told
    assert await digests(past, *_DIRECTORY) == before


def number_of_copies(system: System, topic: Topic) -> int:
    return len(system.published.all(topic.name)) - len(originals(system, topic))


def originals(system: System, topic: Topic, **fields: object) -> list[TopicRecord]:
    """The records of a topic that are no copies of live ones."""
    name = f"{system.servers.topic_prefix}{topic.name} "
    found = system.published.all(topic.name, **fields)
    return [one for one in found if not one.headers.get("replayed_from", "").startswith(name)]
