"""The directory's changes have one outcome, however they are cut into batches."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from libs.common.db.pool import Connection, Pool, open_pool
from libs.common.directory.changes import apply
from libs.common.events.directory import (
    ConsentChanged,
    CustomerUpserted,
    DirectoryChange,
    NumberRemoved,
    NumberUpserted,
    OrgCredit,
    OrgUpserted,
)
from tests.support import world
from tests.support.examples import examples
from tests.support.ingest import ORG
from tests.support.webhooks import NUMBER

AT = datetime(2026, 11, 1, tzinfo=UTC)
KIM, PAT, WRITER, EARLIER = (UUID(f"5f0c0000-0000-4000-8000-00000000000{i}") for i in (1, 2, 3, 4))
PHONES = [f"+44770090010{i}" for i in range(3)]
SMS_NUMBERS = ("+447700900001", "+447700900002")
ORGS = (ORG, "other")

Told = tuple[type[Any], str, int, dict[str, Any]]
Fields = dict[str, st.SearchStrategy[Any]]


def a_change(told: Told) -> DirectoryChange:
    cls, org_id, after, fields = told
    change: DirectoryChange = cls(org_id=org_id, at=AT + timedelta(seconds=after), **fields)
    return change


def kim(after: int = 0, org_id: str = ORG, **fields: Any) -> Told:
    return CustomerUpserted, org_id, after, {"customer_id": KIM} | fields


def pat(**fields: Any) -> Told:
    return CustomerUpserted, ORG, 0, {"customer_id": PAT} | fields


def told(cls: type[Any], required: Fields, optional: Fields | None = None) -> st.SearchStrategy[Told]:
    fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(required, optional=optional or {})
    return st.tuples(st.just(cls), st.sampled_from((ORG, ORG, ORG, "other")), st.integers(0, 4), fields)


CUSTOMERS = told(
    CustomerUpserted,
    {"customer_id": st.sampled_from((KIM, PAT, WRITER, EARLIER))},
    {"name": st.sampled_from(("Kim", "Pat", None)), "phone": st.sampled_from((*PHONES, None))},
)
OTHERS = (
    told(
        OrgUpserted,
        {"name": st.sampled_from("ab")},
        {
            "portal_host": st.sampled_from(("x.link", "y.link")),
            "sms_active": st.booleans(),
            "sms_number": st.sampled_from((*SMS_NUMBERS, None)),
        },
    )
    | told(OrgCredit, {"exhausted": st.sampled_from((True, False, None))})
    | told(
        NumberUpserted,
        {
            "phone_number_id": st.sampled_from(("77777", "88888")),
            "waba_id": st.sampled_from(("20001", "20002")),
            "display_number": st.just(PHONES[0]),
        },
    )
    | told(NumberRemoved, {"phone_number_id": st.sampled_from(("77777", "88888", "66666"))})
    | told(
        ConsentChanged,
        {"customer_id": st.just(EARLIER), "category": st.sampled_from(("sms", "whatsapp")), "allowed": st.booleans()},
    )
)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """Two organisations; WRITER is known from WhatsApp alone, EARLIER from the directory."""
    async with open_pool(database, application_name="test", size=1, command_seconds=10) as pool:
        async with pool.acquire() as db, db.transaction():
            await world.an_org(db, ORG, NUMBER)
            await world.an_org(db, "other", "66666", sms_number=None)
            await db.execute(
                "insert into customers (customer_id, org_id, phone, origin) values ($1, $2, $3, 'inbound')",
                WRITER,
                ORG,
                PHONES[0],
            )  # fmt: skip -- one row
            identities = [
                (ORG, kind, PHONES[0].lstrip(strip), WRITER) for kind, strip in (("wa_id", "+"), ("phone", ""))
            ]
            await db.executemany("insert into customer_identities values ($1, $2, $3, $4)", identities)
            await db.execute(
                "insert into conversations (org_id, customer_id, phone_number_id, wa_id)"
                " select $1, $2, phone_number_id, $3 "
                "from whatsapp_numbers where org_id = $1",
                ORG,
                WRITER,
                PHONES[0].lstrip("+"),
            )  # fmt: skip -- one row
            earlier = CustomerUpserted(org_id=ORG, at=AT, customer_id=EARLIER, name="E", phone=PHONES[1])
            assert await apply(db, [earlier]) == []
        yield pool


async def outcome(pool: Pool, batches: Sequence[Sequence[DirectoryChange]]) -> list[Any]:
    """What was refused, by its place among all, and every row that stands then; nothing of it stays."""
    refused: list[tuple[int, str]] = []
    async with pool.acquire() as db:
        trying = db.transaction()
        await trying.start()
        try:
            for number, batch in enumerate(batches):
                before = sum(len(earlier) for earlier in batches[:number])
                refused += [(before + one.index, one.reason) for one in await apply(db, batch)]
            return [sorted(refused), *[await rows(db, table) for table in TABLES]]
        finally:
            await trying.rollback()


TABLES = (
    "select org_id, name, sms_number, sms_active, portal_host, credit_exhausted, credit_at, upserted_at from orgs",
    "select phone_number_id, org_id, waba_id, display_number, replaced_by, upserted_at from whatsapp_numbers",
    "select * from customers",
    "select * from customer_identities",
    "select * from customer_aliases",
    "select conversation_id, customer_id, wa_id from conversations",
    "select * from consents",
    "select org_id, customer_id, action, detail, at from audit_log",
)


async def rows(db: Connection, query: str) -> list[str]:
    return sorted(repr(tuple(row)) for row in await db.fetch(query))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CUSTOMERS, min_size=2, max_size=7) | st.lists(OTHERS, min_size=2, max_size=7))
@example([kim(1, name="Kim", phone=PHONES[2]), kim(2, name="Kim B")])
@example([kim(1, name="Kim", phone=PHONES[2]), kim(2, name="Kim B"), kim(0, phone=PHONES[1])])
@example([kim(name="Kim"), kim(1, "other", name="Thief")])
@example([pat(phone=PHONES[2]), kim(phone=PHONES[2])])
@example([kim(phone=PHONES[0]), kim(1, phone=PHONES[2])])
@example([kim(phone=PHONES[1]), (CustomerUpserted, ORG, 1, {"customer_id": EARLIER, "phone": PHONES[2]})])
@example([kim(phone=PHONES[0]), (CustomerUpserted, ORG, 1, {"customer_id": WRITER, "name": "Kim B"})])
async def test_one_batch_and_one_change_after_the_other_have_the_same_outcome(pool: Pool, changes: list[Told]) -> None:
    each = [a_change(told) for told in changes]
    one_by_one = await outcome(pool, [[change] for change in each])
    assert await outcome(pool, [each]) == one_by_one
    assert await outcome(pool, [each[:2], each[2:]]) == one_by_one


async def test_a_name_without_a_phone_leaves_the_phone_of_the_same_batch(pool: Pool) -> None:
    changes = [a_change(kim(1, name="Kim", phone=PHONES[2])), a_change(kim(2, name="Kim B"))]
    async with pool.acquire() as db, db.transaction():
        assert await apply(db, changes) == []
        stands = await db.fetchrow("select name, phone from customers where customer_id = $1", KIM)
    assert stands is not None
    assert tuple(stands) == ("Kim B", PHONES[2])


async def test_whoever_claims_a_new_customer_first_has_it_and_the_other_hears_why(pool: Pool) -> None:
    changes = [a_change(kim(org_id="other", name="Kim")), a_change(kim(9, name="Thief"))]
    async with pool.acquire() as db, db.transaction():
        refused = await apply(db, changes)
        stands = await db.fetchrow("select org_id, name from customers where customer_id = $1", KIM)
    assert [(one.index, one.reason) for one in refused] == [(1, "customer_of_another_org")]
    assert stands is not None
    assert tuple(stands) == ("other", "Kim")
