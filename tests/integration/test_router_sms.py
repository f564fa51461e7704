"""Every SMS, not bridges alone: to whom the router lets one go, and how long it may be, on real servers."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from libs.common.directory.address_marks import clear, mark
from libs.common.directory.reports import Mark, MarkReason, SignOfLife
from libs.common.events.directory import NumberUpserted
from tests.support import world
from tests.support.router import NOW, Garage, Router, stored

pytestmark = pytest.mark.usefixtures("log_lines")

DAY = timedelta(days=1)
BY_SMS = {"channel": "sms"}


async def answered(router: Router, intent: dict[str, Any]) -> tuple[str, str]:
    """Route and reason; a command by SMS exactly where an SMS was decided."""
    published = await router.decide(intent)
    [decision] = published["outbound.decisions.v1"]
    assert len(published.get("outbound.sms.v1", [])) == (decision["channel"] == "sms")
    return decision["route"], decision["reason"]


def phone_of(garage: Garage) -> str:
    assert garage.phone is not None
    return garage.phone


async def marked(router: Router, garage: Garage, reason: MarkReason, at: datetime = NOW - DAY) -> None:
    async with router.pool.acquire() as db:
        until = NOW + timedelta(seconds=1)
        await mark(db, [Mark(garage.org_id, "sms", phone_of(garage), reason, "21610", "answer", at, until)])


async def consents(router: Router, garage: Garage, **row: Any) -> None:
    row = {"allowed": True, "at": NOW - DAY, "address": None} | row
    await router.rows(
        """insert into consents (org_id, customer_id, category, allowed, at, address)
           select org_id, customer_id, 'sms', $2, $3, $4 from customers where org_id = $1""",
        garage.org_id,
        row["allowed"],
        row["at"],
        row["address"],
    )


@pytest.mark.parametrize("asked", [{}, BY_SMS])
async def test_nobody_gets_an_sms_who_never_wrote_and_never_consented(router: Router, asked: dict[str, Any]) -> None:
    garage = await stored(router, Garage.closed())
    await router.rows("update conversations set last_customer_at = null, last_inbound_at = null")
    assert await answered(router, garage.intent(**asked)) == ("silent", "never_contacted")
    await consents(router, garage, allowed=True)
    route = ("session", "live_channel") if asked else ("bridge", "window_expired")
    assert await answered(router, garage.intent(**asked)) == route


async def test_a_stranger_named_by_a_first_contact_gets_none(router: Router) -> None:
    garage = await stored(router, Garage())
    for phone in ("+447700900444", "+88213000001", "+252611234567"):
        assert await answered(router, garage.first_contact(phone, **BY_SMS)) == ("silent", "never_contacted")


async def test_who_wrote_to_another_number_of_the_organisation_has_written(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    other, conversation = "106400000000777", uuid4()
    async with router.pool.acquire() as db:
        number = NumberUpserted(
            org_id=garage.org_id,
            at=world.LONG_AGO,
            phone_number_id=other,
            waba_id="206400000000777",
            display_number="+447700900124",
        )
        await world.change(db, number)
        await world.a_conversation(db, garage.org_id, conversation, garage.customer_id, other)
    assert await answered(router, garage.intent(conversation_id=str(conversation))) == ("bridge", "window_expired")


@pytest.mark.parametrize(
    ("reason", "silent"), [("no_phone", "no_phone"), ("unreachable", "no_phone"), ("sms_opted_out", "sms_opted_out")]
)
@pytest.mark.parametrize("asked", [{}, BY_SMS])
async def test_a_marked_number_is_silent_until_the_mark_is_over(
    router: Router, reason: MarkReason, silent: str, asked: dict[str, Any]
) -> None:
    garage = await stored(router, Garage.closed())
    await marked(router, garage, reason)
    assert await answered(router, garage.intent(**asked)) == ("silent", silent)
    later = router.at(NOW + timedelta(seconds=1))
    assert (await answered(later, garage.intent(**asked)))[0] in {"bridge", "session"}


async def test_another_number_of_the_customer_is_not_bound_by_a_mark_or_a_stop(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    await marked(router, garage, "sms_opted_out")
    await consents(router, garage, allowed=False, address=garage.phone)
    assert await answered(router, garage.intent()) == ("silent", "sms_opted_out")
    await router.rows("update customers set phone = '+447700900445'")
    assert await answered(router, garage.intent()) == ("bridge", "window_expired")


async def test_a_stop_holds_for_its_line_under_every_spelling(router: Router) -> None:
    garage = await stored(router, Garage.closed(phone="+551187654321"))
    await consents(router, garage, allowed=False, address="+5511987654321")
    assert await answered(router, garage.intent()) == ("silent", "sms_opted_out")


async def test_a_customers_own_no_holds_for_every_number(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    await consents(router, garage, allowed=False)
    await router.rows("update customers set phone = '+447700900445'")
    assert await answered(router, garage.intent()) == ("silent", "sms_opted_out")


async def test_a_consent_given_after_a_stop_opens_the_way_and_one_from_before_does_not(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    await marked(router, garage, "sms_opted_out", at=NOW - DAY)
    await consents(router, garage, at=NOW - 2 * DAY)
    assert await answered(router, garage.intent()) == ("silent", "sms_opted_out")
    await router.rows("update consents set at = $1", NOW)
    assert await answered(router, garage.intent()) == ("bridge", "window_expired")


async def test_a_sign_of_life_opens_the_way(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    await marked(router, garage, "unreachable")
    async with router.pool.acquire() as db:
        await clear(db, [SignOfLife(garage.org_id, "whatsapp", phone_of(garage).lstrip("+"), NOW)])
    assert await answered(router, garage.intent()) == ("bridge", "window_expired")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("x" * 459, ("session", "live_channel")),
        ("x" * 460, ("rejected", "unsupported_content")),
        ("x" * 1700, ("rejected", "unsupported_content")),
        ("It\u2019s " + "x" * 454, ("session", "live_channel")),
        ("It\u2019s " + "x" * 1595, ("rejected", "unsupported_content")),
        ("\U0001f697" * 99, ("session", "live_channel")),
        ("\U0001f697" * 100, ("rejected", "unsupported_content")),
    ],
    ids=lambda value: f"{len(value)} {value[:5]}" if isinstance(value, str) else value[0],
)
async def test_an_sms_has_three_segments_at_most(router: Router, text: str, answer: tuple[str, str]) -> None:
    garage = await stored(router, Garage())
    assert await answered(router, garage.intent(content={"kind": "text", "text": text}, **BY_SMS)) == answer


@pytest.mark.parametrize("phone", ["+88213000001", "+870772001234", "+979123456789", "+449098790000", "+80012345678"])
async def test_no_sms_goes_to_satellites_and_premium_numbers(router: Router, phone: str) -> None:
    garage = await stored(router, Garage.closed(phone=phone))
    assert await answered(router, garage.intent()) == ("silent", "country_not_allowed")
    assert await answered(router, garage.intent(**BY_SMS)) == ("silent", "country_not_allowed")
