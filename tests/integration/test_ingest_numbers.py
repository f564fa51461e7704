"""Whose a number is: strangers' webhooks are dead letters, however many, and nobody else notices."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from libs.common.events.directory import NumberUpserted
from libs.common.events.topics import DELIVERY_UPDATES, DIRECTORY_CHANGES, INBOUND_MESSAGES, WEBHOOKS
from tests.support.ingest import ORG, Ingest, now
from tests.support.logs import LogLines
from tests.support.waiting import eventually, eventually_true
from tests.support.webhooks import NUMBER, WABA, a_contact, a_message, a_status, a_value, a_webhook, of_messages

STRANGER, MOVED = "106400000000077", "206400000000099"
FLOOD, AT_ONCE = 3000, 250


def from_waba(waba_id: str | None, *values: dict[str, Any]) -> dict[str, Any]:
    webhook = a_webhook(*values)
    webhook["entry"][0] |= {"id": waba_id}
    return webhook


async def test_a_flood_for_a_number_nobody_has_and_of_a_field_of_tomorrow_holds_up_nobody(
    ingest: Ingest, log_lines: LogLines
) -> None:
    await eventually_true(lambda: ingest.rows("select from progress"), "it has read everything once")
    began = datetime.now(UTC)
    for start in range(0, FLOOD, AT_ONCE):
        statuses = [
            a_status(f"wamid.{n}", "delivered", now(), recipient_id=f"4477009{n:05}")
            for n in range(start, start + AT_ONCE)
        ]
        unknown = [a_value(some_list=[{"a": n}], messages=[]) for n in range(AT_ONCE)]
        assert await ingest.post(a_webhook(a_value(number=STRANGER, statuses=statuses))) == 200
        assert await ingest.post(a_webhook(*unknown, field="message_deliveries_v2")) == 200
    people = [f"4479009{n:05}" for n in range(24)]  # all behind the flood
    for person in people:
        assert await ingest.post(of_messages(a_message(now(), **{"from": person}), contacts=[a_contact(person)])) == 200

    published = await ingest.published.events(INBOUND_MESSAGES, len(people))
    assert len({one["conversation_id"] for one in published}) == len(people)
    told_at = datetime.now(UTC)
    reasons = await ingest.reasons(WEBHOOKS, 2 * FLOOD)
    assert {reason: reasons.count(reason) for reason in reasons} == {"unknown_number": FLOOD, "unknown_field": FLOOD}
    async with ingest.http.get(f"{ingest.url}/readyz") as answer:
        assert answer.status == 200
    assert log_lines.of("consumer.stopped") == []
    assert len(log_lines.of("number.unknown")) == 1
    assert len(log_lines.of("record.dead_lettered")) == 2

    rows = await ingest.rows("select caught_up_at, since from progress")
    while not rows or any(row["caught_up_at"] <= told_at for row in rows):  # silence proves something again
        await asyncio.sleep(0.05)
        rows = await ingest.rows("select caught_up_at, since from progress")
    assert all(row["since"] <= began + timedelta(seconds=5) for row in rows)


async def test_a_webhook_that_names_another_account_than_the_directory_is_a_stranger_until_the_directory_says_so(
    ingest: Ingest, log_lines: LogLines
) -> None:
    message, status = a_message(now()), a_status("wamid.1", "sent", now())
    value = a_value(contacts=[a_contact()], messages=[message], statuses=[status])
    assert await ingest.post(from_waba(MOVED, value)) == 200
    assert await ingest.reasons(WEBHOOKS, 2) == ["waba_mismatch"] * 2
    assert await ingest.rows("select * from messages") == await ingest.rows("select * from early_statuses") == []
    (loud,) = log_lines.of("number.waba_mismatch")
    assert (loud["level"], loud["phone_number_id"], loud["records"]) in [("error", NUMBER, 2), ("error", NUMBER, 1)]

    change = NumberUpserted(org_id=ORG, at=now(), phone_number_id=NUMBER, waba_id=MOVED, display_number="+447700900123")
    await ingest.publish_changes(change)
    await eventually(lambda: log_lines.of("directory.applied"), "the directory knows that the number has moved")
    assert await ingest.post(from_waba(MOVED, value)) == 200
    assert [one["provider_id"] for one in await ingest.published.events(INBOUND_MESSAGES, 1)] == [message["id"]]
    assert await ingest.post(from_waba(WABA, value)) == 200
    assert await ingest.reasons(WEBHOOKS, 4) == ["waba_mismatch"] * 4
    assert (
        await ingest.published.records(DIRECTORY_CHANGES.dlq) == await ingest.published.records(DELIVERY_UPDATES) == []
    )


async def test_a_webhook_that_names_no_account_is_judged_by_its_number(ingest: Ingest) -> None:
    message = a_message(now())
    assert await ingest.post(from_waba(None, a_value(contacts=[a_contact()], messages=[message]))) == 200
    assert [one["provider_id"] for one in await ingest.published.events(INBOUND_MESSAGES, 1)] == [message["id"]]
