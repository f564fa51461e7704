"""``directory.changes.v1`` on real servers: what is newer stays, what is another's is refused, who changed what is
kept.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from libs.common.db.pool import Pool, open_pool
from libs.common.directory import changes as directory_changes
from libs.common.directory.numbers import owners
from libs.common.errors import Transient
from libs.common.events.directory import (
    ConsentChanged,
    CustomerUpserted,
    DirectoryChange,
    NumberRemoved,
    NumberUpserted,
    OrgCredit,
    OrgUpserted,
)
from libs.common.events.topics import DIRECTORY_CHANGES, INBOUND_MESSAGES
from services.ingest.identity_queries import find_senders
from tests.support import world
from tests.support.databases import somebody_waits
from tests.support.ingest import ORG, Ingest, now
from tests.support.logs import LogLines
from tests.support.webhooks import NUMBER, WA_ID, WABA, a_message, of_messages

AT = datetime(2026, 11, 1, tzinfo=UTC)
KIM = UUID("5f0c0000-0000-4000-8000-000000000001")
PHONE = f"+{WA_ID}"


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as pool:
        async with pool.acquire() as db:
            await world.an_org(db, ORG, NUMBER)
        yield pool


async def apply(pool: Pool, *changes: DirectoryChange) -> list[tuple[int, str]]:
    async with pool.acquire() as db, db.transaction():
        return [(refused.index, refused.reason) for refused in await directory_changes.apply(db, changes)]


async def rows(pool: Pool, query: str, *values: Any) -> list[dict[str, Any]]:
    async with pool.acquire() as db:
        return [dict(row) for row in await db.fetch(query, *values)]


def a_change(cls: type[Any], *, after: int = 0, **more: Any) -> Any:
    fields: dict[type[Any], dict[str, Any]] = {
        OrgUpserted: {"name": "Acme"},
        OrgCredit: {"exhausted": True},
        NumberRemoved: {"phone_number_id": NUMBER},
        NumberUpserted: {"phone_number_id": NUMBER, "waba_id": WABA, "display_number": "+447700900123"},
        CustomerUpserted: {"customer_id": KIM, "name": "Kim", "phone": PHONE},
        ConsentChanged: {"customer_id": KIM, "category": "sms", "allowed": False},
    }
    return cls(**({"org_id": ORG, "at": AT + timedelta(seconds=after)} | fields[cls] | more))


async def test_older_changes_never_overwrite_newer_ones_in_any_order(pool: Pool) -> None:
    changes = [
        [
            a_change(OrgUpserted, after=i, name=f"name {i}", sms_active=i % 2 == 0),
            a_change(OrgCredit, after=i, exhausted=i % 2 == 0),
            a_change(NumberUpserted, after=i, waba_id=f"20640000000000{i}"),
            a_change(CustomerUpserted, after=i, name=f"Kim {i}", phone=f"+44770090010{i}"),
            a_change(ConsentChanged, after=i, allowed=i % 2 == 1),
        ]
        for i in range(3)
    ]
    for order in permutations(range(3)):
        for number in order:
            assert await apply(pool, *changes[number]) == []
        assert await apply(pool, *[change for number in order for change in changes[number]]) == []
    (org,) = await rows(pool, "select * from orgs")
    assert (org["name"], org["sms_active"], org["credit_exhausted"]) == ("name 2", True, True)
    assert [row["waba_id"] for row in await rows(pool, "select * from whatsapp_numbers")] == ["206400000000002"]
    (customer,) = await rows(pool, "select * from customers")
    assert (customer["name"], customer["phone"]) == ("Kim 2", "+447700900102")
    assert [row["allowed"] for row in await rows(pool, "select * from consents")] == [False]
    trail = await rows(pool, "select action, detail, at from audit_log order by at, action")
    assert [line["action"] for line in trail] == ["consent", "credit"] * 3


async def test_categories_are_apart_and_an_equal_time_is_harmless(pool: Pool) -> None:
    await apply(pool, a_change(CustomerUpserted), a_change(ConsentChanged, category="sms"))
    await apply(pool, a_change(ConsentChanged, category="marketing", allowed=True, after=-60))
    await apply(pool, a_change(ConsentChanged, category="sms"))
    found = {row["category"]: row["allowed"] for row in await rows(pool, "select * from consents")}
    assert found == {"sms": False, "marketing": True}
    assert len(await rows(pool, "select * from audit_log")) == 2


async def test_what_belongs_to_another_organisation_is_refused(pool: Pool) -> None:
    await apply(pool, a_change(CustomerUpserted), a_change(OrgUpserted, org_id="other"))
    theirs: dict[str, Any] = {"org_id": "other", "after": 9}
    refused = await apply(
        pool,
        a_change(NumberUpserted, **theirs, waba_id="206400000000666"),
        a_change(CustomerUpserted, **theirs, name="stolen"),
        a_change(ConsentChanged, **theirs),
        a_change(OrgCredit, **theirs),
    )
    assert sorted(refused) == [
        (0, "number_of_another_org"),
        (1, "customer_of_another_org"),
        (2, "customer_of_another_org"),
    ]
    assert [row["name"] for row in await rows(pool, "select name from customers")] == ["Kim"]
    assert [row["org_id"] for row in await rows(pool, "select org_id from whatsapp_numbers")] == [ORG]
    assert await rows(pool, "select * from consents") == []


async def test_two_organisations_that_claim_one_number_in_one_batch(pool: Pool) -> None:
    refused = await apply(
        pool,
        a_change(OrgUpserted, org_id="other"),
        a_change(NumberUpserted, phone_number_id="77777"),
        a_change(NumberUpserted, phone_number_id="77777", org_id="other"),
    )
    (number,) = await rows(pool, "select org_id from whatsapp_numbers where phone_number_id = '77777'")
    assert [reason for _, reason in refused] == ["number_of_another_org"]
    assert number["org_id"] in {ORG, "other"}


async def test_an_sms_number_belongs_to_one_organisation(pool: Pool) -> None:
    theirs: dict[str, Any] = {"org_id": "other", "name": "Other"}
    assert await apply(pool, a_change(OrgUpserted, **theirs, sms_number="+447700900002")) == []
    refused = await apply(pool, a_change(OrgUpserted, **theirs, after=1, sms_number="+447700900001", sms_active=True))
    assert refused == [(0, "number_of_another_org")]
    assert await rows(pool, "select org_id, sms_number from orgs order by org_id") == [
        {"org_id": ORG, "sms_number": "+447700900001"},
        {"org_id": "other", "sms_number": "+447700900002"},
    ]


@pytest.mark.parametrize(
    ("first", "second"), [("+525512345678", "+5215512345678"), ("+5215512345678", "+525512345678")]
)
async def test_an_sms_number_belongs_to_one_organisation_in_every_spelling_of_its_line(
    pool: Pool, first: str, second: str
) -> None:
    """The number is kept as it was told: SMS are sent from it."""
    theirs = a_change(OrgUpserted, org_id="other", sms_number=second)
    assert await apply(pool, a_change(OrgUpserted, after=1, sms_number=first)) == []
    assert await apply(pool, theirs) == [(0, "number_of_another_org")]
    assert await apply(pool, a_change(OrgUpserted, after=2, sms_number=second)) == []
    assert await rows(pool, "select sms_number, sms_line from orgs") == [
        {"sms_number": second, "sms_line": "+525512345678"}
    ]
    given_up = a_change(OrgUpserted, after=3, sms_number=None)
    assert await apply(pool, given_up, theirs) == []


async def test_a_portal_host_belongs_to_one_organisation_and_two_may_exchange_theirs(
    pool: Pool, log_lines: LogLines
) -> None:
    theirs: dict[str, Any] = {"org_id": "other", "name": "Other", "sms_number": None}
    mine: dict[str, Any] = {"after": 1, "portal_host": "mine.link"}
    assert await apply(pool, a_change(OrgUpserted, **mine)) == []
    assert await apply(pool, a_change(OrgUpserted, **theirs | mine)) == []
    assert [line["reason"] for line in log_lines.of("directory.doubtful")] == ["host_of_another_org"]
    assert [row["portal_host"] for row in await rows(pool, "select portal_host from orgs order by org_id")] == [
        "mine.link",
        None,
    ]
    given_up = a_change(OrgUpserted, after=2, portal_host="theirs.link")
    assert await apply(pool, given_up, a_change(OrgUpserted, **theirs | mine)) == []
    assert [
        tuple(row.values()) for row in await rows(pool, "select org_id, portal_host from orgs order by org_id")
    ] == [
        (ORG, "theirs.link"),
        ("other", "mine.link"),
    ]


async def test_a_tenant_signs_in_to_one_organisation_and_two_may_exchange_theirs(
    pool: Pool, log_lines: LogLines
) -> None:
    theirs: dict[str, Any] = {"org_id": "other", "name": "Other", "sms_number": None}
    one, two = ({"issuer": "https://login.example", "tenant": tenant} for tenant in ("one", "two"))
    stored = "select org_id, sign_in_issuer, sign_in_tenant from orgs order by org_id"
    assert await apply(pool, a_change(OrgUpserted, after=1, sign_in=one)) == []
    with_slash = one | {"issuer": "https://login.example/"}
    assert await apply(pool, a_change(OrgUpserted, after=1, sign_in=with_slash, **theirs)) == []
    assert [line["reason"] for line in log_lines.of("directory.doubtful")] == ["sign_in_of_another_org"]
    mine, others = [tuple(row.values()) for row in await rows(pool, stored)]
    assert (mine, others) == ((ORG, "https://login.example", "one"), ("other", None, None))
    moved = a_change(OrgUpserted, after=2, sign_in=two), a_change(OrgUpserted, after=2, sign_in=one, **theirs)
    assert await apply(pool, *moved) == []
    assert [row["sign_in_tenant"] for row in await rows(pool, stored)] == ["two", "one"]
    assert await apply(pool, a_change(OrgUpserted, after=3)) == []
    assert [row["sign_in_tenant"] for row in await rows(pool, stored)] == [None, "one"]


async def test_what_of_an_organisation_is_not_used_as_it_is_named_is_logged_and_stored(
    pool: Pool, log_lines: LogLines
) -> None:
    policy = {"sms_daily_segments": -1, "sms_countries": "GB", "escalate_minutes": 4, "release": "now"}
    doubtful: dict[str, Any] = {"name": "evil.com/x", "policy": policy}
    assert await apply(pool, a_change(OrgUpserted, after=1, portal_host=None, **doubtful)) == []
    assert [(line["field"], line["reason"]) for line in log_lines.of("directory.doubtful")] == [
        ("sms_countries", "policy_value"),
        ("sms_daily_segments", "policy_value"),
        ("escalate_minutes", "policy_value"),
        ("release", "policy_value"),
        ("name", "link_in_name"),
    ]
    [row] = await rows(pool, "select name, policy from orgs where org_id = $1", ORG)
    assert row == doubtful


async def test_the_platform_s_own_host_may_be_named_by_every_organisation(pool: Pool) -> None:
    changes = [
        a_change(OrgUpserted, after=1, portal_host="tflow.link", org_id=org_id, sms_number=None)
        for org_id in (ORG, "other")
    ]
    async with pool.acquire() as db, db.transaction():
        assert await directory_changes.apply(db, changes, platform_host="tflow.link") == []
    assert [row["portal_host"] for row in await rows(pool, "select portal_host from orgs")] == [None, None]


@pytest.mark.parametrize("host", ["evil.example/login", "127.0.0.1:8080", "wa.me", "localhost", "https://tflow.link"])
def test_a_portal_host_that_is_no_host_is_a_dead_letter(host: str) -> None:
    with pytest.raises(ValueError, match="portal_host"):
        a_change(OrgUpserted, portal_host=host)


async def test_a_new_organisation_with_anothers_sms_number_is_refused_as_a_whole_and_may_come_again(pool: Pool) -> None:
    new = a_change(OrgUpserted, org_id="new", sms_number="+447700900001")
    assert await apply(pool, new, a_change(OrgCredit, org_id="new")) == [
        (0, "number_of_another_org"),
        (1, "unknown_org"),
    ]
    assert await apply(pool, a_change(OrgUpserted), new) == []
    assert [row["org_id"] for row in await rows(pool, "select org_id from orgs where sms_number is not null")] == [
        "new"
    ]


async def test_two_organisations_exchange_their_sms_numbers(pool: Pool) -> None:
    one, two = "+447700900001", "+447700900002"
    await apply(pool, a_change(OrgUpserted, org_id="other", sms_number=two))
    exchanged = await apply(
        pool,
        a_change(OrgUpserted, after=1),
        a_change(OrgUpserted, after=1, org_id="other", sms_number=one),
        a_change(OrgUpserted, after=2, sms_number=two),
    )
    assert exchanged == []
    assert await rows(pool, "select org_id, sms_number from orgs order by org_id") == [
        {"org_id": ORG, "sms_number": two},
        {"org_id": "other", "sms_number": one},
    ]


async def test_of_two_that_claim_a_free_sms_number_at_the_same_moment_one_has_it(pool: Pool) -> None:
    claims = [a_change(OrgUpserted, org_id=f"org-{i}", sms_number="+447700900077") for i in range(4)]
    refused = [one for told in await asyncio.gather(*[apply(pool, claim) for claim in claims]) for one in told]
    assert refused == [(0, "number_of_another_org")] * 3
    assert len(await rows(pool, "select 1 from orgs where sms_number = '+447700900077'")) == 1


async def test_of_two_that_claim_a_free_tenant_at_the_same_moment_one_has_it(pool: Pool, log_lines: LogLines) -> None:
    issuer = "https://login.example"
    claims = [
        a_change(OrgUpserted, org_id=org_id, sign_in={"issuer": one, "tenant": "one"})
        for org_id, one in (("org-1", issuer), ("org-2", f"{issuer}/"))
    ]
    async with pool.acquire() as db, db.transaction():
        assert await directory_changes.apply(db, claims[:1]) == []
        other = asyncio.create_task(apply(pool, claims[1]))
        await somebody_waits(db)
    assert await other == []
    assert [line["reason"] for line in log_lines.of("directory.doubtful")] == ["sign_in_of_another_org"]
    assert await rows(pool, "select org_id from orgs where sign_in_tenant = 'one'") == [{"org_id": "org-1"}]


async def test_a_number_given_up_is_nobodys_until_another_organisation_tells_it(pool: Pool) -> None:
    theirs: dict[str, Any] = {"org_id": "other"}
    await apply(pool, a_change(OrgUpserted, **theirs), a_change(NumberUpserted))
    async with pool.acquire() as db:
        await db.execute("update whatsapp_numbers set token = 'of acme'")
    assert await apply(pool, a_change(NumberRemoved, **theirs, after=1)) == [(0, "number_of_another_org")]
    assert await apply(pool, a_change(NumberRemoved, after=2), a_change(NumberUpserted, after=1)) == []
    async with pool.acquire() as db:
        assert await owners(db, [NUMBER]) == {}
        assert [one.org_id for one in await find_senders(db, [(NUMBER, "447700900999", None)])] == [None]
    assert await apply(pool, a_change(NumberUpserted, **theirs, after=3)) == []
    (number,) = await rows(pool, "select org_id, token from whatsapp_numbers")
    assert (number["org_id"], number["token"]) == ("other", None)


async def test_a_number_that_nobody_has_may_be_given_up_and_nothing_follows(pool: Pool) -> None:
    assert await apply(pool, a_change(NumberRemoved, phone_number_id="77777")) == []
    assert await rows(pool, "select 1 from whatsapp_numbers where phone_number_id = '77777'") == []


@pytest.mark.parametrize("column", ["phone_number_id", "waba_id"])
async def test_the_table_itself_takes_no_id_that_could_be_an_address(pool: Pool, column: str) -> None:
    row = {"org_id": ORG, "phone_number_id": "77777", "waba_id": WABA} | {column: "106400000000001/../106400000000999"}
    async with pool.acquire() as db:
        with pytest.raises(asyncpg.CheckViolationError):
            await db.execute(
                "insert into whatsapp_numbers (org_id, phone_number_id, waba_id, display_number, upserted_at)"
                " values ($1, $2, $3, '+447700900123', now())",
                *row.values(),
            )


async def test_what_nobody_has_told_yet_is_refused_and_the_same_batch_may_tell_it(pool: Pool) -> None:
    new: dict[str, Any] = {"org_id": "new"}
    assert await apply(pool, a_change(NumberUpserted, **new, phone_number_id="88888"), a_change(OrgCredit, **new)) == [
        (0, "unknown_org"),
        (1, "unknown_org"),
    ]
    assert await apply(pool, a_change(ConsentChanged)) == [(0, "unknown_customer")]
    turned = [a_change(ConsentChanged), a_change(CustomerUpserted), a_change(OrgCredit, **new)]
    assert await apply(pool, *turned, a_change(OrgUpserted, **new)) == []


async def test_a_field_left_out_stays_and_null_takes_it_away(pool: Pool) -> None:
    await apply(pool, a_change(CustomerUpserted))
    await apply(pool, CustomerUpserted(org_id=ORG, at=AT + timedelta(seconds=1), customer_id=KIM, name="Kim B."))
    assert await rows(pool, "select name, phone from customers") == [{"name": "Kim B.", "phone": PHONE}]
    await apply(pool, a_change(CustomerUpserted, after=2, phone=None))
    assert await rows(pool, "select name, phone from customers") == [{"name": "Kim", "phone": None}]


async def test_a_first_contact_at_the_same_moment_is_the_directorys_customer_in_the_end(pool: Pool) -> None:
    contacted = uuid4()
    async with pool.acquire() as db:
        async with db.transaction():  # the router's, which has not committed yet
            await db.execute(
                "insert into customers (customer_id, org_id, phone, origin) values ($1, $2, $3, 'outbound')",
                contacted,
                ORG,
                PHONE,
            )
            await db.execute("insert into customer_identities values ($1, 'phone', $2, $3)", ORG, PHONE, contacted)
            telling = asyncio.create_task(apply(pool, a_change(CustomerUpserted)))
            await somebody_waits(db)
        with pytest.raises(Transient):
            await telling
    await apply(pool, a_change(CustomerUpserted))
    assert [row["customer_id"] for row in await rows(pool, "select customer_id from customers")] == [KIM]
    assert [row["customer_id"] for row in await rows(pool, "select customer_id from customer_identities")] == [KIM]


async def test_five_hundred_customers_are_one_batch(pool: Pool) -> None:
    changes = [
        a_change(CustomerUpserted, customer_id=uuid4(), phone=f"+4477009{i:05}", name="\x00 odd") for i in range(500)
    ]
    assert await apply(pool, *changes) == []
    assert len(await rows(pool, "select * from customers")) == 500
    assert len(await rows(pool, "select * from customer_identities")) == 500


async def test_changes_come_through_kafka_and_the_refused_are_dead_letters(ingest: Ingest) -> None:
    await ingest.post(of_messages(a_message(now())))
    (before,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await ingest.producer.send_and_wait(f"{ingest.prefix}{DIRECTORY_CHANGES.name}", b'{"type": "org.sold.v1"}')
    await ingest.publish_changes(
        a_change(OrgCredit, org_id="nobody"),
        a_change(CustomerUpserted, name="Kim from the directory"),
        a_change(ConsentChanged),
    )
    assert await ingest.reasons(DIRECTORY_CHANGES, 2) == ["unknown_type", "unknown_org"]
    async with asyncio.timeout(20):
        while not await ingest.rows("select * from consents"):  # noqa: ASYNC110 -- a row, not an event
            await asyncio.sleep(0.05)
    await ingest.post(of_messages(a_message(now())))
    published = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert published[1]["conversation_id"] == before["conversation_id"]
    assert (before["customer_id"] == str(KIM), published[1]["customer_id"] == str(KIM)) == (False, True)
