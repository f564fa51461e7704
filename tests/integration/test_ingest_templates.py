"""What Meta tells about templates, from the edge to our copies of them."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from libs.common.db.pool import Connection
from tests.support import world
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
    while {row["word"] for row in await ingest.rows(f"select {column} as word from templates")} != {word}:  # noqa: ASYNC110 -- the database tells nobody
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


async def rows_of(ingest: Ingest, columns: str) -> dict[str, Any]:
    [row] = await ingest.rows(f"select {columns} from templates")
    return dict(row)


async def history(ingest: Ingest) -> list[tuple[str, str | None, str | None, str]]:
    rows = await ingest.rows("select event, word, reason, source from template_history order by history_id")
    return [tuple(row) for row in rows]


async def test_a_rejection_keeps_metas_reason_and_leaves_one_line_whatever_is_repeated(ingest: Ingest) -> None:
    async with ingest.pool.acquire() as db:
        await a_template(db, status="PENDING", since=now() - timedelta(minutes=1))
    rejected = status("REJECTED", now(), reason="INVALID_FORMAT")
    for webhook in (rejected, rejected, news("message_template_quality_update", now(), new_quality_score="yellow")):
        assert await ingest.post(webhook) == 200
    await becomes(ingest, "quality", "YELLOW")
    assert await rows_of(ingest, "status, rejected_reason") == {
        "status": "REJECTED",
        "rejected_reason": "INVALID_FORMAT",
    }
    assert await history(ingest) == [
        ("status", "REJECTED", "INVALID_FORMAT", "webhook"),
        ("quality", "YELLOW", None, "webhook"),
    ]


async def test_a_pause_says_which_one_it_is(ingest: Ingest) -> None:
    async with ingest.pool.acquire() as db:
        await a_template(db)
    paused = status("PAUSED", now(), reason="NONE", other_info={"title": "SECOND_PAUSE", "description": "…"})
    assert await ingest.post(paused) == 200
    await becomes(ingest, "rejected_reason", "SECOND_PAUSE")


async def test_new_components_change_the_text_and_keep_the_buttons(ingest: Ingest) -> None:
    buttons = [{"type": "QUICK_REPLY", "text": "Yes"}]
    async with ingest.pool.acquire() as db:
        await world.a_template(db, ORG, WABA, name="appointment_reminder", buttons=buttons)
    told = news(
        "message_template_components_update",
        now(),
        message_template_element="Your {{1}} waits for you.",
        message_template_title="News",
    )
    older = news(
        "message_template_components_update", now() - timedelta(hours=1), message_template_element="An older {{1}}."
    )
    for webhook in (told, older, status("PAUSED", now())):
        assert await ingest.post(webhook) == 200
    await becomes(ingest, "status", "PAUSED")
    row = await rows_of(ingest, "body, header, buttons, components")
    header = {"type": "HEADER", "format": "TEXT", "text": "News"}
    body = {"type": "BODY", "text": "Your {{1}} waits for you."}
    assert (row["body"], row["header"], row["buttons"]) == (body["text"], header, buttons)
    assert row["components"] == [header, body, {"type": "BUTTONS", "buttons": buttons}]


@pytest.mark.parametrize("word", ["DRAFT", "DELETED"])
async def test_a_webhook_marks_a_draft_and_a_deleted_template_for_a_sync_and_changes_neither(
    ingest: Ingest, word: str
) -> None:
    """The words of Meta's template are not those of the draft: only a sync shows them."""
    async with ingest.pool.acquire() as db:
        await a_template(db, status=word)
    assert await ingest.post(status("APPROVED", now())) == 200
    while not (marks := await ingest.rows("select org_id, waba_id, due_at <= now() as due from template_syncs")):  # noqa: ASYNC110 -- the database tells nobody
        await asyncio.sleep(0.02)
    assert [tuple(mark) for mark in marks] == [(ORG, WABA, True)]
    assert (await rows_of(ingest, "status"))["status"] == word
    assert await history(ingest) == []
