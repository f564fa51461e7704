"""Conversations as staff see them: lists, one conversation, its window, and what has been read.

Rule 1: everything here is of the organisation of the person who asks. What another one has is unknown.
Rule 2: what a person may not see is masked here (``services.inbox.masking``), and nowhere else again.
Rule 3: who reads numbers is written down (``services.inbox.contact_log``).
Rule 4: a window is shown by the rule that the router asks, on what is stored now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, get_args
from uuid import UUID

import asyncpg

from libs.common.db.pool import Connection
from libs.common.db.shares import Shares
from libs.common.events.outbound import Channel
from libs.common.pages.entries import entry_of
from libs.common.pages.languages import Language
from libs.common.sanitize import sanitize
from services.inbox import conversation_queries as queries
from services.inbox import feed_queries
from services.inbox.composing import PortalWord
from services.inbox.contact_log import ContactLog
from services.inbox.conversation_queries import ListQuery, Row, View
from services.inbox.cursors import Cursors
from services.inbox.feed import Change
from services.inbox.masking import masked_number, masked_text, shown_content
from services.inbox.people import Capability, Person
from services.inbox.problems import FieldFault, Problem, invalid, not_found
from services.inbox.reading import OneAtATime
from services.inbox.windows import ShownWindow, WindowFacts, WindowRule, shown
from services.inbox.words import LONGEST_QUERY, SHORTEST_QUERY, asks_for_number, number_query, text_query

CONTACT: Capability = "customers.contact.view"
PORTAL_ACTIVE = timedelta(days=30)
"""A customer who was in the portal within this time is active there."""
MOST_ITEMS = 200
_PREVIEW = 160
_SEARCH_TIMEOUT = "1000ms"
_COUNTED = 100
_OFTEN = 10_000
"""Messages that a search finds before conversations are looked through from the newest on."""


@dataclass(frozen=True, slots=True)
class Customer:
    """``phone`` is masked for a person who may not see numbers. Both may be unknown."""

    customer_id: UUID
    name: str | None
    phone: str | None

    @property
    def title(self) -> str | None:
        """What the customer is called."""
        return self.name or self.phone


@dataclass(frozen=True, slots=True)
class Number:
    """A WhatsApp number of the organisation."""

    phone_number_id: str
    display_number: str | None


@dataclass(frozen=True, slots=True)
class LastMessage:
    """The newest message. ``content`` is masked."""

    message_id: UUID
    direction: str
    channel: str
    content: Mapping[str, Any]
    actor: str | None
    is_bridge: bool
    at: datetime
    status: str

    def preview(self, language: Language) -> str:
        """Its beginning in one line, in words."""
        words = language.words.gettext
        if self.is_bridge:
            return words("Asked by SMS to come back")
        entry = entry_of(self.content)
        label = words(entry.label) % {"emoji": entry.emoji or ""} if entry.label else None
        said = entry.text or entry.name or (entry.options[0] if entry.options else None)
        line = " ".join(f"{label}: {said}".split() if label and said else (said or label or "").split())
        return line if len(line) <= _PREVIEW else f"{line[:_PREVIEW]}…"


@dataclass(frozen=True, slots=True)
class PortalActivity:
    """Whether the customer uses the portal, and when they were there last."""

    state: PortalWord
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Staff hold the AI until then. ``by`` is the member's name, where one is known."""

    user_id: str | None
    by: str | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of a list. ``last_at``: when something happened last. ``hold``: None where the AI may answer."""

    conversation_id: UUID
    customer: Customer
    number: Number | None
    window: ShownWindow
    last_message: LastMessage | None
    last_inbound_channel: Channel | None
    last_at: datetime | None
    unread: bool
    portal: PortalActivity
    hold: Hold | None
    unanswered_since: datetime | None
    escalated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """``next``: the cursor of the next page; None: this is the last one."""

    items: Sequence[Conversation]
    next: str | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list is asked for. ``number`` is a phone_number_id, ``q`` a search."""

    view: View = "all"
    channel: Channel | None = None
    number: str | None = None
    q: str | None = None
    limit: int = 50
    cursor: str | None = None


class Conversations:
    """The read model of lists and single conversations."""

    def __init__(self, reads: Shares, rule: WindowRule, cursors: Cursors) -> None:
        self._reads = reads
        self._rule = rule
        self._cursors = cursors
        self._searches = OneAtATime()
        self._log = ContactLog()

    async def page(self, person: Person, wanted: Wanted) -> Page:
        """A page of a list. Raises Problem (422, 403, 429) for a filter, a search or a cursor that is refused."""
        now = self._reads.pool.now()
        query = self._query(person, wanted, now)
        if wanted.q is None:
            async with self._reads.of(person.org_id) as db:
                rows = await queries.page(db, query)
        else:
            rows = await self._search(person, query)
        if rows:
            await self.note_lists(person)
        more = len(rows) > wanted.limit
        rows = rows[: wanted.limit]
        following = self._cursor(person, wanted, rows[-1]) if more else None
        return Page([_conversation(row, person, self._rule, now) for row in rows], following)

    async def one(self, person: Person, conversation_id: UUID) -> Conversation:
        """One conversation, also under an id of before a merge. Raises Problem (404)."""
        async with self._reads.of(person.org_id) as db:
            found = await self.read_one(db, person, conversation_id)
            if person.may(CONTACT) and found.customer.phone is not None:
                await self._log.note(db, person, found.customer.customer_id, self._reads.pool.now())
        return found

    async def note_lists(self, person: Person) -> None:
        """Write down that the person reads many customers' numbers, where they may see numbers."""
        now = self._reads.pool.now()
        if person.may(CONTACT) and not self._log.has(person, None, now):
            async with self._reads.of(person.org_id) as db:
                await self._log.note(db, person, None, now)

    async def read_one(self, db: Connection, person: Person, conversation_id: UUID) -> Conversation:
        """The same on a connection that the caller has."""
        now = self._reads.pool.now()
        row = await queries.one(db, person.org_id, person.user_id, conversation_id, now)
        if row is None:
            raise not_found()
        return _conversation(row, person, self._rule, now)

    async def mark_read(self, person: Person, conversation_id: UUID) -> None:
        """The person has read everything up to now. Raises Problem (404)."""
        async with self._reads.of(person.org_id) as db, db.transaction():
            found = await queries.mark_read(db, person.org_id, person.user_id, conversation_id)
            if found is None:
                raise not_found()
            present, moved = found
            if moved:
                await feed_queries.add(db, [Change(person.org_id, present, None, "conversation")])

    async def counts(self, person: Person) -> Mapping[View, int]:
        """How many conversations the views have that are work, each counted up to a hundred."""
        query = self._query(person, Wanted(), self._reads.pool.now())
        views: dict[View, int] = {"unread": _COUNTED, "closing": _COUNTED, "failed": _COUNTED}
        async with self._reads.of(person.org_id) as db:
            return await queries.counts(db, query, views)

    async def numbers(self, person: Person) -> Sequence[Number]:
        """The organisation's WhatsApp numbers."""
        async with self._reads.of(person.org_id) as db:
            return [Number(*row) for row in await queries.numbers(db, person.org_id)]

    def _query(self, person: Person, wanted: Wanted, now: datetime) -> ListQuery:
        text, number = self._words(person, wanted.q)
        return ListQuery(
            org_id=person.org_id,
            user_id=person.user_id,
            view=wanted.view,
            cutoff=now - self._rule.usable,
            closing=now - self._rule.usable + self._rule.closing_soon,
            now=now,
            limit=wanted.limit + 1,
            place=self._place(person, wanted),
            channel=wanted.channel,
            phone_number_id=sanitize(wanted.number),
            text=text,
            number=number,
        )

    def _words(self, person: Person, q: str | None) -> tuple[str | None, str | None]:
        """The queries for words and for numbers. Raises Problem."""
        if q is None:
            return None, None
        if len(q.strip()) < SHORTEST_QUERY or len(q) > LONGEST_QUERY:
            raise invalid(FieldFault("q", f"a search has {SHORTEST_QUERY} to {LONGEST_QUERY} characters"))
        if not person.may(CONTACT) and asks_for_number(q):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"searching for numbers needs the capability {CONTACT}",
                faults=[FieldFault("q", "this may be a phone number")],
            )
        text = text_query(person.org_id, q)
        number = number_query(person.org_id, q) if person.may(CONTACT) else None
        if text is None and number is None:
            raise invalid(FieldFault("q", "a search needs a letter or a digit"))
        return text, number

    async def _search(self, person: Person, query: ListQuery) -> list[Row]:
        async with self._searches.turn((person.org_id, person.user_id)) as ours:
            if not ours:
                raise Problem(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "one search at a time: the one before is still running",
                    headers={"Retry-After": "1"},
                )
            try:
                async with self._reads.of(person.org_id) as db, db.transaction():
                    await db.execute(f"set local statement_timeout = '{_SEARCH_TIMEOUT}'")
                    text = query.text
                    if text is not None and await queries.is_found_often(db, person.org_id, text, _OFTEN):
                        query = replace(query, walk=True, number=None)
                    return await queries.page(db, query)
            except asyncpg.QueryCanceledError:
                raise invalid(FieldFault("q", "too much is found: add a word")) from None

    def _scope(self, person: Person, wanted: Wanted) -> tuple[str | None, ...]:
        return (
            *(person.org_id, "conversations", wanted.view, wanted.channel, wanted.number, wanted.q),
            person.user_id if wanted.view == "unread" else None,
        )

    def _cursor(self, person: Person, wanted: Wanted, last: Row) -> str:
        key = last.key
        assert key is not None  # noqa: S101 -- lists are sorted by it
        scope = self._scope(person, wanted)
        if isinstance(key, datetime):
            return self._cursors.write(scope, (key, str(last.conversation_id)))
        return self._cursors.write(scope, (last.top, key))

    def _place(self, person: Person, wanted: Wanted) -> tuple[bool, int] | tuple[datetime, UUID] | None:
        if wanted.cursor is None:
            return None
        try:
            first, second = self._cursors.read(self._scope(person, wanted), wanted.cursor)
        except ValueError as error:
            raise invalid(FieldFault("cursor", str(error))) from None
        return (datetime.fromisoformat(first), UUID(second)) if isinstance(first, str) else (first, second)


def _conversation(row: Row, person: Person, rule: WindowRule, now: datetime) -> Conversation:
    contact = person.may(CONTACT)
    phone = row.phone or (None if row.wa_id is None else f"+{row.wa_id}")
    own = [number for number in (row.phone, row.wa_id) if number]
    name = row.name if row.name is None or contact else masked_text(row.name, own)
    facts = WindowFacts(row.last_customer_at, row.identity_changed_at, row.first_refused_at, row.last_refused_at)
    return Conversation(
        conversation_id=row.conversation_id,
        customer=Customer(row.customer_id, name, phone if contact else masked_number(phone)),
        number=None if row.phone_number_id is None else Number(row.phone_number_id, row.display_number),
        window=shown(facts, rule, now),
        last_message=_last_message(row, contact=contact, own=own),
        last_inbound_channel=channel_of(row.last_inbound_channel),
        last_at=row.last_at,
        unread=row.unread,
        portal=portal_activity(row.portal_seen_at, now),
        hold=None if row.held_until is None else Hold(row.held_by, row.held_by_name, row.held_until),
        unanswered_since=row.unanswered_since,
        escalated_at=row.escalated_at,
    )


def _last_message(row: Row, *, contact: bool, own: Sequence[str]) -> LastMessage | None:
    if row.message_id is None or row.occurred_at is None or row.content is None:
        return None
    return LastMessage(
        message_id=row.message_id,
        direction=row.direction or "in",
        channel=row.channel or "whatsapp",
        content=shown_content(row.content, contact=contact, own=own, target=None),
        actor=row.actor,
        is_bridge=row.notification_type == "bridge",
        at=row.occurred_at,
        status=row.status or "received",
    )


def portal_activity(last_seen_at: datetime | None, now: datetime) -> PortalActivity:
    """Whether a customer who was in the portal then, if ever, uses it."""
    if last_seen_at is None:
        return PortalActivity("never", None)
    return PortalActivity("active" if now - last_seen_at < PORTAL_ACTIVE else "inactive", last_seen_at)


def channel_of(channel: str | None) -> Channel | None:
    """The channel; None for one that a later release wrote."""
    return channel if channel in get_args(Channel) else None  # type: ignore[return-value]
