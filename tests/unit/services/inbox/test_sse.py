import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.inbox import sse
from services.inbox.feed import Kind, Mark, StoredChange

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
FEED = uuid4()
CONVERSATIONS, MESSAGES = [uuid4() for _ in range(3)], [uuid4() for _ in range(5)]
STATES = sse.States(
    {
        one: {
            **dict.fromkeys(("conversation_id", "reason", "reason_text", "provider_code", "times")),
            "message_id": str(one),
            "status": "sent",
            "content": {"text": "a\nb"},
        }
        for one in MESSAGES
    },
    {one: {"conversation_id": str(one)} for one in CONVERSATIONS},
)


KINDS: list[Kind] = ["message", "update", "conversation"]


def read(stream: bytes) -> list[tuple[str | None, str | None, Any]]:
    """As a browser reads it: (last event id, event, data) of each block."""
    found, last = [], None
    for block in stream.decode().split("\n\n")[:-1]:
        name, data = None, None
        for line in block.split("\n"):
            field, _, value = line.partition(": ")
            last = value if field == "id" else last
            name = value if field == "event" else name
            data = orjson.loads(value) if field == "data" else data
        found.append((last, name, data))
    return found


def a_change(number: int, kind: Kind, conversation: int, message: int) -> StoredChange:
    where = CONVERSATIONS[conversation]
    return StoredChange(number, where, None if kind == "conversation" else MESSAGES[message], kind, where)


changes = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 4)), max_size=12).map(
    lambda drawn: [a_change(n, kind, c, m) for n, (kind, c, m) in enumerate(drawn, 8)]
)


def key(name: str | None, data: Any) -> tuple[str | None, UUID]:
    return name, UUID(data["conversation_id" if name == "conversation" else "message_id"])


def wanted(change: StoredChange) -> set[tuple[str | None, UUID]]:
    """What a client must know of this change."""
    about: set[tuple[str | None, UUID]] = {("conversation", change.conversation_id)}
    return about if change.message_id is None else {*about, (change.kind, change.message_id)}


@given(changes, st.data())
def test_whoever_comes_back_with_an_id_has_everything_up_to_it_or_is_told(
    told: list[StoredChange], data: st.DataObject
) -> None:
    after = Mark(FEED, told[-1].change if told else 7)
    events = read(sse.told(after, told, (), STATES))
    cut = data.draw(st.integers(0, len(events)))
    seen = events[:cut]
    mark = Mark.read(seen[-1][0]) if seen else Mark(FEED, 7)
    assert mark is not None
    rest = [change for change in told if change.change > mark.change]
    again = read(sse.told(after, rest, (), STATES))
    known = {key(name, data) for _, name, data in [*seen, *again]}
    assert known == {one for change in told for one in wanted(change)}
    for change in told:  # what is newer than an event is told after it
        if change.change > mark.change:
            assert wanted(change) <= {key(name, data) for _, name, data in again}


@given(changes)
def test_each_event_has_its_id_first_and_ids_never_go_back(told: list[StoredChange]) -> None:
    after = Mark(FEED, told[-1].change if told else 7)
    stream = sse.told(after, told, [CONVERSATIONS[0]], STATES)
    assert all(re.fullmatch(r"id: \S+\nevent: \w+\ndata: \S.*", block) for block in stream.decode().split("\n\n")[:-1])
    numbers = [mark.change for last, _, _ in read(stream) if (mark := Mark.read(last)) is not None]
    assert numbers == sorted(numbers)
    conversations = [data for _, name, data in read(stream) if name == "conversation"]
    assert len(conversations) == len({one["conversation_id"] for one in conversations})


def test_what_cannot_be_seen_is_left_out() -> None:
    unknown = uuid4()
    told = [StoredChange(8, unknown, uuid4(), "message", unknown), a_change(9, "update", 0, 0)]
    events = read(sse.told(Mark(FEED, 9), told, [uuid4()], STATES))
    assert [name for _, name, _ in events] == ["update", "conversation"]
    assert events[0][2]["message_id"] == str(MESSAGES[0])
    assert "content" not in events[0][2]


def test_a_conversation_says_once_which_others_are_part_of_it_now() -> None:
    gone = uuid4()
    merge = a_change(8, "conversation", 0, 0)._replace(told_of=gone)
    late = a_change(9, "update", 0, 0)._replace(told_of=gone)
    events = read(sse.told(Mark(FEED, 9), [merge, late], (), STATES))
    assert [data.get("merged") for _, name, data in events if name == "conversation"] == [[str(gone)]]
    events = read(sse.told(Mark(FEED, 9), [late], (), STATES))
    assert [data.get("merged") for _, name, data in events if name == "conversation"] == [None]


def test_the_opening_has_an_id_and_no_event() -> None:
    assert read(sse.opening(Mark(FEED, 3))) == [(f"{FEED.hex}-3", None, None)]
