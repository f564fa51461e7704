from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inbox.views import Badge, Day, Duration, Held, Message, Placed, Thread, WindowEvent

NOW = datetime(2026, 11, 25, 14, 8, tzinfo=UTC)
DAY = timedelta(days=1)


def a_badge(state: Any = "open", left: timedelta = timedelta(hours=3, minutes=12)) -> Badge:
    return Badge(state, NOW + left, DAY, timedelta(hours=2))


def a_message(number: int, at: datetime, text: str = "Hello", **others: Any) -> Message:
    fields: dict[str, Any] = {
        "message_id": str(number), "sequence": number, "is_out": False, "kind": "customer", "author": "Kim Larsen",
        "channel": "whatsapp", "content": {"kind": "text", "text": text}, "at": at, "status": "received",
    }  # fmt: skip
    return Message(**(fields | others))


def a_thread(*messages: Message, **others: Any) -> Thread:
    fields: dict[str, Any] = {"window": a_badge(), "zone": UTC, "reached": NOW}
    return Thread(messages, **(fields | others))


@pytest.mark.parametrize(
    ("left", "soon", "within"),
    [
        (0, 120, 15),
        (15, 120, 15),
        (16, 120, 60),
        (60, 120, 60),
        (61, 120, 120),
        (10, 15, 15),
        (14, 30, 15),
        (20, 30, 30),
    ],
)
def test_what_closes_soon_stands_in_groups(left: int, soon: int, within: int) -> None:
    badge = Badge("closing", NOW + timedelta(minutes=left), DAY, timedelta(minutes=soon))
    assert badge.within(NOW) == timedelta(minutes=within)


@pytest.mark.parametrize(
    ("state", "left", "percent"),
    [
        ("open", timedelta(hours=24), 100),
        ("open", timedelta(hours=6), 25),
        ("closing", timedelta(hours=2), 100),
        ("closing", timedelta(minutes=9), 8),
        ("closing", timedelta(0), 0),
        ("expired", -timedelta(minutes=47), 0),
        ("never", timedelta(hours=6), 0),
    ],
)
def test_the_ring_drains_over_the_window_and_again_over_its_last_part(
    state: Any, left: timedelta, percent: int
) -> None:
    assert a_badge(state, left).percent(NOW) == percent


@pytest.mark.parametrize(
    ("left", "short", "shown"),
    [
        (timedelta(hours=3, minutes=12, seconds=59), False, (3, 12)),
        (timedelta(hours=18, minutes=36), True, (18, None)),
        (timedelta(hours=18, minutes=36), False, (18, 36)),
        (timedelta(hours=2), False, (2, 0)),
        (timedelta(minutes=9), True, (None, 9)),
        (timedelta(seconds=59), False, (None, None)),
        (-timedelta(seconds=1), False, (None, None)),
    ],
)
def test_a_time_left_has_two_units_at_most(left: timedelta, short: bool, shown: tuple[int | None, int | None]) -> None:  # noqa: FBT001
    duration = Duration.of(left, short=short)
    assert (duration.hours, duration.minutes) == shown


def test_each_day_has_a_line_before_its_first_message() -> None:
    first, second = a_message(1, NOW - DAY), a_message(2, NOW)
    kinds = [type(item) for item in a_thread(first, second).items()]
    assert kinds == [Day, Placed, Day, Placed]


def test_the_window_opens_and_closes_between_the_messages() -> None:
    opening = a_message(1, NOW - 3 * DAY, opens_window=True)
    further = a_message(2, NOW - 3 * DAY + timedelta(hours=1), opens_window=True)
    late = a_message(3, NOW - DAY, is_out=True, kind="ai")
    items = [item for item in a_thread(opening, further, late).items() if not isinstance(item, Day)]
    assert [item if isinstance(item, WindowEvent) else item.message.sequence for item in items] == [  # type: ignore[union-attr]
        1,
        WindowEvent(opening.at, until=opening.at + DAY, key="1"),
        2,
        WindowEvent(further.at + DAY),
        3,
    ]


def test_a_window_that_has_closed_since_the_newest_message_says_so() -> None:
    opening = a_message(1, NOW - DAY - timedelta(hours=1), opens_window=True)
    ended = opening.at + timedelta(hours=5)  # before its time
    thread = a_thread(opening, window=Badge("expired", ended, DAY, timedelta(hours=2)))
    assert thread.items()[-1] == WindowEvent(ended)
    assert not [item for item in replace(thread, reached=None).items()[2:] if isinstance(item, WindowEvent)][1:]


def test_the_hold_of_the_ai_stands_where_it_began() -> None:
    hold = Held(NOW - timedelta(minutes=5), "Priya Shah", NOW + timedelta(minutes=55))
    before, after = a_message(1, NOW - timedelta(hours=1)), a_message(2, NOW - timedelta(minutes=1))
    assert a_thread(before, after, hold=hold).items()[2] == hold
    assert a_thread(before, hold=hold).items()[-1] == hold


def test_a_reaction_stands_on_its_message_and_the_newest_of_a_person_counts() -> None:
    said = a_message(1, NOW, is_out=True, kind="staff", author="Priya Shah")
    first = a_message(2, NOW, content={"kind": "reaction", "emoji": "👍"}, reply_to="1")
    second = a_message(3, NOW, content={"kind": "reaction", "emoji": "❤️"}, reply_to="1")
    (placed,) = [item for item in a_thread(said, first, second).items() if isinstance(item, Placed)]
    assert [one.content["emoji"] for one in placed.reactions] == ["❤️"]
    taken_back = a_message(4, NOW, content={"kind": "reaction", "emoji": None}, reply_to="1")
    (placed,) = [item for item in a_thread(said, first, second, taken_back).items() if isinstance(item, Placed)]
    assert placed.reactions == ()


def test_a_reaction_to_a_message_of_another_page_stands_by_itself() -> None:
    alone = a_message(2, NOW, content={"kind": "reaction", "emoji": "👍"}, reply_to="1")
    assert [item.message for item in a_thread(alone).items() if isinstance(item, Placed)] == [alone]


def test_a_bridge_and_an_answer_name_their_message() -> None:
    failed = a_message(1, NOW, is_out=True, kind="staff", status="failed")
    bridge = a_message(2, NOW, is_out=True, kind="system", channel="sms", is_bridge=True, bridge_for="1")
    answer = a_message(3, NOW, reply_to="1")
    thread = a_thread(failed, bridge, answer)
    placed = {item.message.message_id: item for item in thread.items() if isinstance(item, Placed)}
    assert placed["2"].stands_for == failed
    assert placed["3"].quoted == failed
    assert thread.news(["2", "9"]) == [placed["2"]]


def test_what_is_new_comes_with_what_it_changes() -> None:
    said = a_message(1, NOW - DAY, is_out=True, kind="staff")
    reaction = a_message(2, NOW, content={"kind": "reaction", "emoji": "👍"}, reply_to="1")
    opening = a_message(3, NOW, opens_window=True)
    reacted, opened, window = a_thread(said, reaction, opening).news(["2", "3"])
    assert isinstance(reacted, Placed)
    assert [one.message_id for one in reacted.reactions] == ["2"]
    assert isinstance(opened, Placed)
    assert opened.message == opening
    assert window == WindowEvent(NOW, until=NOW + DAY, key="3")
    assert a_thread(said, reaction, opening).news([]) == []


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=40))
def test_every_message_stands_once_in_its_order(hours: list[tuple[int, bool]]) -> None:
    times = sorted(hours)
    messages = [
        a_message(number, NOW + timedelta(hours=hour), opens_window=opens) for number, (hour, opens) in enumerate(times)
    ]
    items = a_thread(*messages).items()
    assert [item.message for item in items if isinstance(item, Placed)] == messages
    days = [item.day for item in items if isinstance(item, Day)]
    assert days == sorted(set(days))
    events = [item for item in items if isinstance(item, WindowEvent)]
    assert [event.until is None for event in events] == [bool(n % 2) for n in range(len(events))]
