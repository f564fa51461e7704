"""A number that an erased customer had given up, and what is told late of the time before and of who had it next."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.events.directory import CustomerUpserted
from libs.common.events.topics import INBOUND_MESSAGES
from tests.support.erased import erase
from tests.support.ingest import ORG, Ingest, now
from tests.support.waiting import eventually_true
from tests.support.webhooks import a_contact, a_message, of_messages

LINE, NEXT, PAST, THIRD = "447700912001", "447700912002", "447700912003", "447700912004"
ONE, OTHER = "GB.700111222333", "GB.700111222444"
MINUTE = timedelta(minutes=1)


def said(at: datetime, text: str, wa_id: str = LINE, bsuid: str | None = None) -> dict[str, Any]:
    """A text from a number."""
    named = {"from": wa_id} | ({} if bsuid is None else {"from_user_id": bsuid})
    return of_messages(a_message(at, text=text, **named), contacts=[a_contact(wa_id, bsuid)])


def moved(at: datetime, old: str, new: str) -> dict[str, Any]:
    """Meta's notice that a person has another number since ``at``."""
    system = {"type": "user_changed_number", "wa_id": new, "body": "New"}
    return of_messages(a_message(at, text=None, type="system", system=system, **{"from": old}), contacts=[])


async def heard(ingest: Ingest, webhook: dict[str, Any], place: int) -> dict[str, Any]:
    """The event of a message. It is at this place of all, counted from 1."""
    assert await ingest.post(webhook) == 200
    return dict((await ingest.published.events(INBOUND_MESSAGES, place))[-1])


@pytest.mark.parametrize("by", ["notice", "bsuid"])
async def test_what_an_erased_customer_wrote_before_and_comes_only_now_is_not_of_who_has_the_number(
    ingest: Ingest, by: str
) -> None:
    at, place = now() - timedelta(hours=3), 1
    first = await heard(ingest, said(at, "Hello", bsuid=ONE if by == "bsuid" else None), place)
    if by == "notice":
        await heard(ingest, moved(at + 30 * MINUTE, LINE, NEXT), place := place + 1)
    next_one = said(at + 40 * MINUTE, "I am new", bsuid=OTHER if by == "bsuid" else None)
    other = await heard(ingest, next_one, place := place + 1)
    assert other["customer_id"] != first["customer_id"]
    await erase(ingest.pool, ORG, first["conversation_id"])
    late = await heard(ingest, said(at + 10 * MINUTE, "For the garage alone"), place := place + 1)
    assert late["customer_id"] not in (first["customer_id"], other["customer_id"])
    again = await heard(ingest, said(at + 50 * MINUTE, "Me again", bsuid=OTHER if by == "bsuid" else None), place + 1)
    assert again["conversation_id"] == other["conversation_id"]
    theirs = "select content ->> 'text' as text from messages where conversation_id = $1 order by occurred_at"
    assert [row["text"] for row in await ingest.rows(theirs, UUID(other["conversation_id"]))] == [
        "I am new",
        "Me again",
    ]


async def test_what_is_late_is_not_of_who_has_the_number_by_the_directory_alone(ingest: Ingest) -> None:
    """They never wrote, so WhatsApp knows nothing of them here."""
    at = now() - timedelta(hours=3)
    first = await heard(ingest, said(at, "Hello"), 1)
    await heard(ingest, moved(at + 30 * MINUTE, LINE, NEXT), 2)
    other = uuid4()
    fields: dict[str, Any] = {"customer_id": other, "name": "Kim", "phone": f"+{LINE}"}
    await ingest.publish_changes(CustomerUpserted(org_id=ORG, at=at + 40 * MINUTE, **fields))
    holder = "select customer_id from customer_identities where kind = 'phone' and value = $1"

    async def has_the_number() -> bool:
        return [row["customer_id"] for row in await ingest.rows(holder, f"+{LINE}")] == [other]

    await eventually_true(has_the_number)
    await erase(ingest.pool, ORG, first["conversation_id"])
    late = await heard(ingest, said(at + 10 * MINUTE, "For the garage alone"), 3)
    assert late["customer_id"] not in (first["customer_id"], str(other))


async def test_an_erasure_keeps_the_notices_of_who_had_the_number_next(ingest: Ingest) -> None:
    """They came before whom they are about was known: that person's messages are still on their way."""
    at = now() - timedelta(hours=3)
    first = await heard(ingest, said(at, "Hello"), 1)
    await heard(ingest, moved(at + 10 * MINUTE, LINE, NEXT), 2)
    assert await ingest.post(moved(at + 30 * MINUTE, LINE, THIRD)) == 200
    await heard(ingest, said(at, "Good morning", PAST), 3)  # the notice was read
    await erase(ingest.pool, ORG, first["conversation_id"])
    other = await heard(ingest, said(at + 20 * MINUTE, "I have this number now"), 4)
    assert await addresses(ingest, other) == [THIRD]
    kept = await ingest.rows("select old_line, new_line from identity_notices")
    assert [tuple(row) for row in kept] == [(f"+{LINE}", f"+{THIRD}")]


async def test_an_erasure_keeps_the_notice_by_which_the_number_became_anothers(ingest: Ingest) -> None:
    at = now() - timedelta(hours=3)
    first = await heard(ingest, said(at, "Hello"), 1)
    await heard(ingest, moved(at + 10 * MINUTE, LINE, NEXT), 2)
    assert await ingest.post(moved(at + 20 * MINUTE, PAST, LINE)) == 200
    await heard(ingest, said(at, "Good morning", THIRD), 3)  # the notice was read
    await erase(ingest.pool, ORG, first["conversation_id"])
    other = await heard(ingest, said(at - 10 * MINUTE, "I will have another number soon", PAST), 4)
    assert other["customer_id"] != first["customer_id"]
    assert await addresses(ingest, other) == [LINE]


async def test_what_was_passed_on_is_kept_as_such_also_where_nobody_has_it_any_more(ingest: Ingest) -> None:
    at = now() - timedelta(hours=3)
    first = await heard(ingest, said(at, "Hello"), 1)
    await heard(ingest, moved(at + 10 * MINUTE, LINE, NEXT), 2)
    other = await heard(ingest, said(at + 20 * MINUTE, "I have this number now"), 3)
    await heard(ingest, moved(at + 30 * MINUTE, LINE, THIRD), 4)
    await erase(ingest.pool, ORG, first["conversation_id"])
    kept = await ingest.rows("select passed_on, at from erased_identities order by passed_on")
    assert [row["passed_on"] for row in kept] == [False, True]
    assert kept[1]["at"] == (at + 10 * MINUTE).replace(microsecond=0)
    assert await addresses(ingest, other) == [THIRD]


async def addresses(ingest: Ingest, event: dict[str, Any]) -> list[str]:
    """At which number a conversation is reached."""
    asked = "select wa_id from conversations where conversation_id = $1"
    return [row["wa_id"] for row in await ingest.rows(asked, UUID(event["conversation_id"]))]
