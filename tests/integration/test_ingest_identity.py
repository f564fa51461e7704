"""Who is it?

Identity → customer → conversation on a real PostgreSQL, whoever comes first and in whatever words Meta names them.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.directory import changes as directory_changes
from libs.common.events.directory import ConsentChanged, CustomerUpserted, DirectoryChange
from services.inbox.touched import tell_touched
from services.inbox.word_queries import write_customers
from services.ingest import identity, meta, queries
from services.ingest.identity import IdentityRequest
from services.ingest.items import IdentityChange, Sender
from services.ingest.parse import parse
from tests.support import world
from tests.support.inbox_world import RULE, nothing_waits
from tests.support.ingest import ORG, now
from tests.support.merges import all_moved
from tests.support.people import a_text
from tests.support.webhooks import BSUID, NUMBER, WA_ID, WABA, a_message, of_messages

OTHER_NUMBER = "106400000000002"
BOTH, BY_NUMBER, BY_BSUID = Sender(WA_ID, BSUID, "Kim"), Sender(WA_ID, None), Sender(None, BSUID)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=6, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield pool


async def met(
    pool: Pool, *senders: Sender, number: str = NUMBER, at: datetime | None = None, moved: Sender | None = None
) -> UUID:
    """The senders are settled one after the other and write (or, where they have moved, are told of); the conversation
    of the last.
    """
    conversation: UUID | None = None
    for sender in senders:
        when = at or now()
        said = a_text(sender, when, number=number)
        notice = said._replace(opens=False)
        item = said if moved is None else IdentityChange(number, sender, moved, when, when, notice)
        (place,) = await identity.places(pool, [item], now())
        assert place is not None
        conversation = place.conversation_id
        async with pool.acquire() as db:
            await queries.store_messages(db, [(item, place)])
    assert conversation is not None
    return conversation


async def rows(pool: Pool, query: str, *values: Any) -> list[dict[str, Any]]:
    async with pool.acquire() as db:
        return [dict(row) for row in await db.fetch(query, *values)]


async def apply(pool: Pool, *changes: DirectoryChange) -> list[str]:
    async with pool.acquire() as db, db.transaction():
        return [refused.reason for refused in await directory_changes.apply(db, changes)]


def listed(customer_id: UUID, phone: str | None = f"+{WA_ID}", **more: Any) -> CustomerUpserted:
    return CustomerUpserted(
        **({"org_id": ORG, "at": now(), "customer_id": customer_id, "name": "Ms Kim", "phone": phone} | more)
    )


async def test_workers_that_race_for_a_new_customer_end_with_one(pool: Pool) -> None:
    requests = [IdentityRequest(ORG, NUMBER, a_text(sender, now())) for sender in (BOTH, BY_NUMBER, BY_BSUID)] * 4

    async def resolve(request: IdentityRequest) -> None:
        async with pool.acquire() as db, db.transaction():
            await identity.resolve(db, [request], now())

    await resolve(requests[0])
    await asyncio.gather(*(resolve(request) for request in requests))
    assert len(await rows(pool, "select * from customers")) == 1
    assert len(await rows(pool, "select * from conversations")) == 1
    stranger = IdentityRequest(ORG, NUMBER, a_text(Sender("447700900555", "GB.555"), now()))
    await asyncio.gather(*(resolve(stranger) for _ in range(6)))
    assert len(await rows(pool, "select * from customers")) == 2
    assert len(await rows(pool, "select * from conversations")) == 2


async def test_a_customer_has_one_conversation_per_business_number(pool: Pool) -> None:
    async with pool.acquire() as db:
        await world.a_number(db, ORG, OTHER_NUMBER, waba=WABA, display_number="+447700900124")
    assert await met(pool, BOTH) != await met(pool, BOTH, number=OTHER_NUMBER)
    assert len(await rows(pool, "select * from customers")) == 1


async def test_a_customer_known_by_bsuid_alone_gets_a_number_later(pool: Pool) -> None:
    first = await met(pool, BY_BSUID)
    assert (await rows(pool, "select phone from customers")) == [{"phone": None}]
    assert await met(pool, BOTH, BY_NUMBER, BY_BSUID) == first
    assert (await rows(pool, "select phone, name from customers")) == [{"phone": f"+{WA_ID}", "name": "Kim"}]
    assert (await rows(pool, "select wa_id, bsuid from conversations")) == [{"wa_id": WA_ID, "bsuid": BSUID}]


async def test_a_customer_without_a_name_gets_the_first_one_that_whatsapp_tells(pool: Pool) -> None:
    first = await met(pool, BOTH._replace(name=None))
    assert await met(pool, BOTH, BOTH._replace(name="Kimberley")) == first
    assert await rows(pool, "select name from customers") == [{"name": "Kim"}]


async def test_two_customers_that_turn_out_to_be_one_keep_everything(pool: Pool) -> None:
    at = now()
    first = await met(pool, BY_NUMBER, at=at - timedelta(hours=1))
    second = await met(pool, BY_BSUID, at=at)
    assert first != second
    (lost,) = await rows(pool, "select customer_id from conversations where conversation_id = $1", second)
    await pool_execute(
        pool, "insert into bridge_slots values ($1, 'acme', $2, now() + interval '1 hour')", second, uuid4()
    )
    await pool_execute(
        pool,
        "with said as (insert into messages (org_id, conversation_id, direction, channel, kind, content,"
        " status, occurred_at, received_at)"
        " values ('acme', $1, 'out', 'whatsapp', 'text', '{}', 'pending', now(), now()) returning message_id)"
        " insert into decisions (org_id, intent_id, attempt, conversation_id, route, reason, record, decided_at)"
        " select 'acme', message_id, attempt, $1, 'session', 'window_open', '{}', now()"
        " from said, generate_series(1, 2) as attempt",
        second,
    )
    assert await met(pool, BOTH, at=at - timedelta(hours=2)) == first
    (conversation,) = await rows(pool, "select * from conversations")
    assert (conversation["conversation_id"], conversation["last_customer_at"]) == (first, at)
    assert (conversation["wa_id"], conversation["bsuid"]) == (WA_ID, BSUID)
    async with pool.acquire() as db:
        await all_moved(db)
    assert [row["conversation_id"] for row in await rows(pool, "select conversation_id from messages")] == [first] * 4
    assert [row["conversation_id"] for row in await rows(pool, "select conversation_id from decisions")] == [first] * 2
    assert [row["conversation_id"] for row in await rows(pool, "select conversation_id from bridge_slots")] == [first]
    assert await rows(pool, "select alias, conversation_id from conversation_aliases") == [
        {"alias": second, "conversation_id": first}
    ]
    (alias,) = await rows(pool, "select alias, customer_id from customer_aliases")
    assert alias == {"alias": lost["customer_id"], "customer_id": conversation["customer_id"]}


async def pool_execute(pool: Pool, statement: str, *values: Any) -> None:
    async with pool.acquire() as db:
        await db.execute(statement, *values)


async def test_a_directory_customer_adopts_whom_its_phone_had_meant(pool: Pool) -> None:
    conversation = await met(pool, BOTH)
    (before,) = await rows(pool, "select customer_id from customers")
    kim = uuid4()
    assert await apply(pool, listed(kim)) == []
    assert await apply(pool, listed(kim)) == []
    (customer,) = await rows(pool, "select * from customers")
    assert (customer["customer_id"], customer["name"], customer["origin"]) == (kim, "Ms Kim", "directory")
    assert await met(pool, BOTH) == conversation
    (row,) = await rows(pool, "select customer_id from conversations")
    assert row == {"customer_id": kim}
    assert await rows(pool, "select alias, customer_id from customer_aliases") == [
        {"alias": before["customer_id"], "customer_id": kim}
    ]


async def test_whom_the_directory_names_is_found_by_that_name_also_where_the_inbox_read_it_first(pool: Pool) -> None:
    conversation = await met(pool, BOTH)
    change = listed(kim := uuid4())
    async with pool.acquire() as db, db.transaction():
        await write_customers(db, [(ORG, conversation)], [change])
    await apply(pool, change)
    await tell_touched(pool, RULE, nothing_waits)
    found = "select customer_id from customer_words where words @@ $1::tsquery"
    assert await rows(pool, found, f"{ORG}/ms & {ORG}/kim") == [{"customer_id": kim}]


async def test_the_id_given_before_still_names_the_customer(pool: Pool) -> None:
    await met(pool, BOTH)
    (before,) = await rows(pool, "select customer_id from customers")
    kim = uuid4()
    await apply(pool, listed(kim))
    at = now()
    off = ConsentChanged(org_id=ORG, at=at, customer_id=before["customer_id"], category="sms", allowed=False)
    assert await apply(pool, off, listed(before["customer_id"], name="Kim again")) == []
    assert await rows(pool, "select customer_id, category, allowed from consents") == [
        {"customer_id": kim, "category": "sms", "allowed": False}
    ]
    assert [row["name"] for row in await rows(pool, "select name from customers")] == ["Kim again"]


async def test_a_phone_that_two_directory_customers_share_stays_with_the_first(pool: Pool) -> None:
    first, second = uuid4(), uuid4()
    await apply(pool, listed(first))
    await apply(pool, listed(second))
    await met(pool, BOTH)
    (conversation,) = await rows(pool, "select customer_id from conversations")
    assert conversation["customer_id"] == first
    assert len(await rows(pool, "select * from customers")) == 2


async def test_a_phone_that_the_directory_gives_to_another_goes_to_the_other(pool: Pool) -> None:
    first, second = uuid4(), uuid4()
    await apply(pool, listed(first))
    old = await met(pool, BY_NUMBER)
    await apply(pool, listed(first, "+447700900111"))
    await apply(pool, listed(second))
    new = await met(pool, BY_NUMBER)
    assert new != old
    by_id = {row["conversation_id"]: row for row in await rows(pool, "select * from conversations")}
    assert (by_id[old]["customer_id"], by_id[old]["wa_id"]) == (first, None)
    assert (by_id[new]["customer_id"], by_id[new]["wa_id"]) == (second, WA_ID)


async def test_a_changed_number_goes_on_in_the_same_conversation_with_the_window_closed(pool: Pool) -> None:
    at = now()
    conversation = await met(pool, BOTH, at=at - timedelta(hours=1))
    system = {"type": "user_changed_number", "wa_id": "447700900111", "user_id": "GB.new", "body": "changed"}
    notice = a_message(at, type="system", system=system, text=None)
    (record,) = meta.split(of_messages(notice, contacts=[]), at)
    change = parse(record[1], reaction_opens=False)
    assert isinstance(change, IdentityChange)
    assert change.notice is not None
    assert not change.notice.opens
    assert await met(pool, change.sender, at=at, moved=change.now) == conversation
    (row,) = await rows(pool, "select * from conversations")
    assert (row["wa_id"], row["bsuid"], row["identity_changed_at"]) == ("447700900111", "GB.new", at)
    assert [r["phone"] for r in await rows(pool, "select phone from customers")] == ["+447700900111"]
    late = await met(pool, BOTH, at=at - timedelta(minutes=30))
    assert late == conversation
    (row,) = await rows(pool, "select * from conversations")
    assert (row["wa_id"], row["bsuid"]) == ("447700900111", "GB.new")
    assert await met(pool, Sender("447700900111", None), at=at + timedelta(seconds=5)) == conversation
    (row,) = await rows(pool, "select * from conversations")
    assert row["last_customer_at"] > row["identity_changed_at"]


async def test_a_changed_user_id_goes_on_in_the_same_conversation_though_no_number_is_known(pool: Pool) -> None:
    at = now()
    conversation = await met(pool, Sender(None, "GB.old"), at=at - timedelta(hours=1))
    system = {"type": "user_changed_user_id", "previous_user_id": "GB.old", "user_id": "GB.new", "body": "changed"}
    notice = a_message(at, None, **{"from": None}, type="system", system=system, from_user_id="GB.new")
    (record,) = meta.split(of_messages(notice, contacts=[]), at)
    change = parse(record[1], reaction_opens=False)
    assert isinstance(change, IdentityChange)
    assert await met(pool, change.sender, at=at, moved=change.now) == conversation
    assert await met(pool, Sender(None, "GB.new"), at=at + timedelta(seconds=5)) == conversation
