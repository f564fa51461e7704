"""What an organisation spent: the API, the page and the CSV, whose sums are those of the charges."""

import csv
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from uuid import UUID, uuid4

import pytest

from libs.common.clock import utc_now
from tests.support.inbox import RunningInbox

DAYS = {"from": "2026-11-20", "to": "2026-11-22"}
_CHARGES = """
insert into charges (org_id, message_id, attempt, conversation_id, channel, provider, category, account, sender,
                     segments, currency, price, estimated, at)
select $1, uuidv7(), 1, $2, channel, 'x', category, $3, '+447700900001', segments, currency, price, estimated, at
  from (values ('whatsapp', 'utility', null, 'GBP', 0.0159, false, timestamptz '2026-11-20 00:00Z'),
               ('whatsapp', 'service', null, 'GBP', 0.000001, true, timestamptz '2026-11-22 23:59:59.999999Z'),
               ('whatsapp', 'unheard', null, null, null, true, timestamptz '2026-11-22 10:00Z'),
               ('sms', 'bridge', 1, 'GBP', 0.04, true, timestamptz '2026-11-21 10:00Z'),
               ('sms', 'sms', 3, 'USD', 0.1233, false, timestamptz '2026-11-21 11:00Z'),
               ('sms', 'sms', 1, 'GBP', 99, false, timestamptz '2026-11-23 00:00Z'),
               ('sms', 'sms', 1, 'GBP', 99, false, timestamptz '2026-11-19 23:59:59Z'))
    as v (channel, category, segments, currency, price, estimated, at)
"""


async def charged(inbox: RunningInbox, name: str = "AcmeMotors") -> tuple[str, UUID]:
    """An organisation with charges, two of them outside of ``DAYS``."""
    org_id, conversation = await inbox.an_org(name, currency="GBP"), uuid4()
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org_id)
        await db.execute(_CHARGES, org_id, conversation, number)
    return org_id, conversation


async def test_the_sums_are_those_of_the_charges_to_the_last_digit(inbox: RunningInbox) -> None:
    org_id, _ = await charged(inbox)
    await charged(inbox, "another garage")
    for group_by in (
        "day",
        "channel",
        "category",
        "number",
        "conversation",
        "day,channel,category,number,conversation",
    ):
        answer = (await inbox.api(org_id).get("/v1/spend", params={**DAYS, "group_by": group_by})).json()
        assert answer["currency"] == "GBP"
        assert Decimal(answer["total"]) == Decimal("0.055901"), group_by
        assert Decimal(answer["total_estimated"]) == Decimal("0.040001")
        assert [(one["currency"], Decimal(one["total"])) for one in answer["others"]] == [("USD", Decimal("0.1233"))]
        mine = [row for row in answer["rows"] if row["currency"] == "GBP"]
        assert sum(Decimal(row["amount"]) for row in mine) == Decimal(answer["total"])
        assert sum(row["messages"] for row in answer["rows"]) == 5
        assert sum(row["unpriced"] for row in answer["rows"]) == 1
        assert all(set(group_by.split(",")) <= row.keys() for row in answer["rows"])


async def test_bridges_are_a_category_of_their_own_and_numbers_are_the_senders(inbox: RunningInbox) -> None:
    org_id, _ = await charged(inbox)
    asked = {**DAYS, "group_by": "channel,category,number"}
    rows = (await inbox.api(org_id).get("/v1/spend", params=asked)).json()["rows"]
    found = {(row["channel"], row["category"]): row["number"] for row in rows}
    assert found["sms", "bridge"] == "+447700900001"
    assert found["whatsapp", "utility"] == "+447700900123"


async def test_csv_has_the_same_rows_and_an_export_stands_in_the_audit_log(inbox: RunningInbox) -> None:
    org_id, _ = await charged(inbox)
    api = inbox.api(org_id)
    asked = {**DAYS, "group_by": "channel,number"}
    answer = await api.get("/v1/spend", params=asked, headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    heading, *rows = csv.reader(StringIO(answer.text))
    assert heading == ["channel", "number", "currency", "messages", "segments", "amount", "estimated", "unpriced"]
    assert all(row[1].startswith("'+") for row in rows), "a spreadsheet takes it for text"
    assert len(rows) == len((await api.get("/v1/spend", params=asked)).json()["rows"])
    async with inbox.pool.acquire() as db:
        lines = await db.fetch("select detail from audit_log where org_id = $1 and action = 'exported'", org_id)
    assert [(line["detail"]["what"], line["detail"]["user_id"]) for line in lines] == [("spend", "advisor-1")]


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("from", {"from": "soon"}),
        ("to", {"to": "2026-02-30"}),
        ("group_by", {"group_by": "customer"}),
        ("from", {"from": "2020-01-01", "to": "2026-11-22"}),
    ],
)
async def test_what_cannot_be_asked_for_is_named(inbox: RunningInbox, field: str, asked: dict[str, str]) -> None:
    answer = await inbox.api(await inbox.an_org()).get("/v1/spend", params=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [fault["field"] for fault in answer.json()["errors"]] == [field]


async def test_the_page_shows_the_same_total_and_leads_to_the_csv(inbox: RunningInbox) -> None:
    org_id, conversation = await charged(inbox, name="<b>Acme</b>")
    staff = await inbox.staff(org_id)
    page = await staff.get("/spend?from=2026-11-20&to=2026-11-22&group_by=conversation")
    assert page.status_code == 200
    assert "£0.0559" in page.text
    assert f"/inbox/{conversation}" in page.text
    assert "<b>Acme" not in page.text
    assert page.text.count('class="k-bridge"') >= 2, "a column and the legend"
    got = await staff.get("/spend.csv?from=2026-11-20&to=2026-11-22&group_by=day")
    assert (got.status_code, got.text.splitlines()[0].split(",")[0]) == (200, "day")
    for wrong in ("from=2026-11-22&to=2026-11-20", "from=%3Cscript%3E", "group_by=conversation&from=1999-01-01"):
        page = await staff.get(f"/spend?{wrong}")
        assert (page.status_code, 'id="fault"' in page.text, "<script>" in page.text) == (200, True, False)


async def test_the_page_counts_who_came_back_after_a_bridge(inbox: RunningInbox) -> None:
    org_id, _ = await charged(inbox)
    async with inbox.pool.acquire() as db:
        customer = await db.fetchval(
            "insert into customers (org_id, origin) values ($1, 'inbound') returning customer_id", org_id
        )
        conversation = await db.fetchval(
            "insert into conversations (org_id, customer_id, last_inbound_at) values ($1, $2, $3)"
            " returning conversation_id",
            org_id,
            customer,
            utc_now() + timedelta(days=1),
        )  # fmt: skip -- a row
        await db.execute("update charges set conversation_id = $2 where org_id = $1", org_id, conversation)
    page = await (await inbox.staff(org_id)).get("/spend?from=2026-11-20&to=2026-11-22")
    assert "One sent, one customer came back" in page.text
