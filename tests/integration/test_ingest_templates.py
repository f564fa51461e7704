"""What Meta tells about templates, from the edge to our copies of them."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from libs.common.db.pool import Connection
from tests.support.ingest import ORG, Ingest, now
from tests.support.webhooks import WABA


async def a_template(
    db: Connection, org_id: str = ORG, *, status: str = "APPROVED", since: datetime | None = None
) -> None:
    await db.execute(
        "insert into templates (org_id, waba_id, name, language, category, parameter_format, status, body,"
        " updated_at, status_at, category_at)"
        " values ($1, $2, 'appointment_reminder', 'en_GB', 'UTILITY', 'NAMED', $3, 'Hi.', now(), $4, $4)",
        *(org_id, WABA, status, since),
    )


def news(field: str, at: datetime, *, waba_id: str = WABA, **value: Any) -> dict[str, Any]:
    told = {"message_template_id": 520000000000001, "message_template_name": "appointment_reminder"}
    change = {"field": field, "value": told | {"message_template_language": "en_GB"} | value}
    entry = {"id": waba_id, "time": int(at.timestamp()), "changes": [change]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def status(event: str, at: datetime, **value: Any) -> dict[str, Any]:
    return news("message_template_status_update", at, event=event, **value)


async def becomes(ingest: Ingest, column: str, word: str) -> None:
    """Within the patience of the test's own deadline."""
    while {row[column] for row in await ingest.rows("select status, category from templates")} != {word}:  # noqa: ASYNC110 -- the database tells nobody
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("event", "more"),
    [
        ("REINSTATED", {"reason": "NONE"}),
        ("approved", {}),
        ("PAUSED", {"other_info": {"title": "UNPAUSE"}}),
        ("UNARCHIVED", {}),
    ],
)
async def test_a_template_that_was_paused_can_be_used_again_when_meta_says_so(
    ingest: Ingest, event: str, more: dict[str, Any]
) -> None:
    async with ingest.pool.acquire() as db:
        await a_template(db, status="PAUSED", since=now() - timedelta(minutes=1))
    assert await ingest.post(status(event, now(), **more)) == 200
    await becomes(ingest, "status", "APPROVED")


@pytest.mark.parametrize("event", ["PAUSED", "paused", "DISABLED", "REJECTED", "PENDING_DELETION", "IN_APPEAL"])
async def test_a_template_that_meta_takes_away_cannot_be_used(ingest: Ingest, event: str) -> None:
    async with ingest.pool.acquire() as db:
        await a_template(db)
    assert await ingest.post(status(event, now())) == 200
    await becomes(ingest, "status", event.upper())


async def test_an_older_word_a_warning_and_a_word_of_tomorrow_change_nothing(ingest: Ingest) -> None:
    async with ingest.pool.acquire() as db:
        await a_template(db, since=now() - timedelta(minutes=1))
    for webhook in (
        status("PAUSED", now() - timedelta(hours=1)),
        status("FLAGGED", now()),
        status("IN_ORBIT", now()),
        status("PAUSED", now(), message_template_name="another"),
        news("message_template_status_update", now(), waba_id="206400000000099", event="PAUSED"),
        news("template_category_update", now(), correct_category="MARKETING"),
    ):
        assert await ingest.post(webhook) == 200
    assert await ingest.post(news("template_category_update", now(), new_category="MARKETING")) == 200
    await becomes(ingest, "category", "MARKETING")  # the last of them has been worked off
    [row] = await ingest.rows("select status from templates")
    assert row["status"] == "APPROVED"
