"""Which records a replay selects, and what it makes of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from aiokafka import ConsumerRecord

from deploy.cli.replay.selection import Feed, Left, Selection, moment, topic_named
from libs.common.errors import ConfigurationError
from libs.common.events.topics import OUTBOUND_DECISIONS, OUTBOUND_INTENTS, TOPICS, WEBHOOKS
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.records import Skipped

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
CONNECTION = KafkaConnection("nowhere:9092", "p.")
RUN = "run-1"


def a_record(
    value: Any = None,
    *,
    key: bytes = b"k",
    ago: timedelta = timedelta(hours=1),
    headers: tuple[tuple[str, bytes], ...] = (),
    offset: int = 7,
) -> "ConsumerRecord[bytes, bytes]":
    at = int((NOW - ago).timestamp() * 1000)
    body = value if isinstance(value, bytes) else orjson.dumps(value or {"type": "outbound.decision.v1", "reason": "r"})
    return ConsumerRecord("p.t", 3, offset, at, 0, key, body, None, len(key), len(body), headers)


def judged(selection: Selection, record: "ConsumerRecord[bytes, bytes]") -> Feed | Left:
    return selection.judge(record, CONNECTION, RUN, NOW)


def live(**which: Any) -> Selection:
    return Selection(OUTBOUND_DECISIONS, dlq=False, **which)


def test_a_live_record_goes_as_it_came_with_its_place_and_the_run_beside_it() -> None:
    record = a_record(headers=(("trace", b"x"), ("replayed_from", b"p.outbound.decisions.v1.dlq 0 1")))
    feed = judged(live(), record)
    assert isinstance(feed, Feed)
    assert (feed.record.key, feed.record.value) == (record.key, record.value)
    assert feed.record.headers == (
        ("trace", b"x"),
        ("replayed_from", b"p.outbound.decisions.v1 3 7"),
        ("replayed_run", b"run-1"),
    )
    assert (feed.reason, feed.kind) == ("r", "outbound.decision.v1")


@pytest.mark.parametrize(
    ("record", "which", "left"),
    [
        (a_record(headers=(("replayed_from", b"p.outbound.decisions.v1 0 1"),)), {}, Left("copies that an earlier")),
        (a_record(ago=timedelta(days=8)), {}, Left("older than the 7 days that outbound.decisions.v1 keeps")),
        (a_record(), {"key": "other"}, Left("of other keys")),
        (a_record(), {"reason": "other"}, Left("r")),
        (a_record(b"torn"), {"reason": "other"}, Left("without a reason")),
        (a_record(Skipped.of("batch_too_large", 1, 7)), {}, Left("a compressed batch", lost=True)),
        (a_record(b"x" * (4 * 1024 * 1024)), {}, Left("too large", lost=True)),
        (
            a_record(headers=(("\udcff", b""),)),
            {},
            Left("too large where it is not compressed, or a header", lost=True),
        ),
    ],
    ids=["copy", "old", "key", "reason", "no-reason", "skipped", "large", "header"],
)
def test_a_record_that_does_not_go_says_why(
    record: "ConsumerRecord[bytes, bytes]", which: dict[str, Any], left: Left
) -> None:
    found = judged(live(**which), record)
    assert isinstance(found, Left)
    assert (found.why.startswith(left.why), found.lost) == (True, left.lost)


def test_the_copy_of_a_letter_is_no_copy_of_a_live_record() -> None:
    letter = a_record(headers=(("replayed_from", b"p.outbound.decisions.v1.dlq 0 1"), ("replayed_reason", b"r")))
    assert isinstance(judged(live(), letter), Feed)


def test_an_old_letter_of_an_intent_goes_only_where_a_time_is_asked_for() -> None:
    letter = a_record({"type": "outbound.intent.v1"}, ago=timedelta(days=8), headers=(("reason", b"handler_failed"),))
    left = judged(Selection(OUTBOUND_INTENTS), letter)
    assert left == Left("handler_failed, older than 7 days: --from says that they may go now")
    assert isinstance(judged(Selection(OUTBOUND_INTENTS, began=NOW - timedelta(days=9)), letter), Feed)
    assert isinstance(judged(Selection(WEBHOOKS), letter), Feed)


@pytest.mark.parametrize(("days", "goes"), [(6, True), (8, False)])
def test_a_letter_that_died_again_is_as_old_as_its_intent(days: int, *, goes: bool) -> None:
    written = (NOW - timedelta(days=days)).isoformat()
    letter = a_record(
        {"type": "outbound.intent.v1", "created_at": written}, headers=(("reason", b"statement_too_slow"),)
    )
    assert isinstance(judged(Selection(OUTBOUND_INTENTS), letter), Feed) == goes
    assert isinstance(judged(Selection(OUTBOUND_INTENTS, began=NOW - timedelta(days=1)), letter), Feed)


def test_the_end_of_a_time_is_not_part_of_it() -> None:
    at = NOW - timedelta(hours=1)
    assert live(began=at).in_time(a_record())
    assert not live(until=at).in_time(a_record())
    assert not live(began=at + timedelta(milliseconds=1)).in_time(a_record())


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("3d", NOW - timedelta(days=3)),
        ("2026-11-26T10:00:00Z", NOW - timedelta(hours=2)),
        ("2026-11-26T11:00:00+01:00", NOW - timedelta(hours=2)),
    ],
)
def test_times_are_read_as_people_write_them(text: str, at: datetime) -> None:
    assert moment("--from", text, NOW) == at


@pytest.mark.parametrize(
    ("text", "complains"),
    [
        ("yesterday", "'yesterday' is no time: give one such as 2026-11-26T10:00:00Z, or an age"),
        ("", "is no time"),
        ("5w", "is no time"),
        ("999999d", "is no time"),
        ("2026-11-26T10:00:00", "names no zone"),
        ("2026-11-26", "names no zone"),
        ("2027-11-26T10:00:00Z", "lies ahead"),
    ],
)
def test_a_time_that_is_none_is_refused_with_what_to_write(text: str, complains: str) -> None:
    with pytest.raises(ConfigurationError, match=complains):
        moment("--from", text, NOW)


def test_a_selection_that_can_mean_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"records of webhooks\.v1 have none; those of outbound\.decisions"):
        Selection(WEBHOOKS, "unknown_number", dlq=False).check()
    with pytest.raises(ConfigurationError, match="--until must be later than --from"):
        live(began=NOW, until=NOW).check()
    with pytest.raises(ConfigurationError, match=r"--number: 'abc' is none: give a phone_number_id such as 1064"):
        Selection(WEBHOOKS, number="abc").check()
    with pytest.raises(ConfigurationError, match=r"no topic is called nobody: one of webhooks\.v1, "):
        topic_named("nobody")
    for topic in TOPICS:
        assert topic_named(topic.name) == topic_named(topic.dlq.name) == topic
        Selection(topic, "any").check()
