"""Marks on addresses, on a real PostgreSQL: what sets them, what ends them, and what they leave alone."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from libs.common.db.pool import Connection, open_pool
from libs.common.directory.address_marks import SMS_MARKS, clear, mark, purge_marks
from libs.common.directory.reports import Mark, MarkReason, SignOfLife

T0 = datetime(2026, 11, 22, 10, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
PHONE, OTHER = "+447700900999", "+447700900998"


@pytest_asyncio.fixture
async def db(database: str) -> AsyncIterator[Connection]:
    async with open_pool(database, application_name="test", command_seconds=10) as pool, pool.acquire() as connection:
        yield connection


def a_mark(reason: MarkReason = "no_phone", **changes: Any) -> Mark:
    fields: dict[str, Any] = {"org_id": "acme", "channel": "sms", "address": PHONE, "reason": reason, "code": "21614"}
    return Mark(**fields | {"source": "answer", "at": T0, "until": T0 + 30 * DAY} | changes)


async def standing(db: Connection, org_id: str = "acme", phone: str = PHONE) -> tuple[Any, ...]:
    row = await db.fetchrow(SMS_MARKS.format(org_id="$1", phone="$2"), org_id, phone)
    return tuple(row or ())


async def marks(db: Connection) -> list[tuple[str, str, str]]:
    rows = await db.fetch("select channel, address, reason from address_marks order by 1, 2, 3")
    return [tuple(row) for row in rows]


async def test_a_mark_is_of_one_number_of_one_organisation(db: Connection) -> None:
    await mark(db, [a_mark(), a_mark("sms_opted_out", until=T0 + DAY)])
    assert await standing(db) == (T0 + 30 * DAY, T0 + DAY, T0)
    assert await standing(db, phone=OTHER) == (None, None, None)
    assert await standing(db, org_id="other") == (None, None, None)


async def test_of_two_marks_of_one_kind_the_later_said_counts_in_any_order(db: Connection) -> None:
    late = a_mark(at=T0 + SECOND, until=T0 + DAY, code="30006", source="status")
    for batches in ([[a_mark(), late]], [[late, a_mark()]], [[late], [a_mark()]], [[a_mark()], [late], [late]]):
        await db.execute("delete from address_marks")
        for batch in batches:
            await mark(db, batch)
        row = await db.fetchrow("select code, source, at, until from address_marks")
        assert tuple(row or ()) == ("30006", "status", T0 + SECOND, T0 + DAY)


@pytest.mark.parametrize(
    ("sign", "left"),
    [
        (SignOfLife("acme", "sms", PHONE, T0), ["whatsapp unreachable", "sms sms_opted_out"]),
        (SignOfLife("acme", "whatsapp", PHONE, T0), ["sms no_phone", "sms sms_opted_out"]),
        (SignOfLife("acme", "whatsapp", PHONE[1:], T0), ["sms no_phone", "sms sms_opted_out"]),
        (SignOfLife("acme", "sms", PHONE, T0 - SECOND), None),
        (SignOfLife("acme", "sms", OTHER, T0), None),
        (SignOfLife("other", "sms", PHONE, T0), None),
    ],
)
async def test_a_sign_of_life_ends_what_it_disproves(db: Connection, sign: SignOfLife, left: list[str] | None) -> None:
    every = [a_mark(reason) for reason in ("no_phone", "sms_opted_out", "unreachable")]
    await mark(db, [*every, a_mark("unreachable", channel="whatsapp")])
    before = await marks(db)
    for _ in range(2):
        await clear(db, [sign])
    found = [f"{channel} {reason}" for channel, _, reason in await marks(db)]
    assert sorted(found) == sorted(left if left is not None else [f"{c} {r}" for c, _, r in before])


async def test_a_sign_of_life_in_the_second_of_the_mark_came_after_it(db: Connection) -> None:
    await mark(db, [a_mark("unreachable", channel="whatsapp", at=T0 + 0.7 * SECOND)])
    await clear(db, [SignOfLife("acme", "whatsapp", PHONE, T0)])  # Meta's clock shows no fractions
    assert await marks(db) == []


async def test_a_line_is_marked_and_cleared_under_all_its_spellings(db: Connection) -> None:
    with_nine, without = "+5511987654321", "+551187654321"
    await mark(db, [a_mark(address=without)])
    assert (await standing(db, phone=with_nine))[0] == T0 + 30 * DAY
    await clear(db, [SignOfLife("acme", "sms", with_nine[1:], T0)])
    assert await marks(db) == []


async def test_what_is_over_is_forgotten_a_little_at_a_time(db: Connection) -> None:
    await mark(db, [a_mark(address=f"+44770090{n:04}", until=T0 + DAY) for n in range(3)])
    await mark(db, [a_mark(until=T0 + DAY + SECOND)])
    assert [await purge_marks(db, T0 + DAY, 2) for _ in range(3)] == [2, 1, 0]
    assert await marks(db) == [("sms", PHONE, "no_phone")]


async def test_a_reason_that_no_release_writes_is_not_stored(db: Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await mark(db, [a_mark(reason="bored")])  # type: ignore[arg-type]  # it is refused by the table
