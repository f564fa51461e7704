"""Texts that are kept or parked, over HTTP as a browser without scripts uses the composer."""

from collections.abc import AsyncIterator

import pytest_asyncio

from libs.common.kafka.producer import Producer
from tests.support.inbox import RunningInbox
from tests.support.inbox_composer import HOUR, a_desk, intents
from tests.support.inbox_thread import publishing


@pytest_asyncio.fixture(scope="module")
async def producer(inbox: RunningInbox) -> AsyncIterator[Producer]:
    async with publishing(inbox) as made:
        yield made


async def test_discarding_a_kept_text_asks_once(inbox: RunningInbox, producer: Producer) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    await desk.presses("compose", text="Half a thought", discard="ask")
    assert "Discard this text?" in desk.text
    assert desk.form["text"] == "Half a thought"
    await desk.presses("compose", discard="no")
    assert desk.form["text"] == "Half a thought"
    answer = await desk.presses("compose", discard="yes")
    assert answer.status_code == 303
    assert desk.form["text"] == ""


async def test_a_parked_text_is_kept_once_edited_and_dropped(inbox: RunningInbox, producer: Producer) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    fields = desk.form | {"text": "The flywheel is here."}
    for _ in range(2):
        assert (await desk.staff.post(f"{desk.path}/parked", fields)).status_code == 303
    await desk.opens()
    assert desk.text.count("The flywheel is here.") == 1
    parked = await desk.thread.run(
        "select message_id from parked_messages where org_id = $1 and state = 'waiting'", desk.thread.org_id
    )
    await desk.presses(f"parked/{parked}", do="edit")
    assert desk.form["text"] == "The flywheel is here."
    assert desk.form["edits"] == str(parked)
    await desk.presses("parked", text="The flywheel and the clutch are here.")
    assert "The flywheel is here." not in desk.text
    assert "The flywheel and the clutch are here." in desk.text
    again = await desk.thread.run(
        "select message_id from parked_messages where org_id = $1 and state = 'waiting'", desk.thread.org_id
    )
    await desk.presses(f"parked/{again}", do="drop")
    assert "The flywheel and the clutch are here." not in desk.text
    answer = await desk.presses(f"parked/{again}", do="send")
    assert answer.status_code == 409
    assert await intents(desk) == []


async def test_several_parked_texts_go_as_one_message_when_the_window_is_open(
    inbox: RunningInbox, producer: Producer
) -> None:
    desk = await a_desk(inbox, producer, ago=25 * HOUR)
    for text in ("First.", "Second."):
        await desk.presses("parked", text=text)
    await desk.thread.customer_writes("And?", publish=False)
    await desk.opens()
    assert "Sent together they are one message." in desk.text
    await desk.presses("parked/all", text="Not yet sent")
    assert desk.form["text"] == "Not yet sent"
    [intent] = await intents(desk)
    assert intent["content"]["text"] == "First.\n\nSecond."
