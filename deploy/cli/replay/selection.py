"""Which records of a topic, or of its dead letters, are replayed, and as what. The clock is an argument.

Rule 1: a record's own key, value and headers go to the topic that it came from. Further headers mark it as a replay.
        The value is unchanged, so it keeps its provider's time and the time of its first receipt.
Rule 2: the copy that a replay made of a live record is not replayed: its original stands in the same topic. So a second
        run, or one beside it, publishes what the first did and no more. The copy of a dead letter counts as a record:
        its original had no effect.
Rule 3: a live record that is older than its topic keeps records is left out. What it did may have been forgotten by
        then, and it could happen again.
Rule 4: a dead letter of an intent is left out unless a time is asked for, where the letter or the intent is older than
        a week. Without expiry it would be decided and sent now, as if it were written now.
Rule 5: a record that several services read may have a letter of each. One of them is fed through, for all of them read
        what is published. Otherwise each run over records that die again would publish twice as many.
Rule 6: what does not fit its topic with the marks, and what was skipped or left out when it was stored, cannot be fed
        through. It is counted and named.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson
from aiokafka import ConsumerRecord

from libs.common.errors import ConfigurationError
from libs.common.events.access import PRINCIPALS, REPLAY
from libs.common.events.base import named_type
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DLQ_SUFFIX,
    INBOX_NOTICES,
    OUTBOUND_DECISIONS,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    TOPICS,
    Topic,
)
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.dead_letter import REPLAYED, original_of
from libs.common.kafka.producer import Record
from libs.common.kafka.records import Headers, Skipped

RUN = "replayed_run"
"""The header with the id of the run that published a record. Every header of a replay begins with ``REPLAYED``."""
_FROM, _REASON = "replayed_from", "replayed_reason"
_WITH_REASON = (OUTBOUND_DECISIONS, OUTBOUND_REFUSED, DELIVERY_UPDATES, INBOX_NOTICES)
"""Topics whose events have a field ``reason``."""
_AGE = re.compile(r"([0-9]{1,6})(s|m|h|d)")
_NUMBER = re.compile(r"\+?[0-9]{3,20}")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Found: TypeAlias = "ConsumerRecord[bytes, bytes]"


class Feed(NamedTuple):
    """A record that is selected. ``reason``, ``kind`` (its type) and ``number`` are for the summary; ``value``: read.

    ``number``: the business number that a webhook names.
    """

    record: Record
    reason: str
    kind: str | None
    number: str | None
    value: Any


class Left(NamedTuple):
    """A record that is not selected, and why: a reason, or words. ``lost``: selected, but it cannot be fed through."""

    why: str
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records to replay: of ``topic``, or its dead letters (``dlq``). None selects all.

    ``began`` and ``until`` bound the time of the record in its topic: until is not part of it.
    """

    topic: Topic
    reason: str | None = None
    number: str | None = None
    dlq: bool = True
    began: datetime | None = None
    until: datetime | None = None
    key: str | None = None
    partition: int | None = None

    def check(self) -> None:
        """Raise ConfigurationError where no record can be meant."""
        if self.reason is not None and not self.dlq and self.topic not in _WITH_REASON:
            names = ", ".join(topic.name for topic in _WITH_REASON)
            raise ConfigurationError(
                f"--reason: records of {self.topic.name} have none; those of {names} do, and dead letters (--dlq)"
            )
        if self.number is not None and _NUMBER.fullmatch(self.number) is None:
            raise ConfigurationError(
                f"--number: {self.number!r} is none: give a phone_number_id such as 106400000000001, or an SMS number"
                " such as +447700900123"
            )
        if self.began is not None and self.until is not None and self.began >= self.until:
            raise ConfigurationError("--until must be later than --from")

    @property
    def source(self) -> Topic:
        """Where the records stand."""
        return self.topic.dlq if self.dlq else self.topic

    @property
    def has_several_readers(self) -> bool:
        """Whether more than one service reads the topic."""
        readers = (one for one in PRINCIPALS if one.is_service and self.topic in one.reads)
        return len({one.group or one.name for one in readers}) > 1

    @property
    def remembers(self) -> bool:
        """Whether runs of this selection go on where the last one ended."""
        return self.dlq and (self.began, self.until, self.key, self.partition) == (None, None, None, None)

    def groups(self, connection: KafkaConnection) -> list[str]:
        """The consumer groups whose offsets count: that of this selection first, then those of wider ones."""
        wider = [(self.reason, self.number), (self.reason, None), (None, None)]
        names = dict.fromkeys(".".join(part for part in (self.topic.name, *pair) if part) for pair in wider)
        return [connection.name(f"{REPLAY}{name}") for name in names]

    def in_time(self, found: Found) -> bool:
        """Whether the record's time lies within the bounds."""
        return (self.began is None or found.timestamp >= _ms(self.began)) and (
            self.until is None or found.timestamp < _ms(self.until)
        )

    def judge(self, found: Found, connection: KafkaConnection, run: str, now: datetime) -> Feed | Left:
        """What becomes of a record within the bounds of time and partition."""
        return self._letter(found, connection, run, now) if self.dlq else self._live(found, connection, run, now)

    def _letter(self, found: Found, connection: KafkaConnection, run: str, now: datetime) -> Feed | Left:
        original = original_of(found.key, found.value, tuple(found.headers))
        reason = _reason_of(found)
        value = _read(original.value if original else None)
        number = _number(value)
        if self.reason is not None and reason != self.reason:
            return Left(reason)
        if self._other_number_or_key(number, found.key):
            return Left(reason)
        is_old = min(found.timestamp, _created_ms(value)) < _ms(now - self.topic.retention)
        if self.topic == OUTBOUND_INTENTS and self.began is None and is_old:
            return Left(f"{reason}, older than {self.topic.retention.days} days: --from says that they may go now")
        if original is None:
            return Left(reason, lost=True)
        marks = (*self._marks(found, connection, run), (_REASON, original.reason.encode()))
        record = Record(self.topic, original.key, original.value, (*original.headers, *marks))
        return Feed(record, reason, named_type(value), number, value) if record.fits() else Left(reason, lost=True)

    def _live(self, found: Found, connection: KafkaConnection, run: str, now: datetime) -> Feed | Left:
        value = _read(found.value)
        number, reason = _number(value), _text(value, "reason")
        why: str | None = None
        if isinstance(found.value, Skipped):
            return Left("a compressed batch that is larger than what is read", lost=True)
        if _place_of(found) == connection.name(self.topic.name):
            why = "copies that an earlier replay made"
        elif found.timestamp < _ms(now - self.topic.retention):
            why = f"older than the {self.topic.retention.days} days that {self.topic.name} keeps"
        elif self._other_number_or_key(number, found.key):
            why = "of other keys or numbers"
        elif self.reason is not None and reason != self.reason:
            why = "without a reason" if reason is None else reason
        if why is not None:
            return Left(why)
        kept = tuple((key, text) for key, text in found.headers if not key.startswith(REPLAYED))
        record = Record(self.topic, found.key, found.value, (*kept, *self._marks(found, connection, run)))
        if not all(map(_is_writable, kept)) or not record.fits():
            return Left("too large where it is not compressed, or a header that is not UTF-8", lost=True)
        return Feed(record, reason or "", named_type(value), number, value)

    def _other_number_or_key(self, number: str | None, key: bytes | None) -> bool:
        return (self.number is not None and number != self.number) or (
            self.key is not None and key != self.key.encode()
        )

    def _marks(self, found: Found, connection: KafkaConnection, run: str) -> Headers:
        place = f"{connection.name(self.source.name)} {found.partition} {found.offset}"
        return (_FROM, place.encode()), (RUN, run.encode())


def run_of(headers: Headers) -> str | None:
    """The run that fed through the record of a dead letter, by the letter's headers."""
    run = dict(headers).get(RUN)
    return None if run is None else run.decode(errors="replace")


def origin_of(letter: Found, feed: Feed) -> tuple[object, ...] | None:
    """Which record a dead letter is about, or None where it does not say so.

    That is topic, partition, offset and a hash of the value: a topic that was created anew counts from 0 again.
    """
    ours = dict(letter.headers)
    place = tuple(ours.get(f"source_{part}") for part in ("topic", "partition", "offset"))
    return None if None in place else (*place, hash(feed.record.value))


def topic_named(name: str) -> Topic:
    """A declared topic by its name, or by that of its dead letters. Raises ConfigurationError."""
    wanted = name.removesuffix(DLQ_SUFFIX)
    found = next((topic for topic in TOPICS if topic.name == wanted), None)
    if found is None:
        raise ConfigurationError(f"no topic is called {wanted}: one of {', '.join(topic.name for topic in TOPICS)}")
    return found


def moment(option: Literal["--from", "--until"], text: str, now: datetime) -> datetime:
    """A time as people write it: RFC 3339 with its zone, or an age such as 90m, 6h, 3d. Raises ConfigurationError."""
    try:
        age = _AGE.fullmatch(text)
        at = now - timedelta(**{_UNITS[age[2]]: int(age[1])}) if age else datetime.fromisoformat(text)
    except (ValueError, OverflowError):  # no time, or an age of millennia
        raise ConfigurationError(
            f"{option}: {text!r} is no time: give one such as 2026-11-26T10:00:00Z, or an age such as 90m, 6h or 3d"
        ) from None
    if at.tzinfo is None:
        raise ConfigurationError(f"{option}: {text!r} names no zone: add Z for UTC, or an offset such as +01:00")
    if at > now:
        raise ConfigurationError(f"{option}: {text!r} lies ahead")
    return at


def _ms(at: datetime) -> float:
    return at.timestamp() * 1000


def _reason_of(letter: Found) -> str:
    reason = dict(letter.headers).get("reason")  # the last header of this name is Transom's
    return "no letter of ours" if reason is None else reason.decode(errors="replace")


def _place_of(found: Found) -> str | None:
    """The topic that a replay copied this record from, by its name on the broker."""
    place = dict(found.headers).get(_FROM)
    return None if place is None else place.decode(errors="replace").rsplit(" ", 2)[0]


def _is_writable(header: tuple[str, bytes | None]) -> bool:
    try:
        header[0].encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(value: bytes | None) -> Any:
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None


def _text(found: Any, name: str) -> str | None:
    text = found.get(name) if isinstance(found, dict) else None
    return text if isinstance(text, str) else None


def _created_ms(found: Any) -> float:
    """When an event says that it was created. A letter that died again is younger than that."""
    try:
        at = datetime.fromisoformat(_text(found, "created_at") or "")
    except ValueError:
        return math.inf
    return math.inf if at.tzinfo is None else _ms(at)


def _number(found: Any) -> str | None:
    """The business number that a webhook names: a phone_number_id, or of an SMS the number called, in E.164."""
    match found:
        case {"phone_number_id": str(number)}:
            return number
        case {
            "type": "webhook.twilio_sms.v1" | "webhook.vonage_sms.v1",
            "form": {"To": str(called)} | {"to": str(called)},
        }:
            return f"+{called.removeprefix('+')}"
    return None
