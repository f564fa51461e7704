"""Calls through WhatsApp: the customer's opens the window, the business's where the customer took it."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from libs.common.events.topics import INBOUND_MESSAGES
from tests.support.ingest import DAY, Ingest, now
from tests.support.logs import LogLines
from tests.support.webhooks import BSUID, WA_ID, a_contact, a_message, a_value, a_webhook, of_messages

OURS = "447700900123"


def a_call(event: str, at: datetime, **more: Any) -> dict[str, Any]:
    call = {"id": "wacid.1", "from": OURS, "to": WA_ID, "event": event, "direction": "BUSINESS_INITIATED"}
    told = call | {"timestamp": str(int(at.timestamp()))} | more
    return a_webhook(
        a_value(contacts=[a_contact()], calls=[{name: part for name, part in told.items() if part is not None}]),
        field="calls",
    )


def a_call_status(status: str, at: datetime, **more: Any) -> dict[str, Any]:
    told = {
        "id": "wacid.1",
        "type": "call",
        "status": status,
        "timestamp": str(int(at.timestamp())),
        "recipient_id": WA_ID,
    } | more
    return a_webhook(a_value(statuses=[{name: part for name, part in told.items() if part is not None}]), field="calls")


def customers_call(event: str, at: datetime, **more: Any) -> dict[str, Any]:
    return a_call(event, at, direction="USER_INITIATED", **{"from": WA_ID, "to": OURS}, **more)


async def wrote_long_ago(ingest: Ingest) -> datetime:
    at = now() - 2 * DAY
    await ingest.post(of_messages(a_message(at)))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    return at


async def opened_at(ingest: Ingest, *, conversations: int = 1) -> datetime | None:
    """When the window was opened last, once all that was posted is stored."""
    await ingest.post(of_messages(a_message(now() - 3 * DAY)))
    await ingest.published.events(INBOUND_MESSAGES, 2)
    rows = await ingest.rows("select last_customer_at from conversations order by last_customer_at")
    assert len(rows) == conversations
    at: datetime | None = rows[-1]["last_customer_at"]
    return at


@pytest.mark.parametrize(
    "webhook",
    [
        lambda at: a_call_status("ACCEPTED", at),
        lambda at: a_call_status("accepted", at),
        lambda at: a_call("accept", at),
        lambda at: a_call(
            "terminate",
            at + timedelta(seconds=95),
            status="COMPLETED",
            start_time=str(int(at.timestamp())),
            duration=95,
        ),
        lambda at: a_webhook(
            a_value(
                statuses=[
                    {
                        "id": "w",
                        "type": "call",
                        "status": "ACCEPTED",
                        "timestamp": str(int(at.timestamp())),
                        "recipient_id": WA_ID,
                    }
                ]
            )
        ),
    ],
    ids=["status", "status in small letters", "event", "ended after it was taken", "status among those of messages"],
)  # fmt: skip -- a list
async def test_a_call_of_the_business_that_the_customer_takes_opens_the_window(ingest: Ingest, webhook: Any) -> None:
    await wrote_long_ago(ingest)
    at = now() - timedelta(minutes=3)
    for _ in range(2):
        await ingest.post(webhook(at))
    assert await opened_at(ingest) == at
    assert len(await ingest.rows("select 1 from messages")) == 2


@pytest.mark.parametrize(
    "webhooks",
    [
        lambda at: [
            a_call("connect", at, session={"sdp_type": "answer"}),
            a_call_status("RINGING", at),
            a_call_status("REJECTED", at),
        ],
        lambda at: [a_call("connect", at), a_call_status("RINGING", at), a_call("terminate", at, status="FAILED")],
        lambda at: [a_call("terminate", at, status="COMPLETED", duration=0)],
        lambda at: [customers_call("terminate", at, status="COMPLETED")],
    ],
    ids=["rejected", "not answered", "without a beginning", "the customer's own without a beginning"],
)  # fmt: skip -- a list
async def test_a_call_that_nobody_takes_opens_nothing(ingest: Ingest, webhooks: Any) -> None:
    before = await wrote_long_ago(ingest)
    for webhook in webhooks(now()):
        assert await ingest.post(webhook) == 200
    assert await opened_at(ingest) == before


TAKEN = timedelta(seconds=20)


def end_of_a_taken_call(rang: datetime) -> dict[str, Any]:
    started = str(int((rang + TAKEN).timestamp()))
    return customers_call("terminate", rang + timedelta(minutes=9), status="COMPLETED", start_time=started)


def end_of_a_missed_call(rang: datetime) -> dict[str, Any]:
    return customers_call("terminate", rang + TAKEN, status="FAILED")


@pytest.mark.parametrize("end", [end_of_a_taken_call, end_of_a_missed_call])
async def test_the_end_of_a_customers_call_opens_the_window_where_its_beginning_was_lost(
    ingest: Ingest, end: Any
) -> None:
    await wrote_long_ago(ingest)
    rang = now() - timedelta(minutes=10)
    await ingest.post(end(rang))
    assert await opened_at(ingest) == rang + TAKEN - timedelta(minutes=1)


@pytest.mark.parametrize("end", [end_of_a_taken_call, end_of_a_missed_call])
async def test_the_end_of_a_customers_call_moves_no_window_that_its_beginning_opened(ingest: Ingest, end: Any) -> None:
    await wrote_long_ago(ingest)
    rang = now() - timedelta(minutes=10)
    await ingest.post(customers_call("connect", rang))
    await ingest.post(end(rang))
    assert await opened_at(ingest) == rang


async def test_a_call_is_noted_for_whoever_shows_the_conversation(ingest: Ingest) -> None:
    await wrote_long_ago(ingest)
    touched = "select k.phone from touched_customers t join customers k using (org_id, customer_id)"
    assert await ingest.rows(touched) == []
    await ingest.post(a_call_status("ACCEPTED", now()))
    await opened_at(ingest)
    assert [row["phone"] for row in await ingest.rows(touched)] == [f"+{WA_ID}"]


async def test_an_accepted_call_that_is_told_late_opens_nothing_anew(ingest: Ingest) -> None:
    await wrote_long_ago(ingest)
    at = now() - timedelta(days=1, hours=12)
    await ingest.post(a_call_status("ACCEPTED", at))
    assert await opened_at(ingest) == at


async def test_a_call_in_an_open_window_tells_when_it_closes_from_now_on(ingest: Ingest, log_lines: LogLines) -> None:
    minutes = [now() - timedelta(minutes=ago) for ago in (2, 1)]
    await ingest.post(of_messages(a_message(minutes[0])))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    for _ in range(2):
        await ingest.post(a_call_status("ACCEPTED", minutes[1]))
    assert await opened_at(ingest) == minutes[1]
    told = [(line["outcome"], line["closes_at"]) for line in log_lines.of("window.opened")]
    assert told == [(what, (at + DAY).isoformat()) for what, at in zip(("opened", "moved"), minutes, strict=True)]


async def test_a_customer_without_a_number_takes_a_call_under_the_user_id(ingest: Ingest) -> None:
    await ingest.post(of_messages(a_message(now() - 2 * DAY, from_user_id=BSUID), contacts=[a_contact(bsuid=BSUID)]))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    at = now()
    await ingest.post(a_call_status("ACCEPTED", at, recipient_id=None, recipient_user_id=BSUID))
    assert await opened_at(ingest) == at


async def test_statuses_of_several_calls_in_one_webhook_are_told_apart(ingest: Ingest) -> None:
    before = await wrote_long_ago(ingest)
    at = now()
    told = {"type": "call", "timestamp": str(int(at.timestamp()))}
    others = {"id": "wacid.2", "status": "ACCEPTED", "recipient_id": "447700900111"}
    kims = {"id": "wacid.1", "status": "REJECTED", "recipient_id": WA_ID}
    await ingest.post(a_webhook(a_value(statuses=[told | kims, told | others]), field="calls"))
    assert await opened_at(ingest, conversations=2) == at
    rows = await ingest.rows("select last_customer_at from conversations order by last_customer_at")
    assert [row["last_customer_at"] for row in rows] == [before, at]
