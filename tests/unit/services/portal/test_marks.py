"""A page that comes back with its mark is told what it does not have, or loads again; it misses nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.portal.marks import SPAN, known_to, mark_of
from services.portal.rows import StoredMessage

T0 = datetime(2026, 11, 26, 10, tzinfo=UTC)


def a_message(number: int, direction: str = "in", read_at: datetime | None = None) -> StoredMessage:
    return StoredMessage(UUID(int=number + 1), direction, "portal", {"text": "x"}, None, number, "sent", read_at, T0)


def thread(length: int) -> list[StoredMessage]:
    return [a_message(number) for number in range(length)]


lengths = st.integers(1, 3 * SPAN)


@given(lengths, st.integers(0, SPAN))
def test_a_page_has_all_up_to_its_mark_and_is_told_what_came_since(had: int, more: int) -> None:
    messages = thread(had + more)
    assert known_to(mark_of(messages[:had]), messages) == had


@given(lengths, st.integers(0, SPAN), st.data())
def test_a_state_that_changed_in_the_span_makes_a_page_load_again(had: int, more: int, data: st.DataObject) -> None:
    messages = thread(had + more)
    mark = mark_of(messages[:had])
    changed = data.draw(st.integers(max(0, had - SPAN), had - 1))
    messages[changed] = replace(messages[changed], read_at=T0)
    assert known_to(mark, messages) is None


@given(lengths, st.data())
def test_a_message_that_became_visible_in_the_span_makes_a_page_load_again(had: int, data: st.DataObject) -> None:
    messages = thread(had)
    mark = mark_of(messages)
    width = min(SPAN, had)
    messages.insert(data.draw(st.integers(had - width + 1, had - 1) if width > 1 else st.just(had)), a_message(9999))
    assert known_to(mark, messages) == (None if width > 1 else had)


def test_what_staff_do_not_see_of_a_message_to_the_customer_changes_no_mark() -> None:
    to_customer = a_message(1, "out")
    assert mark_of([to_customer]) == mark_of([replace(to_customer, read_at=T0, status="read")])


@pytest.mark.parametrize("messages", [[], thread(3)])
def test_a_page_without_messages_has_no_mark_and_nothing_is_known_of_it(messages: Sequence[StoredMessage]) -> None:
    assert mark_of([]) == ""
    assert known_to("", messages) is None


def test_of_a_message_that_is_not_shown_here_nothing_is_known() -> None:
    assert known_to(mark_of(thread(4)), thread(3)) is None


@given(st.text(max_size=30) | st.from_regex(r"\.[0-9²-]{0,4}\.[0-9a-f]{0,18}", fullmatch=True))
def test_a_mark_that_somebody_made_up_is_no_mark(end: str) -> None:
    messages = thread(SPAN + 5)
    assert known_to(f"{messages[-1].message_id}{end}", messages) is None
    assert known_to(end, messages) is None


def test_a_mark_with_a_number_of_thousands_of_digits_is_no_mark() -> None:
    """Python refuses to read such a number."""
    messages = thread(3)
    assert known_to(f"{messages[-1].message_id}.{'1' * 5000}.0", messages) is None
