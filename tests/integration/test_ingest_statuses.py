"""Statuses on their way through ingest, and what a crash between storing and telling leaves behind."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.db.pool import open_pool
from libs.common.directory import holds
from libs.common.directory.address_marks import mark, record_unreached
from libs.common.directory.reports import Mark, Unreached
from libs.common.errors import Transient
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    OUTBOUND_REFUSED,
    WEBHOOKS,
)
from libs.common.faults import RecipientFault
from libs.common.ids import callback_data
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from libs.common.kafka.records import Received
from libs.common.providers.accounts import SmsAccounts
from libs.common.sending.status_effects import store_provider_ids
from libs.common.sending.statuses import ProviderId
from services.ingest import meta, twilio, worker
from services.ingest.items import Item
from services.ingest.number_gate import NumberGate
from services.ingest.parse import parse
from services.ingest.sms_gate import SmsGate
from services.ingest.worker_deps import Deps
from tests.support import world
from tests.support.ingest import DAY, DOUBT, ORG, Ingest, now
from tests.support.logs import LogLines
from tests.support.messages_out import a_conversation, sent
from tests.support.published import published_on
from tests.support.records import a_record
from tests.support.statements import statements_of
from tests.support.topics import OwnTopics
from tests.support.webhooks import (
    NUMBER,
    WA_ID,
    a_message,
    a_status,
    a_value,
    a_webhook,
    an_echo,
    of_echoes,
    of_messages,
)

OUT = """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status, attempt,
    notification_type, parent_id,
                      occurred_at, received_at)
values ('acme', $1, $2, 'out', $3, 'text', '{}', 'pending', 1, $4, $5, now(), now())
"""


def of_statuses(*statuses: dict[str, Any]) -> dict[str, Any]:
    return a_webhook(a_value(statuses=list(statuses)))


async def test_statuses_climb_the_ladder_in_any_order_and_are_told(ingest: Ingest) -> None:
    message_id = await sent(ingest.pool, await a_conversation(ingest), "wamid.1")
    at = now()
    await ingest.post(of_statuses(a_status("wamid.1", "delivered", at), a_status("wamid.1", "sent", at)))
    await ingest.post(of_statuses(a_status("wamid.1", "read", at), a_status("wamid.1", "played", at)))
    updates = await ingest.published.events(DELIVERY_UPDATES, 3)
    assert {update["message_id"] for update in updates} == {str(message_id)}
    assert updates[0]["status"] == "delivered"
    assert updates[-1]["status"] == "read"
    assert [update["seq"] for update in updates] == sorted(update["seq"] for update in updates)
    row = await ingest.row("select status, sent_at from messages where message_id = $1", message_id)
    assert row["status"] == "read"


async def test_a_status_that_comes_before_its_id_is_kept(ingest: Ingest) -> None:
    conversation = await a_conversation(ingest)
    ours = callback_data(ORG, uuid4(), 1)
    await ingest.post(of_statuses(a_status("wamid.early", "sent", now(), biz_opaque_callback_data=ours)))
    await ingest.post(of_statuses(a_status("wamid.other", "sent", now(), biz_opaque_callback_data="order-7")))
    await ingest.post(of_messages(a_message(now())))
    await ingest.published.events(INBOUND_MESSAGES, 2)
    early = await ingest.row("select provider_id, status, callback from early_statuses")
    assert tuple(early) == ("wamid.early", "sent", ours)
    message_id = await sent(ingest.pool, conversation, "wamid.early")
    assert (await ingest.row("select status from messages where message_id = $1", message_id))["status"] == "sent"


async def test_metas_word_on_the_window_is_stored_and_the_router_decides_again(ingest: Ingest) -> None:
    conversation = await a_conversation(ingest)
    message_id = await sent(ingest.pool, conversation, "wamid.1")
    at = now()
    failed = a_status("wamid.1", "failed", at, errors=[{"code": 131047, "title": "Re-engagement message"}])
    await ingest.post(of_statuses(failed))
    (refusal,) = await ingest.published.events(OUTBOUND_REFUSED, 1)
    assert (refusal["intent_id"], refusal["attempt"], refusal["reason"], refusal["provider_code"]) == (
        str(message_id),
        1,
        "window_closed",
        "131047",
    )
    assert (await ingest.row("select last_refused_at from conversations"))["last_refused_at"] == at
    assert (await ingest.row("select status from messages where message_id = $1", message_id))["status"] == "pending"
    await ingest.post(of_messages(a_message(at - timedelta(seconds=1)), a_message(at + timedelta(seconds=1))))
    windows = [one["window"] for one in await ingest.published.events(INBOUND_MESSAGES, 3)]
    assert windows[-1]["open"] is True


async def test_statuses_of_a_standing_by_number_count_and_failures_carry_their_code(ingest: Ingest) -> None:
    await sent(ingest.pool, await a_conversation(ingest), "wamid.1")
    inner = {"statuses": [a_status("wamid.1", "failed", now(), errors=[{"code": 131051, "title": "x"}])]}
    await ingest.post(a_webhook(a_value(standby=inner), field="standby"))
    (update,) = await ingest.published.events(DELIVERY_UPDATES, 1)
    assert (update["status"], update["reason"], update["provider_code"]) == ("failed", "provider_refused", "131051")


@pytest.mark.parametrize("nested", [True, False])
async def test_a_message_that_the_agent_of_meta_answers_opens_the_window_too(ingest: Ingest, *, nested: bool) -> None:
    at = now()
    said = {"messages": [a_message(at)]}
    await ingest.post(a_webhook(a_value(**({"standby": said} if nested else said)), field="standby"))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert published["window"]["open"] is True
    assert (await ingest.row("select last_customer_at from conversations"))["last_customer_at"] == at


async def test_a_call_opens_the_window_and_leaves_no_message(ingest: Ingest) -> None:
    await ingest.post(of_messages(a_message(now() - 2 * DAY)))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    at = now()
    call = {"id": "wacid.1", "from": "447700900999", "event": "connect", "direction": "USER_INITIATED"}
    await ingest.post(a_webhook(a_value(calls=[call | {"timestamp": str(int(at.timestamp()))}]), field="calls"))
    await ingest.post(of_messages(a_message(now() - 3 * DAY)))
    published = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert [one["window"]["open"] for one in published] == [False, True]
    assert (await ingest.row("select last_customer_at from conversations"))["last_customer_at"] == at


# ── The handler alone
# ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Crash(Exception):  # noqa: N818 -- what it is
    """The process is gone at this point."""


class CrashingProducer(Producer):
    """Dies instead of publishing, as often as it is told to."""

    crashes = 0

    async def publish(self, records: Sequence[Any]) -> frozenset[Any]:
        if self.crashes:
            self.crashes -= 1
            raise Crash
        return await super().publish(records)


@pytest_asyncio.fixture
async def deps(database: str, kafka_bootstrap: str, topics: OwnTopics) -> AsyncIterator[Deps]:
    await topics.create([INBOUND_MESSAGES, DELIVERY_UPDATES, OUTBOUND_REFUSED, WEBHOOKS, DIRECTORY_CHANGES])
    async with (
        open_pool(database, application_name="test", size=4, command_seconds=10) as pool,
        CrashingProducer(KafkaConnection(kafka_bootstrap, topics.prefix)) as producer,
    ):
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield Deps(pool, producer, DAY, DOUBT, utc_now, NumberGate(pool), SmsGate(pool, SmsAccounts("twilio", {}, {})))


def received(*records: tuple[bytes, bytes]) -> list[Received[Item]]:
    values = [value for _, value in records]
    return [
        Received(parse(value, reaction_opens=False), a_record(value, offset=offset))
        for offset, value in enumerate(values)
    ]


async def test_a_crash_between_storing_and_telling_tells_the_same_message_later(
    deps: Deps, kafka_bootstrap: str, topic_prefix: str
) -> None:
    batch = received(*meta.split(of_messages(a_message(now()), a_message(now(), type="mystery", text=None)), utc_now()))
    assert isinstance(deps.producer, CrashingProducer)
    deps.producer.crashes = 1
    with pytest.raises(Crash):
        await worker.on_webhooks(batch, deps)
    async with deps.pool.acquire() as db:
        stored = [str(row[0]) for row in await db.fetch("select message_id from messages order by sequence")]
    assert await worker.on_webhooks(batch, deps) == []
    assert await worker.on_webhooks(batch, deps) == []
    async with published_on(kafka_bootstrap, topic_prefix, [INBOUND_MESSAGES]) as published:
        messages = await published.events(INBOUND_MESSAGES)
    assert [message["message_id"] for message in messages] == stored * 2
    async with deps.pool.acquire() as db:
        assert await db.fetchval("select count(*) from messages") == 2


async def test_a_crash_between_storing_an_echo_and_telling_it_tells_it_later_and_the_hold_stays(
    deps: Deps, kafka_bootstrap: str, topic_prefix: str
) -> None:
    batch = received(*meta.split(of_echoes(an_echo(now())), utc_now()))
    assert isinstance(deps.producer, CrashingProducer)
    deps.producer.crashes = 1
    with pytest.raises(Crash):
        await worker.on_webhooks(batch, deps)
    assert await worker.on_webhooks(batch, deps) == []
    async with published_on(kafka_bootstrap, topic_prefix, [DELIVERY_UPDATES]) as published:
        (update,) = await published.events(DELIVERY_UPDATES)
    assert (update["status"], update["seq"], update["author"]) == ("sent", 1, "phone_app")
    async with deps.pool.acquire() as db:
        assert await db.fetchval("select count(*) from messages") == 1
        (left,) = await holds.unpublished(db, 10)  # the inbox publishes it
    assert str(left.conversation_id) == update["conversation_id"]


async def test_workers_that_race_with_the_same_webhooks_store_them_once(deps: Deps) -> None:
    webhooks = [of_messages(a_message(now(), **{"from": f"4477009003{i:02}"}), contacts=[]) for i in range(30)]
    webhooks += [of_echoes(an_echo(now(), to=f"4477009003{i:02}"), contacts=[]) for i in range(15, 45)]
    batch = received(*[record for webhook in webhooks for record in meta.split(webhook, utc_now())])

    async def work() -> None:
        while True:
            try:
                await worker.on_webhooks(batch, deps)
            except Transient:
                continue
            return

    await asyncio.gather(*(work() for _ in range(4)))
    async with deps.pool.acquire() as db:
        counts = [
            await db.fetchval(f"select count(*) from {table}") for table in ("messages", "customers", "conversations")
        ]
    assert counts == [60, 45, 45]


async def a_bridge_on_its_way(deps: Deps) -> tuple[UUID, UUID, UUID, UUID]:
    """A bridge that Twilio calls SM1 holds its slot, which silenced a later intent: conversation, original, silenced,
    bridge.
    """
    await worker.on_webhooks(received(*meta.split(of_messages(a_message(now() - 2 * DAY)), utc_now())), deps)
    original, silenced, bridge = uuid4(), uuid4(), uuid4()
    async with deps.pool.acquire() as db, db.transaction():
        conversation = await db.fetchval("select conversation_id from conversations")
        for message_id, status in ((original, "failed"), (silenced, "failed")):
            await db.execute(OUT, message_id, conversation, "whatsapp", None, None)
            await db.execute("update messages set status = $2 where message_id = $1", message_id, status)
        await db.execute(OUT, bridge, conversation, "sms", "bridge", original)
        await db.execute(
            """insert into decisions (org_id, intent_id, attempt, conversation_id, route, reason, slot_holder, record,
                decided_at)
               values ('acme', $1, 1, $2, 'silent', 'bridge_already_sent', $3, '{}', now())""",
            silenced,
            conversation,
            original,
        )
        await db.execute(
            "insert into bridge_slots values ($1, 'acme', $2, now() + interval '1 day')", conversation, original
        )
        ours = ProviderId("sms", "twilio", "AC1", "SM1", ORG, bridge, original, 1)
        await store_provider_ids(db, [ours], utc_now())
    return conversation, original, silenced, bridge


UNDELIVERED = {"MessageSid": "SM1", "AccountSid": "AC1", "MessageStatus": "undelivered", "ErrorCode": "30003"}


@pytest.mark.parametrize("code", ["30007", "30003", "30008", "30410", "30006", "21610", "", "-1", "Unreachable"])
async def test_a_bridge_that_fails_late_has_used_its_day_and_is_told_as_what_it_came_to(
    deps: Deps, kafka_bootstrap: str, topic_prefix: str, code: str
) -> None:
    conversation, original, _silenced, bridge = await a_bridge_on_its_way(deps)
    batch = received(twilio.status_record(UNDELIVERED | {"ErrorCode": code}, utc_now(), "AC1"))
    for _ in range(2):
        assert await worker.on_webhooks(batch, deps) == []
    async with deps.pool.acquire() as db:
        held = await db.fetchrow("select conversation_id, intent_id from bridge_slots where held_until > now()")
        told = await db.fetchrow("select status, reason, provider_code from messages where message_id = $1", bridge)
    assert tuple(held or ()) == (conversation, original)
    assert tuple(told or ()) == ("failed", "provider_refused", code if code.isdigit() else None)
    async with published_on(kafka_bootstrap, topic_prefix, [DELIVERY_UPDATES, OUTBOUND_REFUSED]) as published:
        assert len(await published.updates()) == 2
        assert await published.refusals() == []  # above all nobody's second chance


async def test_whoever_writes_is_alive_from_then_on(deps: Deps) -> None:
    heard, address = utc_now() - timedelta(minutes=1), f"+{WA_ID}"
    until = utc_now() + DAY
    async with deps.pool.acquire() as db:
        for channel, reason in (("whatsapp", "unreachable"), ("sms", "unreachable"), ("sms", "no_phone")):
            kept = Mark(ORG, channel, address, reason, "131026", "status", heard, until)  # type: ignore[arg-type]  # of the table above
            await mark(db, [kept, kept._replace(org_id="another"), kept._replace(address="+447700900111")])

    async def standing() -> set[tuple[str, str]]:
        async with deps.pool.acquire() as db:
            rows = await db.fetch(
                "select channel, reason from address_marks where org_id = $1 and address = $2", ORG, address
            )
        return {tuple(row) for row in rows}

    before = received(*meta.split(of_messages(a_message(now() - timedelta(minutes=2))), utc_now()))
    assert await worker.on_webhooks(before, deps) == []
    assert len(await standing()) == 3  # a late webhook of before says nothing of now
    assert await worker.on_webhooks(received(*meta.split(of_messages(a_message(now())), utc_now())), deps) == []
    assert await standing() == {("sms", "no_phone")}
    async with deps.pool.acquire() as db:
        assert await db.fetchval("select count(*) from address_marks") == 7


async def test_a_batch_of_known_customers_is_four_statements_whatever_its_size(deps: Deps) -> None:
    def messages(count: int) -> list[Received[Item]]:
        return received(*meta.split(of_messages(*(a_message(now()) for _ in range(count))), utc_now()))

    await worker.on_webhooks(messages(1), deps)
    for count in (1, 40):  # whose number it is, who writes, message and window, which organisations have marks
        async with statements_of(deps.pool, size=4) as said:
            assert await worker.on_webhooks(messages(count), deps) == []
        assert len(said) == 4
    async with deps.pool.acquire() as db:
        await mark(db, [Mark(ORG, "sms", f"+{WA_ID}", "unreachable", "30003", "status", now() - DAY, now() + DAY)])
    async with statements_of(deps.pool, size=4) as said:
        await worker.on_webhooks(messages(40), deps)
    assert len(said) == 5  # and the marks of those that have some


async def test_a_late_failure_does_not_mark_who_has_written_since(deps: Deps) -> None:
    await worker.on_webhooks(received(*meta.split(of_messages(a_message(now())), utc_now())), deps)
    async with deps.pool.acquire() as db:
        conversation = await db.fetchval("select conversation_id from conversations")
        for minutes, marked in ((1, 0), (-1, 1)):
            at = utc_now() - timedelta(minutes=minutes)
            fault = RecipientFault("unreachable", DAY)
            late = Unreached(ORG, conversation, "whatsapp", WA_ID, fault, "131026", "status", at)
            await record_unreached(db, [late])
            assert await db.fetchval("select count(*) from address_marks") == marked


async def test_the_lines_tell_the_story_and_nothing_private(deps: Deps, log_lines: LogLines) -> None:
    await worker.on_webhooks(received(*meta.split(of_messages(a_message(now() - 2 * DAY)), utc_now())), deps)
    assert log_lines.of("window.opened") == []
    batch = received(*meta.split(of_messages(a_message(now(), "my secret"), a_message(now())), utc_now()))
    await worker.on_webhooks(batch, deps)
    async with deps.pool.acquire() as db:
        conversation = await db.fetchval("select conversation_id from conversations")
    message_id = await sent(deps.pool, conversation, "wamid.1")
    await worker.on_webhooks(received(*meta.split(of_statuses(a_status("wamid.1", "sent", now())), utc_now())), deps)
    stranger = a_webhook(a_value(number="999", messages=[a_message(now())]))
    await worker.on_webhooks(received(*meta.split(stranger, utc_now())), deps)
    (opened,) = log_lines.of("window.opened")
    assert (opened["org_id"], opened["conversation_id"]) == (ORG, str(conversation))
    assert [line["outcome"] for line in log_lines.of("message.received")] == ["stored"] * 3
    (applied,) = log_lines.of("status.applied")
    assert (applied["message_id"], applied["status"]) == (str(message_id), "sent")
    (loud,) = log_lines.of("number.unknown")
    assert (loud["level"], loud["phone_number_id"]) == ("error", "999")
    for private in ("my secret", WA_ID, "wamid", "Kim"):
        assert private not in log_lines.raw


async def test_statuses_that_nobody_knows_are_one_line_of_each_provider_and_stop_no_other(
    deps: Deps, log_lines: LogLines
) -> None:
    await worker.on_webhooks(received(*meta.split(of_messages(a_message(now())), utc_now())), deps)
    async with deps.pool.acquire() as db:
        conversation = await db.fetchval("select conversation_id from conversations")
    message_id = await sent(deps.pool, conversation, "wamid.1")
    strange = [a_status("wamid.1", "in_orbit", now())] * 1_000
    played = [a_status("wamid.1", word, now()) for word in ("played", "deleted", "warning")]
    mixed = of_statuses(*strange, *played, a_status("wamid.1", "delivered", now()))
    of_twilio = [
        twilio.status_record(UNDELIVERED | {"MessageStatus": word}, utc_now(), "AC1")
        for word in ("queued", "teleported")
    ]
    batch = received(*meta.split(mixed, utc_now()), *of_twilio)
    assert await worker.on_webhooks(batch, deps) == []
    lines = [(line["level"], line["source"], line["status"]) for line in log_lines.of("status.unknown")]
    assert lines == [("warning", "meta", "in_orbit"), ("warning", "twilio", "teleported")]
    (applied,) = log_lines.of("status.applied")
    assert (applied["message_id"], applied["status"]) == (str(message_id), "delivered")


async def test_each_number_of_nobodys_is_loud_with_its_own_count(deps: Deps, log_lines: LogLines) -> None:
    values = [a_value(number=number, messages=[a_message(now())]) for number in ("998", "999", "999")]
    values += [a_value(number=number, statuses=[a_status("w", "sent", now())]) for number in ("996", "997", "996")]
    refused = await worker.on_webhooks(received(*meta.split(a_webhook(*values), utc_now())), deps)
    assert [one.reason for one in refused] == ["unknown_number"] * 6
    loud = [(line["phone_number_id"], line["records"]) for line in log_lines.of("number.unknown")]
    assert loud == [("998", 1), ("999", 2), ("996", 2), ("997", 1)]
