"""A text that follows a file waits for it, and nothing else waits."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.router.commands import command_of
from services.router.decide import Decision, decide
from services.router.facts import Attempt, Facts
from services.router.media_order import WAIT, MediaOrder
from tests.unit.services.router.builders import DAY, NOW, an_intent, closed_facts, some_facts

SECOND = timedelta(seconds=1)
PICTURE = {"kind": "image", "link": "https://acme.example/1.jpg"}


def arranged(order: MediaOrder, *attempts: Attempt, now: datetime = NOW) -> list[datetime | None]:
    decisions: list[Decision] = [decide(attempt.intent, attempt.facts, now) for attempt in attempts]
    order.keep(order.arrange(attempts, decisions, now), now)
    return [attempt.not_before for attempt in attempts]


def a_text(facts: Facts | None = None, **fields: Any) -> Attempt:
    return Attempt(an_intent(**fields), 1, 2, facts or some_facts())


def a_picture(facts: Facts | None = None) -> Attempt:
    return Attempt(an_intent(content=PICTURE), 1, 1, facts or some_facts())


def test_a_text_behind_a_picture_waits_in_the_same_batch_and_in_the_next() -> None:
    order, text = MediaOrder(), a_text()
    assert arranged(order, a_picture(), text) == [None, NOW + WAIT]
    assert arranged(order, a_text(), now=NOW + 3 * SECOND) == [NOW + WAIT]
    assert arranged(order, a_text(), now=NOW + WAIT) == [None]
    command = command_of(text, an_intent(), decide(text.intent, text.facts, NOW), NOW)
    assert command is not None
    assert b'"not_before":"' in command


def test_texts_and_albums_wait_for_nothing() -> None:
    order = MediaOrder()
    assert arranged(order, a_text(), a_text(), a_picture(), a_picture()) == [None] * 4
    assert arranged(order, a_text(), now=NOW + SECOND) == [NOW + WAIT]


def test_a_text_behind_a_picture_that_a_waiting_text_holds_up_waits_for_that_picture() -> None:
    order = MediaOrder()
    pairs = [a_picture(), a_text(), a_picture(), a_picture(), a_text()]
    assert arranged(order, *pairs) == [None, NOW + WAIT, None, None, NOW + 2 * WAIT]
    assert arranged(order, a_picture(), a_text(), now=NOW + SECOND) == [None, NOW + 3 * WAIT]
    assert arranged(order, a_text(), now=NOW + 3 * WAIT) == [None]


def test_what_is_over_delays_nothing_while_an_older_conversation_still_waits() -> None:
    order, other = MediaOrder(), some_facts(conversation_id=UUID(int=77))
    arranged(order, a_picture(), a_text(), a_picture(), a_picture(other))
    assert arranged(order, a_text(other), a_text(), now=NOW + WAIT) == [None, NOW + 2 * WAIT]


def test_a_batch_that_was_not_recorded_and_comes_again_waits_no_longer() -> None:
    order = MediaOrder()
    batch = [a_picture(), a_text(), a_picture(), a_text()]
    decisions: list[Decision] = [decide(attempt.intent, attempt.facts, NOW) for attempt in batch]
    for _ in range(9):
        order.arrange(batch, decisions, NOW)
    assert arranged(order, *batch) == [None, NOW + WAIT, None, NOW + 2 * WAIT]


def test_another_conversation_and_another_channel_do_not_wait() -> None:
    order = MediaOrder()
    other = some_facts(conversation_id=UUID(int=77))
    assert arranged(order, a_picture(), a_text(other), a_text(channel="portal")) == [None] * 3


def test_nothing_waits_beyond_its_window_or_its_expiry() -> None:
    order = MediaOrder()
    for left in (2 * SECOND, WAIT + SECOND):  # what is behind the text has to go, too
        closing = some_facts(last_customer_at=NOW - DAY + some_facts().margin + left)
        assert arranged(order, a_picture(closing), a_text(closing)) == [None, None]
    assert arranged(order, a_text(expires_at=(NOW + 3 * SECOND).isoformat())) == [None]


@pytest.mark.parametrize("facts", [closed_facts()])
def test_a_picture_that_was_not_sent_delays_nothing(facts: Facts) -> None:
    assert arranged(MediaOrder(), a_picture(facts), a_text()) == [None, None]


def test_what_is_over_is_forgotten() -> None:
    order = MediaOrder()
    arranged(order, *[a_picture(), a_text()] * 50)  # the last of them goes in three minutes
    for n in range(100):
        arranged(order, a_picture(some_facts(conversation_id=UUID(int=n))), now=NOW + n * SECOND)
    assert len(order._files) == WAIT / SECOND + 1
