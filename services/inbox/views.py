"""The list and the thread as their templates write them. Pure.

Rule 1: what a person may not see is not in a view: the read model has masked it before.
Rule 2: a message stands where the thread has it, by its sequence. What is shown between messages (days, the window) is
        derived from them, so it is the same in every browser.
Rule 3: a bridge SMS names the message that it stands for, a quote the message that it answers, a reaction stands on its
        message. Where that one is not on the page, the line says so.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlencode

from libs.common.window import WindowWord
from services.inbox.shell import View

AuthorKind = Literal["customer", "ai", "staff", "system"]


_STEPS = (timedelta(minutes=15), timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Badge:
    """A window as it is shown. ``closes_at``: when it closes, or when it did. ``soon``: CLOSING_SOON_SECONDS."""

    state: WindowWord
    closes_at: datetime | None
    length: timedelta
    soon: timedelta

    def percent(self, now: datetime) -> int:
        """How much of the ring is left: of the whole window while it is open, of its last part while it closes."""
        if self.closes_at is None or self.state not in ("open", "closing"):
            return 0
        whole = self.length if self.state == "open" else self.soon
        return max(0, min(100, round((self.closes_at - now) / whole * 100))) if whole else 0

    def within(self, now: datetime) -> timedelta:
        """The group of a window that closes soon: it closes within a quarter of an hour, an hour, or ``soon``."""
        left = self.soon if self.closes_at is None else self.closes_at - now
        return next((step for step in _STEPS if left <= step < self.soon), self.soon)


@dataclass(frozen=True, slots=True)
class Duration:
    """A time left, as people say it: hours and minutes, or minutes. Both None: less than a minute."""

    hours: int | None
    minutes: int | None

    @classmethod
    def of(cls, left: timedelta, *, short: bool = False) -> "Duration":
        """Of what is left. ``short``: from ten hours on without minutes, as a list has it."""
        minutes = max(0, int(left.total_seconds() // 60))
        hours, rest = divmod(minutes, 60)
        if hours >= 10 and short:  # noqa: PLR2004 (as the docstring says)
            return cls(hours, None)
        return cls(hours or None, rest if hours or rest else None)


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation in the list. ``preview`` is of its newest message, in words."""

    conversation_id: str
    name: str | None
    phone: str | None
    window: Badge
    at: datetime | None
    preview: str
    channel: str
    is_out: bool
    is_failed: bool = False
    is_unread: bool = False
    is_escalated: bool = False
    is_held: bool = False

    @property
    def title(self) -> str | None:
        """What the conversation is called; None: neither a name nor a number is known."""
        return self.name or self.phone


@dataclass(frozen=True, slots=True)
class Cost:
    """What a message costs. ``amount`` is None where no price is known; ``segments`` is of an SMS."""

    amount: Decimal | None
    currency: str | None
    is_estimated: bool
    segments: int | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the thread. ``author`` is a name; of an AI and of a system it is None.

    ``said``: why it failed or waits, in sentences. ``reply_to`` and ``bridge_for`` are messages of the same thread.
    ``released_by``: the message that carries its text since it was released.
    ``media``: the address at which its file is fetched.
    """

    message_id: str
    sequence: int
    is_out: bool
    kind: AuthorKind
    author: str | None
    channel: str
    content: Mapping[str, Any]
    at: datetime
    status: str
    said: str | None = None
    reason: str | None = None
    provider_code: str | None = None
    is_bridge: bool = False
    bridge_for: str | None = None
    reply_to: str | None = None
    opens_window: bool = False
    cost: Cost | None = None
    media: str | None = None
    released_by: str | None = None

    @property
    def is_failed(self) -> bool:
        return self.status == "failed"

    @property
    def code(self) -> str:
        """The reason and the provider's code, for people who look them up."""
        return " · ".join(one for one in (self.reason, self.provider_code) if one)


@dataclass(frozen=True, slots=True)
class Day:
    """The line between two days."""

    day: date


@dataclass(frozen=True, slots=True)
class WindowEvent:
    """The line that says that the window opened, until ``until``, or that it closed. ``key`` names it on the page."""

    at: datetime
    until: datetime | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """The line that says since when staff hold the AI. ``by`` is a name."""

    at: datetime
    by: str | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Placed:
    """A message with what it refers to. ``quoted`` and ``stands_for`` are None where that one is not on the page."""

    message: Message
    quoted: Message | None = None
    stands_for: Message | None = None
    reactions: tuple[Message, ...] = ()


Item = Day | WindowEvent | Held | Placed


@dataclass(frozen=True, slots=True)
class Thread:
    """Messages of a conversation, oldest first. ``earlier`` and ``later``: addresses of the pages beside this one."""

    messages: Sequence[Message]
    window: Badge
    zone: tzinfo
    hold: Held | None = None
    earlier: str | None = None
    later: str | None = None
    reached: datetime | None = field(default=None)
    """Now, where the page ends with the newest message: a window that has closed since is told. None: it does not."""

    def items(self) -> list[Item]:
        """Everything in the thread's order: days, messages, what happened to the window and to the AI."""
        return list(_with_days(_with_events(self), self.zone))

    @property
    def is_erased(self) -> bool:
        """Whether the newest message was erased, which is the last to be: nothing comes after it."""
        return bool(self.messages) and self.messages[-1].content.get("erased") is True

    def news(self, fresh: Collection[str]) -> list[Item]:
        """What a page lacks that has all but these messages. Days are left out: a page with scripts has its own.

        They are these, the messages on which they are reactions, and the windows that they opened.
        """
        reacted = {one.reply_to for one in self.messages if one.message_id in fresh and _is_reaction(one)}
        wanted = {*fresh, *reacted}
        return [
            item
            for item in self.items()
            if (isinstance(item, Placed) and item.message.message_id in wanted)
            or (isinstance(item, WindowEvent) and item.key in wanted)
        ]


def _placed(messages: Sequence[Message]) -> Iterator[Placed]:
    """Messages, each reaction on the message it belongs to. Of a person's reactions to it the newest counts."""
    known = {message.message_id: message for message in messages}
    reactions: dict[str, dict[tuple[bool, str | None], Message]] = {}
    for message in messages:
        if _is_reaction(message) and message.reply_to in known:
            reactions.setdefault(message.reply_to or "", {})[message.is_out, message.author] = message
    for message in messages:
        if _is_reaction(message) and message.reply_to in known:
            continue
        yield Placed(
            message,
            quoted=known.get(message.reply_to or ""),
            stands_for=known.get(message.bridge_for or ""),
            reactions=tuple(one for one in reactions.get(message.message_id, {}).values() if one.content.get("emoji")),
        )


def _is_reaction(message: Message) -> bool:
    return message.content.get("kind") == "reaction"


def _with_events(thread: Thread) -> Iterator[WindowEvent | Held | Placed]:
    closes_at: datetime | None = None
    hold = thread.hold
    for placed in _placed(thread.messages):
        at = placed.message.at
        if hold is not None and hold.at <= at:
            yield hold
            hold = None
        if closes_at is not None and at >= closes_at:
            yield WindowEvent(closes_at)
            closes_at = None
        yield placed
        if placed.message.opens_window:
            opened, closes_at = closes_at is None, at + thread.window.length
            if opened:
                yield WindowEvent(at, until=closes_at, key=placed.message.message_id)
    if thread.reached is None:
        return
    if hold is not None:
        yield hold
    ended = thread.window.closes_at
    if closes_at is not None and thread.window.state == "expired" and ended is not None:
        yield WindowEvent(ended)


def _with_days(items: Iterator[WindowEvent | Held | Placed], zone: tzinfo) -> Iterator[Item]:
    before: date | None = None
    for item in items:
        at = item.message.at if isinstance(item, Placed) else item.at
        day = at.astimezone(zone).date()
        if before is None or day > before:
            yield Day(day)
            before = day
        yield item


@dataclass(frozen=True, slots=True)
class Talk:
    """The conversation that is open. ``number``: the organisation's own, at which the customer writes.

    ``channel``: where the customer wrote last.
    """

    conversation_id: str
    name: str | None
    phone: str | None
    number: str | None
    channel: str
    window: Badge
    thread: Thread
    is_held: bool = False
    may_send: bool = False
    is_on_its_way: bool = False
    """Whether what this person just sent does not stand in the thread yet."""

    @property
    def title(self) -> str | None:
        """What the conversation is called; None: neither a name nor a number is known."""
        return self.name or self.phone

    @property
    def path(self) -> str:
        return f"/inbox/{self.conversation_id}"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which conversations the list shows. ``q`` is a search; ``number`` a phone_number_id."""

    view: View = "all"
    channel: str | None = None
    number: str | None = None
    q: str = ""

    @property
    def query(self) -> str:
        """As the query of an address, without what is not set. It keeps the list when a conversation is opened."""
        fields = {"view": self.view if self.view != "all" else None, "channel": self.channel, "number": self.number}
        return urlencode({name: value for name, value in {**fields, "q": self.q}.items() if value})

    def address(self, path: str = "/inbox", **more: str) -> str:
        """A page with this list beside it."""
        query = "&".join(one for one in (self.query, urlencode(more)) if one)
        return f"{path}?{query}" if query else path


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the list. ``numbers`` are the organisation's, by their ids. ``next``: the cursor of the next page.

    ``refused``: the search was refused, and why, as a sentence.
    """

    filter: Filter
    rows: Sequence[Row]
    numbers: Mapping[str, str] = field(default_factory=dict)
    next: str | None = None
    is_first: bool = True
    refused: str | None = None

    @property
    def is_filtered(self) -> bool:
        """Whether something but the view narrows the list."""
        return bool(self.filter.q or self.filter.channel or self.filter.number)
