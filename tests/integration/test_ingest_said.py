"""What customers say, through a running ingest: told whole, stored whole, once."""

import asyncio
from typing import Any

import pytest

from libs.common.events.inbound import InboundMessage
from libs.common.events.topics import INBOUND_MESSAGES
from services.ingest import content as contents
from tests.support.ingest import Ingest, now
from tests.support.recordings import recording, recordings
from tests.support.webhooks import a_message, of_messages


def said_now(name: str) -> dict[str, Any]:
    """The message of a recording, as if it were said now."""
    (message,) = recording("meta/said", name)["entry"][0]["changes"][0]["value"]["messages"]
    return {name: part for name, part in message.items() if name != "from_user_id"} | {
        "timestamp": str(int(now().timestamp()))
    }


async def test_all_that_was_said_is_stored_and_told_and_told_the_same_again(ingest: Ingest) -> None:
    messages = {(message := said_now(name))["id"]: message for name in recordings("meta/said")}
    for times in (1, 2):  # one after the other: copies in one batch are told once
        await ingest.post(of_messages(*messages.values()))
        published = await ingest.published.events(INBOUND_MESSAGES, times * len(messages))
    stored = {
        row["provider_id"]: row["content"] for row in await ingest.rows("select provider_id, content from messages")
    }
    assert stored.keys() == messages.keys()
    for one in published:
        content, beside = contents.published(contents.stored(messages[one["provider_id"]]))
        assert one["content"] == content
        assert {name: one[name] for name in contents.BESIDE if name in one} == beside
        assert stored[one["provider_id"]] == content | beside
        InboundMessage.model_validate(one)
    assert len({one["message_id"] for one in published}) == len(messages)


@pytest.mark.parametrize("apart", [False, True], ids=["in one webhook", "in two, the newer first"])
async def test_a_photo_to_be_seen_once_and_the_text_after_it_are_both_told(ingest: Ingest, *, apart: bool) -> None:
    photo, text = said_now("a_customer_sends_a_photo_to_be_seen_once"), a_message(now(), "Did you get the photo?")
    photo["timestamp"] = str(int(text["timestamp"]) - 1)
    for webhook in [of_messages(text), of_messages(photo)] if apart else [of_messages(photo, text)]:
        assert await ingest.post(webhook) == 200
    published = {one["provider_id"]: one for one in await ingest.published.events(INBOUND_MESSAGES, 2)}
    assert published[photo["id"]]["content"]["type"] == "view_once"
    assert [error["code"] for error in published[photo["id"]]["content"]["errors"]] == [131051]
    assert published[text["id"]]["content"]["text"] == "Did you get the photo?"
    opened = await ingest.row("select last_customer_at from conversations")
    assert int(opened["last_customer_at"].timestamp()) == int(text["timestamp"])


async def test_pictures_that_come_again_while_they_are_being_stored_are_shown_once(ingest: Ingest) -> None:
    pictures = [
        a_message(now(), None, type="image", image={"id": f"4110{i}", "mime_type": "image/jpeg"}) for i in range(10)
    ]
    async with ingest.pool.acquire() as db, db.transaction():
        await db.execute("lock table messages in share mode")  # whoever stores waits for this transaction
        for _ in range(2):
            assert await asyncio.gather(*[ingest.post(of_messages(picture)) for picture in pictures]) == [200] * 10
    seen: dict[str, set[str]] = {}
    while len(seen) < 10:
        for one in await ingest.published.events(INBOUND_MESSAGES, sum(len(ids) for ids in seen.values()) + 1):
            seen.setdefault(one["provider_id"], set()).add(one["message_id"])
    assert {len(ids) for ids in seen.values()} == {1}
    assert len(await ingest.rows("select 1 from messages")) == 10
